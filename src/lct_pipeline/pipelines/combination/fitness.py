"""From candidates of the search to weights, and from weights to their fitness."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from lct_pipeline.datasets.tensor_file import CheckpointStore, TensorFile
from lct_pipeline.lazy import pd
from lct_pipeline.parameters import Combination

if TYPE_CHECKING:
    from torch import Tensor

    from lct_pipeline.models.features import FeatureExtractor
    from lct_pipeline.pipelines.generation import Generator


@dataclass(frozen=True)
class Candidate:
    """One thing to evaluate: a row of the search history without its fitness."""

    kind: str  # initial, child, mean (of the survivors) or control
    name: str
    control: str | None  # which control of the table it stands for
    alpha: np.ndarray | None  # None for a checkpoint that is not a combination


class WindowWeights:
    """Gives the weights of checkpoints, and of combinations of those in the window.

    Args:
        window: Rows of the checkpoint index that are combined, K of them.
        checkpoints: The checkpoints.
        block_size: Number of weights that are combined at a time.
    """

    def __init__(
        self, window: pd.DataFrame, checkpoints: CheckpointStore, block_size: int
    ) -> None:
        from lct_pipeline.core.linear_combination import WeightLayout

        names = list(window["name"])
        self._store = checkpoints
        self._matrix = checkpoints.matrix(names, list(window["digest"]))
        self._layout = WeightLayout(self._matrix.shapes)
        self._block_size = block_size
        self.network = checkpoints.header(names[-1])["network"]

    def of(self, alphas: list[np.ndarray]) -> Iterator[dict[str, Tensor]]:
        """Yield the weights of combinations, each alpha ``(K,)``, combined together."""
        from lct_pipeline.core.linear_combination import combine

        combined = combine(self._matrix, np.stack(alphas), block_size=self._block_size)
        for weights in combined:
            yield self._layout.unflatten(weights)

    def of_candidates(
        self, candidates: list[Candidate]
    ) -> Iterator[tuple[Candidate, dict[str, Tensor]]]:
        """Yield each candidate with its weights."""
        combined = self.of([c.alpha for c in candidates if c.alpha is not None])
        for candidate in candidates:
            if candidate.alpha is None:
                yield candidate, self._store.read(candidate.name).tensors
            else:
                yield candidate, next(combined)

    def model(self, row: Any, about: dict[str, Any]) -> TensorFile:
        """Return the model of a row of the search history."""
        metadata = {"network": self.network, "name": row["name"], **about}
        return TensorFile(next(self.of([np.array(row["alpha"])])), metadata)


def fitness_on_validation(
    generator: Generator,
    extractor: FeatureExtractor,
    reference_statistics: TensorFile,
    parameters: Combination,
) -> Callable[[], float]:
    """Return the Frechet distance of what the generator makes now to the validation split.

    The noise is the same at every call.
    """
    from lct_pipeline.core.frechet import FeatureStatistics
    from lct_pipeline.core.sample_quality import features_of, frechet_fitness
    from lct_pipeline.pipelines.generation import first_plan

    tensors = reference_statistics.tensors
    num_real = len(tensors["validation.features"])
    mu, cov = tensors["validation.mu"], tensors["validation.cov"]
    reference = FeatureStatistics(mu, cov, num_real)
    plan = first_plan(generator.network, generator.sampling)

    def fitness() -> float:
        images = generator.images(
            parameters.num_images or num_real,
            plan,
            seed=parameters.seed,
            purpose="search",
        )
        return frechet_fitness(features_of(images, extractor.extract), reference)

    return fitness


class Evaluator:
    """Turns candidates into rows of the search history.

    Args:
        weights: Gives the weights of a candidate.
        generator: Takes them.
        fitness: Measures what the generator makes.
        metric: Name of that measure.
    """

    def __init__(
        self,
        weights: WindowWeights,
        generator: Generator,
        fitness: Callable[[], float],
        metric: str,
    ) -> None:
        self._weights, self._generator = weights, generator
        self._fitness, self._metric = fitness, metric

    def rows(
        self, candidates: list[Candidate], generation: int, first: int
    ) -> list[dict[str, Any]]:
        """Return one row per candidate, numbered from ``first``."""
        rows: list[dict[str, Any]] = []
        for candidate, tensors in self._weights.of_candidates(candidates):
            self._generator.load(tensors)
            alpha = None if candidate.alpha is None else candidate.alpha.tolist()
            rows.append(
                {
                    "evaluation": first + len(rows),
                    "generation": generation,
                    "kind": candidate.kind,
                    "control": candidate.control,
                    "name": candidate.name,
                    "fitness": self._fitness(),
                    "metric": self._metric,
                    "split": "validation",
                    "alpha": alpha,
                }
            )
        return rows
