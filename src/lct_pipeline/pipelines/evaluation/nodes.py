"""Nodes of the evaluation stage."""

from __future__ import annotations

from typing import Any

from lct_pipeline.lazy_types import (
    Chart,
    CheckpointCatalog,
    DataFrame,
    Decoder,
    EvaluationResult,
    Figure,
    ModelSet,
    Reference,
    ShardStore,
    TensorFile,
)
from lct_pipeline.parameters import Evaluation, Features, Runtime, Sampling


def select_sampling_plan(
    best_ema: TensorFile,
    combined: TensorFile | None,
    catalog: CheckpointCatalog,
    decoder: Decoder,
    reference: Reference,
    parameters: Evaluation,
    sampling: Sampling,
    runtime: Runtime,
) -> tuple[DataFrame, dict[str, Any]]:
    """Return the distance at each level and kind of noise of a second step, and the best plans."""
    from lct_pipeline.evaluation import plans

    return plans.select_sampling_plan(
        best_ema, combined, catalog, decoder, reference, parameters, sampling, runtime
    )


def measure_further_references(
    images: ShardStore,
    manifest: DataFrame,
    given_reference: TensorFile | None,
    previous_further_references: TensorFile | None,
    parameters: Evaluation,
    features: Features,
    runtime: Runtime,
) -> TensorFile:
    """Return what further extractors find in the real images, stored as the protocol says."""
    from lct_pipeline.evaluation import references

    real = references.RealSplits(images, manifest, features, runtime)
    return references.further_references(
        real, given_reference, previous_further_references, parameters
    )


def evaluate_models(
    models: ModelSet,
    decoder: Decoder,
    latents: ShardStore,
    manifest: DataFrame,
    reference: Reference,
    further_references: TensorFile,
    parameters: Evaluation,
    features: Features,
    sampling: Sampling,
    runtime: Runtime,
) -> tuple[EvaluationResult, DataFrame, DataFrame]:
    """Return every value of every model and plan, and distances by the number of images."""
    from lct_pipeline.evaluation import final, references

    spaces = references.feature_spaces_of(
        reference, further_references, parameters, features, runtime
    )
    found = final.evaluated(
        models,
        decoder,
        latents,
        manifest,
        spaces,
        parameters,
        features.num_retained,
        sampling,
        runtime,
    )
    return found.result(), found.table(), found.by_size()


def find_nearest_neighbours(
    models: ModelSet,
    decoder: Decoder,
    images: ShardStore,
    manifest: DataFrame,
    reference: Reference,
    parameters: Evaluation,
    sampling: Sampling,
    runtime: Runtime,
) -> tuple[Figure, dict[str, Any]]:
    """Return a figure of images nearest to training images, and how near all of them are."""
    from lct_pipeline.evaluation.sample_pictures import nearest_training_images

    return nearest_training_images(
        models, decoder, images, manifest, reference, parameters, sampling, runtime
    )


def make_sample_panels(
    models: ModelSet,
    decoder: Decoder,
    images: ShardStore,
    manifest: DataFrame,
    sampling: Sampling,
    runtime: Runtime,
) -> tuple[Figure, TensorFile]:
    """Return a grid of samples of all models from the same noise, and what is drawn on it."""
    from lct_pipeline.evaluation.sample_pictures import draw_sample_grid, sample_panels

    panels = sample_panels(models, decoder, images, manifest, sampling, runtime)
    return draw_sample_grid(panels), panels


def conclude_evaluation(
    evaluation_table: DataFrame,
    two_step_selection: DataFrame,
    distance_by_size: DataFrame,
    sample_panels: TensorFile,
    copying: dict[str, Any],
) -> tuple[Chart, Chart, dict[str, Any]]:
    """Log what a person looks for at the end of a run, and draw the rest of it."""
    from lct_pipeline.evaluation.final import conclusion

    return conclusion(
        evaluation_table, two_step_selection, distance_by_size, sample_panels, copying
    )
