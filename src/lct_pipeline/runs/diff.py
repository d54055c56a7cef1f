"""How two runs differ: parameters, data, code, versions, device and results."""

from __future__ import annotations

import math
import subprocess
from dataclasses import dataclass
from typing import Any

from lct_pipeline.datasets.results import EvaluationRow
from lct_pipeline.parameters import differences
from lct_pipeline.runs.reading import Run

Differences = dict[str, tuple[Any, Any]]  # by dotted name, what differs alone

LOWER_IS_BETTER = ("fid", "kid", "_frechet_distance", "_kernel_distance", "_infinity")
TOO_FEW = 2.0  # standard deviations of a difference that chance often makes


@dataclass(frozen=True)
class Result:
    """One value of both runs.

    Args:
        model: Which model, or which control.
        nfe: Number of network evaluations.
        metric: Which metric.
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
        """Whether both values were made in the same way."""
        return self.protocols[0] == self.protocols[1]

    @property
    def difference(self) -> float:
        """B less A."""
        return self.values[1] - self.values[0]

    @property
    def is_beyond_noise(self) -> bool | None:
        """Whether the difference is more than two of its standard deviations.

        They are over seeds of noise of one training each: what another seed of training would do
        is not in them. None where there are none.
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
        results: Values that both have.
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

    def among(*keys: str) -> Differences:
        first, second = ({key: run.last.get(key) for key in keys} for run in (a, b))
        return differences(first, second)

    first, second = ({**run.last.get("parameters", {})} for run in (a, b))
    runtime = differences(first.pop("runtime", {}), second.pop("runtime", {}))
    parameters = differences(first, second)
    parameters.pop("run_id", None)
    versions = differences(a.last.get("versions", {}), b.last.get("versions", {}))
    data = differences(_data(a), _data(b))
    return Comparison(
        parameters=parameters,
        runtime={f"runtime.{name}": pair for name, pair in runtime.items()},
        # an interrupted run does not know all of it
        data={name: pair for name, pair in data.items() if None not in pair},
        code=among("commit", "dirty"),
        changes=_changes(a, b),
        versions={**among("python"), **versions},
        device=among("device", "machine"),
        results=results(a.rows, b.rows),
    )


def _data(run: Run) -> dict[str, Any]:
    return {"fingerprint": run.fingerprint, "images": run.images_by_split()}


def results(a: list[EvaluationRow], b: list[EvaluationRow]) -> list[Result]:
    """Return the values that both runs have, those of the trained models first."""

    def key(row: EvaluationRow) -> tuple[Any, ...]:
        return row.model, row.nfe, row.metric, row.extractor, row.reference

    others = {key(row): row for row in b}
    pairs = [(row, others[key(row)]) for row in a if key(row) in others]
    found = [
        Result(
            model=one.model,
            nfe=one.nfe,
            metric=one.metric,
            extractor=one.extractor,
            values=(one.value, other.value),
            stds=(one.std, other.std),
            protocols=(one.protocol, other.protocol),
        )
        for one, other in pairs
    ]
    return sorted(found, key=lambda result: result.nfe == 0)


def _changes(a: Run, b: Run) -> list[str] | None:
    """Return git's statistics of what lies between two commits, None where one is not there."""
    first, second = (run.last.get("commit") for run in (a, b))
    if first == second:
        return []
    if first is None or second is None:
        return None
    command = ["git", "-C", str(a.project), "diff", "--stat=90", first, second]
    done = subprocess.run(
        [*command, "--", "src", "conf"], capture_output=True, text=True, check=False
    )
    return done.stdout.splitlines() if done.returncode == 0 else None
