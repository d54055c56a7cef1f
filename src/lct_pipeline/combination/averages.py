"""The averages of the weights at the end of a training: those it kept, and others made of them."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from pandas import DataFrame

from lct_pipeline.core.ema.profiles import Profile, posthoc_coefficients


class Average(NamedTuple):
    """An average as a combination of checkpoints."""

    name: str
    kind: str  # ema, power or posthoc
    alpha: np.ndarray  # over the rows it was made from


def averages_of(rows: DataFrame, widths: tuple[float, ...]) -> list[Average]:
    """Return the averages of the last step, and power-function averages of other widths.

    Args:
        rows: Rows of the checkpoint index; raw checkpoints among them get no share.
        widths: Relative widths sigma_rel (EDM2) of averages made afterwards, of the power-function
            averages that were stored in training; there are none where fewer than two were.
    """
    averages = rows["kind"] != "raw"
    at_end = averages & (rows["step"] == rows["step"].max())
    one_hot = np.eye(len(rows))
    kept = [
        Average(name, kind, one_hot[place])
        for place, name, kind in zip(
            np.flatnonzero(at_end),
            rows["name"][at_end],
            rows["kind"][at_end],
            strict=True,
        )
    ]
    is_power = (rows["kind"] == "power").to_numpy()
    if is_power.sum() < 2:
        return kept
    for width in widths:
        alpha = np.zeros(len(rows))
        alpha[is_power] = posthoc_alpha(rows[is_power], width)
        kept.append(Average(f"post-hoc-{width}", "posthoc", alpha))
    return kept


def posthoc_alpha(snapshots: DataFrame, width: float) -> np.ndarray:
    """Return the coefficients that make the average of relative ``width`` at the last snapshot.

    Args:
        snapshots: Rows of the checkpoint index, power-function averages at several steps.
        width: Relative width sigma_rel of EDM2, below 0.28.
    """
    basis = [
        Profile.power(int(step), float(w))
        for step, w in zip(snapshots["step"], snapshots["ema_width"], strict=True)
    ]
    target = Profile.power(int(snapshots["step"].max()), width)
    return posthoc_coefficients(basis, target)
