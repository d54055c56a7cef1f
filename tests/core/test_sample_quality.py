from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor

from lct_pipeline.core.randomness import derived_generator
from lct_pipeline.core.sample_quality import (
    feature_batches,
    label_batches,
    noise_batches,
    random_subset,
)

SHAPE = (2, 3, 3)


def noises(num_images: int, *, batch_size: int = 4, purpose: str = "a") -> list[Tensor]:
    return list(
        noise_batches(
            num_images,
            SHAPE,
            num_evaluations=2,
            batch_size=batch_size,
            seed=5,
            purpose=purpose,
        )
    )


def test_purposes_and_batches_have_noise_of_their_own() -> None:
    batches = [*noises(8), *noises(8, purpose="b")]
    evaluations = torch.cat(batches).flatten(1)
    assert len(torch.unique(evaluations, dim=0)) == len(evaluations) == 8


def classes(num_images: int, **changes: Any) -> list[Tensor | None]:
    stream = {"batch_size": 4, "seed": 5, "purpose": "a"} | changes
    return list(label_batches(num_images, [30, 0, 10], **stream))


def test_labels_are_as_frequent_as_in_training() -> None:
    labels = torch.cat(classes(4000, batch_size=64))
    counts = labels.bincount(minlength=3)
    assert counts[1] == 0
    deviation = (4000 * 0.75 * 0.25) ** 0.5
    assert counts[0].item() == pytest.approx(3000, abs=4 * deviation)


def test_features_come_one_batch_at_a_time_in_single_precision() -> None:
    made: list[int] = []

    def extract(batch: Tensor) -> Tensor:
        made.append(len(batch))
        return batch.double() * linear

    linear = torch.ones(3, dtype=torch.float64, requires_grad=True)
    batches = feature_batches(torch.zeros(5, 3, dtype=torch.uint8).split(2), extract)
    assert made == []
    first = next(batches)
    assert made == [2]
    assert first.dtype == torch.float32
    assert not first.requires_grad
    assert torch.is_grad_enabled()
    assert [len(rest) for rest in batches] == [2, 1]


def test_a_random_subset_has_its_size_and_is_of_all_where_there_are_no_more() -> None:
    def subset(num: int, num_retained: int, purpose: str = "a") -> Tensor:
        return random_subset(num, num_retained, derived_generator(0, purpose))

    assert subset(50, 20).sum() == 20
    assert subset(20, 20).all()
    assert subset(20, 50).all()
    assert torch.equal(subset(50, 20), subset(50, 20))
    assert not torch.equal(subset(50, 20), subset(50, 20, "b"))


def test_every_image_is_as_likely_in_a_random_subset() -> None:
    generators = [derived_generator(seed, "a") for seed in range(400)]
    counts = sum(random_subset(12, 3, g).double() for g in generators)
    assert torch.as_tensor(counts).sub(100).abs().max() < 5 * 75**0.5


@pytest.mark.parametrize("num_images", [1, 4, 10])
def test_noise_and_labels_come_in_batches_that_make_up_the_images(
    num_images: int,
) -> None:
    batches, labels = noises(num_images), classes(num_images)
    sizes = [batch.shape[1] for batch in batches]
    assert sum(sizes) == num_images and set(sizes[:-1]) <= {4}
    assert all(batch.shape[0] == 2 and batch.shape[2:] == SHAPE for batch in batches)
    assert [len(some) for some in labels if some is not None] == sizes
    none = label_batches(num_images, [], batch_size=4, seed=5, purpose="a")
    assert list(none) == [None] * len(sizes)


def test_noise_and_labels_are_the_same_whatever_is_drawn_before_or_after() -> None:
    for draws in (noises, classes):
        first = draws(8)
        torch.manual_seed(99)
        second = draws(40)
        assert all(torch.equal(a, b) for a, b in zip(first, second, strict=False))
