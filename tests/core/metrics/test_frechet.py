from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import cleanfid.fid
import numpy as np
import pytest
import scipy.linalg
import torch
from derivatives import by_autograd
from torch import Tensor

from lct_pipeline.core.metrics.frechet import (
    FeatureMoments,
    FeatureStatistics,
    FrechetReference,
    feature_statistics,
    frechet_distance,
    frechet_gradient,
)


def features(num: int, width: int = 6, seed: int = 0, shift: float = 0.0) -> Tensor:
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(width, width))
    return torch.from_numpy(rng.normal(size=(num, width)) @ mixing + shift)


def rectified(num: int, width: int, seed: int) -> Tensor:
    """Features of power-law strength, as of a network's last rectified layer."""
    rng = np.random.default_rng(seed)
    mixing = np.random.default_rng(99).normal(size=(width, width)) / width**0.5
    factors = rng.normal(size=(num, width)) / np.arange(1, width + 1)
    return torch.from_numpy(np.maximum(factors @ mixing + 0.05, 0))


def by_singular_values(x: Tensor, y: Tensor) -> float:
    """The distance of two sets of features by |A_x A_y^T|_*, without any root of an eigenvalue."""
    A, B = ((z - z.mean(0)) / (len(z) - 1) ** 0.5 for z in (x, y))
    cross = torch.linalg.svdvals(A @ B.T).sum()
    shift = (x.mean(0) - y.mean(0)).square().sum()
    return (shift + A.square().sum() + B.square().sum() - 2 * cross).item()


@pytest.mark.parametrize(
    "sizes", [[60], [1, 59], [20, 20, 20], [7, 1, 30, 22], [1] * 60]
)
def test_any_split_into_batches_gives_the_statistics_of_all(sizes: list[int]) -> None:
    x = features(60, shift=1e3)
    moments = FeatureMoments(6)
    for batch in x.split(sizes):
        moments.update(batch)
    found, values = moments.statistics(), x.numpy()
    np.testing.assert_allclose(found.mu, values.mean(0), rtol=1e-10)
    np.testing.assert_allclose(found.cov, np.cov(values, rowvar=False), rtol=1e-7)
    assert torch.equal(found.cov, found.cov.T)
    assert found.num_images == 60


def test_reductions_of_parts_merge_to_that_of_all_and_stay_as_they_were() -> None:
    x = features(90, shift=3.0)
    parts = [FeatureMoments(6) for _ in range(3)]  # the last has seen nothing
    for part, batch in zip(parts, x[:60].split([10, 50]), strict=False):
        part.update(batch)
    stored = feature_statistics(x[60:])
    found = FeatureMoments.merged([*parts, FeatureMoments.of(stored)])
    assert found.num_images == 90
    whole, merged = feature_statistics(x), found.statistics()
    torch.testing.assert_close(merged.mu, whole.mu, rtol=1e-13, atol=0)
    torch.testing.assert_close(merged.cov, whole.cov, rtol=1e-11, atol=1e-12)
    assert [part.num_images for part in parts] == [10, 50, 0]
    first = feature_statistics(x[:10])
    assert torch.equal(parts[0].statistics().cov, first.cov)
    assert torch.equal(stored.cov, feature_statistics(x[60:]).cov)
    assert FeatureMoments.merged([parts[2], parts[2]]).num_images == 0


def sqrtm_of_any_scipy(matrix: np.ndarray, disp: bool = True) -> Any:
    """SciPy's square root with the argument that 1.18 removed."""
    root = scipy.linalg.sqrtm(matrix)
    return root if disp else (root, np.nan)


@pytest.mark.parametrize("seed", [1, 2, 3])
def test_frechet_distance_is_that_of_scipy_and_of_clean_fid(
    seed: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    linalg = SimpleNamespace(sqrtm=sqrtm_of_any_scipy)
    monkeypatch.setattr(cleanfid.fid, "linalg", linalg)
    a = feature_statistics(features(80))
    b = feature_statistics(features(70, seed=seed, shift=0.3))
    product = scipy.linalg.sqrtm(a.cov.numpy() @ b.cov.numpy())
    expected = np.sum((a.mu - b.mu).numpy() ** 2) + np.trace(
        a.cov.numpy() + b.cov.numpy() - 2 * product.real
    )
    distance = frechet_distance(a, b)
    assert distance == pytest.approx(expected, rel=1e-8)
    theirs = cleanfid.fid.frechet_distance(
        a.mu.numpy(), a.cov.numpy(), b.mu.numpy(), b.cov.numpy()
    )
    assert distance == pytest.approx(theirs, rel=1e-8)


@pytest.mark.parametrize("width", [1, 6, 64])
@pytest.mark.parametrize("num", [2, 5, 64, 300])
def test_the_distance_of_a_set_to_itself_is_zero(width: int, num: int) -> None:
    x = features(num, width=width)
    statistics = feature_statistics(x)
    tolerance = 1e-12 * statistics.cov.trace().item()
    reference = FrechetReference(statistics)
    assert 0 <= reference.distance(statistics) < tolerance
    assert 0 <= reference.distance_of_features(x) < tolerance


@pytest.mark.parametrize(
    ("num", "other"), [(400, 30), (30, 400), (30, 20), (20, 20), (400, 2), (400, 300)]
)
def test_the_distance_is_exact_whatever_the_ranks(num: int, other: int) -> None:
    """Roots of rounding errors would be off by 1e-6 here, as are those of scipy's sqrtm."""
    x, y = rectified(num, 128, seed=1), 1.2 * rectified(other, 128, seed=2)
    expected = by_singular_values(x, y)
    a, b = feature_statistics(x), feature_statistics(y)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-10)
    found = FrechetReference(a).distance_of_features(y)
    assert found == pytest.approx(expected, rel=1e-10)


