"""Searches over coefficients (LCSC): asked for candidates, told what these are measured at."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from itertools import product
from typing import Any

import numpy as np
from pandas import DataFrame

from lct_pipeline.combination.fitness import Score
from lct_pipeline.combination.history import (
    History,
    SearchEvaluation,
    history_of,
    table_of,
)
from lct_pipeline.combination.sources import Request
from lct_pipeline.combination.stage import SEARCH_SPLIT, Stage
from lct_pipeline.combination.window import check_window
from lct_pipeline.core.search import SEARCHES, Search
from lct_pipeline.datasets.parts import Last
from lct_pipeline.errors import DataError, ParameterError
from lct_pipeline.parameters.combination import Search as Settings
from lct_pipeline.progress import track

GRADIENT_PASSES = 4  # features, then again with a graph, and back, which costs two

# of coefficients (P, K), of how, and of which are known: number, score and derivative by alpha
Found = tuple[int, Score, np.ndarray | None]
Measure = Callable[[np.ndarray, Request, frozenset[int]], Iterable[Found]]


def search(stage: Stage, previous: DataFrame) -> Iterator[DataFrame | Last[DataFrame]]:
    """Search by each method with each seed, or continue; yield the history after each evaluation.

    What a killed run loses are the evaluations under way. Where all is known, nothing is read.
    """
    check_window(stage.members)
    parameters = stage.parameters
    later = {"memory_mib", "selection", "num_line_points", "landscape_size"}
    depends_on = parameters.model_dump(mode="json", exclude=later)
    origin = stage.origin(depends_on, stage.members.window)
    history = history_of(previous, origin)
    seeds = range(parameters.seed, parameters.seed + parameters.search.num_seeds)
    searches = product(parameters.search.methods, seeds)
    with stage.measuring(SEARCH_SPLIT) as measure:
        for number, (method, seed) in enumerate(searches):
            about = number, method, seed, stage.initial, parameters.search
            run = SearchRun(*about, parameters.fitness.num_images, history)
            for _ in run.evaluations(_of_window(stage, measure)):
                yield table_of(history, stage.metric, origin)
    yield Last(table_of(history, stage.metric, origin))


def _of_window(stage: Stage, measure: Any) -> Measure:
    """Return a measure of coefficients of the window; derivatives are by these too."""

    def found(
        alphas: np.ndarray, request: Request, known: frozenset[int]
    ) -> Iterator[Found]:
        padded = stage.members.padded(alphas)
        for candidate, score in measure(padded, request, known):
            gradient = None
            if score.gradients is not None:
                num = stage.members.window_size
                gradient = stage.weights.gradient_by_alpha(score.gradients, num)
            yield candidate, score, gradient

    return found


@dataclass
class SearchRun:
    """A search and its evaluations.

    What was evaluated before is told again without measuring: so a search is continued.

    Attributes:
        number: Number of the search among those of the run.
        method: Its name.
        seed: Its seed, also of its noise.
        initial: Names and coefficients, ``(K,)``, that it starts from.
        settings: Budget, population, and what is the method's own.
        num_images: Of an evaluation.
        history: All evaluations so far; new ones are added.
    """

    number: int
    method: str
    seed: int
    initial: dict[str, np.ndarray]
    settings: Settings
    num_images: int
    history: History

    def __post_init__(self) -> None:
        self.search = build_search(
            self.method, self.seed, self.initial, self.settings, self.num_images
        )

    def evaluations(self, measure: Measure) -> Iterator[None]:
        """Search to the end; yield when the history has a new evaluation.

        Args:
            measure: Measures the candidates that are not known yet.
        """
        title = f"search by {self.method}, seed {self.seed}"
        nothing: list[int] = []
        total = self.settings.num_evaluations
        with track(nothing, title, "evaluation", total=total) as bar:
            while not self.search.stop:
                alphas, request = self.search.ask(), self._request()
                known = self._known(alphas, request)
                if len(known) < len(alphas):
                    for found in measure(alphas, request, frozenset(known)):
                        self._add(alphas, request, found)
                        yield
                    known = self._known(alphas, request)
                fitness = np.array([found.fitness for found in known.values()])
                gradients = [found.gradient for found in known.values()]
                self.search.tell(
                    alphas, fitness, np.array(gradients) if request.gradients else None
                )
                bar.update(int(self.search.spent) - bar.n)
                bar.set_postfix_str(f"{fitness.min():.3g}", refresh=False)

    def _request(self) -> Request:
        """Return how this generation is measured."""
        first, last = self.search.generation == 0, self.search.asks_mean
        if first or last or not self.search.needs_gradients:
            return Request("search", self.num_images, self.seed)
        # new noise for each step: what fits one set of noise alone is not learnt
        purpose = f"search step {self.search.generation}"
        num_images = self.settings.gradient.num_images
        return Request(purpose, num_images, self.seed, gradients=True)

    def _known(
        self, alphas: np.ndarray, request: Request
    ) -> dict[int, SearchEvaluation]:
        """Return the evaluations of this generation by the number of the candidate.

        Raises:
            ParameterError: Other coefficients were evaluated.
        """
        place = self.number, self.search.generation, request.num_images
        known = {}
        for candidate, alpha in enumerate(alphas):
            found = self.history.get((*place, candidate))
            if found is None:
                continue
            if not np.array_equal(found.alpha, alpha):
                raise ParameterError(
                    "this search was started with another version of a library and now proposes "
                    "other coefficients. Remove search_history.parquet of the run to start it anew."
                )
            known[candidate] = found
        return known

    def _add(self, alphas: np.ndarray, request: Request, found: Found) -> None:
        """Keep an evaluation."""
        candidate, score, gradient = found
        if gradient is not None and not np.isfinite(gradient).all():
            raise DataError(
                "the derivative of the fitness is not finite any more: the search has left the "
                "region where the network works. Lower combination.search.gradient.step_size."
            )
        kind, name = self._kind_and_name(candidate)
        evaluation = SearchEvaluation(
            method=self.method,
            seed=self.seed,
            search=self.number,
            kind=kind,
            split=SEARCH_SPLIT,
            noise=request.purpose,
            generation=self.search.generation,
            candidate=candidate,
            name=name,
            num_images=request.num_images,
            fitness=score.fitness,
            frechet=score.frechet,
            kernel=math.nan if score.kernel is None else score.kernel,
            alpha=alphas[candidate],
            spent=self.search.spent_after(len(alphas)),
            gradient=gradient,
        )
        self.history[evaluation.key] = evaluation

    def _kind_and_name(self, candidate: int) -> tuple[str, str]:
        title, generation = f"{self.method} {self.seed}", self.search.generation
        if generation == 0:
            return "initial", list(self.initial)[candidate]
        if self.search.asks_mean:
            return "mean", f"{title}, mean"
        name = f"{title}, generation {generation}, candidate {candidate}"
        return "candidate", name


def build_search(
    method: str,
    seed: int,
    initial: dict[str, np.ndarray],
    settings: Settings,
    num_images: int,
) -> Search:
    """Return a search at its start."""
    own = {}
    if method == "gradient":
        share = settings.gradient.num_images / num_images
        own = {
            "cost": GRADIENT_PASSES * share,
            "step_size": settings.gradient.step_size,
        }
    return SEARCHES[method](
        np.stack(list(initial.values())),
        num_evaluations=settings.num_evaluations,
        population=settings.population,
        seed=seed,
        **own,
    )
