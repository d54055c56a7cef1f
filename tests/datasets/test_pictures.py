"""Images side by side as one picture."""

import numpy as np
import pytest
import torch

from lct_pipeline.datasets.pictures import GAP, MIN_CELL, tile


def images(count: int, height: int = 8, width: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    shape = (count, 3, height, width)
    return torch.randint(0, 255, shape, dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize(
    ("count", "rows", "columns"),
    [(1, 1, 1), (2, 1, 2), (3, 2, 2), (4, 2, 2), (5, 2, 3), (7, 3, 3), (16, 4, 4)],
)
def test_image_k_stands_at_row_and_column_of_k(
    count: int, rows: int, columns: int
) -> None:
    given = images(count, MIN_CELL, MIN_CELL + 2)
    picture = tile(given)
    height, width = given.shape[2:]
    pitch = (height + GAP, width + GAP)
    assert picture.shape == (rows * pitch[0] - GAP, columns * pitch[1] - GAP, 3)
    assert picture.dtype == np.uint8
    for k in range(count):
        top, left = k // columns * pitch[0], k % columns * pitch[1]
        cell = picture[top : top + height, left : left + width]
        np.testing.assert_array_equal(cell, given[k].permute(1, 2, 0).numpy())


def test_cells_without_an_image_are_white() -> None:
    picture = tile(images(5, MIN_CELL, MIN_CELL))
    pitch = MIN_CELL + GAP
    assert (picture[pitch:, 2 * pitch :] == 255).all()


def test_images_stand_apart() -> None:
    picture = tile(images(4, MIN_CELL, MIN_CELL))
    assert (picture[MIN_CELL : MIN_CELL + GAP] == 255).all()
    assert (picture[:, MIN_CELL : MIN_CELL + GAP] == 255).all()


def test_small_images_are_enlarged_by_whole_pixels() -> None:
    given = images(4, 20, 20)
    picture = tile(given)
    scale = 3  # the least that makes 20 pixels at least MIN_CELL
    side = 20 * scale
    assert picture.shape == (2 * side + GAP, 2 * side + GAP, 3)
    cell = picture[side + GAP :, :side]
    expected = given[2].permute(1, 2, 0).numpy().repeat(scale, 0).repeat(scale, 1)
    np.testing.assert_array_equal(cell, expected)
