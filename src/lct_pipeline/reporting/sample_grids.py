"""Grids of images, one panel or several side by side."""

from __future__ import annotations

import math

from matplotlib.figure import Figure
from torch import Tensor

from lct_pipeline.datasets.pictures import tile


def draw_panels(panels: dict[str, Tensor], title: str) -> Figure:
    """Return a figure with one titled panel of tiled images for each entry, in rows of three."""
    columns = min(3, max(1, len(panels)))
    rows = max(1, math.ceil(len(panels) / columns))
    figure = Figure(
        figsize=(4.2 * columns, 4.5 * rows + 0.5), dpi=110, layout="constrained"
    )
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis in axes:
        axis.set_axis_off()
    for axis, (name, images) in zip(axes, panels.items(), strict=False):
        axis.imshow(tile(images), interpolation="nearest")
        axis.set_title(name, fontsize=11)
    figure.suptitle(title)
    return figure
