"""The fitness of weights: its two distances, its gradient, and its noise."""

from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pytest
import torch
from small_runs import (
    Run,
    generate,
    generated,
    last_of,
    pixel_run,
    references,
    tiny_run,
    weights,
)
from torch import Tensor

from lct_pipeline.combination.fitness import Fitness, Request, Score
from lct_pipeline.combination.sources import FunctionSource
from lct_pipeline.combination.stage import SEARCH_SPLIT, Stage
from lct_pipeline.core.metrics.frechet import (
    feature_statistics,
    frechet_distance,
)
from lct_pipeline.core.metrics.kernel import kernel_distance
from lct_pipeline.errors import DataError
from lct_pipeline.evaluation.evaluator import Evaluator
from lct_pipeline.evaluation.extractors import FEATURES_AS_GIVEN
from lct_pipeline.evaluation.feature_spaces import FeatureSpace
from lct_pipeline.models.autoencoder.coding import PixelAutoencoder

REQUEST = Request("search", 12, 0)


@pytest.fixture(scope="module")
def run(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return tiny_run(tmp_path_factory.mktemp("fitness"))


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return pixel_run(tmp_path_factory.mktemp("pixels"))


def fitness_of(stage: Stage) -> Fitness:
    return Fitness(stage.task, stage.real(SEARCH_SPLIT))


def score(run: Run, frechet_weight: float, kernel_weight: float) -> Score:
    changes = {
        "fitness.frechet_weight": frechet_weight,
        "fitness.kernel_weight": kernel_weight,
    }
    return fitness_of(run.stage(changes)).measure(weights(10), REQUEST)


def made(seed: int = 0) -> Tensor:
    source = FunctionSource(generate, gives_features=True)
    source.load(weights(10))
    return torch.cat(list(source.batches(12, seed, "search")))


def test_the_frechet_distance_is_that_to_the_features(run: Run) -> None:
    expected = frechet_distance(*map(feature_statistics, (made(), references("train"))))
    assert score(run, 1.0, 0.0).frechet == pytest.approx(expected)


def test_the_kernel_distance_is_that_to_the_features(run: Run) -> None:
    expected = kernel_distance(made(), references(SEARCH_SPLIT)).value
    assert score(run, 1.0, 0.5).kernel == pytest.approx(expected)


@pytest.mark.parametrize("weights", [(1.0, 0.0), (0.0, 1.0), (2.0, 3.0)])
def test_the_fitness_is_the_weighted_sum(
    run: Run, weights: tuple[float, float]
) -> None:
    both, found = score(run, 1.0, 1.0), score(run, *weights)
    assert both.kernel is not None
    expected = weights[0] * both.frechet + weights[1] * both.kernel
    assert found.fitness == pytest.approx(expected)
    assert found.frechet == both.frechet


def test_a_kernel_distance_without_weight_is_not_measured(run: Run) -> None:
    assert score(run, 1.0, 0.0).kernel is None


def test_the_same_weights_have_the_same_fitness_whatever_came_before(
    pixels: Run,
) -> None:
    fitness = fitness_of(pixels.stage())
    first, other = (
        pixels.catalog.store.read(name).tensors
        for name in ("step-0000010-raw", "step-0000020-raw")
    )
    before = fitness.measure(first, REQUEST)
    assert fitness.measure(other, REQUEST) != before
    assert fitness.measure(first, REQUEST) == before


@pytest.mark.parametrize(
    "other", [Request("choice", 12, 0), Request("search", 12, 1)], ids=str
)
def test_another_purpose_or_seed_is_other_noise(pixels: Run, other: Request) -> None:
    fitness = fitness_of(pixels.stage())
    tensors = pixels.catalog.store.read("step-0000010-raw").tensors
    assert fitness.measure(tensors, other) != fitness.measure(tensors, REQUEST)


def test_search_selection_decision_and_test_have_noise_of_their_own_each(
    run: Run,
) -> None:
    """Within each of them all candidates have the same."""
    changes = {"search.num_seeds": 2}
    seeds = []
    generated.clear()
    history = run.history(changes)
    seeds.append({seed for _, seed in generated})
    generated.clear()
    scores = last_of(run.score(history, changes))
    seeds.append({seed for _, seed in generated})
    generated.clear()
    run.select(scores, changes)
    seeds.append({seed for _, seed in generated})
    num_seeds = run.parameters.evaluation.num_seeds
    # one for each search; one of selection; those of the decision, and one of the test split
    assert [len(found) for found in seeds] == [2, 1, num_seeds + 1]
    assert len(set.union(*seeds)) == 4 + num_seeds


KERNEL_TOO: dict[str, Any] = {
    "fitness.frechet_weight": 0.5,
    "fitness.kernel_weight": 2.0,
}
STEP = 1e-3  # of a coefficient; the distances have no corner within it


def unrounded(stage: Stage, alpha: np.ndarray, request: Request) -> float:
    """Return the fitness of images that are not rounded to 256 levels."""
    source, extractor = stage.task.source(), stage.extractor
    source.load(stage.weights.state_dict(stage.members.padded(alpha)))
    generator = source.generator  # type: ignore[attr-defined]
    noises, labels = generator._inputs(
        request.num_images, 1, request.seed, request.purpose
    )
    with torch.no_grad():
        latents = [
            generator._one_step(n, c) for (n,), c in zip(noises, labels, strict=True)
        ]
        images = PixelAutoencoder().decode(2 * torch.cat(latents)).sample
        features = extractor.differentiate(images)
    settings, real = stage.parameters.fitness, stage.real(SEARCH_SPLIT)
    frechet = real.frechet.distance_of_features(features)
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


def test_without_being_asked_for_there_is_no_gradient(pixels: Run) -> None:
    stage = pixels.stage()
    tensors = stage.weights.state_dict(stage.members.padded(np.eye(4)[0]))
    assert fitness_of(stage).measure(tensors, REQUEST).gradients is None


def images(*shape: int) -> Tensor:
    return torch.zeros(shape, dtype=torch.uint8)


@pytest.mark.parametrize(
    ("batches", "gives_images", "message"),
    [
        ([images(4, 3, 8, 8)], True, "gave 4 images where 12 were asked for"),
        ([images(7, 3, 8, 8)] * 2, True, "gave 14 images where 12 were asked for"),
        ([], True, "gave 0 images where 12 were asked for"),
        ([images(12, 3, 8)], True, r"it gave torch.uint8 of shape \(12, 3, 8\)"),
        ([images(12, 8, 8, 3)], True, r"it gave torch.uint8 of shape \(12, 8, 8, 3\)"),
        ([torch.zeros(12, 3, 8, 8)], True, "it gave torch.float32 of shape"),
        ([torch.zeros(12, 5)], True, r"with combination\.references, of float features"),
        ([images(12, 3, 8, 8)], False, "it gave torch.uint8 of shape"),
        ([torch.zeros(12)], False, r"it gave torch.float32 of shape \(12,\)"),
        ([np.zeros((12, 3))], False, "it gave ndarray"),
        ([torch.full((12, 5), math.nan)], False, "values that are not finite"),
    ],
    ids=range(11),
)  # fmt: skip
def test_what_a_generator_should_not_give_is_named(
    batches: list[Any], gives_images: bool, message: str
) -> None:
    source = FunctionSource(lambda *_, **__: iter(batches), not gives_images)
    with pytest.raises(DataError, match=rf"combination\.generator.*{message}"):
        list(source.batches(12, 0, "search"))


@pytest.mark.parametrize("dtype", [torch.float16, torch.float64, torch.bfloat16])
def test_features_of_any_float_type_are_taken(dtype: torch.dtype) -> None:
    def halves(*_: Any, **__: Any) -> Iterator[Tensor]:
        yield torch.full((12, 2), 0.5, dtype=dtype, requires_grad=True)

    space = FeatureSpace(FEATURES_AS_GIVEN, ())
    batches = FunctionSource(halves, gives_features=True).batches(12, 0, "search")
    (found,) = Evaluator((space,)).features(batches, 12)
    assert torch.equal(found.kept, torch.full((12, 2), 0.5))
    assert not found.kept.requires_grad
