"""What searches have evaluated so far: their history, which is also all that continues them."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

import numpy as np
from pandas import DataFrame

from lct_pipeline.errors import ParameterError
from lct_pipeline.parameters import first_difference

ORIGIN = "origin"  # attribute of a table: all that its values depend on
Key = tuple[int, int, int, int]


@dataclass(frozen=True)
class SearchEvaluation:
    """One evaluation: a row of the history.

    Attributes:
        method: Of the search.
        seed: Of the search, and of its noise.
        search: Its number.
        kind: ``initial``, ``candidate`` or ``mean``.
        split: Real images that were compared with.
        noise: Purpose of the noise.
        generation: Number of the generation.
        candidate: Number of the candidate in it.
        name: Of the candidate.
        num_images: Generated images.
        fitness: What is minimised.
        frechet: Frechet distance.
        kernel: Kernel distance; NaN where it was not measured.
        alpha: Coefficients, ``(K,)``.
        spent: Budget that is spent when the generation is told.
        gradient: Derivative of the fitness by alpha, ``(K,)``; None where it was not asked for.
    """

    method: str
    seed: int
    search: int
    kind: str
    split: str
    noise: str
    generation: int
    candidate: int
    name: str
    num_images: int
    fitness: float
    frechet: float
    kernel: float
    alpha: np.ndarray
    spent: float
    gradient: np.ndarray | None

    @property
    def key(self) -> Key:
        """Return what no other evaluation has, and what a history is sorted by."""
        return self.search, self.generation, self.num_images, self.candidate


History = dict[Key, SearchEvaluation]


def table_of(history: History, metric: str, origin: dict[str, Any]) -> DataFrame:
    """Return a row for each evaluation, in the order of the searches.

    Args:
        history: The evaluations.
        metric: Name of the Frechet distance.
        origin: All that the evaluations depend on.
    """
    names = [each.name for each in fields(SearchEvaluation)]
    table = DataFrame([vars(history[key]) for key in sorted(history)], columns=names)
    table.insert(0, "evaluation", range(len(table)))
    table.insert(1, "metric", metric)
    table.attrs[ORIGIN] = origin
    return table


def history_of(table: DataFrame, origin: dict[str, Any]) -> History:
    """Return the history of a table, unless it is of other parameters or checkpoints.

    Raises:
        ParameterError: It is; names the first difference.
    """
    if table.empty:
        return {}
    difference = first_difference(table.attrs[ORIGIN], origin)
    if difference:
        raise ParameterError(
            f"this search was started with other values ({difference}). Give the old value to "
            "continue it, or remove search_history.parquet of the run to start it anew."
        )
    rows = table.drop(columns=["evaluation", "metric"]).to_dict("records")
    found = (SearchEvaluation(**{str(k): v for k, v in row.items()}) for row in rows)
    return {evaluation.key: evaluation for evaluation in found}
