"""Moving averages of the weights, several at once: fixed rates and power functions.

Source of the power functions: Karras et al. 2024 (EDM2), section 3. Their memory grows with
training: an average of relative width sigma_rel holds the same fraction of the training so far
at every step, so it forgets the initial weights and needs no rate tuned to the length of a run.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from functools import cached_property
from typing import Literal

import torch
from torch import Tensor, nn

from lct_pipeline.core.ema.profiles import Profile, gamma_of


@dataclass(frozen=True)
class Track:
    """Identity of one average.

    Args:
        kind: ``rate`` for a fixed rate, ``power`` for a power function.
        value: Rate in (0, 1), or relative width sigma_rel in (0, 1/sqrt(12)].

    Raises:
        ValueError: The value is out of range.
    """

    kind: Literal["rate", "power"]
    value: float

    def __post_init__(self) -> None:
        self.profile(1)  # refuses a value out of range

    @property
    def name(self) -> str:
        """Name to read, such as ``ema-0.998`` or ``power-0.05``."""
        return f"{'ema' if self.kind == 'rate' else 'power'}-{self.value}"

    def beta(self, step: int) -> float:
        """Return what remains of the average when the weights after ``step`` >= 1 come in.

        The rate, or (1 - 1/step)^(gamma+1) (EDM2, section 3).
        """
        if self.kind == "rate":
            return self.value
        return (1 - 1 / step) ** (self._gamma + 1)

    def profile(self, step: int) -> Profile:
        """Return which share of the steps up to ``step`` >= 1 the average then holds."""
        make = {"rate": Profile.rate, "power": Profile.power}[self.kind]
        return make(step, self.value)

    @cached_property
    def _gamma(self) -> float:
        return gamma_of(self.value)


class EMABank:
    """Averages of a network's parameters, e <- beta e + (1 - beta) w after every step.

    Frozen parameters are followed too; buffers are not averaged. The averages start as copies of
    the parameters, on their device; a power function forgets that copy at step 1.

    Args:
        network: The network that is followed, already on its device.
        rates: Fixed rates in (0, 1), one track each.
        widths: Relative widths sigma_rel of power functions in (0, 1/sqrt(12)], one track each.

    Attributes:
        tracks: Averages of each track by parameter name; the tensors are changed in place.
    """

    def __init__(
        self, network: nn.Module, rates: Iterable[float], widths: Iterable[float]
    ) -> None:
        parameters = dict(network.named_parameters())
        tracks = [Track("rate", r) for r in rates] + [Track("power", w) for w in widths]
        self.tracks: dict[Track, dict[str, Tensor]] = {
            track: {name: p.detach().clone() for name, p in parameters.items()}
            for track in tracks
        }
        self._weights: list[Tensor] = list(parameters.values())
        self._averages = {
            t: list(tensors.values()) for t, tensors in self.tracks.items()
        }

    @torch.no_grad()
    def update(self, step: int) -> None:
        """Take in the network's present parameters.

        Args:
            step: Number of optimiser steps done, 1 after the first.
        """
        for track, averages in self._averages.items():
            torch._foreach_lerp_(averages, self._weights, 1 - track.beta(step))

    def state_dict(self, track: Track, network: nn.Module) -> dict[str, Tensor]:
        """Return the network's state dict with the parameters of one track in place.

        The tensors are the bank's and the network's own, not copies.
        """
        return {**network.state_dict(), **self.tracks[track]}

    def load(self, track: Track, tensors: Mapping[str, Tensor]) -> None:
        """Replace the values of one track, as a continued run does.

        Args:
            track: A track of this bank.
            tensors: Averages by parameter name; other names are ignored.

        Raises:
            ValueError: A tensor is missing or has another shape; names it.
        """
        for name, average in self.tracks[track].items():
            if name not in tensors or tensors[name].shape != average.shape:
                shape = tuple(average.shape)
                raise ValueError(f"{track.name}: no tensor {name!r} of shape {shape}")
            average.copy_(tensors[name])
