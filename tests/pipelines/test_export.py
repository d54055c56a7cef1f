"""Which model of a run is exported, how it generates, and what its card tells."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from configuration import recipe
from exporting import MODELS, ONE_STEP
from making_runs import combination, make_record, make_run, row

from conftest import SmokeResults
from lct_pipeline.datasets.autoencoder import StoredAutoencoder
from lct_pipeline.datasets.checkpoints import (
    CheckpointCatalog,
    CheckpointHeader,
    CheckpointsDataset,
)
from lct_pipeline.datasets.decoder import Decoder
from lct_pipeline.datasets.run_folder import RunFolder
from lct_pipeline.datasets.run_records import TRAIN_NODE, NodeCost, Record
from lct_pipeline.datasets.tensors import TensorFile, write_tensors
from lct_pipeline.errors import ParameterError
from lct_pipeline.export.folder import ExportedModel
from lct_pipeline.export.model_card import model_card
from lct_pipeline.parameters.runtime import Export
from lct_pipeline.pipelines.cataloging.checkpoints import index_of
from lct_pipeline.pipelines.export import create_pipeline
from lct_pipeline.pipelines.export.model import Chosen, choose_model, record_of_training

MODEL = MODELS["pixels"]
LAST = "step-0000060-raw"
TWO_STEPS = {"num_evaluations": 2, "sigmas": [80.0, 0.5], "renoise": "same"}


def weights(value: float) -> dict[str, torch.Tensor]:
    """Return weights that are told apart by their value."""
    return {name: torch.full_like(t, value) for name, t in MODEL.tensors.items()}


@pytest.fixture
def run(tmp_path: Path) -> RunFolder:
    """Return a run of which nothing was evaluated."""
    make_run(tmp_path, "tested", make_record())
    run = RunFolder(
        *(tmp_path / "data" / n / "tested" for n in ("06_models", "08_reporting"))
    )
    headers = {
        "step-0000030-raw": CheckpointHeader(30, "raw", network=MODEL.network),
        LAST: CheckpointHeader(60, "raw", network=MODEL.network),
        "step-0000060-ema": CheckpointHeader(60, "ema", network=MODEL.network),
        "theirs": CheckpointHeader(10, "raw"),
    }
    CheckpointsDataset(path=str(run.models / "checkpoints")).save(
        {
            name: TensorFile(weights(number), header.as_metadata())
            for number, (name, header) in enumerate(headers.items())
        }
    )
    return run


def evaluated(run: RunFolder, **changes: Any) -> RunFolder:
    """Add what the evaluation and the combination leave."""
    for number, name in enumerate(("best_ema", "combined_model"), start=10):
        about = {"name": f"the {name}", "network": MODEL.network.as_json()}
        write_tensors(run.models / f"{name}.safetensors", weights(number), about)
    text = combination(**changes).model_dump_json()
    (run.models / "combination.json").write_text(text)
    return run


def catalog_of(run: RunFolder) -> CheckpointCatalog:
    return CheckpointCatalog(
        index_of(run.checkpoints, recipe().features), run.checkpoints
    )


def chosen(run: RunFolder, name: str) -> Chosen:
    return choose_model(name, run, catalog_of(run))


def export(run: RunFolder, **values: Any) -> ExportedModel:
    """Run the node."""
    known = MODEL.normalisation
    normalisation = TensorFile(
        {"mean": known.mean, "std": known.std}, {"sigma_data": 0.5}
    )
    (node,) = create_pipeline().nodes
    inputs = {
        "run_folder": run,
        "checkpoint_index": catalog_of(run),
        "decoder": Decoder(StoredAutoencoder(MODEL.autoencoder, ""), normalisation),
        "params:export": Export.model_validate(
            {"license": None, "onnx": False, **values}
        ),
        "params:sampling": MODEL.generator().sampling,
    }
    return node.run(inputs)["exported_model"]


@pytest.mark.parametrize(
    ("changes", "name", "value"),
    [
        ({}, "combined", 11),
        ({"is_selected": False}, "best_ema", 10),
        ({"is_selected": False, "best_baseline": "last"}, "last", 1),
    ],
    ids=str,
)
def test_the_best_is_the_combination_where_it_was_selected_else_the_best_baseline(
    run: RunFolder, changes: dict[str, Any], name: str, value: float
) -> None:
    best = chosen(evaluated(run, **changes), "best")
    assert best.evaluated_as == name
    assert all((tensor == value).all() for tensor in best.tensors.values())
    assert best.network == MODEL.network


def test_before_a_combination_the_best_is_the_best_ema(run: RunFolder) -> None:
    (evaluated(run).models / "combination.json").unlink()
    best = chosen(run, "best")
    assert (best.evaluated_as, best.weights) == ("best_ema", "the best_ema")


def test_a_checkpoint_is_chosen_by_its_name(run: RunFolder) -> None:
    last, named = chosen(run, "last"), chosen(run, LAST)
    assert (last.weights, last.evaluated_as) == (LAST, "last")
    assert (named.weights, named.evaluated_as) == (LAST, None)
    assert all(torch.equal(named.tensors[k], t) for k, t in last.tensors.items())


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("best", "--pipeline=evaluate"),
        ("combined", "--pipeline=combine"),
        ("best_ema", "--pipeline=evaluate"),
        ("step-1", f"name of a checkpoint, such as {LAST}"),
        ("theirs", "theirs was written by another trainer"),
    ],
)
def test_a_model_that_is_not_there_is_told_with_the_command_that_makes_it(
    run: RunFolder, name: str, message: str
) -> None:
    with pytest.raises(ParameterError, match=message):
        chosen(run, name)


def test_a_model_generates_as_the_evaluation_selected(run: RunFolder) -> None:
    one = {**TWO_STEPS, "num_evaluations": 1, "sigmas": [80.0]}
    said = {"plans": {"last": [one, TWO_STEPS]}, "two_step_improves": {"last": False}}
    (run.models / "sampling_plans.json").write_text(json.dumps(said))
    plans = export(run, model="last").pipeline.scheduler.config.plans
    assert [tuple(plan["sigmas"]) for plan in plans] == [(80.0,), (80.0, 0.5)]
    # newer than the evaluation
    plans = export(evaluated(run), model="combined").pipeline.scheduler.config.plans
    assert [tuple(plan["sigmas"]) for plan in plans] == [(80.0,)]


def test_one_step_is_the_default_of_a_consistency_model() -> None:
    assert MODELS["unet"].pipeline().scheduler.plan(None) == ONE_STEP
    assert MODELS["dpm_solver"].pipeline().scheduler.plan(None).num_evaluations == 5


def test_the_story_has_the_rows_of_the_model_and_those_to_compare(
    run: RunFolder,
) -> None:
    rows = [row(name, 5.0) for name in ("last", "best_ema", "gaussian_latents")]
    values = {"rows": [each.model_dump(mode="json") for each in rows]}
    (run.reporting / "evaluation.json").write_text(json.dumps(values))
    story = export(run, model="last", license="mit").story
    assert [each.model for each in story.rows] == ["last", "gaussian_latents"]
    assert (story.run, story.model) == ("tested", "last checkpoint")
    assert (story.licence, story.commit) == ("mit", "a" * 40)
    assert export(evaluated(run), model="combined").story.rows == []


def test_the_card_tells_of_the_session_that_trained() -> None:
    def record(*nodes: str) -> Record:
        costs = [NodeCost.model_construct(node=node) for node in nodes]
        parameters = recipe().model_dump(mode="json")
        return Record.model_construct(None, nodes=costs, parameters=parameters)

    trained, later = record("encoding.x", TRAIN_NODE), record("export.export_model")
    assert record_of_training([record(), trained, later]) is trained
    assert record_of_training([record(), later]) is None


def test_the_best_model_of_the_smoke_run_is_exported(results: SmokeResults) -> None:
    (node,) = create_pipeline().nodes
    load = results.catalog.load
    given: dict[str, Any] = {
        "params:export": Export(model="best", license=None, onnx=False),
        "params:sampling": results.parameters.sampling,
    }
    inputs = {name: given.get(name) or load(name) for name in node.inputs}
    model = node.run(inputs)["exported_model"]
    found, models = load("combination"), load("models")
    name = "combined" if found.is_selected else found.best_baseline
    state = model.pipeline.denoiser.model.network.state_dict()
    assert all(torch.equal(state[k], t) for k, t in models.file(name).tensors.items())
    plans = [plan["num_evaluations"] for plan in model.pipeline.scheduler.config.plans]
    assert plans == [plan.num_evaluations for plan in models.plans[name]]
    card = model_card(model.story, model.pipeline, "0" * 64)
    assert "64 images against 385 of the test split" in card
    assert "| Real images |" in card