def test_without_spread_in_one_set_means_and_one_trace_remain() -> None:
    dead = torch.zeros(9, 12, dtype=torch.float64)
    constant = feature_statistics(dead)
    many = feature_statistics(features(200, width=12, seed=1))
    expected = (many.mu.square().sum() + many.cov.trace()).item()
    assert frechet_distance(constant, many) == pytest.approx(expected, rel=1e-12)
    assert frechet_distance(many, constant) == pytest.approx(expected, rel=1e-12)
    few = features(5, width=12)
    expected = (few.mean(0).square().sum() + few.var(0).sum()).item()
    found = FrechetReference(constant).distance_of_features(few)
    assert found == pytest.approx(expected, rel=1e-12)
    assert FrechetReference(constant).distance_of_features(dead) == 0


def test_statistics_rounded_to_float32_give_nearly_the_same_distance() -> None:
    """Files of others: not quite symmetric, and with eigenvalues below 0."""
    x, y = rectified(100, 128, seed=1), rectified(400, 128, seed=2)
    noise = np.random.default_rng(0).normal(size=(128, 128))
    a, b = feature_statistics(x), feature_statistics(y)
    scale = a.cov.abs().max().item()
    rounded = a._replace(cov=a.cov + 1e-8 * scale * torch.from_numpy(noise))
    assert np.linalg.eigvalsh(rounded.cov.numpy()).min() < 0
    expected = frechet_distance(a, b)
    assert frechet_distance(rounded, b) == pytest.approx(expected, rel=1e-2)
    assert frechet_distance(b, rounded) == pytest.approx(expected, rel=1e-2)
    assert FrechetReference(rounded).distance_of_features(y[:9]) == pytest.approx(
        FrechetReference(a).distance_of_features(y[:9]), rel=1e-2
    )
    assert frechet_distance(rounded, rounded) < 1e-4 * a.cov.trace()


def test_a_number_of_images_that_is_too_small_takes_nothing_away() -> None:
    """Only what is 0 but for rounding is taken for 0: numbers stated by others may be wrong."""
    a = feature_statistics(features(80, width=12))
    b = feature_statistics(features(80, width=12, seed=1))
    wrong = b._replace(num_images=3)
    assert frechet_distance(a, wrong) == frechet_distance(a, b)


@pytest.mark.parametrize("num", [2, 3, 11, 12, 13, 60])
def test_distance_of_features_is_that_of_their_statistics_by_the_smaller_matrix(
    num: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = FrechetReference(feature_statistics(features(80, width=12)))
    x = features(num, width=12, seed=1, shift=0.3)
    expected = reference.distance(feature_statistics(x))
    sides = []
    eigvalsh = np.linalg.eigvalsh

    def watched(matrix: np.ndarray) -> np.ndarray:
        sides.append(len(matrix))
        return eigvalsh(matrix)

    monkeypatch.setattr(np.linalg, "eigvalsh", watched)
    assert reference.distance_of_features(x) == pytest.approx(expected, rel=1e-11)
    found = reference.distance_of_features(x.float())
    assert found == pytest.approx(expected, rel=1e-5)
    assert sides == [min(num, 12)] * 2


@pytest.mark.parametrize("num", [0, 1])
def test_too_few_images_are_refused(num: int) -> None:
    reference, few = FrechetReference(feature_statistics(features(40))), features(num)
    for refused in (feature_statistics, reference.distance_of_features):
        with pytest.raises(ValueError, match=f"at least 2 images, got {num}"):
            refused(few)


def plain_frechet(x: Tensor, real: FeatureStatistics, root: Tensor) -> Tensor:
    """The distance by the smallest of three products, which has full rank.

    Rows of the Helmert matrix centre the features: N of them become N - 1 without their mean.
    ``root``, with root^T root = C_r, has a row for each dimension of the reference.
    """
    num = len(x)
    centred = torch.from_numpy(scipy.linalg.helmert(num)) @ x / (num - 1) ** 0.5
    product = root @ centred.T
    smaller = product @ product.T if num > len(root) else product.T @ product
    cross = torch.linalg.eigvalsh(smaller).sqrt().sum()
    shift = (x.mean(0) - real.mu).square().sum()
    return shift + centred.square().sum() + real.cov.trace() - 2 * cross


@pytest.mark.parametrize(
    ("num", "num_real"),  # of 6 features; of 3 images the reference is singular
    [(20, 50), (7, 50), (6, 50), (4, 50), (2, 50), (20, 3), (7, 3)],
)
def test_the_gradient_is_that_of_autograd(num: int, num_real: int) -> None:
    x, images = features(num, seed=2, shift=0.5), features(num_real, seed=1)
    real = feature_statistics(images)
    root = torch.from_numpy(scipy.linalg.helmert(num_real)) @ images
    root = torch.linalg.qr(root / (num_real - 1) ** 0.5).R
    expected = by_autograd(lambda x: plain_frechet(x, real, root), x)
    found = frechet_gradient(FrechetReference(real), x)
    distance = FrechetReference(real).distance_of_features(x)
    assert plain_frechet(x, real, root).item() == pytest.approx(distance, rel=1e-10)
    assert found.dtype == torch.float64
    torch.testing.assert_close(found, expected, rtol=1e-9, atol=1e-10)


def test_the_gradient_is_finite_without_variance_and_zero_at_the_reference() -> None:
    x = features(20, seed=2)
    real = FrechetReference(feature_statistics(x))
    assert frechet_gradient(real, x).abs().max() < 1e-9
    x[:, 3] = 0  # as a rectified feature that no image raises
    assert frechet_gradient(real, x).isfinite().all()
