from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image
from torch import Tensor

from lct_pipeline.models.autoencoder.coding import to_uint8
from lct_pipeline.models.features.image_files import through_jpeg, truncate_to_uint8


def images(num: int = 3, height: int = 20, width: int = 20) -> Tensor:
    """Return smooth uint8 images: noise of a quarter of the side, enlarged."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(num, 3, 5, 5, generator=generator) * 255
    return torch.nn.functional.interpolate(
        coarse, (height, width), mode="bilinear"
    ).byte()


@pytest.mark.parametrize("size", [(20, 20), (17, 33)])
def test_pixels_are_those_of_jpeg_files_that_pillow_writes(
    tmp_path: object, size: tuple[int, int]
) -> None:
    given = images(3, *size)
    found = through_jpeg(given)
    assert found.shape == given.shape
    assert found.dtype == torch.uint8
    for index, image in enumerate(given):
        path = f"{tmp_path}/{index}.jpg"
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
        read = np.asarray(Image.open(path).convert("RGB"))
        np.testing.assert_array_equal(found[index].permute(1, 2, 0), read)


def test_jpeg_changes_pixels_a_little_and_less_with_more_quality() -> None:
    given = images()
    errors = [
        (through_jpeg(given, quality=quality).float() - given).abs().mean().item()
        for quality in (20, 75, 95)
    ]
    assert errors[0] > errors[1] > errors[2] > 0
    assert errors[1] < 10


def test_fractions_of_a_level_are_cut_off_which_darkens_by_half_a_level() -> None:
    levels = {-1.0: 0, 1.0: 255, -1.5: 0, 1.5: 255, 2 * 100.9 / 255 - 1: 100}
    found = truncate_to_uint8(torch.tensor([*levels]))
    assert found.dtype == torch.uint8
    assert found.tolist() == [*levels.values()]
    values = torch.rand(100_000, generator=torch.Generator().manual_seed(0)) * 2 - 1
    exact = (values + 1) * 127.5
    shift = (truncate_to_uint8(values).float() - exact).mean()
    assert shift.item() == pytest.approx(-0.5, abs=0.01)
    assert (to_uint8(values).float() - exact).mean().abs() < 0.01
