"""How many items suit a device."""

import pytest
import torch

from lct_pipeline.models.batch_sizes import batch_size_for


@pytest.mark.parametrize(
    ("given", "side", "on_gpu", "on_cpu"),
    [
        (7, 1024, 7, 7),
        (0, 8, 512, 512),
        (0, 32, 512, 128),
        (0, 128, 256, 8),
        (0, 256, 64, 2),
        (0, 1024, 4, 1),
        (0, 4096, 1, 1),
    ],
)
def test_a_batch_is_as_large_as_said_or_has_as_many_pixels_as_suit_the_device(
    given: int, side: int, on_gpu: int, on_cpu: int
) -> None:
    shape = (3, side, side)
    assert batch_size_for(given, shape, torch.device("cuda")) == on_gpu
    assert batch_size_for(given, shape, torch.device("cpu")) == on_cpu
    assert batch_size_for(given, shape) == on_cpu
