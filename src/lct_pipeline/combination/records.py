"""What a search has evaluated so far: enough to continue it, and its history's rows."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import torch
from pandas import DataFrame

from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import ParameterError
from lct_pipeline.parameters import first_difference

Key = tuple[int, int, int, int]  # search, generation, candidate, number of images


@dataclass(frozen=True)
class Record:
    """One evaluation."""

    search: int
    generation: int
    candidate: int
    num_images: int
    alpha: np.ndarray  # (K,)
    fitness: float
    frechet: float
    kernel: float  # nan where it was not measured
    gradient: np.ndarray | None  # dF/dalpha, (K,)

    @property
    def key(self) -> Key:
        """Return what no other evaluation of a search state has."""
        return self.search, self.generation, self.candidate, self.num_images


@dataclass
class Records:
    """All evaluations of the searches of a run."""

    by_key: dict[Key, Record] = field(default_factory=dict)

    def add(self, record: Record) -> None:
        """Keep an evaluation."""
        self.by_key[record.key] = record

    def known(
        self, search: int, generation: int, num_images: int, alphas: np.ndarray
    ) -> dict[int, Record]:
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
            record = self.by_key.get((search, generation, candidate, num_images))
            if record is None:
                continue
            if not np.array_equal(record.alpha, alpha):
                raise ParameterError(
                    "this search was started with another version of a library and now proposes "
                    "other coefficients. Remove the folder `search` of the run to start it anew."
                )
            found[candidate] = record
        return found

    def state(self, origin: dict[str, Any]) -> TensorFile:
        """Return all that a continued search needs."""
        records = list(self.by_key.values())
        arrays = {
            "numbers": np.array([r.key for r in records], np.int64),
            "scores": np.array([(r.fitness, r.frechet, r.kernel) for r in records]),
            "alphas": np.array([r.alpha for r in records]),
            "gradients": np.array(
                [
                    r.alpha * np.nan if r.gradient is None else r.gradient
                    for r in records
                ]
            ),
        }
        tensors = {name: torch.from_numpy(a) for name, a in arrays.items()}
        return TensorFile(tensors, origin)


def records_of(state: TensorFile | None, origin: dict[str, Any]) -> Records:
    """Return the evaluations of a state, unless it is of other parameters or checkpoints.

    Raises:
        ParameterError: It is; names the first difference.
    """
    if state is None:
        return Records()
    difference = first_difference(state.metadata, origin)
    if difference:
        raise ParameterError(
            f"this search was started with other values ({difference}). Give the old value to "
            "continue it, or remove the folder `search` of the run to start it anew."
        )
    arrays = {name: tensor.numpy() for name, tensor in state.tensors.items()}
    records = Records()
    for key, (fitness, frechet, kernel), alpha, gradient in zip(
        arrays["numbers"].tolist(),
        arrays["scores"].tolist(),
        arrays["alphas"],
        arrays["gradients"],
        strict=True,
    ):
        search, generation, candidate, num_images = key
        records.add(
            Record(
                search,
                generation,
                candidate,
                num_images,
                alpha,
                fitness,
                frechet,
                kernel,
                None if np.isnan(gradient).any() else gradient,
            )
        )
    return records


def history_rows(
    records: Iterable[Record], about: dict[str, Any], names: list[str]
) -> DataFrame:
    """Return the history's rows of one generation.

    Args:
        records: Its evaluations.
        about: What is the same for all rows.
        names: Names of its candidates.
    """
    ordered = sorted(records, key=lambda r: (r.num_images, r.candidate))
    return pd.DataFrame(
        [
            {
                **about,
                "generation": r.generation,
                "candidate": r.candidate,
                "name": names[r.candidate],
                "num_images": r.num_images,
                "fitness": r.fitness,
                "frechet": r.frechet,
                "kernel": r.kernel,
                "alpha": r.alpha.tolist(),
            }
            for r in ordered
        ]
    )
