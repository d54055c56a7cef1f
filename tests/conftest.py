"""What all tests share: one thread, and a project of their own to run in."""

from __future__ import annotations

import gc
import os
import shutil
import subprocess
from collections.abc import Callable, Generator, Iterator
from contextlib import chdir, closing
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import numpy as np
import pandas as pd
import pytest
import torch
from filelock import FileLock
from forking import fork_in_place_of_spawning
from hostile import ENVIRONMENT
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from kedro.io import DataCatalog

from lct_pipeline.commands import remember
from lct_pipeline.datasets.checkpoints import CheckpointsDataset, CheckpointStore
from lct_pipeline.datasets.parts import opened
from lct_pipeline.datasets.shards import Shard, ShardsDataset, ShardStore, ShardStream
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.models.device import limit_threads
from lct_pipeline.parameters import Parameters, Training, check_parameters
from lct_pipeline.parameters.types import Group

ROOT = Path(__file__).parents[1]
os.environ["DO_NOT_TRACK"] = "1"
os.environ["OMP_NUM_THREADS"] = "1"  # of the workers, and of processes that tests start

# Files that take longest come first, so that no worker waits for the other in the end. The first
# makes the smoke run, which those up to the comment do not need.
LONGEST = (
    "test_run.py",
    "export/test_export_onnx.py",
    "test_recipes.py",
    # with the smoke run
    "test_kills.py",
    "runs/test_identity.py",
    "training/test_loop.py",
    "runs/test_next_run.py",
    "training/test_task.py",
    "export/test_export_folder.py",
    "test_notebooks.py",
    "benchmarks/test_gpu_check.py",
    "reporting/test_page.py",
    "pipelines/test_comparison.py",
    "test_cli.py",
    "combination/test_search_run.py",
)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    places = {ROOT / "tests" / name: place for place, name in enumerate(LONGEST)}
    gone = [str(path) for path in places if not path.exists()]
    assert not gone, f"not there any more: {gone}"
    items.sort(key=lambda item: places.get(item.path, len(places)))


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    limit_threads(1)
    gc.freeze()  # what is imported is not looked through for garbage again and again


@pytest.fixture(autouse=True)
def forgotten() -> Iterator[None]:
    """Leave nothing of how a session was called to the next test."""
    yield
    remember(None, {})


@pytest.fixture
def forked_processes(monkeypatch: pytest.MonkeyPatch) -> None:
    """Start the processes of a node in no time."""
    fork_in_place_of_spawning(monkeypatch)


def copy_project(target: Path) -> Path:
    """Make a project folder with this one's configuration, no data and no code.

    The code is that of this project, which is imported.
    """
    (target / "src").mkdir(parents=True)
    shutil.copy(ROOT / "pyproject.toml", target)
    shutil.copytree(ROOT / "conf", target / "conf")
    shutil.rmtree(target / "conf" / "local")
    (target / "conf" / "local").mkdir()
    return target


def git(folder: Path, *words: str) -> str:
    who = ["-c", "user.name=a", "-c", "user.email=a@b.c", "-c", "commit.gpgsign=false"]
    command = ["git", "-C", str(folder), *who, *words]
    return subprocess.run(
        command, check=True, capture_output=True, text=True
    ).stdout.strip()


