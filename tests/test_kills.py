"""Killed while it writes in parts, a stage is not done, and ends with the same results."""

from __future__ import annotations

import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any, NamedTuple

import pytest
from forking import Ended, Written, run_session
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project
from safetensors import safe_open

from conftest import copy_project
from lct_pipeline.datasets.parts import GrowingTableDataset

SMALL_SHARDS = {"ingestion": {"shard_mib": 1}}
UP_TO_LATENTS = (
    "ingestion.ingest_images",
    "ingestion.build_image_manifest",
    "encoding.prepare_autoencoder",
    "encoding.encode_images",
)


# times of steps and sessions, and what diffusers says of where a folder was read from
VARYING = ("training_metrics/part", "08_reporting", "autoencoder/config.json")


class Kill(NamedTuple):
    """A node, and the file before whose n-th naming its process is killed."""

    node: str
    outputs: tuple[str, ...]  # what does not exist then
    path: str  # pattern of it
    number: int
    removed: Sequence[str] = ()  # of a finished run, before; of tables the last rows
    parameters: Mapping[str, Any] = MappingProxyType({})


MODELS = "06_models/tested"
TRAINED = [
    f"{MODELS}/{n}" for n in ("checkpoints", "training_metrics", "training_*.sa*")
]
STREAMED = ("checkpoints", "training_metrics", "training_state")
# near the end, so that what is done again is short
KILLS = [
    Kill(
        "ingestion.ingest_images",
        ("images",),
        "*/images/shard-*",
        2,
        ["02_intermediate/*/images"],
        SMALL_SHARDS,
    ),
    Kill(
        "encoding.encode_images",
        ("latents",),
        "*/latents/shard-*",
        2,
        ["04_feature/*/latents"],
        SMALL_SHARDS,
    ),
    Kill("training.train_model", STREAMED, "*/checkpoints/step-*", 12, TRAINED),
    Kill("training.train_model", STREAMED, "*/training_state*", 10, TRAINED),
    Kill(
        "references.prepare_reference",
        ("reference",),
        "*/check_extractor*",
        1,
        ["06_models/*/*_extractor.safetensors", "06_models/digits-*/index.json"],
    ),
    Kill(
        "combination.search_combination",
        ("search_history",),
        "*/search_history*",
        5,
        [f"{MODELS}/search_history.parquet"],
    ),
    Kill(
        "combination.score_candidates",
        ("candidate_scores",),
        "*/candidate_scores*",
        5,
        [f"{MODELS}/candidate_scores.parquet"],
    ),
]


def remove(path: Path) -> None:
    """Remove a folder, a file, or of a table the last that each search found."""
    if path.is_dir():
        return shutil.rmtree(path)
    if path.suffix != ".parquet":
        return path.unlink()
    table = (dataset := GrowingTableDataset(filepath=str(path))).load()
    kept = table.groupby(["method", "seed"]).head(-3)
    kept.attrs = table.attrs
    dataset.save(kept)


def run_node(project: Path, kill: Kill, **options: Any) -> Ended:
    """Run the node of a kill in a process of its own."""
    parameters = {"run_id": "tested", **kill.parameters}
    return run_session(project, nodes=[kill.node], **options, **parameters)


def existing(project: Path, kill: Kill) -> tuple[str, ...]:
    bootstrap_project(project)
    parameters = {"run_id": "tested", **kill.parameters}
    with KedroSession.create(
        project_path=project, env="smoke", runtime_params=parameters
    ) as session:
        catalog = session.load_context().catalog
        return tuple(name for name in kill.outputs if catalog.exists(name))


def contents(project: Path) -> dict[str, Any]:
    """Return the digest that each file of tensors carries, and the bytes of all tables."""
    found: dict[str, Any] = {}
    for path in sorted((project / "data").rglob("[!.]*")):
        name = path.relative_to(project).as_posix()
        if not path.is_file() or any(part in name for part in VARYING):
            continue
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                found[name] = file.metadata().get("sha256")
        if found.get(name) is None:
            found[name] = path.read_bytes()
    return found


def differing(found: dict[str, Any], expected: dict[str, Any]) -> list[str]:
    names = [*expected, *(name for name in found if name not in expected)]
    return [name for name in names if found.get(name) != expected.get(name)]


@pytest.fixture(scope="module")
def of_small_shards(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project with several shards of images and of latents, to be read only."""
    project = copy_project(tmp_path_factory.mktemp("shards") / "project")
    ended = run_session(project, nodes=UP_TO_LATENTS, run_id="tested", **SMALL_SHARDS)
    assert ended.exit_code == 0, ended.output
    return project


@pytest.mark.parametrize("kill", KILLS, ids=lambda kill: kill.path)
def test_a_killed_stage_is_not_done_and_ends_with_the_same_results(
    kill: Kill, smoke_run: Path, of_small_shards: Path, tmp_path: Path
) -> None:
    whole = of_small_shards if kill.parameters else smoke_run
    began = shutil.copytree(whole, tmp_path / "began")
    for path in [p for name in kill.removed for p in (began / "data").glob(name)]:
        remove(path)
    moment = Written(kill.path, kill.number)
    assert run_node(began, kill, killed=moment).was_killed
    assert existing(began, kill) == ()
    assert run_node(began, kill, only_missing_outputs=True).exit_code == 0
    assert existing(began, kill) == kill.outputs
    assert differing(contents(began), contents(whole)) == []
