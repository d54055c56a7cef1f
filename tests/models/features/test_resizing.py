"""Resizing, against Pillow's as clean-fid calls it."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from cleanfid.resize import make_resizer
from stand_ins import images

from lct_pipeline.models.features.resizing import resized

SIZES = [(8, 8), (32, 32), (256, 256), (299, 299), (300, 300), (512, 512), (40, 100)]


@pytest.mark.parametrize("size", [*SIZES, (700, 299), (299, 40)], ids=str)
@pytest.mark.parametrize("side", [299, 64])
def test_it_is_clean_fids(size: tuple[int, int], side: int) -> None:
    given = images(1, *size)
    resize = make_resizer("PIL", False, "bicubic", (side, side))
    theirs = resize(given[0].permute(1, 2, 0).numpy())
    ours = resized(given.float(), side)[0].permute(1, 2, 0)
    assert np.abs(ours.numpy() - theirs).max() < 1e-4  # of 255


def test_what_overshoots_is_clipped() -> None:
    edge = torch.zeros(1, 3, 16, 16)
    edge[..., 8:] = 255
    found = resized(edge, 50)
    assert (found.min(), found.max()) == (0, 255)


def test_each_image_of_a_batch_is_resized_by_itself() -> None:
    given = images(3, 20, 30).float()
    one_by_one = torch.cat([resized(image[None], 50) for image in given])
    torch.testing.assert_close(resized(given, 50), one_by_one, atol=1e-4, rtol=0)


def test_images_of_the_size_are_left_alone() -> None:
    given = images(2, 50).float()
    assert resized(given, 50) is given


def test_it_can_be_differentiated() -> None:
    given = images(1, 6).double().mul(0.5).add(60).requires_grad_()  # nothing to clip
    assert torch.autograd.gradcheck(lambda x: resized(x, 9), given)
