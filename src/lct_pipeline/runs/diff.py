"""How two runs differ: parameters, data, code, versions, device and results."""

from __future__ import annotations

import math
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lct_pipeline.datasets.results import EvaluationRow
from lct_pipeline.runs.reading import Run
from lct_pipeline.runs.summary import MODELS

Pair = tuple[Any, Any]
Differences = dict[str, Pair]  # by dotted name, what differs alone

LOWER_IS_BETTER = ("fid", "kid", "_frechet_distance", "_kernel_distance", "_infinity")
TOO_FEW = 2.0  # standard deviations of a difference that chance often makes


@dataclass(frozen=True)
class Result:
    """One figure of both runs.

    Args:
        model: Which model, or which control.
        nfe: Number of network evaluations.
        metric: Which figure.
        extractor: Whose features it is of.
        values: Of A and B.
        stds: Over seeds of noise, None where there is one seed.
        protocols: How they were made.
    """

    model: str
    nfe: int
    metric: str
    extractor: str
    values: tuple[float, float]
    stds: tuple[float | None, float | None]
    protocols: tuple[str, str]

    @property
    def is_comparable(self) -> bool:
        """Whether both figures were made in the same way."""
        return self.protocols[0] == self.protocols[1]

    @property
    def difference(self) -> float:
        """B less A."""
        return self.values[1] - self.values[0]

    @property
    def is_beyond_spread(self) -> bool | None:
        """Whether the difference is more than two of its standard deviations.

        The spread is over seeds of noise of one training each: what another seed of training would
        do is not in it. None where there is no spread.
        """
        first, second = self.stds
        if first is None or second is None:
            return None
        return abs(self.difference) > TOO_FEW * math.hypot(first, second)

    @property
    def better(self) -> str | None:
        """``A`` or ``B``; None where they are equal."""
        if self.difference == 0:
            return None
        lower = self.metric.endswith(LOWER_IS_BETTER)
        return "B" if (self.difference < 0) == lower else "A"


@dataclass(frozen=True)
class Comparison:
    """How run B differs from run A; each group holds what differs alone.

    Args:
        parameters: Those that results depend on, by dotted name.
        runtime: Those that none depends on.
        data: Fingerprint of the source and number of images by split, where both are known.
        code: Commit, and whether tracked files differed from it.
        changes: What git says between the commits, in ``src`` and ``conf``; None where one of them
            is not in this repository.
        versions: Of the libraries.
        device: Device and machine.
        results: Figures that both have.
    """

    parameters: Differences
    runtime: Differences
    data: Differences
    code: Differences
    changes: list[str] | None
    versions: Differences
    device: Differences
    results: list[Result]


def compare(a: Run, b: Run) -> Comparison:
    """Return how run B differs from run A."""
    parameters = _of_last(a, b, "parameters")
    is_runtime = {key: key.startswith("runtime.") for key in parameters}
    code = _among(a, b, ("commit", "dirty"))
    return Comparison(
        parameters={k: v for k, v in parameters.items() if not is_runtime[k]},
        runtime={k: v for k, v in parameters.items() if is_runtime[k]},
        data=_known(differences(about_data(a), about_data(b))),
        code=code,
        changes=_changes(a.project, code["commit"]) if "commit" in code else [],
        versions={**_among(a, b, ("python",)), **_of_last(a, b, "versions")},
        device=_among(a, b, ("device", "machine")),
        results=results(a.rows, b.rows),
    )


def flatten(values: dict[str, Any], prefix: str = "") -> dict[str, Any]:
    """Return nested values by dotted name; lists are values."""
    flat: dict[str, Any] = {}
    for key, value in values.items():
        if isinstance(value, dict):
            flat.update(flatten(value, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = value
    return flat


def differences(a: dict[str, Any], b: dict[str, Any]) -> Differences:
    """Return what two nested groups of values do not agree in, by dotted name."""
    first, second = flatten(a), flatten(b)
    names = dict.fromkeys([*first, *second])
    pairs = {name: (first.get(name), second.get(name)) for name in names}
    return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def _known(pairs: Differences) -> Differences:
    """Leave out what one run does not know: an interrupted one has no fingerprints."""
    return {name: pair for name, pair in pairs.items() if None not in pair}


def about_data(run: Run) -> dict[str, Any]:
    """Return the fingerprint of a run's source and the number of images of each split."""
    fingerprint = run.newest("inputs", "image_source")
    return {"fingerprint": fingerprint, "images": run.images_by_split()}


def results(a: list[EvaluationRow], b: list[EvaluationRow]) -> list[Result]:
    """Return the figures that both runs have, those of the trained models first."""
    others = {_key(row): row for row in b}
    found = [_result(row, others[_key(row)]) for row in a if _key(row) in others]
    return sorted(found, key=lambda result: result.model not in MODELS)


def _key(row: EvaluationRow) -> tuple[Any, ...]:
    return row.model, row.nfe, row.metric, row.extractor, row.reference


def _result(a: EvaluationRow, b: EvaluationRow) -> Result:
    return Result(
        model=a.model,
        nfe=a.nfe,
        metric=a.metric,
        extractor=a.extractor,
        values=(a.value, b.value),
        stds=(a.std, b.std),
        protocols=(a.protocol, b.protocol),
    )


def _of_last(a: Run, b: Run, group: str) -> Differences:
    """Return what the last records say otherwise in a group."""
    found = differences(a.last.get(group, {}), b.last.get(group, {}))
    return {name: pair for name, pair in found.items() if name != "run_id"}


def _among(a: Run, b: Run, keys: tuple[str, ...]) -> Differences:
    """Return what the last records say otherwise under some keys."""
    first, second = ({k: run.last.get(k) for k in keys} for run in (a, b))
    return differences(first, second)


def _changes(project: Path, commits: Pair) -> list[str] | None:
    """Return git's statistics of what lies between two commits, None where one is not there."""
    if None in commits:
        return None
    command = [
        "git",
        "-C",
        str(project),
        "diff",
        "--stat=90",
        *commits,
        "--",
        "src",
        "conf",
    ]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.stdout.splitlines() if done.returncode == 0 else None
