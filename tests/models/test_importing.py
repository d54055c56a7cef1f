from __future__ import annotations

import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lct_pipeline.errors import ParameterError
from lct_pipeline.models.importing import imported


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Write a module into the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    path = tmp_path / "imported_here.py"
    path.write_text("def seven(): return 7\n")
    importlib.invalidate_caches()
    yield path
    sys.modules.pop("imported_here", None)


def test_a_function_is_imported_from_the_current_folder(module: Path) -> None:
    assert imported("imported_here:seven", "a.key")() == 7


def test_an_installed_function_is_imported() -> None:
    assert imported("pathlib:Path", "a.key") is Path


@pytest.mark.parametrize(
    ("path", "reason"),
    [
        ("no_such_module:seven", "No module named 'no_such_module'"),
        ("imported_here:eight", "has no attribute 'eight'"),
        ("imported_here", "has no attribute ''"),
    ],
)
def test_a_path_that_leads_nowhere_is_refused_with_the_reason(
    module: Path, path: str, reason: str
) -> None:
    message = rf"a\.key='{path}' cannot be imported: .*{reason}.*Give package\.module:"
    with pytest.raises(ParameterError, match=message):
        imported(path, "a.key")
