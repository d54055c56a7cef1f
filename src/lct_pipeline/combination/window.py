"""Which checkpoints a combination may use."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from pandas import DataFrame

from lct_pipeline.errors import DataError


@dataclass(frozen=True)
class Members:
    """The checkpoints that coefficients run over: the K raw ones of the window, then averages.

    Only the window is searched. The averages are what training kept beside it: as baselines they
    are one-hot, or combined into averages of other widths.
    """

    rows: DataFrame
    window_size: int

    @property
    def window(self) -> DataFrame:
        """Rows of the window, by step."""
        return self.rows.iloc[: self.window_size]

    def padded(self, alphas: np.ndarray) -> np.ndarray:
        """Return coefficients of the window, ``(..., K)``, as coefficients of all members."""
        wider = np.zeros((*alphas.shape[:-1], len(self.rows)))
        wider[..., : self.window_size] = alphas
        return wider


def members_of(checkpoint_index: DataFrame, window: float) -> Members:
    """Return the raw checkpoints of the last share ``window`` of the steps, and all averages."""
    is_raw = checkpoint_index["kind"] == "raw"
    raw = checkpoint_index[is_raw].sort_values("step")
    chosen = raw[raw["step"] > raw["step"].max() * (1 - window)]
    averages = checkpoint_index[~is_raw].sort_values(["step", "name"])
    return Members(pd.concat([chosen, averages], ignore_index=True), len(chosen))


def check_window(members: Members) -> None:
    """Refuse to search where there is nothing to combine.

    Raises:
        DataError: There are fewer than two raw checkpoints.
    """
    if members.window_size < 2:
        raise DataError(
            f"a combination needs at least 2 raw checkpoints, and the window has "
            f"{members.window_size}: raise combination.window or lower "
            "training.checkpoint_interval."
        )
