"""Panels of images, images beside their nearest ones, and images as data URIs."""

import base64
import io

import numpy as np
import pytest
import torch
from PIL import Image

from lct_pipeline.datasets.pictures import GAP, MIN_CELL, tile
from lct_pipeline.reporting.pictures import (
    LARGEST_SIDE,
    Picture,
    draw_neighbours,
    draw_panels,
    strip,
)


def opened(picture: Picture) -> np.ndarray:
    _, _, data = picture.uri.partition(",")
    return np.array(Image.open(io.BytesIO(base64.b64decode(data))))


def test_a_strip_shows_the_images_unchanged_with_gaps() -> None:
    images = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    picture = strip(images, 2, 2)
    sheet = opened(picture)
    assert (picture.width, picture.height, picture.pixelated) == (17, 17, True)
    third = images[2].permute(1, 2, 0).numpy()
    assert np.array_equal(sheet[9:, :8, :3], third)
    assert not sheet[8, :, 3].any()  # transparent


def test_large_images_are_made_smaller() -> None:
    picture = strip(torch.zeros(1, 3, 300, 300, dtype=torch.uint8), 4)
    assert opened(picture).shape[:2] == (LARGEST_SIDE, LARGEST_SIDE)
    assert picture.uri.startswith("data:image/webp") and not picture.pixelated


@pytest.mark.parametrize(("count", "shape"), [(1, (1, 1)), (3, (1, 3)), (5, (2, 3))])
def test_each_panel_has_its_title_and_its_images(
    count: int, shape: tuple[int, int]
) -> None:
    panels = {
        f"panel {k}": torch.randint(0, 255, (k + 1, 3, 8, 8), dtype=torch.uint8)
        for k in range(count)
    }
    figure = draw_panels(panels, "All of them")
    assert figure.get_suptitle() == "All of them"
    grid = figure.axes[0].get_gridspec()
    assert (grid.nrows, grid.ncols) == shape
    assert [axis.get_title() for axis in figure.axes[:count]] == list(panels)
    for axis, given in zip(figure.axes, panels.values(), strict=False):
        np.testing.assert_array_equal(axis.images[0].get_array(), tile(given))
    assert not any(axis.images for axis in figure.axes[count:])


def test_the_name_of_a_panel_is_no_formula() -> None:
    figure = draw_panels({"$\\x{$\x1b": torch.zeros(1, 3, 8, 8, dtype=torch.uint8)}, "")
    figure.savefig(io.BytesIO())
    assert figure.axes[0].get_title() == r"$\x{$\x1b"


def test_each_generated_image_stands_left_of_its_neighbours_with_their_distances() -> (
    None
):
    generated = torch.full((2, 3, 16, 16), 10, dtype=torch.uint8)
    neighbours = torch.full((2, 3, 3, 16, 16), 100, dtype=torch.uint8)
    neighbours[1] = 200
    distances = torch.tensor([[0.5, 1.0, 2.0], [0.75, 3.0, 4.0]])
    made, held_out = torch.rand(20), 1 + torch.rand(30)
    figure = draw_neighbours(generated, neighbours, distances, made, held_out, "title")
    grid, histogram = figure.axes
    picture = grid.images[0].get_array()
    step = MIN_CELL + GAP
    centres = picture[step // 2 :: step, step // 2 :: step, 0]
    assert centres.tolist() == [[10, 100, 100, 100], [10, 200, 200, 200]]
    texts = [text.get_text() for text in grid.texts]
    assert texts == ["0.5", "1", "2", "0.75", "3", "4"]
    labels = [text.get_text() for text in histogram.get_legend().get_texts()]
    assert labels == ["real, not trained on", "generated"]
    real, ours = (
        np.array([patch.get_height() for patch in bars])
        for bars in histogram.containers
    )
    assert real.nonzero()[0].min() > ours.nonzero()[0].min()


def test_copies_of_training_images_are_drawn_too() -> None:
    image = torch.zeros(1, 3, 80, 80, dtype=torch.uint8)
    zero = torch.zeros(1)
    figure = draw_neighbours(image, image[None], zero[None], zero, zero, "copies")
    figure.savefig(io.BytesIO())
    assert figure.axes[0].images[0].get_array().shape[0] == 80