@pytest.fixture
def repository(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.delenv("GIT_DIR", raising=False)
    monkeypatch.setenv("GIT_CONFIG_GLOBAL", "/dev/null")
    git(tmp_path, "init", "--quiet")
    (tmp_path / "tracked.txt").write_text("one")
    git(tmp_path, "add", "tracked.txt")
    git(tmp_path, "commit", "--quiet", "--message=first")
    return tmp_path


@pytest.fixture
def folder(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Return an empty folder, the working one."""
    monkeypatch.chdir(tmp_path)
    return tmp_path


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_project(tmp_path / "project")


def run_stages(
    project: Path, pipeline: str | None = None, **runtime_params: Any
) -> dict[str, Any]:
    """Run a pipeline of the smoke recipe through a Kedro session, as `kedro run` does."""
    bootstrap_project(project)
    with (
        chdir(project),
        KedroSession.create(
            project_path=project, env="smoke", runtime_params=runtime_params
        ) as session,
    ):
        return session.run(pipeline_names=[pipeline] if pipeline else None)


def made_once(
    factory: pytest.TempPathFactory, name: str, make: Callable[[Path], object]
) -> Path:
    """Return a folder of that name which one worker fills while others wait for it."""
    base = factory.getbasetemp()
    shared = base.parent if "PYTEST_XDIST_WORKER" in os.environ else base
    folder, made = shared / name, shared / f"{name}.made"
    with FileLock(shared / f"{name}.lock"):
        if not made.exists():
            shutil.rmtree(folder, ignore_errors=True)
            folder.mkdir()
            make(folder)
            made.touch()
    return folder


def listing(folder: Path) -> dict[str, tuple[int, int]]:
    """Return size and time of change of each file, which differ once one is written."""
    about = {path: path.stat() for path in folder.rglob("*") if path.is_file()}
    return {
        path.relative_to(folder).as_posix(): (found.st_size, found.st_mtime_ns)
        for path, found in sorted(about.items())
    }


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Return a project folder in which the whole smoke recipe ran once, to be read only."""

    def make(folder: Path) -> None:
        project = copy_project(folder / "project")
        secret = f"hub: {{token: {ENVIRONMENT['HF_TOKEN']}}}"  # for test_secrets.py
        (project / "conf" / "local" / "credentials.yml").write_text(secret)
        with pytest.MonkeyPatch.context() as patch:
            for name, value in ENVIRONMENT.items():
                patch.setenv(name, value)
            run_stages(project, run_id="tested")

    project = made_once(tmp_path_factory, "smoke_run", make) / "project"
    before = listing(project / "data")
    yield project
    assert listing(project / "data") == before, "a test wrote to what all tests read"


@pytest.fixture
def smoke_run_copy(smoke_run: Path, tmp_path: Path) -> Path:
    """Return a copy of the project with the finished smoke recipe, to be written to."""
    return shutil.copytree(smoke_run, tmp_path / "project")


# a training of three stages of four steps, with raw checkpoints and snapshots beside their ends
SHORT: dict[str, Any] = {
    "num_steps": 12,
    "batch_size": 16,
    "checkpoint_interval": 5,
    "metrics_interval": 1,
    "ema.snapshot_interval": 6,
}

DIFFUSION = {"objective.kind": "diffusion", "objective.coupling": "independent"}

AnyGroup = TypeVar("AnyGroup", bound=Group)


def put(values: dict[str, Any], name: str, value: Any) -> None:
    """Set a value that lies at a dotted name."""
    *parts, last = name.split(".")
    for part in parts:
        values = values[part]
    values[last] = value


def changed(group: AnyGroup, changes: dict[str, Any]) -> AnyGroup:
    """Return parameters with some values replaced, by dotted name, and checked."""
    values = group.model_dump()
    for name, value in changes.items():
        put(values, name, value)
    return type(group).model_validate(values)


class TrainingPiece(NamedTuple):
    """What training yields at a checkpoint."""

    checkpoints: dict[str, TensorFile]
    rows: pd.DataFrame
    state: TensorFile

    @property
    def step(self) -> int:
        return self.state.metadata["step"]


@dataclass(frozen=True)
class SmokeResults:
    """What the smoke recipe left: its folder, its catalog and its parameters.

    Its latents are here with posteriors of some width, as an AutoencoderKL has them.
    """

    project: Path
    catalog: DataCatalog
    parameters: Parameters
    latents: ShardStore

    @property
    def run(self) -> Path:
        return self.project / "data" / "06_models" / "tested"

    def training(self, changes: dict[str, Any]) -> Training:
        """Return the parameters of a short training."""
        return changed(self.parameters.training, {**SHORT, **changes})

    def train(
        self,
        changes: dict[str, Any],
        state: TensorFile | None = None,
        *,
        init_from: CheckpointStore | None = None,
        latents: ShardStore | None = None,
        **runtime: Any,
    ) -> Generator[TrainingPiece]:
        """Train on the CPU as the node does; yield copies, as files are.

        Args:
            changes: Values that differ from those of :meth:`training`, by dotted name.
            state: Where to go on.
            init_from: Checkpoints of the run that ``training.init_from`` names.
            latents: Others.
            runtime: Values of the runtime that differ.
        """
        from lct_pipeline.pipelines.training.nodes import train_model

        load = self.catalog.load
        outputs = train_model(
            latents or self.latents,
            load("latent_manifest"),
            load("latent_normalisation"),
            init_from or load("init_from_checkpoints"),
            state,
            load("previous_checkpoints"),
            load("decoder"),
            self.training(changes),
            self.parameters.sampling,
            changed(self.parameters.runtime, {"device": "cpu", **runtime}),
        )
        with closing(outputs):
            for values in outputs:
                files, rows, after, _ = (opened(value)[0] for value in values)
                copies = {name: copied(file) for name, file in files.items()}
                yield TrainingPiece(copies, rows, copied(after))


def blurred(latents: ShardStore, folder: Path) -> ShardStore:
    """Return latents, in a folder, whose posteriors have a standard deviation of 0.1."""
    mean = latents.gather("mean", np.arange(len(latents)))
    shard = Shard({"mean": mean, "std": torch.full_like(mean, 0.1)})
    dataset = ShardsDataset(path=str(folder))
    dataset.save(ShardStream(str(latents.fingerprint), [shard]))
    return dataset.load()


def copied(file: TensorFile) -> TensorFile:
    tensors = {name: tensor.clone() for name, tensor in file.tensors.items()}
    return replace(file, tensors=tensors)


@pytest.fixture(scope="session")
def results(smoke_run: Path, tmp_path_factory: pytest.TempPathFactory) -> SmokeResults:
    bootstrap_project(smoke_run)
    with KedroSession.create(
        project_path=smoke_run, env="smoke", runtime_params={"run_id": "tested"}
    ) as session:
        context = session.load_context()
        catalog, parameters = context.catalog, check_parameters(context.params)
        latents = blurred(catalog.load("latents"), tmp_path_factory.mktemp("latents"))
        return SmokeResults(smoke_run, catalog, parameters, latents)


@pytest.fixture(scope="session")
def teacher(
    results: SmokeResults, tmp_path_factory: pytest.TempPathFactory
) -> CheckpointStore:
    """Return the checkpoints of a small diffusion model."""
    folder = tmp_path_factory.mktemp("models") / "teacher" / "checkpoints"
    dataset = CheckpointsDataset(path=str(folder))
    for piece in results.train(DIFFUSION):
        dataset.save(piece.checkpoints)
    return dataset.load()


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a run of another trainer to combine, to be read only: see ``small_runs``."""
    from small_runs import tiny_run

    return tiny_run(tmp_path_factory.mktemp("tiny"))


@pytest.fixture(scope="session")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Any:
    """Return a run of this project to combine, to be read only: see ``small_runs``."""
    from small_runs import pixel_run

    return pixel_run(tmp_path_factory.mktemp("pixels"))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list to which each measurement of a combination adds its request."""
    from small_runs import counted

    return counted(monkeypatch)
