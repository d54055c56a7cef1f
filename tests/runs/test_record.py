"""What a run's record says of the repository and of the schedule."""

import json
from pathlib import Path

import pytest
from configuration import recipe

from conftest import git
from lct_pipeline.runs.record import code_state, new_record


def test_code_is_a_commit_and_whether_tracked_files_differ_from_it(
    repository: Path,
) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    (repository / "below").mkdir()
    (repository / "untracked.txt").write_text("new")
    for folder in (repository, repository / "below"):
        assert code_state(folder) == {"commit": commit, "dirty": False}
    (repository / "tracked.txt").write_text("two")
    assert code_state(repository) == {"commit": commit, "dirty": True}


@pytest.mark.parametrize("variable", ["GIT_CEILING_DIRECTORIES", "PATH"])
def test_outside_a_repository_and_without_git_nothing_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    monkeypatch.setenv(variable, str(tmp_path.parent))
    assert code_state(tmp_path) == {"commit": None, "dirty": None}


@pytest.mark.parametrize("schedule", [None, {"continues": "old", "reason": "a 'b'"}])
def test_a_record_says_how_its_session_was_scheduled(
    schedule: dict[str, str] | None,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.delenv("LCT_SCHEDULE", raising=False)
    if schedule is not None:
        monkeypatch.setenv("LCT_SCHEDULE", json.dumps(schedule))
    record = new_record({"run_id": "now"}, recipe(), tmp_path, "cpu")
    assert record["schedule"] == schedule
