"""The notebooks, executed on the results of the smoke recipe."""

from __future__ import annotations

import json
import os
import shutil
from pathlib import Path
from typing import Any

import nbformat
import pytest
from forking import run_forked
from IPython.core.displayhook import DisplayHook
from IPython.core.displaypub import CapturingDisplayPublisher
from IPython.core.interactiveshell import InteractiveShell

from conftest import ROOT

NOTEBOOKS = ROOT / "notebooks"
PICTURES = {"image/png", "application/vnd.plotly.v1+json"}
SHOWN = {"latents_and_outliers": 5, "training_run": 5, "search": 5}  # pictures


class Shell(InteractiveShell):
    """IPython as a kernel of Jupyter has it."""

    def enable_gui(self, gui: Any = None) -> None: ...


class Hook(DisplayHook):
    """Keeps the value of a cell's last line with what the cell displays."""

    def write_format_data(self, format_dict: Any, md_dict: Any = None) -> None:
        self.shell.display_pub.publish(format_dict)


def execute(notebooks: dict[str, list[str]], folder: Path, results: Path) -> None:
    """Run the cells of notebooks; write of each what it shows, by kind, and its error.

    One shell forgets everything between them but what it has imported. An error in one ends no
    other.
    """
    os.chdir(folder)
    os.environ |= {"KEDRO_ENV": "smoke", "LCT_RUN": "tested"}
    kinds = {"displayhook_class": Hook, "display_pub_class": CapturingDisplayPublisher}
    shell, found = Shell.instance(**kinds), {}
    for name, sources in notebooks.items():
        shell.reset()
        shell.extension_manager.loaded.clear()
        found[name] = []
        for source in sources:
            shell.display_pub.outputs = []
            error = shell.run_cell(source).error_in_exec
            shown = [output["data"] for output in shell.display_pub.outputs]
            found[name].append((shown, error and repr(error)))
    results.write_text(json.dumps(found, default=str))


def read(name: str) -> nbformat.NotebookNode:
    return nbformat.read(NOTEBOOKS / f"{name}.ipynb", as_version=4)


def sources(name: str) -> list[str]:
    """Return the code of a notebook, by cell."""
    return [c["source"] for c in read(name).cells if c["cell_type"] == "code"]


@pytest.fixture(scope="module")
def executed(
    smoke_run: Path, tmp_path_factory: pytest.TempPathFactory
) -> dict[str, list[Any]]:
    """Return what the cells of each notebook gave, run from the project's folder of notebooks."""
    folder = tmp_path_factory.mktemp("notebooks")
    project = shutil.copytree(smoke_run, folder / "project")
    (project / "notebooks").mkdir()
    code = {name: sources(name) for name in SHOWN}
    results = folder / "results.json"
    ended = run_forked(execute, code, project / "notebooks", results)
    assert ended.exit_code == 0, ended.output
    return json.loads(results.read_text())


def shows(source: str) -> bool:
    """Return whether a cell is to show something: its last line is an expression."""
    last = source.splitlines()[-1]
    return not (last.startswith("%") or " = " in last)


@pytest.mark.parametrize("name", SHOWN)
def test_a_notebook_runs_and_shows_its_pictures(
    executed: dict[str, list[Any]], name: str
) -> None:
    cells = executed[name]
    assert [error for _, error in cells if error] == []
    shown = [data for of_cell, _ in cells for data in of_cell]
    tables = [html for data in shown if "<table" in (html := data.get("text/html", ""))]
    assert tables and all("mathjax_ignore" in html for html in tables)
    should = {n for n, source in enumerate(sources(name)) if shows(source)}
    assert should <= {n for n, (of_cell, _) in enumerate(cells) if any(of_cell)}
    assert sum(bool(PICTURES & set(data)) for data in shown) == SHOWN[name]


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
