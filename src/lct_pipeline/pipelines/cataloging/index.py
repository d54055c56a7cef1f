"""The index of a run's checkpoints."""

from __future__ import annotations

import pandas as pd
from pandas import DataFrame

from lct_pipeline.datasets.checkpoints import CheckpointStore
from lct_pipeline.errors import DataError

COLUMNS = [
    "step",
    "num_images",
    "num_levels",
    "kind",
    "ema_rate",
    "ema_width",
    "loss",
    "parameters_digest",
]
NULLABLE = {  # what checkpoints of other trainers do not say, or averages alone
    "num_images": "Int64",
    "num_levels": "Int64",
    "ema_rate": "float64",
    "ema_width": "float64",
    "loss": "float64",
    "parameters_digest": "string",
}


def index_of(checkpoints: CheckpointStore) -> DataFrame:
    """Return one row per checkpoint, sorted by step; tensors are not read.

    Raises:
        DataError: There is no checkpoint, or one is truncated.
    """
    rows = [
        {
            "name": name,
            "run": checkpoints.run,
            **{column: getattr(header, column) for column in COLUMNS},
            "digest": header.digest,
            "bytes": checkpoints.path(name).stat().st_size,
        }
        for name, header in checkpoints.headers().items()
    ]
    if not rows:
        raise DataError(f"{checkpoints.folder} holds no checkpoint: train first.")
    index = pd.DataFrame(rows).astype(NULLABLE)
    return index.sort_values(["step", "name"], ignore_index=True)
