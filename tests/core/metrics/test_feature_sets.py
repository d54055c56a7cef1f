from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import rel_entr
from torch import Tensor

from lct_pipeline.core.metrics.feature_sets import (
    ClassScore,
    FeatureReducer,
    FeatureSet,
)
from lct_pipeline.core.metrics.frechet import feature_statistics

NUM, WIDTH = 23, 4


def features(num: int = NUM) -> Tensor:
    return torch.from_numpy(np.random.default_rng(0).normal(size=(num, WIDTH))).float()


def every(step: int, num: int = NUM) -> Tensor:
    return torch.arange(num) % step == 0


def reduced(
    sizes: list[int], num_blocks: int, keep: Tensor | None = None
) -> FeatureSet:
    reducer = FeatureReducer(every(3) if keep is None else keep, num_blocks=num_blocks)
    for batch, p in zip(
        features().split(sizes), probabilities(NUM).split(sizes), strict=True
    ):
        reducer.update(batch, p)
    return reducer.result()


@pytest.mark.parametrize("num_blocks", [1, 2, 3, 4, 11])
@pytest.mark.parametrize("sizes", [[23], [1] * 23, [5, 9, 9], [20, 3]])
def test_blocks_are_those_of_the_images_however_they_come(
    sizes: list[int], num_blocks: int
) -> None:
    found = reduced(sizes, num_blocks)
    parts = np.array_split(features().double().numpy(), num_blocks)
    assert [block.num_images for block in found.blocks] == [len(p) for p in parts]
    for block, part in zip(found.blocks, parts, strict=True):
        np.testing.assert_allclose(block.statistics().mu, part.mean(0), atol=1e-12)
        np.testing.assert_allclose(
            block.statistics().cov, np.cov(part, rowvar=False), atol=1e-12
        )


@pytest.mark.parametrize("sizes", [[23], [1] * 23, [5, 9, 9]])
@pytest.mark.parametrize("step", [1, 3, 50])
def test_statistics_are_of_all_images_and_the_chosen_are_kept(
    sizes: list[int], step: int
) -> None:
    found = reduced(sizes, 4, every(step))
    before = found.blocks[0].statistics()
    whole = feature_statistics(features())
    assert found.num_images == found.statistics.num_images == NUM
    torch.testing.assert_close(found.statistics.mu, whole.mu)
    torch.testing.assert_close(found.statistics.cov, whole.cov)
    assert torch.equal(found.blocks[0].statistics().cov, before.cov)
    assert torch.equal(found.kept, features()[::step])
    assert found.class_score is not None
    assert found.class_score.value == pytest.approx(
        score(probabilities(NUM)), rel=1e-12
    )


def test_nothing_need_be_kept_and_no_classes_need_be_told() -> None:
    reducer = FeatureReducer(torch.zeros(NUM, dtype=torch.bool), num_blocks=1)
    reducer.update(features().double())
    found = reducer.result()
    assert found.kept.shape == (0, WIDTH)
    assert found.kept.dtype == torch.float32
    assert found.class_score is None


@pytest.mark.parametrize("sizes", [[23], [5, 9, 9]])
def test_without_blocks_all_features_are_kept_and_no_moments_made(
    sizes: list[int],
) -> None:
    found = reduced(sizes, 0, torch.ones(NUM).bool())
    assert found.blocks == [] and found.num_images == NUM
    assert torch.equal(found.kept, features())
    torch.testing.assert_close(found.statistics.cov, features().double().T.cov())


def probabilities(num: int, num_classes: int = 5, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.dirichlet(np.full(num_classes, 0.4), size=num))


def score(p: Tensor) -> float:
    reduction = ClassScore(p.shape[1])
    reduction.update(p)
    return reduction.value


def test_probabilities_of_bfloat16_are_taken() -> None:
    logits = torch.randn(30, 1000, generator=torch.Generator().manual_seed(0))
    for p in (logits.softmax(1), (9 * logits).softmax(1)):
        assert score(p.bfloat16()) == pytest.approx(score(p), rel=2e-2)


@pytest.mark.parametrize(
    "wrong", [[[2.0, -1.0]], [[0.5, 0.4]], [[3.0, 1.0]], [[float("nan"), 0.5]]]
)
def test_what_are_no_probabilities_is_refused(wrong: list[list[float]]) -> None:
    with pytest.raises(ValueError, match="sum to 1"):
        ClassScore(2).update(torch.tensor(wrong))


@pytest.mark.parametrize("num_classes", [1, 5, 10])
def test_the_score_is_the_mean_divergence_of_scipy(num_classes: int) -> None:
    p = probabilities(40, num_classes)
    expected = np.exp(rel_entr(p.numpy(), p.mean(0).numpy()).sum(1).mean())
    assert score(p) == pytest.approx(expected, rel=1e-12)
    sure = torch.eye(num_classes).repeat(3, 1)  # all other probabilities are 0
    assert score(sure) == pytest.approx(num_classes, rel=1e-12)
    assert score(p[:1].repeat(9, 1)) == pytest.approx(1, rel=1e-12)


def test_too_few_or_other_images_than_announced_are_refused() -> None:
    with pytest.raises(ValueError, match="at least 1 image"):
        _ = ClassScore(3).value
    with pytest.raises(ValueError, match=r"4 blocks .* at least 8 images, got 7"):
        FeatureReducer(every(2, 7), num_blocks=4)
    with pytest.raises(ValueError, match="features of all images are kept"):
        FeatureReducer(every(3), num_blocks=0)
    for num in (NUM - 1, NUM + 1):
        reducer = FeatureReducer(every(2, num), num_blocks=2)
        with pytest.raises(ValueError, match="came"):
            for batch in features().split(6):
                reducer.update(batch)
            reducer.result()
