"""Nodes of the combination stage (LCSC)."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lct_pipeline.lazy_types import (
    Chart,
    CheckpointCatalog,
    CombinationResult,
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
    parameters: Combination,
    sampling: Sampling,
    runtime: Runtime,
    previous_search_history: DataFrame,
) -> Iterator[Any]:
    """Search, or continue; yield the history again after each evaluation."""
    from lct_pipeline.combination import search_run

    stage = search_run.Stage(
        checkpoint_index, decoder, reference, parameters, sampling, runtime
    )
    yield from search_run.search(stage, previous_search_history)


def score_candidates(
    checkpoint_index: CheckpointCatalog,
    decoder: Decoder | None,
    reference: Reference,
    parameters: Combination,
    sampling: Sampling,
    runtime: Runtime,
    search_history: DataFrame,
    ema_selection: DataFrame,
    previous_candidate_scores: DataFrame,
) -> Iterator[Any]:
    """Score both baselines, and the best of each search, on the validation split."""
    from lct_pipeline.combination import selection

    stage = selection.Stage(
        checkpoint_index, decoder, reference, parameters, sampling, runtime
    )
    yield from selection.score_candidates(
        stage, search_history, ema_selection, previous_candidate_scores
    )


def select_combination(
    checkpoint_index: CheckpointCatalog,
    decoder: Decoder | None,
    reference: Reference,
    parameters: Combination,
    sampling: Sampling,
    runtime: Runtime,
    evaluation: Evaluation,
    candidate_scores: DataFrame,
) -> tuple[DataFrame, TensorFile, CombinationResult]:
    """Return the report on the test split, the combined model, and how it was selected."""
    from lct_pipeline.combination import selection, verification

    stage = selection.Stage(
        checkpoint_index, decoder, reference, parameters, sampling, runtime
    )
    decision = selection.select_combination(
        stage, candidate_scores, evaluation.num_seeds
    )
    report = verification.report_on_test(stage, candidate_scores, evaluation)
    result = verification.conclusion(stage, decision, report)
    verification.log_report(report, result)
    model = verification.combined_model(stage, result, decision.selected["alpha"])
    return report, model, result


def measure_landscape(
    checkpoint_index: CheckpointCatalog,
    decoder: Decoder | None,
    reference: Reference,
    parameters: Combination,
    sampling: Sampling,
    runtime: Runtime,
    candidate_scores: DataFrame,
    combination: CombinationResult,
) -> DataFrame:
    """Return the fitness on the validation split along a line and over a plane."""
    from lct_pipeline.combination import verification

    stage = verification.Stage(
        checkpoint_index, decoder, reference, parameters, sampling, runtime
    )
    return verification.measure_landscape(stage, candidate_scores, combination)


def conclude_combination(
    search_history: DataFrame,
    candidate_scores: DataFrame,
    landscape: DataFrame,
    combination: CombinationResult,
) -> tuple[Chart, Chart, Chart, Chart, dict[str, Any]]:
    """Draw the searches, the coefficients and the landscape; record what was selected."""
    from lct_pipeline.reporting import searches

    return (
        searches.draw_search_progress(search_history),
        searches.draw_coefficients(combination, candidate_scores),
        searches.draw_line(landscape, combination),
        searches.draw_landscape(landscape, combination),
        {
            "selected": combination.selected,
            "verdict": combination.verdict,
            "num_evaluations": len(search_history),
            "num_candidates": len(candidate_scores),
        },
    )
