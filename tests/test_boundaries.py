from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

import lct_pipeline

ROOT = Path(lct_pipeline.__file__).parent
CORE_MAY_IMPORT = {"torch", "numpy", "scipy", "ot"} | sys.stdlib_module_names
CORE_MAY_IMPORT_LATE = {"cma", "diffusers"}  # in the function that needs it
TYPE_CHECKING = {"TYPE_CHECKING", "typing.TYPE_CHECKING"}
MODELS_MUST_NOT_IMPORT = (
    "kedro",
    "kedro_datasets",
    "pandas",
    "lct_pipeline.datasets",
    "lct_pipeline.pipelines",
)


def imports_of(tree: ast.AST, *, late: bool = True) -> Iterator[str]:
    """Yield dotted names of all imports, those for type checking alone left out.

    Args:
        tree: A module, or a part of one.
        late: Whether imports inside functions count.
    """
    if isinstance(tree, ast.FunctionDef) and not late:
        return
    if isinstance(tree, ast.Import):
        yield from (alias.name for alias in tree.names)
    elif isinstance(tree, ast.ImportFrom):
        base = "." * tree.level + (tree.module or "")
        yield from (f"{base}.{alias.name}" for alias in tree.names)
    children = ast.iter_child_nodes(tree)
    if isinstance(tree, ast.If) and ast.unparse(tree.test) in TYPE_CHECKING:
        children = iter(tree.orelse)
    for child in children:
        yield from imports_of(child, late=late)


def is_below(name: str, package: str) -> bool:
    return name == package or name.startswith(f"{package}.")


def breaches_of_core(tree: ast.AST) -> list[str]:
    early = set(imports_of(tree, late=False))

    def is_allowed(name: str) -> bool:
        package = name.partition(".")[0]
        is_late = package in CORE_MAY_IMPORT_LATE and name not in early
        return (
            is_below(name, "lct_pipeline.core") or package in CORE_MAY_IMPORT or is_late
        )

    return [name for name in imports_of(tree) if not is_allowed(name)]


def breaches_of_models(tree: ast.AST) -> list[str]:
    return [
        name
        for name in imports_of(tree)
        if name.startswith(".")
        or any(is_below(name, package) for package in MODELS_MUST_NOT_IMPORT)
    ]


def sources(package: str) -> list[Path]:
    files = sorted((ROOT / package).rglob("*.py"))
    assert files, f"no sources below {ROOT / package}"
    return files


@pytest.mark.parametrize("path", sources("core"), ids=lambda p: p.name)
def test_core_imports_only_the_mathematics(path: Path) -> None:
    assert breaches_of_core(ast.parse(path.read_text())) == []


@pytest.mark.parametrize("path", sources("models"), ids=lambda p: p.name)
def test_models_import_no_kedro_no_pandas_no_datasets(path: Path) -> None:
    assert breaches_of_models(ast.parse(path.read_text())) == []


def test_a_breach_is_seen_wherever_the_import_stands() -> None:
    code = """
import math, torch.nn
from lct_pipeline.core.losses import cauchy_loss
from lct_pipeline import datasets
from lct_pipeline.pipelines.training import nodes
from . import sibling
def late():
    import kedro.io
    with open("x"):
        from pandas import DataFrame
"""
    outside = [
        "lct_pipeline.datasets",
        "lct_pipeline.pipelines.training.nodes",
        "..sibling",
        "kedro.io",
        "pandas.DataFrame",
    ]
    assert breaches_of_core(ast.parse(code)) == outside
    assert breaches_of_models(ast.parse(code)) == outside


def test_core_imports_diffusers_in_functions_alone() -> None:
    late = "def solver():\n    from diffusers import EDMEulerScheduler\n"
    assert breaches_of_core(ast.parse(late)) == []
    early = "from diffusers import EDMEulerScheduler\n"
    assert breaches_of_core(ast.parse(early + late)) != []


def test_imports_for_type_checking_alone_are_no_breach() -> None:
    code = """
from typing import TYPE_CHECKING
if TYPE_CHECKING:
    import pandas as pd
else:
    import kedro
"""
    assert breaches_of_models(ast.parse(code)) == ["kedro"]
