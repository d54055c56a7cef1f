"""Nodes of the combination stage (LCSC)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lct_pipeline.lazy_types import (
    Chart,
    CheckpointCatalog,
    DataFrame,
    Decoder,
    Reference,
    TensorFile,
)
from lct_pipeline.parameters import Combination, Evaluation, Runtime, Sampling


def search_combination(
    checkpoint_index: CheckpointCatalog,
    decoder: Decoder | None,
    reference: Reference,
    previous_search_state: TensorFile | None,
    parameters: Combination,
    sampling: Sampling,
    runtime: Runtime,
) -> Iterator[tuple[Any, Any]]:
    """Search, or continue; yield the history's rows by generation, and the state."""
    from lct_pipeline.combination.searching import Stage, search

    stage = Stage(checkpoint_index, decoder, reference, parameters, sampling, runtime)
    yield from search(stage, previous_search_state)


def score_candidates(
    search_history: DataFrame,
    previous_candidate_scores: DataFrame,
    checkpoint_index: CheckpointCatalog,
    decoder: Decoder | None,
    reference: Reference,
    parameters: Combination,
    evaluation: Evaluation,
    sampling: Sampling,
    runtime: Runtime,
) -> Iterator[Any]:
    """Score each control, and the best of each search, on the validation split."""
    from lct_pipeline.combination import choosing

    stage = choosing.Stage(
        checkpoint_index, decoder, reference, parameters, sampling, runtime
    )
    yield from choosing.score_candidates(
        stage, search_history, previous_candidate_scores, evaluation.posthoc_widths
    )


def verify_combination(
    candidate_scores: DataFrame,
    checkpoint_index: CheckpointCatalog,
    decoder: Decoder | None,
    reference: Reference,
    parameters: Combination,
    evaluation: Evaluation,
    sampling: Sampling,
    runtime: Runtime,
) -> tuple[DataFrame, TensorFile, dict[str, Any]]:
    """Return the report on the test split, the model that is kept, and the combination."""
    from lct_pipeline.combination import verifying

    stage = verifying.Stage(
        checkpoint_index, decoder, reference, parameters, sampling, runtime
    )
    return verifying.verify_combination(stage, candidate_scores, evaluation)


def measure_landscape(
    candidate_scores: DataFrame,
    combination: dict[str, Any],
    checkpoint_index: CheckpointCatalog,
    decoder: Decoder | None,
    reference: Reference,
    parameters: Combination,
    sampling: Sampling,
    runtime: Runtime,
) -> DataFrame:
    """Return the fitness on the validation split along a line and over a plane."""
    from lct_pipeline.combination import landscape

    stage = landscape.Stage(
        checkpoint_index, decoder, reference, parameters, sampling, runtime
    )
    return landscape.measure_landscape(stage, candidate_scores, combination)


def conclude_combination(
    search_history: DataFrame,
    candidate_scores: DataFrame,
    landscape: DataFrame,
    combination: dict[str, Any],
) -> tuple[Chart, Chart, Chart, Chart, dict[str, Any]]:
    """Draw the searches, the coefficients and the landscape; record what was kept."""
    from lct_pipeline.reporting import landscapes, searches

    return (
        searches.draw_search_progress(search_history),
        searches.draw_coefficients(combination, candidate_scores),
        landscapes.draw_line(landscape, combination),
        landscapes.draw_landscape(landscape, combination),
        {
            "kept": combination["kept"],
            "verdict": combination["verdict"],
            "num_evaluations": len(search_history),
            "num_candidates": len(candidate_scores),
        },
    )
