"""What a combination starts from and has to beat: averages of the weights over training."""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from pandas import DataFrame

from lct_pipeline.combination.window import Members
from lct_pipeline.core.ema.profiles import Profile, posthoc_coefficients, raw_basis
from lct_pipeline.parameters import Combination


class Ema(NamedTuple):
    """An average of the weights as a combination of checkpoints."""

    name: str
    kind: str  # ema or power, kept in training; posthoc, of these; window, of raw checkpoints
    alpha: np.ndarray  # over all members


def candidate_emas(
    members: Members, parameters: Combination, widths: tuple[float, ...]
) -> list[Ema]:
    """Return all averages of a run, among which one is the best EMA.

    Those of the window are its raw checkpoints with the profiles that searches start from, down to
    the uniform average, which is an EMA of rate 1 cut off at the window.

    Args:
        members: What is combined.
        parameters: Rates and widths of the profiles.
        widths: Relative widths sigma_rel (EDM2) of averages made afterwards.
    """
    emas = stored_emas(members.rows, widths)
    if members.window_size < 2:
        return emas
    profiles = initial_alphas(members, parameters)
    del profiles["last"]
    return [
        *emas,
        *(Ema(n, "window", members.padded(alpha)) for n, alpha in profiles.items()),
    ]


def initial_alphas(members: Members, parameters: Combination) -> dict[str, np.ndarray]:
    """Return the names and coefficients, over the window, that every search starts from."""
    num, search = members.window_size, parameters.search
    steps = [int(step) for step in members.window["step"]]
    basis = raw_basis(steps)
    targets = {
        **{f"EMA {r}": Profile.rate(steps[-1], r) for r in search.initial_ema_rates},
        **{
            f"power {w}": Profile.power(steps[-1], w) for w in search.initial_sigma_rels
        },
    }
    profiles = {name: posthoc_coefficients(basis, p) for name, p in targets.items()}
    return {**profiles, "uniform": np.full(num, 1 / num), "last": np.eye(num)[-1]}


def stored_emas(rows: DataFrame, widths: tuple[float, ...]) -> list[Ema]:
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
        Ema(name, kind, one_hot[place])
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
        kept.append(Ema(f"post-hoc-{width}", "posthoc", alpha))
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
