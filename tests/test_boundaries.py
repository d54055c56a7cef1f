"""Which module may import which: downwards, never sideways between stages, and in no circle."""

from __future__ import annotations

import ast
import sys
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

import lct_pipeline

ROOT = Path(lct_pipeline.__file__).parent
LAYERS = (  # from below; a module imports of its own layer and of those before it
    "waiting_threads",
    "lazy_types",
    "plain_text",
    "errors",
    "given_files",
    "progress",
    "parameters",
    "commands",
    "core",
    "models",
    "processes",
    "datasets",
    "config_loader",
    "reporting",
    "training",
    "evaluation",
    "combination",
    "export",
    "runs",
    "pipelines",
    "pipeline_registry",
    "hooks",
    "settings",
    "cli",
    "sample",
    "__main__",
)
CORE_MAY_IMPORT = {"torch", "numpy", "scipy", "ot"} | sys.stdlib_module_names
CORE_MAY_IMPORT_LATE = {"cma", "diffusers"}  # in the function that needs it
NO_FRAMEWORK = ("kedro", "kedro_datasets", "pandas")  # in core and models
TYPE_CHECKING = {"TYPE_CHECKING", "typing.TYPE_CHECKING"}

Graph = dict[str, set[str]]


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


def module_name(path: Path) -> str:
    parts = path.relative_to(ROOT.parent).with_suffix("").parts
    return ".".join(parts).removesuffix(".__init__")


def graph_of(sources: dict[str, str]) -> Graph:
    """Return which modules of the project each of them imports, at its top or late."""
    graph: Graph = {}
    for name, source in sources.items():
        found = set()
        for imported in imports_of(ast.parse(source)):
            parent = imported.rpartition(".")[0]
            found |= {m for m in (imported, parent) if m in sources} - {name}
            if imported in sources:
                found.discard(parent)
        graph[name] = {m for m in found if not name.startswith(f"{m}.")}
    return graph


SOURCES = {module_name(path): path.read_text() for path in ROOT.rglob("*.py")}


def layer(name: str) -> int:
    parts = name.split(".")
    return LAYERS.index(parts[1]) if len(parts) > 1 else 0


def stage(name: str) -> str | None:
    """Return the stage that a module of pipelines is of."""
    parts = name.split(".")
    return parts[2] if parts[1:2] == ["pipelines"] and len(parts) > 2 else None


def breaches(graph: Graph) -> list[str]:
    """Return the imports that go upwards, or from one stage to another."""
    return [
        f"{name} -> {other}"
        for name, imported in graph.items()
        for other in sorted(imported)
        if layer(other) > layer(name)
        or (stage(name) and stage(other) and stage(name) != stage(other))
    ]


def circle(graph: Graph) -> list[str]:
    """Return the modules of a circle; empty where there is none."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return error.args[1]
    return []


def test_every_module_has_a_layer() -> None:
    names = {name.split(".")[1] for name in SOURCES if "." in name}
    assert names == set(LAYERS)


def test_imports_go_down_and_not_from_stage_to_stage() -> None:
    assert breaches(graph_of(SOURCES)) == []


def test_no_imports_form_a_circle() -> None:
    assert circle(graph_of(SOURCES)) == []


@pytest.mark.parametrize(
    ("module", "line", "found"),
    [
        ("core.losses", "from lct_pipeline.models import unet", "upward"),
        ("datasets.files", "import lct_pipeline.training.task", "upward"),
        ("training.task", "def f():\n    from lct_pipeline.runs import diff", "upward"),
        (
            "pipelines.export.nodes",
            "from lct_pipeline.pipelines.report.nodes import write_report",
            "sideways",
        ),
        ("core.objectives", "from lct_pipeline.core import levels", "circle"),
    ],
)
def test_a_wrong_import_that_is_put_in_is_found(
    module: str, line: str, found: str
) -> None:
    name = f"lct_pipeline.{module}"
    graph = graph_of({**SOURCES, name: f"{SOURCES[name]}\n{line}\n"})
    if found == "circle":
        assert name in circle(graph)
    else:
        assert [b for b in breaches(graph) if b.startswith(f"{name} -> ")]


def is_below(name: str, *packages: str) -> bool:
    return any(name == p or name.startswith(f"{p}.") for p in packages)


def breaches_of_core(tree: ast.AST) -> list[str]:
    early = set(imports_of(tree, late=False))
    return [
        name
        for name in imports_of(tree)
        if not is_below(name, "lct_pipeline.core", *CORE_MAY_IMPORT)
        and (name in early or not is_below(name, *CORE_MAY_IMPORT_LATE))
    ]


def breaches_of_models(tree: ast.AST) -> list[str]:
    names = imports_of(tree)
    return [n for n in names if n.startswith(".") or is_below(n, *NO_FRAMEWORK)]


def sources(package: str) -> list[str]:
    return sorted(name for name in SOURCES if name.split(".")[1:2] == [package])


@pytest.mark.parametrize("name", sources("core"))
def test_core_imports_only_the_mathematics(name: str) -> None:
    assert breaches_of_core(ast.parse(SOURCES[name])) == []


@pytest.mark.parametrize("name", sources("models"))
def test_models_import_no_kedro_and_no_pandas(name: str) -> None:
    assert breaches_of_models(ast.parse(SOURCES[name])) == []


def test_a_framework_is_seen_wherever_the_import_stands() -> None:
    code = """
import math, torch.nn
from lct_pipeline.core.losses import cauchy_loss
from . import sibling
def late():
    import kedro.io
    with open("x"):
        from pandas import DataFrame
"""
    outside = ["..sibling", "kedro.io", "pandas.DataFrame"]
    assert breaches_of_core(ast.parse(code)) == outside
    assert breaches_of_models(ast.parse(code)) == outside
