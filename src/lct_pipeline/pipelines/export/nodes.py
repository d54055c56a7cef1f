"""Node of the export stage."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from lct_pipeline.datasets.autoencoder import StoredAutoencoder
from lct_pipeline.datasets.run_records import Record
from lct_pipeline.datasets.tensors import CheckpointStore, TensorFile
from lct_pipeline.lazy_types import DataFrame, pd
from lct_pipeline.parameters import Sampling
from lct_pipeline.parameters.export import Export
from lct_pipeline.pipelines.export.choice import Chosen, choose_model

if TYPE_CHECKING:
    from lct_pipeline.core.sampling_plans import SamplingPlan
    from lct_pipeline.export.model_card import Story

CONTROLS = (
    "real_validation_images",
    "reconstructed_test_images",
    "gaussian_latents",
)


def export_model(
    checkpoint_index: DataFrame,
    checkpoints: CheckpointStore,
    best_average: TensorFile | None,
    combined_model: TensorFile | None,
    combination: dict[str, Any] | None,
    sampling_plans: dict[str, Any] | None,
    evaluation: dict[str, Any] | None,
    autoencoder: StoredAutoencoder,
    latent_normalisation: TensorFile,
    records: list[Record],
    parameters: Export,
    sampling: Sampling,
) -> Any:  # an ExportedModel, whose import is heavy
    """Return the model that is chosen, as diffusers takes it, and what its card tells."""
    from lct_pipeline.evaluation.generator import normalisation_of
    from lct_pipeline.export.assembly import build_pipeline
    from lct_pipeline.export.folder import ExportedModel
    from lct_pipeline.export.onnx_file import check_onnx

    chosen = choose_model(
        parameters.model,
        checkpoint_index,
        checkpoints,
        best_average,
        combined_model,
        combination,
    )
    if parameters.onnx:
        check_onnx(chosen.network["model"])
    pipeline = build_pipeline(
        chosen.network,
        chosen.tensors,
        normalisation_of(latent_normalisation),
        autoencoder.model,
        _plans(chosen, sampling_plans, sampling),
        sampling.guidance,
    )
    story = _story(
        chosen, checkpoints.run, sampling_plans, evaluation, records, parameters
    )
    return ExportedModel(pipeline, story, parameters.onnx)


def _plans(
    chosen: Chosen, sampling_plans: dict[str, Any] | None, sampling: Sampling
) -> list[SamplingPlan]:
    """Return the plans that the evaluation chose; without it, those that need no choice."""
    from lct_pipeline.evaluation.generator import diffusion_plans, one_step
    from lct_pipeline.evaluation.models import plans_of

    name = chosen.evaluated_as
    if sampling_plans is not None and name is not None:
        return plans_of(sampling_plans, name)
    if chosen.network["model"] == "diffusion":
        return diffusion_plans(sampling)
    return [one_step(chosen.network)]


def _story(
    chosen: Chosen,
    run: str,
    sampling_plans: dict[str, Any] | None,
    evaluation: dict[str, Any] | None,
    records: list[Record],
    parameters: Export,
) -> Story:
    """Return what the model card tells."""
    from lct_pipeline.export.model_card import Story

    rows = pd.DataFrame([] if evaluation is None else evaluation["rows"])
    is_known = chosen.evaluated_as is not None and not rows.empty
    record = record_of_training(records)
    training, ingestion = (record["parameters"][k] for k in ("training", "ingestion"))
    return Story(
        run=run,
        model=chosen.title,
        weights=chosen.weights,
        licence=parameters.license,
        source=public_name(ingestion["source"]),
        image_size=ingestion["image_size"],
        objective=training["objective"]["kind"],
        num_steps=training["num_steps"],
        autoencoder=_public_autoencoder(record["parameters"]["encoding"]),
        commit=record["commit"],
        second_step_improves=_improves(sampling_plans, chosen),
        rows=rows[rows["model"] == chosen.evaluated_as] if is_known else pd.DataFrame(),
        controls=rows[rows["model"].isin(CONTROLS)] if is_known else pd.DataFrame(),
    )


def _improves(sampling_plans: dict[str, Any] | None, chosen: Chosen) -> bool | None:
    improves = (sampling_plans or {}).get("second_step_improves", {})
    return improves.get(chosen.evaluated_as)


def record_of_training(records: list[Record]) -> Record:
    """Return the last record of a session that trained; else of the last session."""
    trained = [
        r for r in records if any(n["node"] == "train_model" for n in r["nodes"])
    ]
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
