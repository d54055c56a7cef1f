"""The notebooks, executed on the results of the smoke recipe."""

from __future__ import annotations

import json
import shutil
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


FORGET = "%reset -f\nget_ipython().extension_manager.loaded.clear()"


def kernel(folder: Path, patch: pytest.MonkeyPatch) -> str:
    """Describe this Python as a kernel, in a folder that goes away; return its name."""
    about = {
        "argv": [sys.executable, "-m", "ipykernel_launcher", "-f", "{connection_file}"],
        "display_name": "tested",
        "language": "python",
    }
    (folder / "kernels" / "tested").mkdir(parents=True)
    (folder / "kernels" / "tested" / "kernel.json").write_text(json.dumps(about))
    patch.setenv("JUPYTER_PATH", str(folder))
    return "tested"


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


@pytest.fixture(scope="module")
def executed(
    smoke_run: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[Any]]:
    """Return the cells of each notebook with what they gave.

    All are run from the project's folder of notebooks by one kernel, which forgets everything
    between them but what it has imported. An error in one ends no other.
    """
    folder = tmp_path_factory.mktemp("notebooks")
    project = shutil.copytree(smoke_run, folder / "project")
    (project / "notebooks").mkdir()
    cells = {name: read(name).cells for name in SHOWN}
    together = nbformat.v4.new_notebook()
    for name, own in cells.items():
        for cell in own:
            cell["id"] = f"{name}-{cell['id']}"
        together.cells += [nbformat.v4.new_code_cell(FORGET), *own]
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("KEDRO_ENV", "smoke")
        patch.setenv("LCT_RUN", "tested")
        NotebookClient(
            together,
            timeout=120,
            kernel_name=kernel(folder, patch),
            allow_errors=True,
            resources={"metadata": {"path": str(project / "notebooks")}},
        ).execute()
    return cells


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


@pytest.mark.parametrize("name", SHOWN)
def test_a_notebook_runs_and_shows_its_pictures(
    executed: dict[str, list[Any]], name: str
) -> None:
    cells = [cell for cell in executed[name] if cell["cell_type"] == "code"]
    errors = [
        "\n".join(output["traceback"])
        for cell in cells
        for output in cell["outputs"]
        if output["output_type"] == "error"
    ]
    assert not errors, errors[0]
    shown = (out.get("data", {}) for cell in cells for out in cell["outputs"])
    tables = [html for data in shown if "<table" in (html := data.get("text/html", ""))]
    assert tables and all("mathjax_ignore" in html for html in tables)
    silent = [cell["source"] for cell in cells if shows(cell) and not outputs(cell)]
    assert not silent
    pictures = [kinds & PICTURES for cell in cells for kinds in outputs(cell)]
    assert sum(map(bool, pictures)) == SHOWN[name]


def test_every_notebook_is_tested() -> None:
    assert {path.stem for path in NOTEBOOKS.glob("*.ipynb")} == set(SHOWN)


@pytest.mark.parametrize("name", SHOWN)
def test_a_notebook_is_text_alone(name: str) -> None:
    notebook = read(name)
    nbformat.validate(notebook)
    for before, cell in zip(notebook.cells, notebook.cells[1:], strict=False):
        if cell["cell_type"] == "code":
            assert cell["execution_count"] is None and not cell["outputs"]
            assert not any(
                line.startswith(("def ", "class "))
                for line in cell["source"].splitlines()
            )
            assert before["cell_type"] == "markdown"  # which says what is seen
