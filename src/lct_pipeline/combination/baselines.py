"""What a combination starts from and has to beat: averages of the weights over training."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import NamedTuple

import numpy as np
from pandas import DataFrame

from lct_pipeline.combination.window import Members
from lct_pipeline.core.ema.profiles import Profile, posthoc_coefficients, raw_basis


class Ema(NamedTuple):
    """An average of the weights as a combination of checkpoints."""

    name: str
    kind: str  # ema or power, kept in training; posthoc, of these; window, of raw checkpoints
    alpha: np.ndarray  # over all members


def candidate_emas(
    members: Members, initial: dict[str, np.ndarray], widths: tuple[float, ...]
) -> list[Ema]:
    """Return all averages of a run, among which one is the best EMA.

    Those of the window are its raw checkpoints with the profiles that searches start from, down to
    the uniform average, which is an EMA of rate 1 cut off at the window.

    Args:
        members: What is combined.
        initial: What searches start from, see :func:`initial_alphas`.
        widths: Relative widths sigma_rel (EDM2) of averages made afterwards.
    """
    profiles = {name: alpha for name, alpha in initial.items() if name != "last"}
    of_window = [Ema(n, "window", members.padded(a)) for n, a in profiles.items()]
    return stored_emas(members.rows, widths) + of_window


def initial_alphas(
    steps: Sequence[int], ema_rates: Iterable[float], sigma_rels: Iterable[float]
) -> dict[str, np.ndarray]:
    """Return the names and coefficients, ``(K,)``, that every search starts from.

    Args:
        steps: Training steps of the K checkpoints, increasing.
        ema_rates: Rates of the EMA profiles among them.
        sigma_rels: Relative widths (EDM2) of the power-function profiles.
    """
    basis, end, num = raw_basis(steps), steps[-1], len(steps)
    targets = {f"EMA {rate}": Profile.rate(end, rate) for rate in ema_rates}
    targets |= {f"power {width}": Profile.power(end, width) for width in sigma_rels}
    profiles = {name: posthoc_coefficients(basis, p) for name, p in targets.items()}
    return {**profiles, "uniform": np.full(num, 1 / num), "last": np.eye(num)[-1]}


def stored_emas(rows: DataFrame, widths: tuple[float, ...]) -> list[Ema]:
    """Return the averages of the last step, and power-function averages of other widths.

    Args:
        rows: Rows of the checkpoint index; raw checkpoints among them get no share.
        widths: Relative widths sigma_rel (EDM2) of averages made afterwards, of the power-function
            averages that were stored in training; there are none where fewer than two were.
    """
    at_end = (rows["kind"] != "raw") & (rows["step"] == rows["step"].max())
    names, kinds, one_hot = rows["name"], rows["kind"], np.eye(len(rows))
    places = np.flatnonzero(at_end)
    emas = [Ema(names.iloc[n], kinds.iloc[n], one_hot[n]) for n in places]
    is_power = (kinds == "power").to_numpy()
    if is_power.sum() < 2:
        return emas
    for width in widths:
        alpha = np.zeros(len(rows))
        alpha[is_power] = posthoc_alpha(rows[is_power], width)
        emas.append(Ema(f"post-hoc-{width}", "posthoc", alpha))
    return emas


def posthoc_alpha(snapshots: DataFrame, width: float) -> np.ndarray:
    """Return the coefficients that make the average of relative ``width`` at the last snapshot.

    Args:
        snapshots: Rows of the checkpoint index, power-function averages at several steps.
        width: Relative width sigma_rel of EDM2, below 0.28.
    """
    steps = [int(step) for step in snapshots["step"]]
    basis = list(map(Profile.power, steps, map(float, snapshots["ema_width"])))
    return posthoc_coefficients(basis, Profile.power(max(steps), width))
