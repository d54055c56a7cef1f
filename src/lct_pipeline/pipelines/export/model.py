"""From a run to the model that is exported, and to what its card tells."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from torch import Tensor

from lct_pipeline.commands import command
from lct_pipeline.core.samplers import SamplingPlan
from lct_pipeline.datasets.checkpoints import CheckpointCatalog
from lct_pipeline.datasets.decoder import Decoder, needed, normalisation_of
from lct_pipeline.datasets.model_set import plans_from
from lct_pipeline.datasets.results import CombinationResult
from lct_pipeline.datasets.run_folder import RunFolder
from lct_pipeline.datasets.run_records import record_of_training
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import ParameterError
from lct_pipeline.evaluation.plans import diffusion_plans, one_step
from lct_pipeline.export.folder import ExportedModel, build_pipeline
from lct_pipeline.export.model_card import Story
from lct_pipeline.export.onnx_file import check_onnx
from lct_pipeline.models.denoiser import ModelDescription
from lct_pipeline.parameters import Sampling
from lct_pipeline.parameters.runtime import Export
from lct_pipeline.reporting.words import MODELS, in_sentence

# the file that a model is in, and the pipeline that writes it
MADE = {
    "combined": ("combined_model", "combine"),
    "best_ema": ("best_ema", "evaluate"),
}


@dataclass(frozen=True)
class Chosen:
    """A model.

    Attributes:
        weights: Name of the checkpoint or combination.
        evaluated_as: What the evaluation calls it; None where it is not evaluated.
        tensors: State dict of the raw network.
        network: Description of the network.
    """

    weights: str
    evaluated_as: str | None
    tensors: dict[str, Tensor]
    network: ModelDescription


def choose_model(name: str, run: RunFolder, catalog: CheckpointCatalog) -> Chosen:
    """Return the model that ``export.model`` names.

    Raises:
        ParameterError: There is none of that name, or not yet.
    """
    if name == "best":
        name = _best(run.combination)
    is_made = name in MADE
    weights, file = _made(name, run) if is_made else _checkpoint(name, catalog)
    network = file.metadata.get("network")
    if network is None:
        raise ParameterError(
            f"{weights} was written by another trainer, whose network this project does not know: "
            "it cannot be exported."
        )
    evaluated_as = name if is_made or name == "last" else None
    description = ModelDescription.from_json(network)
    return Chosen(weights, evaluated_as, file.tensors, description)


def _best(combination: CombinationResult | None) -> str:
    if combination is None:  # nothing was compared with the best EMA yet
        return "best_ema"
    return "combined" if combination.is_selected else combination.best_baseline


def _made(name: str, run: RunFolder) -> tuple[str, TensorFile]:
    stored, pipeline = MADE[name]
    file = run.tensors(stored)
    if file is None:
        raise ParameterError(
            f"export.model: there is no {name} yet. Run {command(pipeline)} first, or take the "
            f"last checkpoint: {command('export', **{'export.model': 'last'})}."
        )
    return file.metadata["name"], file


def _checkpoint(name: str, catalog: CheckpointCatalog) -> tuple[str, TensorFile]:
    index = catalog.rows
    raw = index[index["kind"] == "raw"].sort_values("step")
    rows = raw.tail(1) if name == "last" else index[index["name"] == name]
    if rows.empty:
        raise ParameterError(
            f"export.model={name}: give best, combined, best_ema, last or the name of a "
            f"checkpoint, such as {raw['name'].iloc[-1]}."
        )
    row = rows.iloc[0]
    return row["name"], catalog.store.read(row["name"], row["digest"])


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
    catalog.check(**decoder.digests)
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
    record = record_of_training(run.records) or run.records[-1]
    improves = selected.get("two_step_improves", {})
    return Story(
        run=run.name,
        model=in_sentence(MODELS.get(chosen.evaluated_as or "", "Checkpoint")),
        weights=chosen.weights,
        licence=licence,
        parameters=record.parameters,
        commit=record.commit,
        two_step_improves=improves.get(chosen.evaluated_as),
        rows=[*rows, *controls] if rows else [],
    )
