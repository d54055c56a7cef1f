from __future__ import annotations

import cleanfid.fid
import numpy as np
import pytest
import scipy.linalg
import torch
from torch import Tensor

from lct_pipeline.core import frechet
from lct_pipeline.core.frechet import (
    FeatureMoments,
    FeatureStatistics,
    FrechetReference,
    feature_statistics,
    frechet_distance,
    kernel_distance,
    symmetric_square_root,
)


def features(num: int, width: int = 6, seed: int = 0, shift: float = 0.0) -> Tensor:
    rng = np.random.default_rng(seed)
    mixing = rng.normal(size=(width, width))
    return torch.from_numpy(rng.normal(size=(num, width)) @ mixing + shift)


def gaussian(mu: list[float], cov: Tensor) -> FeatureStatistics:
    return FeatureStatistics(torch.tensor(mu, dtype=torch.float64), cov, 100)


def test_statistics_are_those_of_numpy() -> None:
    x = features(50)
    stats = feature_statistics(x.float())
    values = x.float().double().numpy()
    np.testing.assert_allclose(stats.mu, values.mean(0), rtol=1e-10)
    np.testing.assert_allclose(stats.cov, np.cov(values, rowvar=False), rtol=1e-10)
    assert stats.num_images == 50
    assert stats.mu.dtype == stats.cov.dtype == torch.float64


@pytest.mark.parametrize(
    "sizes", [[60], [1, 59], [20, 20, 20], [7, 1, 30, 22], [1] * 60]
)
def test_any_split_into_batches_gives_the_statistics_of_all(sizes: list[int]) -> None:
    x = features(60, shift=1e3)
    moments = FeatureMoments(6)
    for batch in x.split(sizes):
        moments.update(batch)
    whole = feature_statistics(x)
    torch.testing.assert_close(moments.statistics().mu, whole.mu)
    torch.testing.assert_close(moments.statistics().cov, whole.cov)


def test_two_reductions_merge_to_that_of_all_and_an_empty_one_adds_nothing() -> None:
    x = features(40)
    first, second = FeatureMoments(6), FeatureMoments(6)
    first.update(x[:13])
    second.update(x[13:])
    first.merge(FeatureMoments(6))
    first.merge(second)
    torch.testing.assert_close(first.statistics().cov, feature_statistics(x).cov)
    empty = FeatureMoments(6)
    empty.merge(FeatureMoments(6))
    assert empty.num_images == 0
    empty.merge(first)
    torch.testing.assert_close(empty.statistics().cov, first.statistics().cov)


def test_statistics_do_not_change_when_the_reduction_goes_on() -> None:
    moments = FeatureMoments(6)
    moments.update(features(20))
    stats = moments.statistics()
    mu, cov = stats.mu.clone(), stats.cov.clone()
    moments.update(features(20, seed=1, shift=9))
    assert torch.equal(stats.mu, mu)
    assert torch.equal(stats.cov, cov)


@pytest.mark.parametrize("num", [0, 1])
def test_too_few_images_for_a_covariance_are_refused(num: int) -> None:
    moments = FeatureMoments(6)
    if num:
        moments.update(features(num))
    with pytest.raises(ValueError, match=f"at least 2 images, got {num}"):
        moments.statistics()


def test_square_root_is_that_of_scipy_and_squares_to_the_matrix() -> None:
    cov = feature_statistics(features(30)).cov
    root = symmetric_square_root(cov)
    torch.testing.assert_close(root @ root, cov)
    np.testing.assert_allclose(root, scipy.linalg.sqrtm(cov.numpy()), atol=1e-8)


def test_square_root_of_a_singular_matrix_is_real_and_squares_to_it() -> None:
    direction = torch.tensor([[1.0, -2.0, 3.0]], dtype=torch.float64)
    cov = direction.T @ direction
    root = symmetric_square_root(cov)
    assert torch.isfinite(root).all()
    torch.testing.assert_close(root @ root, cov)


@pytest.mark.filterwarnings("ignore:The `disp` argument:DeprecationWarning")
@pytest.mark.parametrize("seed", [1, 2, 3])
def test_frechet_distance_is_that_of_scipy_and_of_clean_fid(seed: int) -> None:
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


def test_frechet_distance_of_diagonal_gaussians_has_its_closed_form() -> None:
    s, t = np.array([0.1, 1.0, 3.0]), np.array([2.0, 1.0, 0.5])
    a = gaussian([0.0, 1.0, -2.0], torch.from_numpy(np.diag(s**2)))
    b = gaussian([0.5, 1.0, 1.0], torch.from_numpy(np.diag(t**2)))
    expected = 0.5**2 + 3.0**2 + np.sum((s - t) ** 2)
    assert frechet_distance(a, b) == pytest.approx(expected, rel=1e-12)


def test_frechet_distance_to_itself_is_zero_and_it_is_symmetric() -> None:
    a = feature_statistics(features(80))
    b = feature_statistics(features(80, seed=1))
    scale = a.cov.trace().item()
    assert frechet_distance(a, a) == pytest.approx(0, abs=1e-9 * scale)
    assert frechet_distance(a, b) == pytest.approx(frechet_distance(b, a), rel=1e-9)


def test_frechet_distance_does_not_depend_on_the_axes_of_the_features() -> None:
    x, y = features(50), features(50, seed=4)
    rotation = torch.linalg.qr(features(6, seed=5)).Q
    turned = frechet_distance(
        feature_statistics(x @ rotation), feature_statistics(y @ rotation)
    )
    plain = frechet_distance(feature_statistics(x), feature_statistics(y))
    assert turned == pytest.approx(plain, rel=1e-9)


