"""Images side by side as one picture."""

from __future__ import annotations

import math

import numpy as np
from torch import Tensor

MIN_CELL = 48  # pixels that an image is enlarged to at least
GAP = 4  # white pixels between images


def tile(images: Tensor, columns: int | None = None) -> np.ndarray:
    """Return images ``(N, 3, H, W)``, uint8, as one picture ``(rows, columns, 3)``.

    Images are enlarged to at least ``MIN_CELL`` pixels and stand ``GAP`` pixels apart;
    without ``columns`` the picture is about square.
    """
    count, _, height, width = images.shape
    columns = columns or math.ceil(math.sqrt(count))
    rows = math.ceil(count / columns)
    scale = max(1, -(-MIN_CELL // width))
    cells = (
        images.permute(0, 2, 3, 1).numpy().repeat(scale, axis=1).repeat(scale, axis=2)
    )
    cell_height, cell_width = height * scale + GAP, width * scale + GAP
    canvas = np.full((rows * columns, cell_height, cell_width, 3), 255, np.uint8)
    canvas[:count, GAP:, GAP:] = cells
    grid = canvas.reshape(rows, columns, cell_height, cell_width, 3).swapaxes(1, 2)
    picture = grid.reshape(rows * cell_height, columns * cell_width, 3)
    return picture[GAP:, GAP:]
