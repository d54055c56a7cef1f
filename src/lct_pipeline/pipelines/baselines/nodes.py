"""Node of the baselines."""

from __future__ import annotations

from typing import Any

from lct_pipeline.lazy_types import (
    CheckpointCatalog,
    DataFrame,
    Decoder,
    Reference,
    TensorFile,
)
from lct_pipeline.parameters import Combination, Evaluation, Runtime, Sampling


def select_best_ema(
    checkpoint_index: CheckpointCatalog,
    decoder: Decoder | None,
    reference: Reference,
    parameters: Combination,
    sampling: Sampling,
    runtime: Runtime,
    evaluation: Evaluation,
    previous_ema_selection: DataFrame,
) -> tuple[Any, TensorFile]:
    """Return the score of every average of the weights, and the weights of the best."""
    from lct_pipeline.combination import selection

    stage = selection.Stage(
        checkpoint_index, decoder, reference, parameters, sampling, runtime
    )
    return selection.select_best_ema(
        stage, previous_ema_selection, evaluation.posthoc_sigma_rels
    )
