"""From a run to the model that is exported, and to what its card tells."""

from __future__ import annotations

from pathlib import Path
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

CONTROLS = (
    "real_validation_images",
    "reconstructed_test_images",
    "gaussian_latents",
)


def exported_model(
    run: RunFolder,
    catalog: CheckpointCatalog,
    decoder: Decoder | None,
    parameters: Export,
    sampling: Sampling,
) -> ExportedModel:
    """Return the model that is chosen, as diffusers takes it, and what its card tells."""
    chosen = choose_model(
        parameters.model,
        catalog,
        run.tensors("best_ema"),
        run.tensors("combined_model"),
        run.combination,
    )
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
    return ExportedModel(
        pipeline, _story(chosen, run, selected, parameters), parameters.onnx
    )


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
    chosen: Chosen, run: RunFolder, selected: dict[str, Any], parameters: Export
) -> Story:
    """Return what the model card tells."""
    rows = [row for row in run.evaluation if row.model == chosen.evaluated_as]
    controls = [row for row in run.evaluation if row.model in CONTROLS]
    record = record_of_training(run.records)
    training, ingestion = (record["parameters"][k] for k in ("training", "ingestion"))
    return Story(
        run=run.name,
        model=chosen.title,
        weights=chosen.weights,
        licence=parameters.license,
        source=public_name(ingestion["source"]),
        image_size=ingestion["image_size"],
        objective=training["objective"]["kind"],
        num_steps=training["num_steps"],
        autoencoder=_public_autoencoder(record["parameters"]["encoding"]),
        commit=record["commit"],
        two_step_improves=selected.get("two_step_improves", {}).get(
            chosen.evaluated_as
        ),
        rows=rows,
        controls=controls if rows else [],
    )


def record_of_training(records: list[Record]) -> Record:
    """Return the last record of a session that trained; else of the last session."""
    trained = [r for r in records if any(n["node"] == TRAIN_NODE for n in r["nodes"])]
    return (trained or records)[-1]


def public_name(source: str) -> str:
    """Return a source as others may know it: a path without the folders it lies in."""
    return source if "://" in source else Path(source).name


def _public_autoencoder(encoding: dict[str, Any]) -> str | None:
    """Return the name of a given autoencoder: a hub id whole, a folder by its last part."""
    given = encoding["autoencoder"]
    is_folder = given is not None and (
        Path(given).is_absolute() or Path(given).exists()
    )
    return Path(given).name if is_folder else given
