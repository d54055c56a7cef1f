"""The training step of each checkpoint of another trainer, from the names of all of them.

A name has numbers that are no step: a metric, a batch size, the version of a style, classes. So the
word before a number decides where it is one that trainers write there; else what all names share
is left out, and of what is left there has to be one number in each.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import PurePosixPath
from typing import NamedTuple

from lct_pipeline.errors import DataError

# words before a step, those that count finest first
WORDS = (
    r"(global)?steps?",
    r"iter(ation)?s?|itr?",
    r"k?imgs?|images?|samples?",
    r"(checkpoint|ckpt|chkpt)s?",
    r"epochs?|ep?",
)
_NUMBER = re.compile(
    r"(?P<word>[a-z]*)(?P<between>[^a-z\d]*)"
    r"(?P<digits>\d+(\.\d+)?(e[-+]?\d+)?)(?P<unit>[km](?![a-z]))?",
    re.IGNORECASE,
)
_UNITS = {"": 1, "k": 1_000, "m": 1_000_000}
# of what trainers write beside the weights
NO_WEIGHTS = re.compile(
    r"(^|[/_.-])(opt(im(izer)?s?)?|(lr_)?schedulers?|(grad_)?scaler|rng(_states?)?|random_states?|"
    r"samplers?|train(er|ing)[_-](args|state))(?![a-z])|-\d{5}-of-\d{5}\.",
    re.IGNORECASE,
)


class Number(NamedTuple):
    """A whole number in a name, with what stands before it."""

    word: str
    between: str
    value: int


def numbers_in(name: str) -> list[Number]:
    """Return the numbers of a relative path that may be a step: whole ones, ``20k`` is 20,000."""
    path, found = PurePosixPath(name), []
    stem = name if path.suffix[1:].isdigit() else str(path.with_suffix(""))
    for match in _NUMBER.finditer(stem):
        unit, value = (match["unit"] or "").lower(), float(match["digits"])
        if match["digits"].isdigit() or (unit and "e" not in match["digits"].lower()):
            scaled = value * _UNITS[unit] if unit else int(match["digits"])
            found.append(Number(match["word"].lower(), match["between"], int(scaled)))
    return found


def steps_of(names: Sequence[str]) -> dict[str, int]:
    """Return the step of each name that has one, by name.

    Raises:
        DataError: Several numbers may be the step.
    """
    found = {name: numbers_in(name) for name in names}
    by_word = [_values(found, word) for word in WORDS]
    varying = [steps for steps in by_word if len(set(steps.values())) > 1]
    if varying:
        return max(varying, key=len)  # the first of those that most names have
    having = [set(numbers) for numbers in found.values() if numbers]
    shared = set.intersection(*having) if len(having) > 1 else set()
    left = {
        name: {n.value for n in numbers if n not in shared}
        for name, numbers in found.items()
    }
    for name, values in left.items():
        if len(values) > 1:
            other = next(n for n in [*reversed(names)] if n != name)
            raise DataError(
                f"the step of {name!r} may be {' or '.join(map(str, sorted(values)))} (beside it "
                f"lies {other!r}). Say which with cataloging.step, a regular expression whose "
                r"first group is the number, such as cataloging.step=step_(\d+)."
            )
    return {name: values.pop() for name, values in left.items() if values}


def _values(found: dict[str, list[Number]], word: str) -> dict[str, int]:
    """Return the number after a word of each name that has one there."""
    after = {
        name: {n.value for n in numbers if re.fullmatch(word, n.word)}
        for name, numbers in found.items()
    }
    return {name: values.pop() for name, values in after.items() if len(values) == 1}


def series_without_step(names: Sequence[str], steps: dict[str, int]) -> list[str]:
    """Return the names that are those of others without a number: ``a.pt`` beside ``a-5.pt``."""
    stems = {name: str(PurePosixPath(name).with_suffix("")) for name in names}
    return [
        name
        for name in names
        if name not in steps
        and any(re.match(rf"{re.escape(stems[name])}[^A-Za-z\d]", n) for n in steps)
    ]
