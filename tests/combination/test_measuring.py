"""Candidates measured in groups, in one process or two: always the same scores."""

from __future__ import annotations

import multiprocessing
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
from forking import fork_in_place_of_spawning
from small_runs import Run, pixel_run, tiny_run

from conftest import changed
from lct_pipeline.combination import measuring
from lct_pipeline.combination.fitness import Score
from lct_pipeline.combination.measuring import Measurer
from lct_pipeline.combination.sources import Request
from lct_pipeline.combination.stage import SEARCH_SPLIT, Stage
from lct_pipeline.combination.weights import CombinedWeights

REQUEST = Request("search", 12, 0)
ALL_METHODS: dict[str, Any] = {
    "search.methods": ("gradient", "evolution", "cma", "random"),
    "search.num_evaluations": 8,
}


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return tiny_run(tmp_path_factory.mktemp("measuring"))


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return pixel_run(tmp_path_factory.mktemp("pixels"))


def candidates(num: int) -> np.ndarray:
    alpha = np.random.default_rng(0).normal(size=(num, 4))
    return alpha + (1 - alpha.sum(1, keepdims=True)) / 4


def scores(measurer: Measurer, num: int, **options: Any) -> dict[int, Score]:
    return dict(measurer.measure(candidates(num), REQUEST, **options))


def test_each_candidate_gets_the_score_of_its_own_weights(run: Run) -> None:
    stage = run.stage()
    found = scores(stage.measurer(2, SEARCH_SPLIT), 5)
    alone = stage.measurer(1, SEARCH_SPLIT)
    for number, alpha in enumerate(candidates(5)):
        ((_, score),) = alone.measure(alpha[None], REQUEST)
        assert found[number].fitness == pytest.approx(score.fitness, rel=1e-5)
    assert len({score.fitness for score in found.values()}) == 5


def test_what_is_skipped_is_not_measured_and_changes_no_other(run: Run) -> None:
    measurer = run.stage().measurer(2, SEARCH_SPLIT)
    whole, rest = scores(measurer, 5), scores(measurer, 5, skip=frozenset({0, 2, 3}))
    assert rest == {number: whole[number] for number in (1, 4)}


def test_scores_come_one_by_one(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    measurer, fitness = run.stage().measurer(3, SEARCH_SPLIT), []
    measure = measuring.Fitness.measure
    count = lambda self, *args: fitness.append(1) or measure(self, *args)  # noqa: E731
    monkeypatch.setattr(measuring.Fitness, "measure", count)
    next(measurer.measure(candidates(3), REQUEST))
    assert len(fitness) == 1


@pytest.mark.parametrize("size", [1, 2])
def test_histories_do_not_depend_on_what_fits_into_memory(
    run: Run, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    together = run.history()
    monkeypatch.setattr(CombinedWeights, "_fitting", lambda *_: size)
    apart = run.history()
    numbers = ["fitness", "frechet", "spent"]
    np.testing.assert_allclose(apart[numbers], together[numbers], rtol=1e-5)
    np.testing.assert_array_equal(*(np.stack(h["alpha"]) for h in (apart, together)))


@pytest.fixture(scope="module")
def two(pixels: Run) -> Iterator[Measurer]:
    """Return what measures in two processes."""
    runtime = changed(pixels.parameters.runtime, {"num_processes": 2})
    with pytest.MonkeyPatch.context() as patch:
        fork_in_place_of_spawning(patch)
        measurer = pixels.stage(runtime=runtime).measurer(3, SEARCH_SPLIT)
    yield measurer
    measurer.close()


def test_histories_do_not_depend_on_the_number_of_processes(
    pixels: Run, two: Measurer, monkeypatch: pytest.MonkeyPatch
) -> None:
    expected = pixels.history(ALL_METHODS)
    before = len(multiprocessing.active_children())
    with monkeypatch.context() as patch:
        patch.setattr(Stage, "measurer", lambda *_: two)
        patch.setattr(two, "close", lambda: None)
        found = pixels.history(ALL_METHODS)
    assert len(multiprocessing.active_children()) == before + 2
    pd.testing.assert_frame_equal(found, expected, check_exact=True)
    assert set(found["method"]) == set(ALL_METHODS["search.methods"])


def test_no_more_processes_are_started_than_candidates_fit_into_memory(
    run: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CombinedWeights, "_fitting", lambda *_: 1)
    runtime = changed(run.parameters.runtime, {"num_processes": 8})
    before = len(multiprocessing.active_children())
    measurer = run.stage(runtime=runtime).measurer(3, SEARCH_SPLIT)
    assert len(scores(measurer, 2)) == 2
    assert len(multiprocessing.active_children()) == before
