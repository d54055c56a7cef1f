"""Pictures of images: panels, neighbours side by side, and pictures as data URIs for the page."""

from __future__ import annotations

import base64
import io
import math
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from matplotlib.figure import Figure
from PIL import Image
from torch import Tensor

from lct_pipeline.datasets.pictures import GAP, tile
from lct_pipeline.plain_text import printable

LARGEST_SIDE = 160  # pixels of a sample in the report
PIXEL_ART = 64  # up to this side, samples are stored without loss and shown as squares
MAX_WIDTH = 1400  # pixels of a figure
QUALITY = 85  # of WebP


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
        axis.set_title(printable(name), fontsize=11, parse_math=False)
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


@dataclass(frozen=True)
class Picture:
    """A picture with its size in pixels, and whether its pixels are to be seen."""

    uri: str
    width: int
    height: int
    pixelated: bool


def strip(images: Tensor, columns: int, rows: int = 1) -> Picture:
    """Return the first images ``(N, 3, H, W)``, uint8, in rows, with gaps that are transparent."""
    columns = min(columns, len(images))
    rows = min(rows, len(images) // columns)
    side = images.shape[-1]
    shown = min(side, LARGEST_SIDE)
    gap = max(1, shown // 20)
    cell = shown + gap
    sheet = Image.new("RGBA", (columns * cell - gap, rows * cell - gap))
    pixels = images[: rows * columns].permute(0, 2, 3, 1).contiguous().numpy()
    for place, one in enumerate(pixels.astype(np.uint8)):
        picture = Image.fromarray(one)
        picture.thumbnail((shown, shown), Image.Resampling.LANCZOS)
        row, column = divmod(place, columns)
        sheet.paste(picture, (column * cell, row * cell))
    return _stored(sheet, pixelated=side <= PIXEL_ART)


def figure(png: bytes | None) -> Picture | None:
    """Return a figure that was drawn, smaller in bytes and at most ``MAX_WIDTH`` wide."""
    if png is None:
        return None
    picture = Image.open(io.BytesIO(png)).convert("RGB")
    picture.thumbnail((MAX_WIDTH, picture.height), Image.Resampling.LANCZOS)
    return _stored(picture, pixelated=False)


def _stored(picture: Image.Image, *, pixelated: bool) -> Picture:
    kind, file = "png" if pixelated else "webp", io.BytesIO()
    picture.save(file, kind, optimize=True, quality=QUALITY)
    text = base64.b64encode(file.getvalue()).decode()
    uri = f"data:image/{kind};base64,{text}"
    return Picture(uri, picture.width, picture.height, pixelated)