def test_singular_covariances_give_a_finite_real_distance() -> None:
    few = feature_statistics(features(4, width=12))  # rank 3 of 12
    dead = torch.zeros(9, 12, dtype=torch.float64)
    constant = feature_statistics(dead)
    many = feature_statistics(features(200, width=12, seed=1))
    distance = frechet_distance(few, many)
    assert np.isfinite(distance)
    assert distance > 0
    # without spread in one set only means and the other's trace remain
    expected = many.mu.square().sum() + many.cov.trace()
    assert frechet_distance(constant, many) == pytest.approx(expected.item())
    scale = few.cov.trace().item()
    assert frechet_distance(few, few) == pytest.approx(0, abs=1e-6 * scale)


@pytest.mark.parametrize("num", [2, 3, 11, 12, 13, 60])
def test_distance_of_features_is_that_of_their_statistics(num: int) -> None:
    reference = FrechetReference(feature_statistics(features(80, width=12)))
    x = features(num, width=12, seed=1, shift=0.3)
    expected = reference.distance(feature_statistics(x))
    # the eigenvalues that are zero for few images leave 1e-8 each in the larger matrix
    assert reference.distance_of_features(x) == pytest.approx(expected, rel=1e-6)
    assert reference.distance_of_features(x.float()) == pytest.approx(
        expected, rel=1e-5
    )


def test_distance_of_few_features_is_found_without_roots_of_zero() -> None:
    """tr((C_r C)^(1/2)) is the sum of the singular values of A L, with C_r = L L^T, C = A^T A."""
    a, x = feature_statistics(features(80, width=12)), features(5, width=12, seed=1)
    centred = (x - x.mean(0)).numpy() / 2
    cross = np.linalg.svd(centred @ np.linalg.cholesky(a.cov.numpy())).S.sum()
    expected = np.sum((a.mu - x.mean(0)).numpy() ** 2) - 2 * cross
    expected += np.trace(a.cov.numpy()) + np.sum(centred**2)
    found = FrechetReference(a).distance_of_features(x)
    assert found == pytest.approx(expected, rel=1e-7)


@pytest.mark.parametrize(("num", "largest"), [(5, 5), (12, 12), (40, 12)])
def test_distance_of_features_takes_the_smaller_matrix(
    num: int, largest: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    reference = FrechetReference(feature_statistics(features(80, width=12)))
    sides = []
    eigvalsh = torch.linalg.eigvalsh

    def watched(matrix: Tensor) -> Tensor:
        sides.append(len(matrix))
        return eigvalsh(matrix)

    monkeypatch.setattr(torch.linalg, "eigvalsh", watched)
    reference.distance_of_features(features(num, width=12, seed=1))
    assert sides == [largest]


def test_the_reference_is_decomposed_once(monkeypatch: pytest.MonkeyPatch) -> None:
    reference = FrechetReference(feature_statistics(features(40)))
    calls = []
    eigh = torch.linalg.eigh
    monkeypatch.setattr(
        torch.linalg, "eigh", lambda cov: calls.append(len(cov)) or eigh(cov)
    )
    others = [feature_statistics(features(40, seed=seed)) for seed in (1, 2, 3)]
    found = [reference.distance(other) for other in others]
    assert calls == [6]
    assert found == [frechet_distance(reference.statistics, b) for b in others]


@pytest.mark.parametrize("num", [0, 1])
def test_features_of_too_few_images_have_no_distance(num: int) -> None:
    reference = FrechetReference(feature_statistics(features(40)))
    with pytest.raises(ValueError, match="at least 2 images"):
        reference.distance_of_features(features(40)[:num])


def test_kernel_distance_is_the_unbiased_sum_over_pairs() -> None:
    x, y = features(7, width=3), features(5, width=3, seed=1)

    def k(a: Tensor, b: Tensor) -> float:
        return (float(a @ b) / 3 + 1) ** 3

    within_x = np.mean(
        [k(a, b) for i, a in enumerate(x) for j, b in enumerate(x) if i != j]
    )
    within_y = np.mean(
        [k(a, b) for i, a in enumerate(y) for j, b in enumerate(y) if i != j]
    )
    between = np.mean([k(a, b) for a in x for b in y])
    expected = within_x + within_y - 2 * between
    for block_size in (1, 3, 5, 7, 100):
        found = kernel_distance(x, y, block_size=block_size)
        assert found == pytest.approx(expected, rel=1e-10)


def test_no_more_of_the_kernel_than_a_block_is_computed_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    largest = []
    cubic = frechet._cubic

    def watched(products: Tensor, num_features: int) -> Tensor:
        largest.append(products.numel())
        return cubic(products, num_features)

    monkeypatch.setattr(frechet, "_cubic", watched)
    kernel_distance(features(50), features(40, seed=1), block_size=8)
    assert max(largest) == 8 * 8


def test_kernel_distance_of_one_subset_is_that_of_clean_fid() -> None:
    x, y = features(40), features(40, seed=1)
    theirs = cleanfid.fid.kernel_distance(
        x.numpy(), y.numpy(), num_subsets=1, max_subset_size=40
    )
    assert kernel_distance(x, y) == pytest.approx(theirs, rel=1e-9)


def test_kernel_distance_of_equal_distributions_scatters_around_zero() -> None:
    rng = np.random.default_rng(0)
    x = torch.from_numpy(rng.normal(size=(40, 2, 30, 4)))
    equal = np.array([kernel_distance(a, b) for a, b in x])
    assert equal.min() < 0 < equal.max()
    assert abs(equal.mean()) < 4 * equal.std() / len(equal) ** 0.5
    assert kernel_distance(x[0, 0], x[0, 1] + 1) > equal.max()
