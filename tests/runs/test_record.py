"""The parts of a run's record that look at the machine and the repository."""

from pathlib import Path

import pytest

from conftest import git
from lct_pipeline.runs.record import code_state, peak_memory_mib


def test_peak_memory_is_that_of_a_python_with_torch() -> None:
    assert 50 < peak_memory_mib() < 100_000


def test_a_clean_repository_has_its_commit_and_is_not_dirty(repository: Path) -> None:
    commit = git(repository, "rev-parse", "HEAD")
    assert code_state(repository) == {"commit": commit, "dirty": False}


def test_a_changed_tracked_file_is_dirty(repository: Path) -> None:
    (repository / "tracked.txt").write_text("two")
    assert code_state(repository)["dirty"] is True


def test_an_untracked_file_is_not_dirty(repository: Path) -> None:
    (repository / "untracked.txt").write_text("new")
    assert code_state(repository)["dirty"] is False


def test_a_folder_below_a_repository_has_its_state(repository: Path) -> None:
    (repository / "below").mkdir()
    assert code_state(repository / "below") == code_state(repository)


def test_outside_a_repository_nothing_is_known(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("GIT_CEILING_DIRECTORIES", str(tmp_path.parent))
    assert code_state(tmp_path) == {"commit": None, "dirty": None}


def test_without_git_nothing_is_known(
    repository: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(repository / "nothing"))
    assert code_state(repository) == {"commit": None, "dirty": None}
