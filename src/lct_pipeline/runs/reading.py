"""What runs left behind: records, checkpoints and values, read without torch or pandas."""

from __future__ import annotations

import os
import re
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Any

import click
from kedro.utils import find_kedro_project

from lct_pipeline.commands import written
from lct_pipeline.config_loader import name_of
from lct_pipeline.datasets.json_files import read_json
from lct_pipeline.datasets.results import EvaluationResult, EvaluationRow
from lct_pipeline.datasets.run_records import (
    NAME,
    Record,
    parse_time,
    read_records,
    time_text,
)
from lct_pipeline.errors import DataError, UserError
from lct_pipeline.given_files import regular_file
from lct_pipeline.plain_text import printable

REPORTING = Path("data", "08_reporting")
MODELS = Path("data", "06_models")
IMAGES = Path("data", "02_intermediate")


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
        """Folder of its tables, charts and records."""
        return self.project / REPORTING / self.name

    @property
    def models(self) -> Path:
        """Folder of its weights."""
        return self.project / MODELS / self.name

    @cached_property
    def _found(self) -> tuple[list[Record], list[str]]:
        if not re.fullmatch(NAME, self.name):
            return [], [f"{self.reporting.parent}: {self.name!r} is no name of a run."]
        return read_records(self.reporting / "records")

    @cached_property
    def records(self) -> list[Record]:
        """What was run, a record for each session of Kedro, the oldest first."""
        return self._found[0]

    @property
    def problems(self) -> list[str]:
        """What is wrong with its name, and with files that stand where records do and are none."""
        return self._found[1]

    @property
    def last(self) -> Record | None:
        """The newest record; None where there is none, as of weights from elsewhere."""
        return self.records[-1] if self.records else None

    @property
    def parameters(self) -> dict[str, Any]:
        """Its last parameters; empty where they are unknown, or not those of this version."""
        return self.last.parameters if self.last and self.is_of_this_version else {}

    @cached_property
    def checkpoints(self) -> list[Path]:
        """Files of its checkpoints."""
        return list((self.models / "checkpoints").glob("[!.]*.safetensors"))

    @cached_property
    def is_indexed(self) -> bool:
        """Whether its checkpoints are catalogued: its training ended."""
        return (self.models / "checkpoint_index.parquet").exists()

    @cached_property
    def rows(self) -> list[EvaluationRow]:
        """Every value of every model; empty where it was not evaluated.

        Raises:
            DataError: They are damaged, or another version of the project wrote them.
        """
        path = self.reporting / "evaluation.json"
        try:
            return EvaluationResult.of(read_json(path)).rows
        except FileNotFoundError:
            return []
        except DataError as error:
            raise DataError(
                f"{path} is not a readable evaluation: remove it, and run "
                f"{self.command('evaluate')}. {error}"
            ) from error

    @cached_property
    def is_of_this_version(self) -> bool:
        """Whether all its parameters are such as this version of the project has."""
        return all(record.is_of_this_version for record in self.records)

    @property
    def is_there(self) -> bool:
        """Whether there is a record or a checkpoint: other folders lie beside those of runs."""
        return bool(self.records or self.checkpoints or self.problems)

    @property
    def started(self) -> str:
        """When it was last worked on, in UTC and as Kedro writes times."""
        if self.last:
            return self.last.started
        paths = (*self.checkpoints, self.models, self.reporting)
        newest = max(path.stat().st_mtime for path in paths if path.exists())
        return time_text(datetime.fromtimestamp(newest, UTC))

    @property
    def status(self) -> str:
        """Of the last session: finished, failed, running, or interrupted if its process is gone.

        A process on another machine is not seen: such a session reads as interrupted while it
        runs.
        """
        if self.last is None:
            return "unreadable" if self.problems else "imported"
        if self.last.status == "running" and not _is_alive(self.last.process):
            return "interrupted"
        return self.last.status

    @property
    def recipe(self) -> str | None:
        """Folder of ``conf/`` that it was last run with."""
        if self.last is None:
            return None
        return "base" if self.last.env in (None, "local") else self.last.env

    def command(self, pipeline: str) -> str:
        """Return the command that runs a pipeline on it, with the recipe that it last had."""
        env = None if self.recipe in (None, "base") else self.recipe
        return written(pipeline, env, {"run_id": self.name})

    @property
    def num_steps(self) -> int | None:
        """The last step of which there is a checkpoint."""
        found = (re.match(r"step-(\d+)", path.name) for path in self.checkpoints)
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

    @property
    def fingerprint(self) -> str | None:
        """Of the source of its images, as the newest record that has one says."""
        found = (r.inputs.get("image_source") for r in reversed(self.records))
        return next(filter(None, found), None)

    def images_by_split(self) -> dict[str, int]:
        """Return the number of images of each split; empty where the manifest is not there.

        Raises:
            DataError: It cannot be read.
        """
        if not self.parameters:
            return {}
        from pyarrow import parquet

        folder = self.project / IMAGES / name_of(self.parameters, "ingestion")
        manifest = folder / "image_manifest.parquet"
        if not manifest.exists():
            return {}
        try:
            splits = parquet.read_table(regular_file(manifest), columns=["split"])[
                "split"
            ].to_pylist()
        except (OSError, ValueError, KeyError) as error:
            raise DataError(
                f"{manifest} is not a readable manifest: {error}"
            ) from error
        order = ("train", "validation", "test")
        return {name: splits.count(name) for name in order if name in splits}


def project_folder() -> Path:
    """Return the project's folder: this one or one above it."""
    return find_kedro_project(Path.cwd()) or Path.cwd()


def find_runs(project: Path) -> list[Run]:
    """Return all runs of a project, the newest first."""
    tops = (project / REPORTING, project / MODELS)
    names = {path.name for top in tops for path in top.glob("[!.]*") if path.is_dir()}
    there = [run for name in names if (run := Run(name, project)).is_there]
    return sorted(there, key=lambda run: (run.started, run.name), reverse=True)


def tell_problems(runs: Iterable[Run]) -> None:
    """Print what is left out of runs, on the error stream."""
    for run in runs:
        for problem in run.problems:
            click.echo(printable(f"Left out: {problem}"), err=True)


def find_run(project: Path, name: str) -> Run:
    """Return a run by its name.

    Raises:
        UserError: There is none of that name, and the message names those that there are; or
            another version of the project made it.
    """
    run = Run(name, project)
    if not run.is_there:
        names = ", ".join(known.name for known in find_runs(project))
        raise UserError(
            f"There is no run {name!r}; there are: {names}."
            if names
            else f"There is no run {name!r}, nor any other yet: `kedro run` makes one."
        )
    check_version(run)
    return run


def check_version(run: Run) -> None:
    """Refuse a run that another version of the project made: its results are left as they are.

    Raises:
        UserError: It did, or none of its records can be read.
    """
    if run.problems and not run.records:
        raise DataError(run.problems[0])
    if not run.is_of_this_version:
        raise UserError(
            f"Another version of lct_pipeline made the run {run.name}. Go on with that version, or "
            "take another name: --params=run_id=<name>."
        )


def _seconds(record: Record) -> float:
    """Return how long a session took; of an interrupted one how long its whole nodes did."""
    if record.ended is None:
        return sum(cost.seconds for cost in record.nodes)
    took = parse_time(record.ended) - parse_time(record.started)
    return max(0.0, took.total_seconds())


def _is_alive(process: int) -> bool:
    """Return whether a process runs on this machine; on Windows that cannot be asked so."""
    if sys.platform != "win32":
        try:
            os.kill(process, 0)
        except ProcessLookupError:
            return False
        except PermissionError:  # another user's
            pass
    return True
