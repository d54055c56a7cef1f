"""The fitness of weights: its distances, gradient and noise; in groups, in one process or two."""

from __future__ import annotations

import multiprocessing
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from small_runs import Run, generate, generated, last_of, references, weights

from conftest import changed
from lct_pipeline.combination.fitness import Fitness, Measurer, Score
from lct_pipeline.combination.sources import FunctionSource, ModelSource, Request
from lct_pipeline.combination.stage import SEARCH_SPLIT, Stage
from lct_pipeline.combination.weights import CombinedWeights
from lct_pipeline.core.metrics.frechet import feature_statistics, frechet_distance
from lct_pipeline.core.metrics.kernel import kernel_distance
from lct_pipeline.core.randomness import derived_seed
from lct_pipeline.evaluation.generator import build_generator
from lct_pipeline.evaluation.plans import one_step

REQUEST = Request("search", 12, 0)


def fitness_of(stage: Stage) -> Fitness:
    return Fitness(stage.task, stage.real(SEARCH_SPLIT))


def score(run: Run, frechet_weight: float, kernel_weight: float) -> Score:
    changes = {
        "fitness.frechet_weight": frechet_weight,
        "fitness.kernel_weight": kernel_weight,
    }
    return fitness_of(run.stage(changes)).measure(weights(10), REQUEST)


@pytest.mark.parametrize("share", [(1.0, 0.0), (0.0, 1.0), (2.0, 3.0)])
def test_the_fitness_is_the_weighted_sum_of_both_distances(
    tiny: Run, share: tuple[float, float]
) -> None:
    source = FunctionSource(generate, gives_features=True)
    made, real = (
        torch.cat(list(source.batches(weights(10), REQUEST))),
        references("train"),
    )
    frechet = frechet_distance(*map(feature_statistics, (made, real)))
    kernel = kernel_distance(made, real).value
    found = score(tiny, *share)
    assert found.frechet == pytest.approx(frechet)
    assert found.fitness == pytest.approx(share[0] * frechet + share[1] * kernel)
    # without weight none is measured
    assert found.kernel == (pytest.approx(kernel) if share[1] else None)


def test_the_same_weights_have_the_same_fitness_whatever_came_before(
    pixels: Run,
) -> None:
    fitness = fitness_of(pixels.stage())
    first, other = (
        pixels.catalog.store.read(name).tensors
        for name in ("step-0000010-raw", "step-0000020-raw")
    )
    before = fitness.measure(first, REQUEST)
    assert before.gradients is None
    assert fitness.measure(other, REQUEST) != before
    assert fitness.measure(first, REQUEST) == before
    for noise in (Request("choice", 12, 0), Request("search", 12, 1)):
        assert fitness.measure(first, noise) != before


def test_search_selection_decision_and_test_have_noise_of_their_own_each(
    tiny: Run,
) -> None:
    """Within each of them all candidates have the same."""
    changes = {"search.num_seeds": 2}

    def seeds() -> set[int]:
        found = {seed for _, seed in generated}
        generated.clear()
        return found

    seeds()
    history = tiny.history(changes)
    found = [seeds()]
    scores = last_of(tiny.score(history, changes))
    found.append(seeds())
    tiny.select(scores, changes)
    found.append(seeds())
    num_seeds = tiny.parameters.evaluation.num_seeds
    check = {derived_seed(seed, "seed check") for seed in (0, 1)}
    # one for each search; one of selection; those of the decision, and one of the test split
    assert [len(each - check) for each in found] == [2, 1, num_seeds + 1]
    assert len(set.union(*found) - check) == 4 + num_seeds


KERNEL_TOO: dict[str, Any] = {
    "fitness.frechet_weight": 0.5,
    "fitness.kernel_weight": 2.0,
}
STEP = 1e-3  # of a coefficient; the distances have no corner within it


def unrounded(stage: Stage, alpha: np.ndarray, request: Request) -> float:
    """Return the fitness of images that are not rounded to 256 levels."""
    task = stage.task
    assert task.network is not None
    inputs = task.network, task.decoder, task.sampling, task.runtime
    generator = build_generator(*inputs, quantise=lambda x, _: x.clone())
    source = ModelSource(generator, one_step(task.network))
    weights = stage.weights.state_dict(stage.members.padded(alpha))
    images = torch.cat(list(source.batches(weights, request)))
    with torch.no_grad():
        differentiate: Any = stage.extractor.differentiate
        features = differentiate(images)
    settings, real = stage.parameters.fitness, stage.real(SEARCH_SPLIT)
    frechet = real.frechet.distance_of_features(features)
    assert real.features is not None
    kernel = kernel_distance(features, real.features).value
    return settings.frechet_weight * frechet + settings.kernel_weight * kernel


