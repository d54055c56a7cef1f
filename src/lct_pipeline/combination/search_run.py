"""One search of a run, driven by what is known and what is measured."""

from __future__ import annotations

import math
from typing import Any, NamedTuple

import numpy as np

from lct_pipeline.combination.baselines import initial_alphas
from lct_pipeline.combination.fitness import Request, Score
from lct_pipeline.combination.history import History, SearchEvaluation
from lct_pipeline.combination.stage import SEARCH_SPLIT
from lct_pipeline.combination.window import Members
from lct_pipeline.core.search import (
    CMASearch,
    EvolutionarySearch,
    GradientSearch,
    RandomSearch,
    Search,
)
from lct_pipeline.parameters import Combination

GRADIENT_PASSES = 4  # features, then again with a graph, and back, which costs two

# The authors of LCSC published no operators: these are this project's own. Scales are over the
# square root of the number of checkpoints.
OPERATORS: dict[str, dict[str, Any]] = {
    "evolution": {
        "crossover_probability": 0.5,
        "mutation_probability": 0.25,
        "mutation_scale": 0.6,
    },
    "cma": {"scale": 0.3},
    "random": {"scale": 0.6},
    "gradient": {},
}


class Work(NamedTuple):
    """What has to be measured next."""

    alphas: np.ndarray  # of all candidates of the generation, (P, K)
    request: Request
    skip: frozenset[int]


class SearchRun:
    """A search and its evaluations.

    What was evaluated before is told again without measuring: so a search is continued.

    Args:
        number: Number of the search among those of the run.
        method: Its name.
        seed: Its seed, also of its noise.
        members: What is combined.
        parameters: Settings.
        history: All evaluations so far; new ones are added.
    """

    def __init__(
        self,
        number: int,
        method: str,
        seed: int,
        members: Members,
        parameters: Combination,
        history: History,
    ) -> None:
        self.number, self.method, self.seed = number, method, seed
        self.search = build_search(method, seed, members, parameters)
        self._parameters, self._history = parameters, history
        self._initial_names = list(initial_alphas(members, parameters))
        self._alphas = self.search.ask()

    def next_work(self) -> Work | None:
        """Return what is missing of this generation; None where the search can be told."""
        request = self._request()
        known = self._known(request)
        if len(known) == len(self._alphas):
            return None
        return Work(self._alphas, request, frozenset(known))

    def add(
        self, candidate: int, work: Work, score: Score, gradient: np.ndarray | None
    ) -> None:
        """Keep an evaluation."""
        search = self.search
        self._history.add(
            SearchEvaluation(
                method=self.method,
                seed=self.seed,
                search=self.number,
                kind=self._kind(),
                split=SEARCH_SPLIT,
                noise=work.request.purpose,
                generation=search.generation,
                candidate=candidate,
                name=self._names()[candidate],
                num_images=work.request.num_images,
                fitness=score.fitness,
                frechet=score.frechet,
                kernel=math.nan if score.kernel is None else score.kernel,
                alpha=self._alphas[candidate],
                spent=search.spent_after(len(self._alphas)),
                gradient=gradient,
            )
        )

    def tell(self) -> float:
        """Tell the search its generation; return the least fitness of it."""
        request = self._request()
        known = [found for _, found in sorted(self._known(request).items())]
        fitness = np.array([found.fitness for found in known])
        gradients = None
        if request.gradients:
            gradients = np.stack([np.asarray(found.gradient) for found in known])
        self.search.tell(self._alphas, fitness, gradients)
        if not self.search.stop:
            self._alphas = self.search.ask()
        return float(fitness.min())

    def _request(self) -> Request:
        """Return how this generation is measured."""
        first, last = self.search.generation == 0, self.search.asks_mean
        if first or last or not self.search.needs_gradients:
            return Request("search", self._parameters.fitness.num_images, self.seed)
        # new noise for each step: what fits one set of noise alone is not learnt
        purpose = f"search step {self.search.generation}"
        num_images = self._parameters.search.gradient.num_images
        return Request(purpose, num_images, self.seed, True)

    def _known(self, request: Request) -> dict[int, SearchEvaluation]:
        return self._history.known(
            self.number, self.search.generation, request.num_images, self._alphas
        )

    def _kind(self) -> str:
        if self.search.generation == 0:
            return "initial"
        return "mean" if self.search.asks_mean else "candidate"

    def _names(self) -> list[str]:
        if self.search.generation == 0:
            return self._initial_names
        title = f"{self.method} {self.seed}, generation {self.search.generation}"
        if self.search.asks_mean:
            return [f"{self.method} {self.seed}, mean"]
        return [f"{title}, candidate {n}" for n in range(len(self._alphas))]


def build_search(
    method: str, seed: int, members: Members, parameters: Combination
) -> Search:
    """Return a search at its start."""
    classes: dict[str, type[Search]] = {
        "evolution": EvolutionarySearch,
        "cma": CMASearch,
        "random": RandomSearch,
        "gradient": GradientSearch,
    }
    settings = parameters.search
    own: dict[str, dict[str, Any]] = {
        "evolution": {"num_parents": settings.population // 2},
        "gradient": {"step_size": settings.gradient.step_size},
    }
    return classes[method](
        np.stack(list(initial_alphas(members, parameters).values())),
        num_evaluations=settings.num_evaluations,
        population=settings.population,
        seed=seed,
        cost=candidate_cost(method, parameters),
        **OPERATORS[method],
        **own.get(method, {}),
    )


def candidate_cost(method: str, parameters: Combination) -> float:
    """Return what a candidate costs: network passes over those of one full evaluation."""
    if method != "gradient":
        return 1.0
    share = parameters.search.gradient.num_images / parameters.fitness.num_images
    return GRADIENT_PASSES * share
