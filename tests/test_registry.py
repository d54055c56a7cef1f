"""The registered pipelines, against the catalog and the parameters."""

from __future__ import annotations

import ast
import inspect
import subprocess
import sys
from collections import Counter
from importlib import import_module
from pathlib import Path
from typing import Any

import pytest
from configuration import loader, recipe, values
from kedro.io import CatalogConfigResolver, DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline
from kedro.pipeline.node import Node
from kedro.validation.parameter_validator import ParameterValidator
from kedro.validation.type_extractor import TypeExtractor

from conftest import ROOT
from lct_pipeline.datasets.run_records import TRAIN_NODE
from lct_pipeline.parameters import Group
from lct_pipeline.pipeline_registry import STAGES, register_pipelines
from lct_pipeline.reporting.page import CHARTS

PIPELINES = register_pipelines()
NODES = {node for pipeline in PIPELINES.values() for node in pipeline.nodes}
ROOTS = {"image_source", "given_autoencoder"}  # what a run can start from
MAY_BE_EMPTY = {"init_from_checkpoints", "given_reference", "run_folder"}
BY_HOOKS = {"run_records", "comparison_records"}  # what no node reads or writes
MOST_ENTRIES, MOST_TASKS, MOST_INPUTS, MOST_LATE_IMPORTS = 62, 28, 10, 60
HEAVY = {
    "PIL",
    "cleanfid",
    "cma",
    "diffusers",
    "lpips",
    "matplotlib",
    "numpy",
    "ot",
    "pandas",
    "plotly",
    "pyarrow",
    "safetensors",
    "scipy",
    "sklearn",
    "torch",
    "torchvision",
    "transformers",
}
each_pipeline = pytest.mark.parametrize("name", PIPELINES)
with_report = pytest.mark.parametrize("name", ["__default__", "train", "evaluate"])


@pytest.fixture(scope="module")
def entries() -> dict[str, Any]:
    """Return what conf/base declares, datasets and factories."""
    return {k: v for k, v in loader()["catalog"].items() if not k.startswith("_")}


@pytest.fixture(scope="module")
def resolver(entries: dict[str, Any]) -> CatalogConfigResolver:
    return CatalogConfigResolver(entries)


def datasets(names: set[str]) -> set[str]:
    return {name for name in names if not name.startswith("params:")}


ALL = {n for p in PIPELINES.values() for n in datasets(p.datasets())}
OUTPUTS = {name for p in PIPELINES.values() for name in p.all_outputs()}


def place(config: dict[str, Any]) -> str:
    """Return the file or the folder of a dataset."""
    return config.get("filepath") or config["path"]


def parameter_keys(pipeline: Pipeline) -> set[str]:
    inputs = {name for node in pipeline.nodes for name in node.inputs}
    return {name.removeprefix("params:") for name in inputs - datasets(inputs)}


@pytest.fixture(scope="module")
def needed(resolver: CatalogConfigResolver) -> Any:
    """Return what tells the datasets without which a pipeline cannot run."""

    def find(name: str) -> set[str]:
        return {
            name
            for name in datasets(PIPELINES[name].inputs()) - MAY_BE_EMPTY
            if not name.startswith("previous_")
            and not resolver.resolve_pattern(name).get("optional")
        }

    return find


def test_every_dataset_is_declared_and_kept(
    entries: dict[str, Any], resolver: CatalogConfigResolver
) -> None:
    catalog = DataCatalog.from_config(entries)
    for name in ALL:
        assert name in entries or resolver.match_dataset_pattern(name), name
        made = catalog.get(name)
        assert made is not None and not isinstance(made, MemoryDataset), name
    # a factory takes any name: one that is misspelt would load as nothing
    inputs = {n for p in PIPELINES.values() for n in datasets(p.inputs())}
    assert inputs <= entries.keys() | OUTPUTS


def test_a_name_that_is_not_declared_matches_no_factory(
    resolver: CatalogConfigResolver,
) -> None:
    assert resolver.match_dataset_pattern("latent_moments") is None
    assert resolver.match_dataset_pattern("training_curves_chart") == "{name}_chart"


