"""All searches of a run: each method with each seed, and every evaluation is saved."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
from pandas import DataFrame

from lct_pipeline.combination.history import history_of
from lct_pipeline.combination.measuring import Measurer
from lct_pipeline.combination.search_run import SearchRun, Work
from lct_pipeline.combination.stage import SEARCH_SPLIT, Stage
from lct_pipeline.combination.window import check_window
from lct_pipeline.datasets.parts import Last
from lct_pipeline.errors import DataError
from lct_pipeline.parameters import Combination
from lct_pipeline.progress import track

logger = logging.getLogger(__name__)


def search(stage: Stage, previous: DataFrame) -> Iterator[DataFrame | Last[DataFrame]]:
    """Search, or continue; yield the history again after each evaluation.

    What a killed run loses are the evaluations under way.
    """
    check_window(stage.members)
    origin = origin_of(stage)
    history = history_of(previous, origin)
    runs = [
        SearchRun(number, method, seed, stage.members, stage.parameters, history)
        for number, (method, seed) in enumerate(planned(stage.parameters))
    ]
    for _ in searched(runs, stage):
        yield history.table(stage.metric, origin)
    yield Last(history.table(stage.metric, origin))


def origin_of(stage: Stage) -> dict[str, Any]:
    """Return all that the evaluations of a search depend on."""
    later = {"memory_mib", "selection", "num_line_points", "landscape_size"}
    parameters = stage.parameters.model_dump(mode="json", exclude=later)
    return stage.origin(parameters, stage.members.window)


def planned(parameters: Combination) -> list[tuple[str, int]]:
    """Return method and seed of each search."""
    first, num = parameters.seed, parameters.search.num_seeds
    seeds = range(first, first + num)
    return [(method, seed) for method in parameters.search.methods for seed in seeds]


def searched(runs: list[SearchRun], stage: Stage) -> Iterator[None]:
    """Run all searches to their end; yield after each evaluation.

    Nothing is read or built where all is known.
    """
    measurer = None
    try:
        for run in runs:
            with _bar(run, stage.parameters) as bar:
                while not run.search.stop:
                    work = run.next_work()
                    if work is None:
                        best = run.tell()
                        bar.update(int(run.search.spent) - bar.n)
                        bar.set_postfix_str(f"{best:.3g}", refresh=False)
                        continue
                    if measurer is None:
                        measurer = stage.measurer(
                            stage.parameters.search.population, SEARCH_SPLIT
                        )
                    yield from _measured(run, work, stage, measurer)
    finally:
        if measurer is not None:
            measurer.close()


def _measured(
    run: SearchRun, work: Work, stage: Stage, measurer: Measurer
) -> Iterator[None]:
    """Measure what is missing of a generation; yield after each evaluation."""
    padded = stage.members.padded(work.alphas)
    for candidate, score in measurer.measure(padded, work.request, work.skip):
        gradient = None
        if score.gradients is not None:
            num = stage.members.window_size
            gradient = stage.weights.gradient_by_alpha(score.gradients, num)
            _check_finite(gradient)
        run.add(candidate, work, score, gradient)
        yield


def _check_finite(gradient: np.ndarray) -> None:
    if not np.isfinite(gradient).all():
        raise DataError(
            "the derivative of the fitness is not finite any more: the search has left the region "
            "where the network works. Lower combination.search.gradient.step_size."
        )


def _bar(run: SearchRun, parameters: Combination) -> Any:
    nothing: list[int] = []
    total = parameters.search.num_evaluations
    title = f"search by {run.method}, seed {run.seed}"
    return track(nothing, title, "evaluation", total=total)
