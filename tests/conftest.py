"""What all tests share: one thread, and a project of their own to run in."""

from __future__ import annotations

import os
import shutil
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from kedro.io import DataCatalog

from lct_pipeline.parameters import Parameters, check_parameters

ROOT = Path(__file__).parents[1]
os.environ["DO_NOT_TRACK"] = "1"


@pytest.fixture(autouse=True, scope="session")
def one_thread() -> None:
    torch.set_num_threads(1)


def copy_project(target: Path) -> Path:
    """Make a project folder with this one's configuration and code and no data."""
    target.mkdir(parents=True, exist_ok=True)
    shutil.copy(ROOT / "pyproject.toml", target)
    shutil.copytree(ROOT / "conf", target / "conf")
    shutil.rmtree(target / "conf" / "local")
    (target / "conf" / "local").mkdir()
    ignored = shutil.ignore_patterns("__pycache__", "*.egg-info")
    shutil.copytree(ROOT / "src", target / "src", ignore=ignored)
    return target


@pytest.fixture
def project(tmp_path: Path) -> Path:
    return copy_project(tmp_path / "project")


def run_stages(
    project: Path, pipeline: str | None = None, **runtime_params: Any
) -> dict[str, Any]:
    """Run a pipeline of the smoke recipe through a Kedro session, as `kedro run` does."""
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(project)
    with KedroSession.create(
        project_path=project, env="smoke", runtime_params=runtime_params
    ) as session:
        return session.run(pipeline_names=[pipeline] if pipeline else None)


@pytest.fixture(scope="session")
def smoke_run(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a project folder in which the whole smoke recipe ran once."""
    project = copy_project(tmp_path_factory.mktemp("smoke") / "project")
    with pytest.MonkeyPatch.context() as patch:
        patch.chdir(project)
        run_stages(project, run_id="tested")
    return project


@dataclass(frozen=True)
class SmokeResults:
    """What the smoke recipe left: its folder, its catalog and its parameters."""

    project: Path
    catalog: DataCatalog
    parameters: Parameters

    @property
    def run(self) -> Path:
        return self.project / "data" / "06_models" / "tested"


@pytest.fixture(scope="session")
def results(smoke_run: Path) -> SmokeResults:
    from kedro.framework.session import KedroSession
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(smoke_run)
    with KedroSession.create(
        project_path=smoke_run, env="smoke", runtime_params={"run_id": "tested"}
    ) as session:
        context = session.load_context()
        return SmokeResults(
            smoke_run, context.catalog, check_parameters(context.params)
        )
