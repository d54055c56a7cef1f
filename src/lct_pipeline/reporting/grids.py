"""Grids of images: panels side by side, and generated images beside their nearest ones."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from lct_pipeline.datasets.pictures import GAP, tile


def draw_panels(panels: dict[str, Tensor], title: str) -> Figure:
    """Return a figure with one titled panel of tiled images for each entry, in rows of three."""
    columns = min(3, max(1, len(panels)))
    rows = max(1, math.ceil(len(panels) / columns))
    size = (4.2 * columns, 4.5 * rows + 0.5)
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    axes = figure.subplots(rows, columns, squeeze=False).flatten()
    for axis in axes:
        axis.set_axis_off()
    for axis, (name, images) in zip(axes, panels.items(), strict=False):
        axis.imshow(tile(images), interpolation="nearest")
        axis.set_title(name, fontsize=11)
    figure.suptitle(title)
    return figure


def draw_neighbours(
    generated: Tensor,
    neighbours: Tensor,
    distances: Tensor,
    generated_distances: Tensor,
    held_out_distances: Tensor,
    title: str,
) -> Figure:
    """Return a figure of generated images, each with its nearest training images, and how near.

    Args:
        generated: The images nearest to a training image, ``(Q, 3, H, W)``, uint8, nearest first.
        neighbours: Their nearest training images, ``(Q, K, 3, H, W)``, uint8.
        distances: How far these are, ``(Q, K)``.
        generated_distances: From each generated image to the nearest training image, ``(N,)``.
        held_out_distances: Likewise from real images that were not trained on, ``(M,)``.
        title: What is said above.
    """
    rows, columns = len(generated), 1 + neighbours.shape[1]
    size = (1.0 * columns + 5.5, max(3.6, 1.02 * rows))
    figure = Figure(figsize=size, dpi=110, layout="constrained")
    grid, histogram = figure.subplots(1, 2, width_ratios=[columns, 5.0])
    _draw_rows(grid, generated, neighbours, distances)
    _draw_histogram(histogram, generated_distances, held_out_distances)
    figure.suptitle(title)
    return figure


def _draw_rows(
    axis: Any, generated: Tensor, neighbours: Tensor, distances: Tensor
) -> None:
    images = torch.cat([generated[:, None], neighbours], dim=1)
    picture = tile(images.flatten(0, 1), images.shape[1])
    side = (picture.shape[1] + GAP) // images.shape[1]
    axis.imshow(picture, interpolation="nearest")
    axis.set_axis_off()
    axis.set_title("generated | nearest training images, distance", fontsize=10)
    axis.axvline(side - GAP / 2, color="black", linewidth=1)
    for (row, column), distance in np.ndenumerate(distances.numpy()):
        axis.text(
            (column + 1) * side + 2,
            (row + 1) * side - GAP - 3,
            f"{distance:.2g}",
            fontsize=6,
            color="black",
            bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.5},
        )


def _draw_histogram(axis: Any, generated: Tensor, held_out: Tensor) -> None:
    everything = np.concatenate([generated.numpy(), held_out.numpy()])
    bins = np.linspace(0, float(everything.max()) or 1.0, 41).tolist()
    for values, label in ((held_out, "real, not trained on"), (generated, "generated")):
        axis.hist(values.numpy(), bins=bins, density=True, alpha=0.55, label=label)
    axis.set_xlabel("distance to the nearest training image, in features")
    axis.set_ylabel("density")
    axis.set_title("copies would be at the left", fontsize=10)
    axis.legend(fontsize=8)
