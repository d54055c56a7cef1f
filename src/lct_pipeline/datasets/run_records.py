"""What ran: one JSON file for each session of Kedro on a run.

Folders of runs are copied and shared, so a record may be a stranger's. What reads one gets a
:class:`Record`, which holds names, digests, times and numbers of their own form alone; a file that
is none is told and left out, and hides no other.
"""

from __future__ import annotations

import json
import logging
from datetime import UTC, datetime
from functools import cached_property
from pathlib import Path
from typing import Annotated, Any, Literal

from filelock import FileLock
from kedro.io import AbstractDataset
from kedro_datasets._typing import JSONPreview
from pydantic import (
    AfterValidator,
    BaseModel,
    ConfigDict,
    Field,
    NonNegativeFloat,
    NonNegativeInt,
    ValidationError,
)

from lct_pipeline.datasets.files import atomic_path
from lct_pipeline.datasets.json_files import read_json
from lct_pipeline.datasets.run_lock import hold_run
from lct_pipeline.errors import DataError, ParameterError
from lct_pipeline.parameters import check_parameters
from lct_pipeline.parameters.types import RunName
from lct_pipeline.plain_text import public

logger = logging.getLogger(__name__)

TRAIN_NODE = "training.train_model"
# what a run is made of and measured by: these stay what they were
RECORDED_GROUPS = ("ingestion", "encoding", "training", "features")
NOTHING: Any = None  # a preview of it
MAX_MIB = 4  # of a record, which has some 20 KiB
_TIME = "%Y-%m-%dT%H.%M.%S.%fZ"  # as Kedro names sessions


def parse_time(text: str) -> datetime:
    """Return a time that a record gives."""
    return datetime.strptime(text, _TIME).replace(tzinfo=UTC)


def time_text(time: datetime) -> str:
    """Return a time as Kedro writes it."""
    return f"{time:{_TIME}}"


def _is_time(text: str) -> str:
    parse_time(text)
    return text


NAME = r"^[A-Za-z0-9_][A-Za-z0-9_.-]{0,254}$"
Name = Annotated[str, Field(pattern=NAME)]
Commit = Annotated[str, Field(pattern=r"^[0-9a-f]{7,64}$")]
Digest = Annotated[str, Field(pattern=r"^[0-9a-f]{8,128}$")]
Time = Annotated[
    str,
    Field(pattern=r"^[0-9]{4}(-[0-9]{2}){2}T([0-9]{2}\.){3}[0-9]{3}Z$"),
    AfterValidator(_is_time),
]


class _Said(BaseModel):
    """A frozen part of a record. Keys that are not known, of a later version, are passed over."""

    model_config = ConfigDict(frozen=True, allow_inf_nan=False)


class NodeCost(_Said):
    """What a node cost: seconds until its last save, and the most MiB that its process held.

    ``cpu_seconds`` are those of all cores, of ended child processes too; earlier versions did not
    measure them.
    """

    node: Name
    seconds: NonNegativeFloat
    cpu_seconds: NonNegativeFloat | None = None
    peak_memory_mib: NonNegativeInt


class ScheduledStart(_Said):
    """Which start of a schedule a session belongs to.

    Attributes:
        scheduled_as: Name of the start.
        images: Fingerprint of the images; None where it read none.
        continues: The run whose last weights it began with.
        reason: Why it went where it did.
    """

    scheduled_as: str
    images: Digest | None
    continues: RunName | None
    reason: str = ""


class Record(_Said):
    """A session: what ran when, of which code, with which parameters, on what, and its costs.

    Attributes:
        status: How it ended; a killed one is still ``running``.
        error: Why it failed.
        started: Session of Kedro, and name of the file.
        ended: None while it runs.
        pipelines: That were asked for.
        namespaces: Stages that were asked for; empty for all.
        env: Recipe, a folder of ``conf/``.
        process: Number of the process.
        schedule: Which start of a schedule; None where a user started it.
        commit: Of the code; None without git.
        dirty: Whether tracked files differed from it; None without git.
        parameters: All of them, maybe of another version: see ``is_of_this_version``.
        parameters_digest: Of these.
        python: Version of it.
        versions: Of libraries.
        machine: System and cores.
        device: That networks computed on.
        inputs: Digests of what came from outside of the pipeline.
        outputs: Digests of what it made.
        nodes: What each cost, in order.
    """

    status: Literal["running", "finished", "failed"]
    error: str | None
    started: Time
    ended: Time | None
    pipelines: list[Name]
    namespaces: list[Name] = []
    env: Name | None
    process: int = Field(gt=0, lt=2**31)
    schedule: ScheduledStart | None = None
    commit: Commit | None
    dirty: bool | None
    parameters: dict[str, Any]
    parameters_digest: Digest
    python: str
    versions: dict[str, str]
    machine: str
    device: str
    inputs: dict[Name, Digest]
    outputs: dict[Name, Digest]
    nodes: list[NodeCost]

    @cached_property
    def is_of_this_version(self) -> bool:
        """Whether its parameters are such as this version of the project has."""
        try:
            return bool(check_parameters(self.parameters))
        except ParameterError:
            return False

    @property
    def node_names(self) -> set[str]:
        """Names of the nodes that ran."""
        return {cost.node for cost in self.nodes}


