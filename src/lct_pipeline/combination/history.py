"""What searches have evaluated so far: their history, which is also all that continues them."""

from __future__ import annotations

from dataclasses import dataclass, field, fields
from typing import Any

import numpy as np
import pandas as pd
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


@dataclass
class History:
    """All evaluations of the searches of a run."""

    by_key: dict[Key, SearchEvaluation] = field(default_factory=dict)

    def add(self, evaluation: SearchEvaluation) -> None:
        """Keep an evaluation."""
        self.by_key[evaluation.key] = evaluation

    def known(
        self, search: int, generation: int, num_images: int, alphas: np.ndarray
    ) -> dict[int, SearchEvaluation]:
        """Return the evaluations of some candidates by their number.

        Args:
            search: Number of the search.
            generation: Number of the generation.
            num_images: Images of an evaluation.
            alphas: The candidates, ``(P, K)``.

        Raises:
            ParameterError: They are others than those that were evaluated.
        """
        found = {}
        for candidate, alpha in enumerate(alphas):
            known = self.by_key.get((search, generation, num_images, candidate))
            if known is None:
                continue
            if not np.array_equal(known.alpha, alpha):
                raise ParameterError(
                    "this search was started with another version of a library and now proposes "
                    "other coefficients. Remove search_history.parquet of the run to start it anew."
                )
            found[candidate] = known
        return found

    def table(self, metric: str, origin: dict[str, Any]) -> DataFrame:
        """Return a row for each evaluation, in the order of the searches.

        Args:
            metric: Name of the Frechet distance.
            origin: All that the evaluations depend on.
        """
        rows = [self.by_key[key] for key in sorted(self.by_key)]
        names = [each.name for each in fields(SearchEvaluation)]
        table = pd.DataFrame([vars(row) for row in rows], columns=names)
        table.insert(0, "evaluation", range(len(rows)))
        table.insert(1, "metric", metric)
        table.attrs[ORIGIN] = origin
        return table


def history_of(table: DataFrame, origin: dict[str, Any]) -> History:
    """Return the history of a table, unless it is of other parameters or checkpoints.

    Raises:
        ParameterError: It is; names the first difference.
    """
    history = History()
    if table.empty:
        return history
    difference = first_difference(table.attrs[ORIGIN], origin)
    if difference:
        raise ParameterError(
            f"this search was started with other values ({difference}). Give the old value to "
            "continue it, or remove search_history.parquet of the run to start it anew."
        )
    for row in table.drop(columns=["evaluation", "metric"]).to_dict("records"):
        history.add(SearchEvaluation(**{str(name): row[name] for name in row}))
    return history
