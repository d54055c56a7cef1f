from __future__ import annotations

import numpy as np
import pytest
import torch
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


def probabilities(num: int = NUM) -> Tensor:
    return torch.from_numpy(np.random.default_rng(1).dirichlet(np.ones(3), size=num))


def every(step: int, num: int = NUM) -> Tensor:
    return torch.arange(num) % step == 0


def reduced(
    sizes: list[int], num_blocks: int, keep: Tensor | None = None
) -> FeatureSet:
    reducer = FeatureReducer(every(3) if keep is None else keep, num_blocks=num_blocks)
    for batch, p in zip(
        features().split(sizes), probabilities().split(sizes), strict=True
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
    score = ClassScore(3)
    score.update(probabilities())
    assert found.class_score is not None
    assert found.class_score.value == pytest.approx(score.value, rel=1e-12)


def test_nothing_need_be_kept_and_no_classes_need_be_told() -> None:
    reducer = FeatureReducer(torch.zeros(NUM, dtype=torch.bool), num_blocks=1)
    reducer.update(features().double())
    found = reducer.result()
    assert found.kept.shape == (0, WIDTH)
    assert found.kept.dtype == torch.float32
    assert found.class_score is None


@pytest.mark.parametrize("num", [NUM - 1, NUM + 1])
def test_another_number_of_images_than_announced_is_refused(num: int) -> None:
    reducer = FeatureReducer(every(2, num), num_blocks=2)
    with pytest.raises(ValueError, match="came"):
        for batch in features().split(6):
            reducer.update(batch)
        reducer.result()


def test_blocks_of_less_than_two_images_are_refused() -> None:
    with pytest.raises(ValueError, match=r"4 blocks .* at least 8 images, got 7"):
        FeatureReducer(every(2, 7), num_blocks=4)
    FeatureReducer(every(2, 8), num_blocks=4)


@pytest.mark.parametrize("sizes", [[23], [5, 9, 9]])
def test_without_blocks_all_features_are_kept_and_no_moments_made(
    sizes: list[int],
) -> None:
    found = reduced(sizes, 0, torch.ones(NUM).bool())
    assert found.blocks == [] and found.num_images == NUM
    assert torch.equal(found.kept, features())
    torch.testing.assert_close(found.statistics.cov, features().double().T.cov())


def test_without_blocks_nothing_may_be_forgotten() -> None:
    with pytest.raises(ValueError, match="features of all images are kept"):
        FeatureReducer(every(3), num_blocks=0)
