"""One search of a run, driven by what is known and what is measured."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import NamedTuple

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
        chosen = set(range(len(self._alphas)))
        for request in self._requests():
            known = self._known(request)
            if missing := chosen - set(known):
                everything = set(range(len(self._alphas)))
                return Work(self._alphas, request, frozenset(everything - missing))
            chosen = self._promoted(known)
        return None

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
        fitness, gradients = self._fitness(), None
        if rows_gradients := self._gradients():
            gradients = np.stack(rows_gradients)
        self.search.tell(self._alphas, fitness, gradients)
        if not self.search.stop:
            self._alphas = self.search.ask()
        return float(fitness.min())

    def _requests(self) -> Iterator[Request]:
        """Yield how this generation is measured: once, or first on fewer images."""
        full, settings = self._parameters.fitness.num_images, self._parameters.search
        first, last = self.search.generation == 0, self.search.asks_mean
        if first or last:
            yield Request("search", full, self.seed)
        elif self.search.needs_gradients:
            # new noise for each step: what fits one set of noise alone is not learnt
            purpose = f"search step {self.search.generation}"
            yield Request(purpose, settings.gradient.num_images, self.seed, True)
        else:
            if settings.halving > 1:
                yield Request("search", full // settings.halving, self.seed)
            yield Request("search", full, self.seed)

    def _known(self, request: Request) -> dict[int, SearchEvaluation]:
        return self._history.known(
            self.number, self.search.generation, request.num_images, self._alphas
        )

    def _promoted(self, known: dict[int, SearchEvaluation]) -> set[int]:
        """Return the candidates that are measured on more images."""
        order = sorted(known, key=lambda candidate: known[candidate].fitness)
        share = self._parameters.search.halving
        return set(order[: math.ceil(len(order) / share)])

    def _fitness(self) -> np.ndarray:
        """Return the fitness of all candidates, ``(P,)``.

        One that was not promoted counts as no better than the worst that was.
        """
        fitness = np.full(len(self._alphas), -np.inf)
        for request in self._requests():
            known = self._known(request)
            measured = np.full(len(self._alphas), np.nan)
            for candidate, evaluation in known.items():
                measured[candidate] = evaluation.fitness
            worst = np.nanmax(measured)
            fitness = np.where(np.isnan(measured), np.maximum(fitness, worst), measured)
        return fitness

    def _gradients(self) -> list[np.ndarray]:
        (*_, request) = self._requests()
        known = self._known(request)
        gradients = (evaluation.gradient for evaluation in known.values())
        return [gradient for gradient in gradients if gradient is not None]

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
    return classes[method](
        np.stack(list(initial_alphas(members, parameters).values())),
        num_evaluations=settings.num_evaluations,
        population=settings.population,
        seed=seed,
        cost=candidate_cost(method, parameters),
        **getattr(settings, method).model_dump(exclude={"num_images"}),
    )


def candidate_cost(method: str, parameters: Combination) -> float:
    """Return what a candidate costs: network passes over those of one full evaluation."""
    search = parameters.search
    if method == "gradient":
        share = search.gradient.num_images / parameters.fitness.num_images
        return GRADIENT_PASSES * share
    if search.halving == 1:
        return 1.0
    promoted = math.ceil(search.population / search.halving)
    return 1 / search.halving + promoted / search.population