def test_every_declared_dataset_and_factory_is_used(
    entries: dict[str, Any], resolver: CatalogConfigResolver
) -> None:
    used = ALL | BY_HOOKS
    for entry in entries:
        is_factory = CatalogConfigResolver.is_pattern(entry)
        made = {n for n in used - entries.keys() if is_factory and _matches(n, entry)}
        assert entry in used or made, entry
    assert BY_HOOKS & ALL == set()


def _matches(name: str, factory: str) -> bool:
    found = CatalogConfigResolver({factory: {"type": "x"}})
    return found.match_dataset_pattern(name) == factory


def test_the_whole_stays_small(entries: dict[str, Any]) -> None:
    assert len(entries) <= MOST_ENTRIES
    assert len(PIPELINES["__default__"].nodes) <= MOST_TASKS


def test_no_two_outputs_share_a_file(resolver: CatalogConfigResolver) -> None:
    files = Counter(place(resolver.resolve_pattern(name)) for name in OUTPUTS)
    assert [file for file, count in files.items() if count > 1] == []


def test_what_is_called_previous_is_the_same_file(entries: dict[str, Any]) -> None:
    previous = {name for name in entries if name.startswith("previous_")}
    assert previous == {n for n in ALL if n.startswith("previous_")}
    assert len(previous) == 10
    for name in previous:
        original = entries[name.removeprefix("previous_")]
        for key in ("type", "path", "filepath"):
            assert entries[name].get(key) == original.get(key), name


def test_previous_results_are_read_and_never_written() -> None:
    assert [name for name in OUTPUTS if name.startswith("previous_")] == []
    for node in NODES:
        for name in node.inputs:
            if name.startswith("previous_"):
                assert name.removeprefix("previous_") in node.outputs, node.name


@pytest.mark.parametrize("name", ["encode", "train", "__default__"])
def test_these_work_from_nothing_that_a_pipeline_writes(name: str, needed: Any) -> None:
    assert needed(name) == ROOTS


@pytest.mark.parametrize(
    ("name", "outputs"),
    [
        ("catalog", {"checkpoints", "checkpoint_index"}),
        ("compare", {"comparison"}),
    ],
)
def test_what_others_made_is_taken_by_a_pipeline_that_needs_no_other(
    name: str, outputs: set[str], needed: Any
) -> None:
    assert not needed(name) & OUTPUTS
    assert PIPELINES[name].all_outputs() == outputs


@pytest.mark.parametrize("name", ["combine", "evaluate", "export"])
def test_later_pipelines_work_on_what_earlier_ones_left(name: str, needed: Any) -> None:
    found = needed(name)
    assert found <= PIPELINES["__default__"].all_outputs()
    assert not found & PIPELINES[name].all_outputs()


SHOWN = {  # in the report
    "combination",
    "combination_report",
    "copying",
    "evaluation",
    "latent_statistics",
    "nearest_neighbours",
    "pixel_statistics",
    "reconstruction_quality",
    "sample_panels",
    "search_history",
    "stage_samples",
    "td_statistics",
    "training_metrics",
    *(f"{name}_chart" for names in CHARTS.values() for name in names),
}


@with_report
def test_the_report_is_written_after_all_that_it_shows(name: str) -> None:
    pipeline = PIPELINES[name]
    shown = SHOWN | {"checkpoints"}
    made = pipeline.all_outputs() & shown
    assert made
    assert made <= pipeline.to_outputs("report").all_outputs()
    (node,) = pipeline.only_nodes_with_outputs("report").nodes
    records = {n for n in pipeline.all_outputs() if n.endswith("_record")}
    assert records and records <= set(node.inputs)


def test_a_stage_ends_with_its_record() -> None:
    for name, pipeline in PIPELINES.items():
        for stage in {node.namespace for node in pipeline.nodes}:
            nodes = pipeline.only_nodes_with_namespaces([stage])
            if f"{stage}_record" in nodes.all_outputs():
                (last,) = nodes.only_nodes_with_outputs(f"{stage}_record").nodes
                assert last in nodes.grouped_nodes[-1], f"{name}: {last.name}"


