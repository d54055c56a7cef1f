"""From a run to the model that is exported, and to what its card tells."""

from __future__ import annotations

from typing import Any

from lct_pipeline.core.sampling_plans import SamplingPlan
from lct_pipeline.datasets.checkpoints import CheckpointCatalog
from lct_pipeline.datasets.decoder import Decoder, needed, normalisation_of
from lct_pipeline.datasets.run_folder import RunFolder
from lct_pipeline.datasets.run_records import TRAIN_NODE, Record
from lct_pipeline.evaluation.generator import diffusion_plans, one_step
from lct_pipeline.evaluation.models import plans_from
from lct_pipeline.export.assembly import build_pipeline
from lct_pipeline.export.folder import ExportedModel
from lct_pipeline.export.model_card import Story
from lct_pipeline.export.onnx_file import check_onnx
from lct_pipeline.parameters import Sampling
from lct_pipeline.parameters.export import Export
from lct_pipeline.pipelines.export.choice import Chosen, choose_model
from lct_pipeline.reporting.words import MODELS, in_sentence


def exported_model(
    run: RunFolder,
    catalog: CheckpointCatalog,
    decoder: Decoder | None,
    parameters: Export,
    sampling: Sampling,
) -> ExportedModel:
    """Return the model that is chosen, as diffusers takes it, and what its card tells."""
    chosen = choose_model(parameters.model, run, catalog)
    decoder = needed(decoder)
    if parameters.onnx:
        check_onnx(chosen.network.model)
    selected = run.values("sampling_plans") or {}
    pipeline = build_pipeline(
        chosen.network,
        chosen.tensors,
        normalisation_of(decoder.normalisation),
        decoder.autoencoder.model,
        _plans(chosen, selected, sampling),
        sampling.guidance,
    )
    story = _story(chosen, run, selected, parameters.license)
    return ExportedModel(pipeline, story, parameters.onnx)


def _plans(
    chosen: Chosen, selected: dict[str, Any], sampling: Sampling
) -> list[SamplingPlan]:
    """Return the plans that the evaluation chose; without it, those that need no choice."""
    plans = selected.get("plans", {}).get(chosen.evaluated_as)
    if plans is not None:
        return plans_from(plans)
    if chosen.network.model == "diffusion":
        return diffusion_plans(sampling)
    return [one_step(chosen.network)]


def _story(
    chosen: Chosen, run: RunFolder, selected: dict[str, Any], licence: str | None
) -> Story:
    """Return what the model card tells."""
    rows = [row for row in run.evaluation if row.model == chosen.evaluated_as]
    controls = [row for row in run.evaluation if row.nfe == 0]
    record = record_of_training(run.records)
    improves = selected.get("two_step_improves", {})
    return Story(
        run=run.name,
        model=in_sentence(MODELS.get(chosen.evaluated_as or "", "Checkpoint")),
        weights=chosen.weights,
        licence=licence,
        parameters=record["parameters"],
        commit=record["commit"],
        two_step_improves=improves.get(chosen.evaluated_as),
        rows=[*rows, *controls] if rows else [],
    )


def record_of_training(records: list[Record]) -> Record:
    """Return the last record of a session that trained; else of the last session."""
    trained = [r for r in records if any(n["node"] == TRAIN_NODE for n in r["nodes"])]
    return (trained or records)[-1]
