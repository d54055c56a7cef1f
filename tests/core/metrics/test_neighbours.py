from __future__ import annotations

import numpy as np
import pytest
import torch
from sklearn.neighbors import NearestNeighbors
from torch import Tensor

from lct_pipeline.core.metrics.neighbours import (
    copy_ratios,
    nearest_neighbours,
)


def cloud(num: int, width: int = 8, seed: int = 0) -> Tensor:
    return torch.from_numpy(np.random.default_rng(seed).normal(size=(num, width)))


@pytest.mark.parametrize("sizes", [[50], [1] * 50, [3, 40, 7], [2, 2, 46]])
def test_neighbours_are_those_of_scikit_learn(sizes: list[int]) -> None:
    queries, images = cloud(20), cloud(50, seed=1)
    search = NearestNeighbors(n_neighbors=5).fit(images.numpy())
    distances, indices = search.kneighbors(queries.numpy())
    found = nearest_neighbours(queries, iter(images.split(sizes)), 5)
    np.testing.assert_allclose(found.distances, distances, rtol=1e-12)
    np.testing.assert_array_equal(found.indices, indices)
    assert found.distances.dtype == torch.float64


def test_of_equally_near_images_the_earlier_ones_are_taken() -> None:
    image = cloud(1)
    images = torch.cat([cloud(3, seed=1), image.repeat(40, 1)])
    for batch_size in (1, 7, 43):
        found = nearest_neighbours(image, images.split(batch_size), 4)
        assert found.indices.tolist() == [[3, 4, 5, 6]]
        assert found.distances.tolist() == [[0.0] * 4]


def test_a_copy_is_at_distance_zero_also_in_float32() -> None:
    images = (5 + cloud(30, width=512)).float()
    found = nearest_neighbours(images[[4, 20]], images.split(8), 1)
    assert found.indices.tolist() == [[4], [20]]
    assert found.distances.tolist() == [[0.0], [0.0]]


def test_fewer_images_than_neighbours_are_refused() -> None:
    with pytest.raises(ValueError, match=r"4 nearest neighbours .* got 3"):
        nearest_neighbours(cloud(2), cloud(3).split(2), 4)
    assert nearest_neighbours(cloud(2), cloud(4).split(3), 4).indices.shape == (2, 4)


def test_ratios_are_to_the_median_of_the_held_out_images() -> None:
    generated = torch.tensor([0.0, 1.0, 4.0, 12.0])
    held_out = torch.tensor([1.0, 3.0, 5.0, 100.0])
    found = copy_ratios(generated, held_out)
    assert found.tolist() == [0.0, 0.25, 1.0, 3.0]


def test_held_out_images_that_were_trained_on_are_refused() -> None:
    with pytest.raises(ValueError, match="training images"):
        copy_ratios(torch.ones(3), torch.tensor([0.0, 0.0, 0.0, 2.0]))