def test_what_the_report_shows_lies_in_the_folders_of_the_run(
    resolver: CatalogConfigResolver,
) -> None:
    run = resolver.resolve_pattern("run_folder")
    shown = SHOWN & OUTPUTS
    for name in shown:
        path = Path(place(resolver.resolve_pattern(name)))
        assert path.stem == name.removesuffix("_chart")
        assert str(path.parent) in (run["path"], run["filepath"]), name


def test_the_report_alone_shows_what_there_is(needed: Any) -> None:
    assert needed("report") == set()
    assert PIPELINES["report"].all_outputs() == {"report"}


def test_all_nodes_are_named_and_no_two_alike() -> None:
    assert [str(node) for node in NODES if node._name is None] == []
    names = Counter(name for name, _ in {(node.name, node.func) for node in NODES})
    assert [name for name, count in names.items() if count > 1] == []
    assert TRAIN_NODE in names


@pytest.mark.parametrize("node", sorted(NODES), ids=lambda node: node.name)
def test_a_node_is_a_small_function_of_its_stage(node: Node) -> None:
    assert node.namespace in STAGES
    assert node.name == f"{node.namespace}.{node.short_name}"
    assert node.func.__module__ == f"lct_pipeline.pipelines.{node.namespace}.nodes"
    assert node.func.__name__ == node.short_name
    assert len(node.inputs) <= MOST_INPUTS
    assert not node.tags


@pytest.mark.parametrize("stage", STAGES)
def test_the_module_of_nodes_has_nothing_else(stage: str) -> None:
    module = import_module(f"lct_pipeline.pipelines.{stage}.nodes")
    of_nodes = {node.func for node in NODES if node.namespace == stage}
    own = {
        found
        for _, found in inspect.getmembers(module, inspect.isfunction)
        if found.__module__ == module.__name__
    }
    assert own == of_nodes


def test_what_decodes_uses_the_autoencoder_that_the_same_run_made() -> None:
    whole = PIPELINES["__default__"]
    before = whole.to_nodes("baselines.select_best_ema").all_outputs()
    assert {"autoencoder", "latent_normalisation", "decoder", "reference"} <= before


@each_pipeline
def test_every_parameter_of_a_node_is_typed(name: str) -> None:
    types = TypeExtractor({name: PIPELINES[name]}).extract_types_from_pipelines()
    assert types.keys() == parameter_keys(PIPELINES[name])
    assert all(issubclass(kind, Group) for kind in types.values())


@each_pipeline
def test_nodes_get_the_checked_values(name: str) -> None:
    validator = ParameterValidator({name: PIPELINES[name]})
    found = validator.validate_raw_params(values())
    for key in parameter_keys(PIPELINES[name]):
        value: Any = found
        expected: Any = recipe("base")
        for part in key.split("."):
            value = value[part] if isinstance(value, dict) else getattr(value, part)
            expected = getattr(expected, part)
        assert value == expected, key


def late_imports(tree: ast.AST) -> int:
    """Return how many imports stand inside functions."""
    functions = (ast.FunctionDef, ast.AsyncFunctionDef)
    lines = {
        inner.lineno
        for outer in ast.walk(tree)
        if isinstance(outer, functions)
        for inner in ast.walk(outer)
        if isinstance(inner, (ast.Import, ast.ImportFrom))
    }
    return len(lines)


def test_few_imports_stand_inside_functions() -> None:
    files = (ROOT / "src").rglob("*.py")
    counts = {path: late_imports(ast.parse(path.read_text())) for path in files}
    assert counts
    assert sum(counts.values()) <= MOST_LATE_IMPORTS


def test_listing_the_pipelines_imports_no_heavy_library() -> None:
    done = subprocess.run(
        [sys.executable, "-X", "importtime", "-m", "kedro", "registry", "list"],
        cwd=ROOT,
        capture_output=True,
        text=True,
        check=True,
    )
    assert set(done.stdout.split()) == {"-", *PIPELINES}
    lines = (line for line in done.stderr.splitlines() if line.startswith("import "))
    loaded = {line.rpartition("|")[2].strip() for line in lines}
    assert "lct_pipeline.pipelines.training.nodes" in loaded
    assert {name.partition(".")[0] for name in loaded} & HEAVY == set()
