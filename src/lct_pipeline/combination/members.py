"""Which checkpoints a combination may use, where its search starts, and what it has to beat."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pandas as pd
from pandas import DataFrame

from lct_pipeline.combination.averages import averages_of
from lct_pipeline.core.ema.profiles import Profile, posthoc_coefficients, raw_basis
from lct_pipeline.errors import DataError
from lct_pipeline.parameters import Combination


@dataclass(frozen=True)
class Candidate:
    """Coefficients over all members, and what is said about them."""

    name: str
    kind: str  # initial, child, centre or control
    control: str | None  # which row of controls it stands for
    alpha: np.ndarray  # (K + averages,)


@dataclass(frozen=True)
class Members:
    """The checkpoints that coefficients run over: the K raw ones of the window, then averages.

    Only the window is searched. The averages are what training kept beside it; as controls they
    are one-hot, or combined into averages of other widths.
    """

    rows: DataFrame
    window_size: int

    @property
    def window(self) -> DataFrame:
        """Rows of the window, by step."""
        return self.rows.iloc[: self.window_size]

    @property
    def averages(self) -> DataFrame:
        """Rows of the averages."""
        return self.rows.iloc[self.window_size :]

    def padded(self, alphas: np.ndarray) -> np.ndarray:
        """Return coefficients of the window, ``(..., K)``, as coefficients of all members."""
        wider = np.zeros((*alphas.shape[:-1], len(self.rows)))
        wider[..., : self.window_size] = alphas
        return wider


def members_of(checkpoint_index: DataFrame, window: float) -> Members:
    """Return the raw checkpoints of the last share ``window`` of the steps, and all averages.

    Raises:
        DataError: There are fewer than two raw ones.
    """
    is_raw = checkpoint_index["kind"] == "raw"
    raw = checkpoint_index[is_raw].sort_values("step")
    chosen = raw[raw["step"] > raw["step"].max() * (1 - window)]
    if len(chosen) < 2:
        raise DataError(
            f"a combination needs at least 2 raw checkpoints, and the window has {len(chosen)}: "
            "raise combination.window or lower training.checkpoint_interval."
        )
    averages = checkpoint_index[~is_raw].sort_values(["step", "name"])
    return Members(pd.concat([chosen, averages], ignore_index=True), len(chosen))


def initial_alphas(members: Members, parameters: Combination) -> dict[str, np.ndarray]:
    """Return the names and coefficients, over the window, that every search starts from."""
    num, search = members.window_size, parameters.search
    steps = [int(step) for step in members.window["step"]]
    basis = raw_basis(steps)
    targets = {
        **{f"EMA {r}": Profile.rate(steps[-1], r) for r in search.initial_ema_rates},
        **{f"power {w}": Profile.power(steps[-1], w) for w in search.initial_widths},
    }
    profiles = {name: posthoc_coefficients(basis, p) for name, p in targets.items()}
    return {**profiles, "uniform": np.full(num, 1 / num), "last": np.eye(num)[-1]}


def controls(
    members: Members, parameters: Combination, widths: tuple[float, ...]
) -> list[Candidate]:
    """Return what a combination has to beat.

    Besides the start of the search these are the averages that training kept to its end, and
    power-function averages of other ``widths`` made of their snapshots.
    """
    special = {"uniform": "uniform average", "last": "last checkpoint"}
    found = [
        Candidate(name, "control", special.get(name, "best EMA"), members.padded(alpha))
        for name, alpha in initial_alphas(members, parameters).items()
    ]
    found += [
        Candidate(average.name, "control", "best EMA", average.alpha)
        for average in averages_of(members.rows, widths)
    ]
    return found
