"""What runs left behind: records, checkpoints and figures, read without torch or pandas."""

from __future__ import annotations

import json
import os
import re
import sys
from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

from lct_pipeline.config_loader import name_of
from lct_pipeline.datasets.results import EvaluationResult, EvaluationRow
from lct_pipeline.datasets.run_records import Record, read_records
from lct_pipeline.errors import DataError, UserError

REPORTING = Path("data", "08_reporting")
MODELS = Path("data", "06_models")
IMAGES = Path("data", "02_intermediate")
_TIME = "%Y-%m-%dT%H.%M.%S.%fZ"  # as Kedro names sessions


@dataclass(frozen=True)
class Run:
    """A run: its name, and the project that it is of.

    Args:
        name: Of its folders.
        project: Folder of the project.
    """

    name: str
    project: Path

    @property
    def reporting(self) -> Path:
        """Folder of its tables, figures and records."""
        return self.project / REPORTING / self.name

    @property
    def models(self) -> Path:
        """Folder of its weights."""
        return self.project / MODELS / self.name

    @cached_property
    def records(self) -> list[Record]:
        """What was run, a record for each session of Kedro, the oldest first."""
        return read_records(self.reporting / "records")

    @property
    def last(self) -> Record:
        """The newest record; empty where there is none, as of weights from elsewhere."""
        return self.records[-1] if self.records else {}

    @cached_property
    def rows(self) -> list[EvaluationRow]:
        """Every value of every model; empty where it was not evaluated."""
        path = self.reporting / "evaluation.json"
        try:
            return EvaluationResult.of(json.loads(path.read_text())).rows
        except FileNotFoundError:
            return []
        except (ValueError, DataError) as error:
            raise DataError(
                f"{path} is not a readable evaluation: remove it, and run "
                f"`kedro run --pipeline=evaluate`. {error}"
            ) from error

    @property
    def is_there(self) -> bool:
        """Whether there is a record or a checkpoint: other folders lie beside those of runs."""
        return any((self.reporting / "records").glob("[!.]*.json")) or any(
            _checkpoints(self.models)
        )

    @property
    def started(self) -> str:
        """When it was last worked on, in UTC and as Kedro writes times."""
        if self.records:
            return self.last["started"]
        newest = max(path.stat().st_mtime for path in _checkpoints(self.models))
        return f"{datetime.fromtimestamp(newest, UTC):{_TIME}}"

    @property
    def status(self) -> str:
        """Of the last session: finished, failed, running, or interrupted if its process is gone.

        A process on another machine is not seen: such a session reads as interrupted while it
        runs.
        """
        status = self.last.get("status", "imported")
        if status == "running" and not _is_alive(self.last["process"]):
            return "interrupted"
        return status

    @property
    def num_steps(self) -> int | None:
        """The last step of which there is a checkpoint."""
        found = (re.match(r"step-(\d+)", p.name) for p in _checkpoints(self.models))
        return max((int(match[1]) for match in found if match), default=None)

    @property
    def seconds(self) -> float:
        """How long all sessions took together."""
        return sum(_seconds(record) for record in self.records)

    @property
    def num_bytes(self) -> int:
        """What its own folders hold; images, latents and references are shared with others."""
        files = (p for top in (self.models, self.reporting) for p in top.rglob("*"))
        return sum(path.stat().st_size for path in files if path.is_file())

    def newest(self, group: str, key: str) -> Any:
        """Return what the newest record that has it says, None where none does."""
        said = (record.get(group, {}).get(key) for record in reversed(self.records))
        return next((value for value in said if value is not None), None)

    def images_by_split(self) -> dict[str, int]:
        """Return the number of images of each split; empty where the manifest is not there."""
        if not self.records:
            return {}
        folder = self.project / IMAGES / name_of(self.last["parameters"], "ingestion")
        return _count_splits(folder / "image_manifest.parquet")


def find_runs(project: Path) -> list[Run]:
    """Return all runs of a project, the newest first."""
    tops = (project / REPORTING, project / MODELS)
    names = {path.name for top in tops for path in top.glob("[!.]*") if path.is_dir()}
    runs = (Run(name, project) for name in names)
    there = [run for run in runs if run.is_there]
    return sorted(there, key=lambda run: (run.started, run.name), reverse=True)


def find_run(project: Path, name: str) -> Run:
    """Return a run by its name.

    Raises:
        UserError: There is none of that name; the message names those that there are.
    """
    run = Run(name, project)
    if run.is_there:
        return run
    names = ", ".join(known.name for known in find_runs(project))
    raise UserError(
        f"There is no run {name!r}; there are: {names}."
        if names
        else f"There is no run {name!r}, nor any other yet: `kedro run` makes one."
    )


def parse_time(text: str) -> datetime:
    """Return a time that a record gives."""
    return datetime.strptime(text, _TIME).replace(tzinfo=UTC)


def _checkpoints(models: Path) -> Iterator[Path]:
    return (models / "checkpoints").glob("[!.]*.safetensors")


def _seconds(record: Record) -> float:
    """Return how long a session took; of an interrupted one how long its whole nodes did."""
    if record["ended"] is None:
        return sum(node["seconds"] for node in record["nodes"])
    return (parse_time(record["ended"]) - parse_time(record["started"])).total_seconds()


def _is_alive(process: int) -> bool:
    """Return whether a process runs on this machine; on Windows that cannot be asked so."""
    if sys.platform == "win32":
        return True
    try:
        os.kill(process, 0)
    except ProcessLookupError:
        return False
    except PermissionError:  # somebody else's
        return True
    return True


def _count_splits(manifest: Path) -> dict[str, int]:
    from pyarrow import parquet

    if not manifest.exists():
        return {}
    column = parquet.read_table(manifest, columns=["split"])["split"]
    counted = Counter(value for value in column.to_pylist() if value is not None)
    order = ("train", "validation", "test")
    return {name: counted[name] for name in order if counted[name]}
