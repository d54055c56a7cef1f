"""Searches over coefficients (LCSC): asked for candidates, told what these are measured at.

All that a search has evaluated is its history, a table, which is also all that continues it: what
was evaluated before is told again without measuring.
"""

from __future__ import annotations

import logging
import math
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, fields, replace
from itertools import product
from typing import Any

import numpy as np
from pandas import DataFrame

from lct_pipeline.combination.fitness import Score, tell_faults
from lct_pipeline.combination.sources import Request
from lct_pipeline.combination.stage import ORIGIN, SEARCH_SPLIT, Stage
from lct_pipeline.combination.weights import check_window
from lct_pipeline.core.search_methods import SEARCHES
from lct_pipeline.datasets.parts import Last
from lct_pipeline.errors import DataError, ParameterError
from lct_pipeline.parameters import Combination, first_difference
from lct_pipeline.progress import track

logger = logging.getLogger(__name__)

GRADIENT_PASSES = 4  # features, then again with a graph, and back, which costs two

# of coefficients (P, K), of how, and of which are known: number, score and derivative by alpha
Found = tuple[int, Score, np.ndarray | None]
Measure = Callable[[np.ndarray, Request, frozenset[int]], Iterable[Found]]
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
        fitness: What is minimised; infinite where nothing could be measured.
        frechet: Frechet distance.
        kernel: Kernel distance; NaN where it was not measured.
        alpha: Coefficients, ``(K,)``.
        spent: Budget that is spent when the generation is told.
        gradient: Derivative of the fitness by alpha, ``(K,)``; None where it was not asked for, or
            is not finite.
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

    A search of which nothing could be measured yet is begun anew.

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
    found = [SearchEvaluation(**{str(k): v for k, v in row.items()}) for row in rows]
    begun = {each.search for each in found if math.isfinite(each.fitness)}
    return {each.key: each for each in found if each.search in begun}


def search(stage: Stage, previous: DataFrame) -> Iterator[DataFrame | Last[DataFrame]]:
    """Search by each method with each seed, or continue; yield the history after each evaluation.

    What a killed run loses are the evaluations under way. Where all is known, nothing is read.
    """
    check_window(stage.members)
    steps = [str(step) for step in stage.members.window["step"]]
    num_raw = (stage.catalog.rows["kind"] == "raw").sum()
    of_steps = len(steps), num_raw, ", ".join(steps)
    logger.info("The window has %d of %d checkpoints: of steps %s.", *of_steps)
    parameters = stage.parameters
    later = {"memory_mib", "selection", "num_line_points", "landscape_size"}
    depends_on = parameters.model_dump(mode="json", exclude=later)
    origin = stage.origin(depends_on, stage.members.window)
    history = history_of(previous, origin)
    seeds = range(parameters.seed, parameters.seed + parameters.search.num_seeds)
    searches = product(parameters.search.methods, seeds)
    with stage.measuring(SEARCH_SPLIT) as measure:
        for number, (method, seed) in enumerate(searches):
            run = SearchRun(number, method, seed, stage.initial, parameters, history)
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

    Attributes:
        number: Number of the search among those of the run.
        method: Its name.
        seed: Its seed, also of its noise.
        initial: Names and coefficients, ``(K,)``, that it starts from.
        parameters: Budget, population, what is the method's own, and images of an evaluation.
        history: All evaluations so far; new ones are added.
    """

    number: int
    method: str
    seed: int
    initial: dict[str, np.ndarray]
    parameters: Combination
    history: History

    def __post_init__(self) -> None:
        self._faults: list[str] = []
        settings, own = self.parameters.search, {}
        if self.method == "gradient":
            gradient = settings.gradient
            share = gradient.num_images / self.parameters.fitness.num_images
            own = {"cost": GRADIENT_PASSES * share, "step_size": gradient.step_size}
        self.search = SEARCHES[self.method](
            np.stack(list(self.initial.values())),
            num_evaluations=settings.num_evaluations,
            population=settings.population,
            seed=self.seed,
            **own,
        )

    def evaluations(self, measure: Measure) -> Iterator[None]:
        """Search to the end; yield when the history has a new evaluation.

        Args:
            measure: Measures the candidates that are not known yet.
        """
        title = f"search by {self.method}, seed {self.seed}"
        nothing: list[int] = []
        total = self.parameters.search.num_evaluations
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
                if self.search.generation == 0 and np.isinf(fitness).all():
                    raise DataError(
                        f"nothing that the {title} starts from can be measured, not even the last "
                        f"checkpoint: {self._faults[-1]}"
                    )
                self.search.tell(alphas, fitness, self._gradients(known, request))
                bar.update(int(self.search.spent) - bar.n)
                bar.set_postfix_str(f"{fitness.min():.3g}", refresh=False)
        fitness = np.array(
            [e.fitness for k, e in self.history.items() if k[0] == self.number]
        )
        tell_faults(title, int(np.isinf(fitness).sum()), len(fitness), self._faults)

    def _gradients(
        self, known: dict[int, SearchEvaluation], request: Request
    ) -> np.ndarray | None:
        """Return the derivatives of a generation, ``(P, K)``, NaN where there is none."""
        if not request.gradients:
            return None
        none = np.full(self.search.initial.shape[1], np.nan)
        found = [each.gradient for each in known.values()]
        return np.stack([none if one is None else one for one in found])

    def _request(self) -> Request:
        """Return how this generation is measured."""
        first, last = self.search.generation == 0, self.search.asks_mean
        if first or last or not self.search.needs_gradients:
            num_images = self.parameters.fitness.num_images
            return Request("search", num_images, self.seed)
        # new noise for each step: what fits one set of noise alone is not learnt
        purpose = f"search step {self.search.generation}"
        num_images = self.parameters.search.gradient.num_images
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
            fault = (
                "the derivative of the fitness is not finite: the step is halved. Lower "
                "combination.search.gradient.step_size where this is often."
            )
            score, gradient = replace(score, fitness=math.inf, fault=fault), None
        if score.fault is not None:
            self._faults.append(score.fault)
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
