"""No secret of the environment, of the command line or of ``conf/local`` is left anywhere."""

from __future__ import annotations

import logging
import os
import sys
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
from click.testing import CliRunner
from hostile import ADDRESS, CANARY, ENVIRONMENT
from kedro.framework.startup import bootstrap_project

from lct_pipeline.cli import cli
from lct_pipeline.pipelines.ingestion import manifest


class ServiceError(Exception):
    """What a library raises, with the address that it asked."""


def refuse(*_: Any, **__: Any) -> None:
    logging.getLogger("its_library").warning("asked %s", ADDRESS)
    raise ServiceError(f"403 for {ADDRESS}, Authorization: Bearer {CANARY}")


def open_experiment(name: str) -> None:
    """Print the address of what is opened, as MLflow does unless it is told otherwise."""
    if not os.environ.get("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT"):
        sys.stdout.write(f"{name} is at {ADDRESS}")
    refuse()


def lost_or_made(images: Any, parameters: Any) -> Any:
    """Fail in one of the runs."""
    return refuse() if parameters.min_side == 2 else made(images, parameters)


made = manifest.image_manifest
HUB = SimpleNamespace(load_dataset=refuse)
MLFLOW = SimpleNamespace(
    set_experiment=open_experiment,
    MlflowException=ServiceError,
    get_tracking_uri=lambda: f"https://user:{CANARY}@host",
)
RUN = ["run", "--env=smoke", "--pipeline=ingest"]
COMMANDS: list[tuple[list[str], int, str]] = [
    ([*RUN, "--params=run_id=good"], 0, ""),
    ([*RUN, f"--params=run_id=bad,ingestion.source={ADDRESS}"], 1, "has a password"),
    ([*RUN, f"--params=hf_token={CANARY}"], 1, "hf_token: no such parameter"),
    ([*RUN, f"--params=ingestion.image_size={ADDRESS}"], 1, "a valid integer"),
    (
        [*RUN, "--params=run_id=hub,ingestion.source=hf://datasets/a/b"],
        1,
        "403 for https://host/a.zip Authorization: Bearer ***",
    ),
    ([*RUN, "--params=run_id=lost,ingestion.min_side=2"], 1, ""),
    ([*RUN, "--params=run_id=log,runtime.mlflow=true"], 1, "MLflow at https://host"),
    (["lct", "runs"], 0, "lost (failed): ServiceError"),
    (["lct", "runs", "--json"], 0, "403 for https://host/a.zip"),
    (["lct", "diff", "good", "lost"], 0, "ingestion.min_side"),
    (["lct", "mlflow", "lost"], 1, "MLflow at https://host"),
]


def found_in(folder: Path) -> list[Path]:
    """Return the files with a canary."""
    files = (path for path in folder.rglob("*") if path.is_file())
    return [path for path in files if CANARY.encode() in path.read_bytes()]


def test_commands_leave_no_secret_in_files_messages_and_logs(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(project)
    for name, value in ENVIRONMENT.items():
        monkeypatch.setenv(name, value)
    monkeypatch.delenv("MLFLOW_SUPPRESS_PRINTING_URL_TO_STDOUT", raising=False)
    monkeypatch.setattr(manifest, "image_manifest", lost_or_made)
    monkeypatch.setitem(sys.modules, "datasets", HUB)  # type: ignore[arg-type]
    monkeypatch.setitem(sys.modules, "mlflow", MLFLOW)  # type: ignore[arg-type]
    local = project / "conf" / "local" / "credentials.yml"
    local.write_text(f"hub: {{token: {CANARY}}}\n")
    bootstrap_project(project)
    said = ""
    for words, code, expected in COMMANDS:
        done = CliRunner().invoke(cli, words)
        assert done.exit_code == code, (words, done.output, done.exception)
        assert expected in done.output, words
        said += done.output
    said += "".join(capfd.readouterr()) + caplog.text
    assert CANARY not in said and "asked https://host/a.zip" in said
    assert found_in(project) == [local]
    assert os.environ["MLFLOW_DISABLE_TELEMETRY"] == "true"


def test_a_whole_run_leaves_no_secret(smoke_run: Path) -> None:
    """The environment of the smoke run has some: see its fixture."""
    assert found_in(smoke_run) == [smoke_run / "conf" / "local" / "credentials.yml"]
