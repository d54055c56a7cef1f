"""Generated images beside the nearest training images: has the model copied?"""

from __future__ import annotations

from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from torch import Tensor

from lct_pipeline.datasets.pictures import GAP, MIN_CELL


def draw_neighbours(
    generated: Tensor,
    neighbours: Tensor,
    distances: Tensor,
    generated_distances: Tensor,
    held_out_distances: Tensor,
    title: str,
) -> Any:
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
    figure = Figure(
        figsize=(1.0 * columns + 5.5, max(3.6, 1.02 * rows)),
        dpi=110,
        layout="constrained",
    )
    grid, histogram = figure.subplots(1, 2, width_ratios=[columns, 5.0])
    _draw_rows(grid, generated, neighbours, distances)
    _draw_histogram(histogram, generated_distances, held_out_distances)
    figure.suptitle(title)
    return figure


def _draw_rows(
    axis: Any, generated: Tensor, neighbours: Tensor, distances: Tensor
) -> None:
    images = torch.cat([generated[:, None], neighbours], dim=1)
    picture, side = _rows_of(images.permute(0, 1, 3, 4, 2).numpy())
    axis.imshow(picture, interpolation="nearest")
    axis.set_axis_off()
    axis.set_title("generated | nearest training images, distance", fontsize=10)
    axis.axvline(side + GAP / 2, color="black", linewidth=1)
    for row, found in enumerate(distances.tolist()):
        for column, distance in enumerate(found, start=1):
            x, y = column * (side + GAP), row * (side + GAP)
            axis.text(
                x + 2,
                y + side - 3,
                f"{distance:.2g}",
                fontsize=6,
                color="black",
                bbox={"facecolor": "white", "alpha": 0.7, "linewidth": 0, "pad": 0.5},
            )


def _rows_of(images: np.ndarray) -> tuple[np.ndarray, int]:
    """Return images ``(R, C, H, W, 3)`` as one picture, and the side of one of them in it."""
    scale = max(1, -(-MIN_CELL // images.shape[3]))
    large = images.repeat(scale, axis=2).repeat(scale, axis=3)
    rows, columns, height, width, _ = large.shape
    canvas = np.full((rows, columns, height + GAP, width + GAP, 3), 255, np.uint8)
    canvas[:, :, :height, :width] = large
    return canvas.swapaxes(1, 2).reshape(
        rows * (height + GAP), columns * (width + GAP), 3
    ), width


def _draw_histogram(axis: Any, generated: Tensor, held_out: Tensor) -> None:
    everything = np.concatenate([generated.numpy(), held_out.numpy()])
    bins = np.linspace(0, float(everything.max()) or 1.0, 41).tolist()
    for values, label in ((held_out, "real, not trained on"), (generated, "generated")):
        axis.hist(values.numpy(), bins=bins, density=True, alpha=0.55, label=label)
    axis.set_xlabel("distance to the nearest training image, in features")
    axis.set_ylabel("density")
    axis.set_title("copies would be at the left", fontsize=10)
    axis.legend(fontsize=8)
