"""What kedro-viz shows of tables, files of tensors and shards: small and cheap."""

from __future__ import annotations

import base64
import io
import json
from typing import Any

import numpy as np
import torch
from kedro_datasets._typing import ImagePreview, JSONPreview, TablePreview
from pandas import DataFrame
from PIL import Image

from lct_pipeline.datasets.pictures import tile
from lct_pipeline.plain_text import printable

NOTHING: Any = None  # of any kind of preview: the file is not there yet
MAX_CELL = 40  # characters
NUM_THUMBNAILS = 64
OUTER = 1.0  # percent of values at each end that may be cut when latents become colours


def table(rows: DataFrame) -> TablePreview:
    """Return rows as a table; arrays become lists, and what is long is cut."""
    found = json.loads(rows.to_json(orient="split", double_precision=4))
    found["data"] = [[_short(value) for value in row] for row in found["data"]]
    return TablePreview(found)


def _short(value: Any) -> Any:
    if isinstance(value, str):
        value = printable(value)
    text = value if isinstance(value, str) else json.dumps(value)
    return value if len(text) <= MAX_CELL else f"{text[: MAX_CELL - 1]}…"


def header(about: dict[str, Any], entries: dict[str, Any]) -> JSONPreview:
    """Return what a safetensors file says of itself, and type and shape of its tensors."""
    tensors = {
        name: f"{entry['dtype']} {entry['shape']}" for name, entry in entries.items()
    }
    return JSONPreview(json.dumps({"about": about, "tensors": tensors}))


def table_of_headers(found: dict[str, dict[str, Any]]) -> TablePreview:
    """Return what checkpoints say of themselves, a row for each, without what is nested."""
    rows = [{"name": name, **about} for name, about in found.items()]
    nested = {k for row in rows for k, v in row.items() if isinstance(v, dict | list)}
    columns = [k for k in dict.fromkeys(k for r in rows for k in r) if k not in nested]
    data = [[row.get(column) for column in columns] for row in rows]
    index = list(range(len(rows)))
    return TablePreview({"columns": columns, "index": index, "data": data})


def thumbnails(records: np.ndarray) -> ImagePreview:
    """Return records ``(N, C, H, W)`` as one PNG; latents, which are floats, in false colours."""
    if records.dtype != np.uint8:
        records = _false_colours(records)
    buffer = io.BytesIO()
    Image.fromarray(tile(torch.from_numpy(records))).save(buffer, "PNG")
    return ImagePreview(base64.b64encode(buffer.getvalue()).decode())


def _false_colours(x: np.ndarray) -> np.ndarray:
    """Return the first three channels of ``(N, C, H, W)``, the last repeated, as uint8."""
    chosen = x[:, [min(channel, x.shape[1] - 1) for channel in range(3)]]
    low, high = np.percentile(chosen, [OUTER, 100 - OUTER])
    colours = np.clip((chosen - low) / max(high - low, 1e-12), 0, 1) * 255
    return colours.astype(np.uint8)
