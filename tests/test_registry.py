"""The registered pipelines, against the catalog and the parameters."""

import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Pipeline
from kedro.validation.parameter_validator import ParameterValidator
from kedro.validation.type_extractor import TypeExtractor

from lct_pipeline.config_loader import LctConfigLoader
from lct_pipeline.parameters import Group, check_parameters
from lct_pipeline.pipeline_registry import register_pipelines
from lct_pipeline.pipelines.report.pipeline import RESULTS
from lct_pipeline.settings import CONFIG_LOADER_ARGS

CONF = Path(__file__).parents[1] / "conf"
PIPELINES = register_pipelines()
ROOTS = {"image_source", "given_autoencoder"}  # what a run can start from
OPTIONAL = {  # need not be there
    "first_stage_checkpoints",
    "autoencoder_if_any",
    "latent_normalisation_if_any",
    "combined_model_if_any",
    "given_reference",
    "best_average_if_any",
    "sampling_plans_if_any",
    "run_records",
    *(f"{name}_if_any" for name in RESULTS),
}
NAMES = (
    "ingest",
    "encode",
    "statistics",
    "train",
    "catalog",
    "combine",
    "evaluate",
    "compare",
    "export",
    "report",
)

each_pipeline = pytest.mark.parametrize("name", [*NAMES, "__default__"])


@pytest.fixture(scope="module")
def loader() -> LctConfigLoader:
    return LctConfigLoader(str(CONF), env="base", **CONFIG_LOADER_ARGS)


@pytest.fixture(scope="module")
def catalog(loader: LctConfigLoader) -> dict[str, Any]:
    return loader["catalog"]


def datasets(names: set[str]) -> set[str]:
    return {name for name in names if not name.startswith("params:")}


def free_inputs(pipeline: Pipeline) -> set[str]:
    return datasets(pipeline.inputs())


def needed(pipeline: Pipeline) -> set[str]:
    """Return the datasets without which a pipeline cannot run."""
    names = free_inputs(pipeline) - OPTIONAL
    return {name for name in names if not name.startswith("previous_")}


def parameter_keys(pipeline: Pipeline) -> set[str]:
    inputs = {name for node in pipeline.nodes for name in node.inputs}
    return {name.removeprefix("params:") for name in inputs - datasets(inputs)}


def test_the_pipelines_have_these_names() -> None:
    assert PIPELINES.keys() == {"__default__", *NAMES}


@each_pipeline
def test_what_a_pipeline_needs_is_in_the_catalog(
    name: str, catalog: dict[str, Any]
) -> None:
    assert free_inputs(PIPELINES[name]) <= catalog.keys()


@each_pipeline
def test_every_dataset_is_declared_and_kept(name: str, catalog: dict[str, Any]) -> None:
    used = datasets(PIPELINES[name].datasets())
    assert used <= catalog.keys()
    assert not [n for n in used if "Memory" in catalog[n]["type"]]


def test_every_declared_dataset_is_used(catalog: dict[str, Any]) -> None:
    declared = {name for name in catalog if not name.startswith("_")}
    used = {n for pipeline in PIPELINES.values() for n in pipeline.datasets()}
    assert not declared - used


def test_every_declared_dataset_can_be_made(catalog: dict[str, Any]) -> None:
    made = DataCatalog.from_config(catalog)
    for name in (name for name in catalog if not name.startswith("_")):
        dataset = made.get(name)
        assert dataset is not None, name
        assert not isinstance(dataset, MemoryDataset), name


def test_no_two_outputs_share_a_file(catalog: dict[str, Any]) -> None:
    written = {n for node in PIPELINES["__default__"].nodes for n in node.outputs}
    files = Counter(catalog[n].get("filepath") or catalog[n]["path"] for n in written)
    assert [file for file, count in files.items() if count > 1] == []


def test_what_is_called_previous_is_the_same_file(catalog: dict[str, Any]) -> None:
    originals = {
        "previous_images": "images",
        "previous_autoencoder": "autoencoder",
        "previous_latents": "latents",
        "previous_training_state": "training_state",
        "previous_checkpoints": "checkpoints",
        "previous_search_state": "search_state",
        "previous_candidate_scores": "candidate_scores",
        "previous_extractor": "feature_extractor",
        "previous_check_extractor": "check_extractor",
        "previous_reference_statistics": "reference_statistics",
        "previous_further_references": "further_references",
    }
    assert {name for name in catalog if name.startswith("previous_")} == set(originals)
    for name in (
        "autoencoder",
        "latent_normalisation",
        "combined_model",
        "best_average",
        "sampling_plans",
        *RESULTS,
    ):
        originals[f"{name}_if_any"] = name
    for previous, name in originals.items():
        for key in ("type", "path", "filepath"):
            assert catalog[previous].get(key) == catalog[name].get(key), previous


