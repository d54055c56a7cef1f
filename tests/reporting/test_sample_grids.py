"""Grids of images."""

import numpy as np
import pytest
import torch

from lct_pipeline.datasets.pictures import tile
from lct_pipeline.reporting.sample_grids import draw_panels


def images(count: int, height: int = 8, width: int = 8) -> torch.Tensor:
    generator = torch.Generator().manual_seed(count)
    shape = (count, 3, height, width)
    return torch.randint(0, 255, shape, dtype=torch.uint8, generator=generator)


@pytest.mark.parametrize(("count", "shape"), [(1, (1, 1)), (3, (1, 3)), (5, (2, 3))])
def test_each_panel_has_its_title_and_its_images(
    count: int, shape: tuple[int, int]
) -> None:
    panels = {f"panel {k}": images(k + 1) for k in range(count)}
    figure = draw_panels(panels, "All of them")
    assert figure.get_suptitle() == "All of them"
    grid = figure.axes[0].get_gridspec()
    assert (grid.nrows, grid.ncols) == shape
    assert [axis.get_title() for axis in figure.axes[:count]] == list(panels)
    for axis, given in zip(figure.axes, panels.values(), strict=False):
        np.testing.assert_array_equal(axis.images[0].get_array(), tile(given))
    assert not any(axis.images for axis in figure.axes[count:])
