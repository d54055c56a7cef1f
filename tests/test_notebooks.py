"""The notebooks, executed on the results of the smoke recipe."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import nbformat
import pytest
from nbclient import NotebookClient

from conftest import ROOT

NOTEBOOKS = ROOT / "notebooks"
PICTURES = {"image/png", "application/vnd.plotly.v1+json"}
SHOWN = {"latents_and_outliers": 5, "training_run": 5, "search": 5}  # pictures


@pytest.fixture
def kernel(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> str:
    """Describe this Python as a kernel, in a folder that goes away."""
    folder = tmp_path / "kernels" / "tested"
    folder.mkdir(parents=True)
    command = [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"]
    about = {"argv": command, "display_name": "tested", "language": "python"}
    (folder / "kernel.json").write_text(json.dumps(about))
    monkeypatch.setenv("JUPYTER_PATH", str(tmp_path))
    monkeypatch.setenv("OMP_NUM_THREADS", "1")
    return folder.name


@pytest.fixture
def notebook(request: pytest.FixtureRequest) -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOKS / f"{request.param}.ipynb", as_version=4)


def execute(notebook: nbformat.NotebookNode, project: Path, kernel: str) -> None:
    """Run all cells from the project's folder of notebooks; an error in one is an error."""
    folder = project / "notebooks"
    folder.mkdir(exist_ok=True)
    NotebookClient(
        notebook,
        timeout=120,
        kernel_name=kernel,
        resources={"metadata": {"path": str(folder)}},
    ).execute()


def outputs(cell: Any) -> list[set[str]]:
    """Return the kinds of what a cell shows, of each of its outputs that are not empty."""
    shown = (output.get("data", {}) for output in cell["outputs"])
    return [
        set(data) for data in shown if PICTURES & set(data) or data.get("text/plain")
    ]


def shows(cell: Any) -> bool:
    """Return whether a cell is to show something: its last line is an expression."""
    last = cell["source"].splitlines()[-1]
    return not (last.startswith("%") or " = " in last)


@pytest.mark.parametrize("notebook", SHOWN, indirect=True)
def test_a_notebook_runs_and_shows_its_pictures(
    notebook: nbformat.NotebookNode,
    request: pytest.FixtureRequest,
    smoke_run: Path,
    kernel: str,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setenv("KEDRO_ENV", "smoke")
    monkeypatch.setenv("LCT_RUN", "tested")
    execute(notebook, smoke_run, kernel)
    cells = [cell for cell in notebook.cells if cell["cell_type"] == "code"]
    silent = [cell["source"] for cell in cells if shows(cell) and not outputs(cell)]
    assert not silent
    pictures = [kinds & PICTURES for cell in cells for kinds in outputs(cell)]
    name = request.node.callspec.params["notebook"]
    assert sum(map(bool, pictures)) == SHOWN[name]


def test_every_notebook_is_tested() -> None:
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == set(SHOWN)


@pytest.mark.parametrize("notebook", SHOWN, indirect=True)
def test_a_notebook_is_text_alone(notebook: nbformat.NotebookNode) -> None:
    nbformat.validate(notebook)
    for before, cell in zip(notebook.cells, notebook.cells[1:], strict=False):
        if cell["cell_type"] == "code":
            assert cell["execution_count"] is None and not cell["outputs"]
            assert not any(
                line.startswith(("def ", "class "))
                for line in cell["source"].splitlines()
            )
            assert before["cell_type"] == "markdown"  # which says what is seen
