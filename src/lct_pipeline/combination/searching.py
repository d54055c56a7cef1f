"""All searches of a run: each method with each seed, and every evaluation is saved."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
from pandas import DataFrame

from lct_pipeline.combination.measuring import Measurer
from lct_pipeline.combination.records import records_of
from lct_pipeline.combination.search_run import SearchRun, Work
from lct_pipeline.combination.stage import SEARCH_SPLIT, Stage
from lct_pipeline.datasets.parts import Last
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import DataError
from lct_pipeline.parameters import Combination
from lct_pipeline.progress import track

logger = logging.getLogger(__name__)


def search(
    stage: Stage, previous: TensorFile | None
) -> Iterator[tuple[DataFrame | Last[DataFrame], TensorFile | Last[TensorFile]]]:
    """Search, or continue; yield the history's rows by generation, and the state.

    The state is saved after each evaluation: what a killed run loses are those under way.
    """
    origin = origin_of(stage)
    records = records_of(previous, origin)
    runs = [
        SearchRun(number, method, seed, stage.members, stage.parameters, records)
        for number, (method, seed) in enumerate(planned(stage.parameters))
    ]
    for rows in searched(runs, stage):
        yield rows, records.state(origin)
    yield Last(pd.DataFrame()), Last(records.state(origin))


def origin_of(stage: Stage) -> dict[str, Any]:
    """Return all that the evaluations of a search depend on."""
    later = {"memory_mib", "choice", "num_line_points", "landscape_size"}
    sampled = {"guidance", "diffusion", "batch_size"}  # noise is drawn by batches
    has_own = stage.parameters.references is not None
    return {
        "combination": stage.parameters.model_dump(mode="json", exclude=later),
        "sampling": stage.sampling.model_dump(mode="json", include=sampled),
        "autoencoder": stage.decoder.autoencoder.digest if stage.decoder else None,
        "references": None if has_own else stage.real.statistics.metadata,
        "checkpoints": list(stage.members.window["digest"]),
    }


def planned(parameters: Combination) -> list[tuple[str, int]]:
    """Return method and seed of each search."""
    first, num = parameters.seed, parameters.search.num_seeds
    seeds = range(first, first + num)
    return [(method, seed) for method in parameters.search.methods for seed in seeds]


def searched(runs: list[SearchRun], stage: Stage) -> Iterator[DataFrame]:
    """Yield the rows of each generation, numbered through, and none after each evaluation.

    Nothing is read or built where all is known.
    """
    number, measurer = 0, None
    try:
        for run in runs:
            with _bar(run, stage.parameters) as bar:
                while not run.search.stop:
                    work = run.next_work()
                    if work is None:
                        rows = run.tell()
                        rows.insert(0, "evaluation", range(number, number + len(rows)))
                        rows.insert(1, "metric", stage.metric)
                        number += len(rows)
                        bar.update(int(run.search.spent) - bar.n)
                        best = rows["fitness"].min()
                        bar.set_postfix_str(f"{best:.3g}", refresh=False)
                        yield rows
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
) -> Iterator[DataFrame]:
    """Measure what is missing of a generation; yield after each evaluation."""
    padded = stage.members.padded(work.alphas)
    for candidate, score in measurer.measure(padded, work.request, work.skip):
        gradient = None
        if score.gradients is not None:
            num = stage.members.window_size
            gradient = stage.weights.gradient_by_alpha(score.gradients, num)
            _check_finite(gradient)
        run.add(candidate, work, score, gradient)
        yield pd.DataFrame()


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
