"""One search: its generations, how they are measured, and what it is told."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_runs import Run, tiny_run

from lct_pipeline.combination.fitness import Request, Score
from lct_pipeline.combination.history import History
from lct_pipeline.combination.search_run import SearchRun, candidate_cost
from lct_pipeline.combination.window import members_of
from lct_pipeline.parameters import Combination

METHODS = ("evolution", "cma", "random", "gradient")
TARGET = np.array([1.0, -0.5, 0.2, 0.3])
NUM_EVALUATIONS, FULL = 24, 12
COLUMNS = [
    "evaluation",
    "metric",
    "method",
    "seed",
    "search",
    "kind",
    "split",
    "noise",
    "generation",
    "candidate",
    "name",
    "num_images",
    "fitness",
    "frechet",
    "kernel",
    "alpha",
    "spent",
    "gradient",
]

each_method = pytest.mark.parametrize("method", METHODS)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return tiny_run(tmp_path_factory.mktemp("runs"))


@dataclass
class Driven:
    """A search that is told the distance to a target; few images see it through noise."""

    run: SearchRun
    evaluated: History
    requests: list[Request] = field(default_factory=list)  # one an evaluation

    def generation(self) -> pd.DataFrame:
        while work := self.run.next_work():
            for candidate in set(range(len(work.alphas))) - work.skip:
                self.evaluate(candidate, work)
        number = self.run.search.generation
        self.run.tell()
        rows = self.evaluated.table("fid", {})
        return rows[rows["generation"] == number]

    def evaluate(self, candidate: int, work: Any) -> None:
        alpha, request = work.alphas[candidate], work.request
        luck = math.sin(1e6 * alpha[0]) * (FULL / request.num_images - 1)
        fitness = float(((alpha - TARGET) ** 2).sum()) + luck
        gradient = 2 * (alpha - TARGET) if request.gradients else None
        self.requests.append(request)
        self.run.add(candidate, work, Score(fitness, fitness, None), gradient)

    def history(self) -> pd.DataFrame:
        while not self.run.search.stop:
            self.generation()
        return self.evaluated.table("fid", {})


@pytest.fixture(scope="module")
def start(run: Run) -> Callable[..., Driven]:
    def started(method: str, seed: int = 0, **changes: Any) -> Driven:
        parameters = settings(run, method, **changes)
        members = members_of(run.catalog.rows, 1.0)
        history = History()
        search = SearchRun(0, method, seed, members, parameters, history)
        return Driven(search, history)

    return started


def settings(run: Run, method: str, **changes: Any) -> Combination:
    own = {
        "search.methods": (method,),
        "search.num_evaluations": NUM_EVALUATIONS,
        "search.population": 6,
    }
    others = {f"search.{name}": value for name, value in changes.items()}
    nothing = {"generator": None, "references": None}
    return run.combination({**own, **nothing, **others})


@each_method
def test_every_evaluation_is_a_row_with_all_columns(
    start: Callable[..., Driven], method: str
) -> None:
    driven = start(method)
    history = driven.history()
    assert history.columns.tolist() == COLUMNS
    assert len(history) == len(driven.requests)
    required = [name for name in COLUMNS if name not in ("kernel", "gradient")]
    assert history[required].notna().all(axis=None)


@each_method
def test_the_budget_is_spent_up_to_one_evaluation(
    start: Callable[..., Driven], method: str
) -> None:
    driven = start(method)
    spent = driven.history()["spent"]
    assert spent.is_monotonic_increasing
    assert NUM_EVALUATIONS - 1 <= spent.iloc[-1] <= NUM_EVALUATIONS
    passes = [r.num_images * (4 if r.gradients else 1) for r in driven.requests]
    assert sum(passes) / FULL == pytest.approx(NUM_EVALUATIONS, abs=1)


@each_method
def test_a_search_begins_with_the_profiles_and_ends_with_its_centre(
    start: Callable[..., Driven], method: str
) -> None:
    history = start(method).history()
    assert history["kind"].tolist()[:3] == ["initial"] * 3
    assert history["name"].tolist()[:3] == ["EMA 0.9", "uniform", "last"]
    assert history["kind"].tolist()[3:-1] == ["candidate"] * (len(history) - 4)
    assert history["kind"].iloc[-1] == "mean"
    assert history["name"].iloc[-1] == f"{method} 0, mean"


@each_method
def test_the_centre_is_better_than_the_start(
    start: Callable[..., Driven], method: str
) -> None:
    history = start(method, num_evaluations=60).history()
    initial = history.loc[history["kind"] == "initial", "fitness"]
    assert history["fitness"].iloc[-1] < initial.min()


@each_method
def test_all_coefficients_sum_to_one(start: Callable[..., Driven], method: str) -> None:
    sums = start(method).history()["alpha"].map(sum)
    assert sums.tolist() == pytest.approx([1.0] * len(sums))


def test_searches_of_other_seeds_have_other_candidates_and_noise(
    start: Callable[..., Driven],
) -> None:
    one, two = (start("cma", seed=seed) for seed in (0, 1))
    first, second = (np.stack(run.history()["alpha"]) for run in (one, two))
    np.testing.assert_array_equal(first[:3], second[:3])
    assert (first[3:] != second[3:]).any()
    assert {r.seed for r in one.requests} == {0}
    assert {r.seed for r in two.requests} == {1}


def test_all_candidates_are_measured_alike(start: Callable[..., Driven]) -> None:
    driven = start("evolution")
    driven.history()
    assert set(driven.requests) == {Request("search", FULL, 0)}


def test_each_step_of_a_gradient_search_has_new_noise_and_a_gradient(
    start: Callable[..., Driven],
) -> None:
    driven = start("gradient")
    driven.history()
    first, steps, last = driven.requests[:3], driven.requests[3:-1], driven.requests[-1]
    assert {*first, last} == {Request("search", FULL, 0)}
    expected = [
        Request(f"search step {n}", 4, 0, True) for n in range(1, 1 + len(steps))
    ]
    assert steps == expected


def test_what_is_measured_already_is_skipped(start: Callable[..., Driven]) -> None:
    driven = start("cma")
    work = driven.run.next_work()
    assert work is not None and work.skip == frozenset()
    driven.evaluate(1, work)
    again = driven.run.next_work()
    assert again is not None and again.skip == {1}
    np.testing.assert_array_equal(again.alphas, work.alphas)


@pytest.mark.parametrize(
    ("method", "changes", "cost"),
    [
        ("cma", {}, 1.0),
        ("gradient", {"gradient.num_images": 12}, 4.0),
        ("gradient", {"gradient.num_images": 3}, 1.0),
    ],
)
def test_a_candidate_costs_its_passes_of_the_network(
    run: Run, method: str, changes: dict[str, Any], cost: float
) -> None:
    parameters = settings(run, method, **changes)
    assert candidate_cost(method, parameters) == pytest.approx(cost)