def test_the_gradient_by_alpha_agrees_with_finite_differences(pixels: Run) -> None:
    stage = pixels.stage(KERNEL_TOO)
    request = Request("search step 1", 12, 3, gradients=True)
    alpha = np.array([0.2, -0.4, 0.5, 0.7])
    tensors = stage.weights.state_dict(stage.members.padded(alpha))
    found = fitness_of(stage).measure(tensors, request)
    assert found.gradients is not None
    gradient = stage.weights.gradient_by_alpha(found.gradients, 4)
    differences = [
        (unrounded(stage, alpha + e, request) - unrounded(stage, alpha - e, request))
        / (2 * STEP)
        for e in STEP * np.eye(4)
    ]
    largest = np.abs(differences).max()
    assert largest > 0.1
    # the distances that the gradient starts from are those of rounded images
    np.testing.assert_allclose(gradient, differences, rtol=0, atol=0.02 * largest)


# in groups, in one process or two

TWO_METHODS: dict[str, Any] = {
    "search.methods": ("gradient", "cma"),
    "search.num_evaluations": 8,
}


def candidates(num: int) -> np.ndarray:
    alpha = np.random.default_rng(0).normal(size=(num, 4))
    return alpha + (1 - alpha.sum(1, keepdims=True)) / 4


def scores(measurer: Measurer, num: int, **options: Any) -> dict[int, Score]:
    return dict(measurer.measure(candidates(num), REQUEST, **options))


def test_each_candidate_gets_the_score_of_its_own_weights(tiny: Run) -> None:
    stage = tiny.stage()
    found = scores(stage.measurer(2, SEARCH_SPLIT), 5)
    alone = stage.measurer(1, SEARCH_SPLIT)
    for number, alpha in enumerate(candidates(5)):
        ((_, score),) = alone.measure(alpha[None], REQUEST)
        assert found[number].fitness == pytest.approx(score.fitness, rel=1e-5)
    assert len({score.fitness for score in found.values()}) == 5


def test_what_is_skipped_is_not_measured_and_changes_no_other(tiny: Run) -> None:
    measurer = tiny.stage().measurer(2, SEARCH_SPLIT)
    whole, rest = scores(measurer, 5), scores(measurer, 5, skip=frozenset({0, 2, 3}))
    assert rest == {number: whole[number] for number in (1, 4)}


def test_scores_come_one_by_one(tiny: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    measurer, fitness = tiny.stage().measurer(3, SEARCH_SPLIT), []
    measure = Fitness.measure
    count = lambda self, *args: fitness.append(1) or measure(self, *args)  # noqa: E731
    monkeypatch.setattr(Fitness, "measure", count)
    next(measurer.measure(candidates(3), REQUEST))
    assert len(fitness) == 1


@pytest.mark.parametrize("size", [1, 2])
def test_histories_do_not_depend_on_what_fits_into_memory(
    tiny: Run, monkeypatch: pytest.MonkeyPatch, size: int
) -> None:
    together = tiny.history()
    monkeypatch.setattr(CombinedWeights, "_fitting", lambda *_: size)
    apart = tiny.history()
    numbers = ["fitness", "frechet", "spent"]
    np.testing.assert_allclose(apart[numbers], together[numbers], rtol=1e-5)
    np.testing.assert_array_equal(*(np.stack(h["alpha"]) for h in (apart, together)))


@pytest.mark.usefixtures("forked_processes")
def test_histories_do_not_depend_on_the_number_of_processes(pixels: Run) -> None:
    expected = pixels.history(TWO_METHODS)
    assert set(expected["method"]) == set(TWO_METHODS["search.methods"])
    runtime = changed(pixels.parameters.runtime, {"num_processes": 2})
    before = len(multiprocessing.active_children())
    outputs = pixels.search(TWO_METHODS, runtime=runtime)
    next(outputs)
    assert len(multiprocessing.active_children()) == before + 2
    pd.testing.assert_frame_equal(last_of(outputs), expected, check_exact=True)
    assert len(multiprocessing.active_children()) == before


def test_no_more_processes_are_started_than_candidates_fit_into_memory(
    tiny: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(CombinedWeights, "_fitting", lambda *_: 1)
    runtime = changed(tiny.parameters.runtime, {"num_processes": 8})
    before = len(multiprocessing.active_children())
    measurer = tiny.stage(runtime=runtime).measurer(3, SEARCH_SPLIT)
    assert len(scores(measurer, 2)) == 2
    assert len(multiprocessing.active_children()) == before
