"""Exponential moving averages of the weights, several rates at once."""

from __future__ import annotations

from collections.abc import Iterable, Mapping

import numpy as np
import torch
from torch import Tensor, nn


class EMATracks:
    """One average of a network's parameters for each rate: e <- rate * e + (1 - rate) * w.

    Args:
        network: The network whose parameters are followed; the averages start as a copy.
        rates: Rates in (0, 1), one track each.
    """

    def __init__(self, network: nn.Module, rates: Iterable[float]) -> None:
        self._parameters = dict(network.named_parameters())
        self.tracks: dict[float, dict[str, Tensor]] = {
            rate: {name: p.detach().clone() for name, p in self._parameters.items()}
            for rate in rates
        }

    @torch.no_grad()
    def update(self) -> None:
        """Move every track towards the network's present parameters."""
        weights: list[Tensor] = list(self._parameters.values())
        for rate, track in self.tracks.items():
            torch._foreach_lerp_(list(track.values()), weights, 1 - rate)

    def state_dict(self, rate: float, network: nn.Module) -> dict[str, Tensor]:
        """Return the network's state dict with the parameters of one track in place."""
        return {**network.state_dict(), **self.tracks[rate]}

    def load(self, rate: float, tensors: Mapping[str, Tensor]) -> None:
        """Replace one track, as a continued run does."""
        for name, average in self.tracks[rate].items():
            average.copy_(tensors[name])


def ema_profile(steps: np.ndarray, rate: float) -> np.ndarray:
    """Return the coefficients that an EMA of ``rate`` per training step gives saved checkpoints.

    Each checkpoint stands for the steps since the one before it, so its weight is what the EMA
    gives to those steps together: rate^(s_K - s_k) - rate^(s_K - s_{k-1}); the first checkpoint
    takes all that is older.

    Args:
        steps: Increasing training steps of the K checkpoints, shape ``(K,)``.
        rate: Rate in (0, 1).

    Returns:
        Coefficients alpha, ``(K,)``, float64, with sum 1.
    """
    age = steps[-1] - np.asarray(steps, dtype=np.float64)
    cumulative = rate**age  # share of the EMA that is at most as new as each checkpoint
    return np.diff(cumulative, prepend=0.0)