@pytest.mark.parametrize("name", ["encode", "train"])
def test_these_work_from_nothing_that_a_pipeline_writes(name: str) -> None:
    assert needed(PIPELINES[name]) == ROOTS


def test_the_whole_works_from_nothing_that_a_pipeline_writes() -> None:
    assert needed(PIPELINES["__default__"]) == ROOTS


def test_checkpoints_of_others_are_cataloged_by_a_pipeline_of_its_own() -> None:
    assert needed(PIPELINES["catalog"]) == {"foreign_checkpoints"}
    assert PIPELINES["catalog"].all_outputs() == {"checkpoints", "checkpoint_index"}
    assert "foreign_checkpoints" not in PIPELINES["__default__"].datasets()


def test_a_comparison_needs_nothing_that_a_pipeline_writes() -> None:
    outputs = PIPELINES["__default__"].all_outputs()
    assert not needed(PIPELINES["compare"]) & outputs
    assert PIPELINES["compare"].all_outputs() == {"comparison"}


@pytest.mark.parametrize("name", ["combine", "evaluate", "export"])
def test_later_pipelines_work_on_what_earlier_ones_left(name: str) -> None:
    found = needed(PIPELINES[name])
    assert found <= PIPELINES["__default__"].all_outputs()
    assert not found & PIPELINES[name].all_outputs()


@pytest.mark.parametrize("name", ["__default__", "train", "evaluate"])
def test_the_report_is_written_after_all_that_it_shows(name: str) -> None:
    pipeline = PIPELINES[name]
    (node,) = pipeline.only_nodes_with_outputs("report").nodes
    shown = {name for name in node.inputs if not name.endswith("_if_any")}
    made = pipeline.all_outputs() & {*RESULTS, "checkpoints", "training_metrics"}
    assert made <= shown


def test_the_report_alone_shows_what_there_is() -> None:
    needed = free_inputs(PIPELINES["report"]) - OPTIONAL
    assert needed == {"checkpoints", "training_metrics"}  # may be empty
    assert PIPELINES["report"].all_outputs() == {"report"}


def test_all_nodes_are_named_and_no_two_alike() -> None:
    nodes = {node for pipeline in PIPELINES.values() for node in pipeline.nodes}
    assert [str(node) for node in nodes if node._name is None] == []
    names = Counter(name for name, _ in {(node.name, node.func) for node in nodes})
    assert [name for name, count in names.items() if count > 1] == []


def test_combining_leaves_a_model_a_report_and_figures(catalog: dict[str, Any]) -> None:
    outputs = PIPELINES["combine"].all_outputs()
    assert {"combination", "combined_model", "candidate_scores"} <= outputs
    reported = {
        "combination_report",
        "search_progress",
        "coefficients",
        "quality_along_line",
        "quality_landscape",
    }
    files = {n: catalog[n].get("filepath", "") for n in outputs}
    assert {n for n, file in files.items() if "08_reporting" in file} == reported


def test_combining_uses_the_autoencoder_that_the_same_run_made() -> None:
    whole = PIPELINES["__default__"]
    (search,) = [node for node in whole.nodes if node.name == "search_combination"]
    assert {"autoencoder", "latent_normalisation"} <= set(search.inputs)
    assert not {name for name in whole.datasets() if name.endswith("_if_any")}


@each_pipeline
def test_every_parameter_of_a_node_is_typed(name: str) -> None:
    types = TypeExtractor({name: PIPELINES[name]}).extract_types_from_pipelines()
    assert types.keys() == parameter_keys(PIPELINES[name])
    assert all(issubclass(kind, Group) for kind in types.values())


@each_pipeline
def test_nodes_get_the_checked_values(name: str, loader: LctConfigLoader) -> None:
    raw = loader["parameters"]
    found = ParameterValidator({name: PIPELINES[name]}).validate_raw_params(raw)
    for key in parameter_keys(PIPELINES[name]):
        value: Any = found
        expected: Any = check_parameters(raw)
        for part in key.split("."):
            value = value[part] if isinstance(value, dict) else getattr(value, part)
            expected = getattr(expected, part)
        assert value == expected, key


def test_registering_imports_no_heavy_library() -> None:
    code = (
        "import sys; from lct_pipeline.pipeline_registry import register_pipelines; "
        "register_pipelines(); print(*sys.modules)"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], capture_output=True, text=True, check=True
    )
    loaded = set(done.stdout.split())
    assert "lct_pipeline.pipelines.training.nodes" in loaded
    heavy = {
        "torch",
        "pandas.core",
        "diffusers",
        "matplotlib.pyplot",
        "sklearn",
        "torchvision",
        "ot",
    }
    assert loaded & heavy == set()