def read_record(path: Path) -> Record:
    """Return a record, without secrets that one of an earlier version may have.

    Raises:
        DataError: The file is none; says where it is wrong.
    """
    try:
        return Record.model_validate(public(read_json(path, MAX_MIB)))
    except ValidationError as error:
        problem = error.errors()[0]
        key = ".".join(map(str, problem["loc"]))
        raise DataError(
            f"{path} is not the record of a run ({key:.60}={problem['input']!r:.60}: "
            f"{problem['msg']}). Remove it."
        ) from error


def read_records(folder: Path) -> tuple[list[Record], list[str]]:
    """Return the records in a folder, the oldest first, and what is wrong with the other files."""
    records, problems = list[Record](), list[str]()
    for path in sorted(folder.glob("[!.]*.json")):
        try:
            records.append(read_record(path))
        except (DataError, FileNotFoundError) as error:
            problems.append(str(error))
    return records, problems


def records_folder(project: Path, run: str) -> Path:
    """Return the folder of the records of a run."""
    return project / "data" / "08_reporting" / run / "records"


def record_of_training(records: list[Record]) -> Record | None:
    """Return the last record of a session that trained."""
    return _last(records, "training")


def values_of(records: list[Record]) -> dict[str, Any]:
    """Return the groups of parameters that a run was made with; empty where nothing was made.

    Weights that another trainer made are of no images: what measures them first says of which.
    """
    stages = ("training",), ("references",), ("ingestion", "encoding")
    found = (_last(records, *names) for names in stages)
    made = next((record for record in found if record is not None), None)
    if made is None:
        return {}
    values = {group: made.parameters[group] for group in RECORDED_GROUPS}
    measured = _last(records, "references") or made
    return values | {"features": measured.parameters["features"]}


def _last(records: list[Record], *stages: str) -> Record | None:
    """Return the last record, of this version, that has a node of one of these stages."""

    def ran(record: Record) -> bool:
        return any(name.partition(".")[0] in stages for name in record.node_names)

    there = (record for record in reversed(records) if ran(record))
    return next((record for record in there if record.is_of_this_version), None)


def told_records(folder: Path) -> list[Record]:
    """Return the records in a folder, the oldest first; other files are told in the log."""
    records, problems = read_records(folder)
    for problem in problems:
        logger.warning("Left out: %s", problem)
    return records


class RunRecordsDataset(AbstractDataset[dict[str, Any], list[Record]]):
    """``RunRecordsDataset`` keeps a record for each session, named by when it started.

    Saving the record of a session again replaces it: it grows while the session runs.

    Args:
        path: The folder.
        metadata: Anything, for plugins such as kedro-viz.
    """

    def __init__(self, *, path: str, metadata: dict[str, Any] | None = None) -> None:
        self._path = Path(path)
        self.metadata = metadata

    def load(self) -> list[Record]:
        """Return all records, the oldest first."""
        return told_records(self._path)

    def save(self, data: dict[str, Any]) -> None:
        """Write one record atomically."""
        with atomic_path(self._path / f"{data['started']}.json") as temporary:
            temporary.write_text(json.dumps(public(data), indent=1))

    def hold(self, wait_minutes: int, work: str) -> FileLock:
        """Return the lock of this run, taken; see :func:`hold_run`."""
        return hold_run(self._path.parent, wait_minutes, work)

    def preview(self) -> JSONPreview:
        """Return the last record for kedro-viz."""
        records = self.load()
        return JSONPreview(records[-1].model_dump_json()) if records else NOTHING

    def _exists(self) -> bool:
        return bool(read_records(self._path)[0])

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self._path)}
