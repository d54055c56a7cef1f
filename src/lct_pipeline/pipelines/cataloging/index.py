"""The index of a run's checkpoints."""

from __future__ import annotations

from pandas import DataFrame

from lct_pipeline.datasets.checkpoints import CheckpointStore
from lct_pipeline.errors import DataError

COLUMNS = {  # as headers say them; of other trainers' checkpoints most are missing
    "step": "int64",
    "num_images": "Int64",
    "num_levels": "Int64",
    "kind": "str",
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
    index = DataFrame(rows).astype(COLUMNS)
    return index.sort_values(["step", "name"], ignore_index=True)
