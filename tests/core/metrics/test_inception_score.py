from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy.special import rel_entr
from torch import Tensor

from lct_pipeline.core.metrics.feature_sets import ClassScore


def probabilities(num: int, num_classes: int = 5, seed: int = 0) -> Tensor:
    rng = np.random.default_rng(seed)
    return torch.from_numpy(rng.dirichlet(np.full(num_classes, 0.4), size=num))


def score(p: Tensor) -> float:
    reduction = ClassScore(p.shape[1])
    reduction.update(p)
    return reduction.value


def test_the_score_is_the_mean_divergence_of_scipy() -> None:
    p = probabilities(40).numpy()
    expected = np.exp(rel_entr(p, p.mean(0)).sum(1).mean())
    assert 1 < expected < 5
    assert score(torch.from_numpy(p)) == pytest.approx(expected, rel=1e-12)


@pytest.mark.parametrize("num_classes", [1, 4, 10])
def test_it_is_the_number_of_classes_when_each_image_is_of_one(
    num_classes: int,
) -> None:
    sure = torch.eye(num_classes).repeat(3, 1)  # all other probabilities are 0
    assert score(sure) == pytest.approx(num_classes, rel=1e-12)
    alike = probabilities(1).repeat(9, 1)
    assert score(alike) == pytest.approx(1, rel=1e-12)


def test_two_classes_that_are_not_equally_often_are_worked_out_by_hand() -> None:
    sure = torch.tensor([[1.0, 0.0]] * 3 + [[0.0, 1.0]])
    # divergences log(4/3) three times and log(4)
    assert score(sure) == pytest.approx((4 / 3) ** 0.75 * 4**0.25, rel=1e-12)


def test_batches_do_not_change_the_score() -> None:
    p, reduction = probabilities(50), ClassScore(5)
    for batch in p.split([10, 1, 19, 20]):
        reduction.update(batch)
    assert reduction.value == pytest.approx(score(p), rel=1e-12)


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


def test_no_images_have_no_score() -> None:
    with pytest.raises(ValueError, match="at least 1 image"):
        _ = ClassScore(3).value
