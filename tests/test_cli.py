"""The commands: one message, without a traceback, for what a user can mend."""

import errno
import logging
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner
from kedro.framework.cli.project import run as kedro_run
from kedro.framework.startup import bootstrap_project
from kedro.io import DatasetError

from conftest import run_stages
from lct_pipeline.cli import cli
from lct_pipeline.datasets.tensors import TensorFileDataset
from lct_pipeline.errors import DataError, ParameterError, user_error_in


def fail_with(monkeypatch: pytest.MonkeyPatch, error: Exception) -> None:
    def callback(**_: Any) -> None:
        try:
            raise error
        except DataError as inner:
            raise DatasetError("Failed while loading data") from inner

    monkeypatch.setattr(kedro_run, "callback", callback)


def test_a_user_error_is_found_behind_the_error_of_a_dataset(tmp_path: Path) -> None:
    dataset = TensorFileDataset(filepath=str(tmp_path / "gone"), written_by="train")
    with pytest.raises(DatasetError) as caught:
        dataset.load()
    found = user_error_in(caught.value)
    assert isinstance(found, DataError)
    assert "gone is not there" in str(found)


def test_a_user_error_is_found_behind_an_error_while_handling_it() -> None:
    with pytest.raises(ValueError, match="second") as caught:
        try:
            raise ParameterError("first")
        except ParameterError:
            raise ValueError("second")  # noqa: B904
    assert str(user_error_in(caught.value)) == "first"


def test_a_user_error_ends_the_command_with_its_message_alone(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    fail_with(monkeypatch, DataError("images.zip is damaged."))
    result = CliRunner().invoke(cli, ["run"])
    assert result.exit_code == 1
    assert result.output == "Error: images.zip is damaged.\n"


@pytest.mark.parametrize("number", [errno.EACCES, errno.EROFS, errno.ENOSPC])
def test_a_place_that_cannot_be_used_is_named(
    monkeypatch: pytest.MonkeyPatch, number: int
) -> None:
    fail_with(monkeypatch, OSError(number, "the reason", "data/06_models"))
    result = CliRunner().invoke(cli, ["run"])
    assert result.exit_code == 1
    expected = "Error: data/06_models cannot be written or read: the reason. Give"
    assert result.output.startswith(expected)


def test_a_fault_of_the_program_keeps_its_traceback(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    error = ZeroDivisionError("a bug")
    fail_with(monkeypatch, error)
    assert CliRunner().invoke(cli, ["run"]).exception is error


def test_a_misspelt_parameter_ends_the_run_with_one_message(
    project: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    bootstrap_project(project)
    words = ["run", "--params=training.optimizer.lerning_rate=1"]
    result = CliRunner().invoke(cli, words)
    assert result.exit_code == 1
    lines = result.output.strip().splitlines()
    assert lines[-2] == "Error: Parameters refused, nothing was run:"
    assert "no such parameter; did you mean learning_rate? there are: " in lines[-1]
    assert result.output.count("lerning_rate") == 1
    assert not (project / "data").exists()


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--pipeline=trian"], "--pipeline=trian: no such pipeline; did you mean train? th"),
        (["--pipelines=ingest,x"], "--pipelines=x: no such pipeline; there are: __default__"),
        (["--namespaces=train"], "--namespaces=train: no such stage; did you mean training?"),
        (["--nodes=train"], "does not contain nodes named ['train']. Of all there are: "),
        (["--env=smoek"], "folder of conf/: did you mean smoke? there are: airflow, base, "),
        (["--params=trainign.seed=1"], "trainign: no such parameter; did you mean training?"),
        (["--params=training.network=unet"], "a group of parameters; give training.network.<"),
        (["--params=ingestion.source=nowhere"], "ingestion.source='nowhere' does not exist."),
        (["--pipeline=catalog", "--params=run_id=a,cataloging.source=b"], "is not a folder."),
        (
            [
                "--pipeline=combine",
                "--params=combination.generator=no_module:f,combination.search.methods=[cma]",
            ],
            "combination.generator='no_module:f' cannot be imported: ModuleNotFoundError",
        ),
    ],
    ids=lambda value: value[0] if isinstance(value, list) else "",
)  # fmt: skip
def test_what_is_named_and_is_not_there_is_told_in_one_message_before_anything_runs(
    project: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
    words: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(project)
    bootstrap_project(project)
    result = CliRunner().invoke(cli, ["run", *words])
    assert result.exit_code == 1
    shown = result.output + capfd.readouterr().err
    assert message in shown
    assert f"\n{shown}".count("\nError: ") == 1
    assert "Traceback" not in shown and "odes" not in shown.replace(message, "")
    assert not (project / "data").exists()


def test_kedros_advice_after_a_failure_is_left_out(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    given(monkeypatch, "a=1")
    runner = logging.getLogger("kedro.runner.sequential_runner")
    runner.warning("No nodes ran. Repeat the previous command to attempt a new run.")
    runner.warning("There are 2 nodes that have not run.")
    runner.warning("Completed")
    assert caplog.messages == ["Completed"]


def test_a_project_below_a_folder_that_kedro_cannot_read_is_told(
    project: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    place = project.rename(tmp_path / "a[1]")
    monkeypatch.chdir(place)
    bootstrap_project(place)
    result = CliRunner().invoke(cli, ["run"])
    assert "no configuration below a folder with [, ], * or ?. Rename" in result.output


def test_the_error_of_a_run_without_images_is_one_that_a_user_can_mend(
    project: Path,
) -> None:
    with pytest.raises(DatasetError) as caught:
        run_stages(project, "ingest", ingestion={"source": "nowhere"})
    message = str(user_error_in(caught.value))
    assert message.startswith("ingestion.source='nowhere' does not exist.")


def given(monkeypatch: pytest.MonkeyPatch, params: str) -> Any:
    """Return the parameters that a run gets from the command line."""
    found: dict[str, Any] = {}
    monkeypatch.setattr(kedro_run, "callback", lambda **options: found.update(options))
    result = CliRunner().invoke(cli, ["run", f"--params={params}"])
    assert result.exit_code == 0, result.output
    return found["params"]


@pytest.mark.parametrize(
    ("params", "expected"),
    [
        ("a.b=1,c=x", {"a": {"b": 1}, "c": "x"}),
        ("a.b=[x,y],c=[1]", {"a": {"b": ["x", "y"]}, "c": [1]}),
        ("a=[[1,2],[3]],b=true", {"a": [[1, 2], [3]], "b": True}),
        ("a={x: 1, y: 2}", {"a": {"x": 1, "y": 2}}),
        ("a=1,", {"a": 1}),
    ],
)
def test_parameters_may_be_lists(
    monkeypatch: pytest.MonkeyPatch, params: str, expected: dict[str, Any]
) -> None:
    assert given(monkeypatch, params) == expected


def test_a_parameter_without_a_value_is_refused() -> None:
    result = CliRunner().invoke(cli, ["run", "--params=a=[1,2],b"])
    assert result.exit_code != 0
    assert "'b' is not of the form key=value" in result.output
