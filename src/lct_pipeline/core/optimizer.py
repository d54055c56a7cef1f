"""How weights follow gradients: RAdam and AdamW on one vector.

Sources: Liu et al. 2020 (RAdam), algorithm 2, which sLCT and iCT train with; Loshchilov & Hutter
2019 (AdamW). Both are torch's, to rounding: its RAdam divides by sqrt(v) + eps before it corrects
for the bias of v, and waits until rho_t > 5, where the paper has 4.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Literal

import torch
from torch import Tensor, nn

from lct_pipeline.core.flat_weights import FlatWeights, parts

MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True)
class OptimizerSettings:
    """RAdam or AdamW, a linear warm-up, and the largest norm of a gradient."""

    name: Literal["radam", "adamw"]
    learning_rate: float
    weight_decay: float
    warmup_steps: int
    clip_norm: float | None
    betas: tuple[float, float] = (0.9, 0.999)  # of iCT, sLCT and ECT, as of torch
    eps: float = 1e-8  # likewise

    def rate(self, step: int) -> float:
        """Return the learning rate of a step, counted from 0."""
        if step >= self.warmup_steps:
            return self.learning_rate
        return self.learning_rate * (step + 1) / self.warmup_steps


def rectification(t: int, beta2: float) -> float:
    """Return RAdam's r_t at the update ``t`` >= 1; 0 while the variance of v is not finite."""
    longest = 2 / (1 - beta2) - 1  # rho_inf
    rho = longest - 2 * t * beta2**t / (1 - beta2**t)
    if rho <= 5:
        return 0.0
    above = (rho - 4) * (rho - 2) * longest
    return math.sqrt(above / ((longest - 4) * (longest - 2) * rho))


class Optimizer:
    """RAdam or AdamW, each one call of torch's fused Adam.

    With both moments corrected for their bias, m and v, RAdam is Adam of another rate and eps:

        w <- w - r_t rate m / (sqrt(v) + eps / sqrt(1 - beta2^t)),  or  w - rate m  where r_t is 0

    Args:
        settings: Which, and its values.
        weights: What it moves, by their gradient.
    """

    def __init__(self, settings: OptimizerSettings, weights: FlatWeights) -> None:
        self._settings = settings
        self._shapes = weights.shapes
        self._gradient = weights.gradient
        self._vector = nn.Parameter(weights.trained)
        self._vector.grad = weights.gradient
        kinds = {"radam": torch.optim.Adam, "adamw": torch.optim.AdamW}
        self._adam = kinds[settings.name](
            [self._vector],
            betas=settings.betas,
            eps=settings.eps,
            weight_decay=settings.weight_decay,
            fused=True,
        )

    @torch.no_grad()
    def step(self, step: int, norm: float) -> None:
        """Move the weights.

        Args:
            step: Steps done before.
            norm: Of the gradient, which is clipped by it; as ``torch.nn.utils.clip_grad_norm_``.
        """
        settings, (group,) = self._settings, self._adam.param_groups
        if settings.clip_norm is not None:
            self._gradient.mul_(min(1.0, settings.clip_norm / (norm + 1e-6)))
        rate, t = settings.rate(step), step + 1
        if settings.name == "adamw":
            group["lr"] = rate
            self._adam.step()
            return
        beta1, beta2 = settings.betas
        group["lr"] = rate * rectification(t, beta2)
        group["eps"] = settings.eps / math.sqrt(1 - beta2**t)
        self._adam.step()
        if group["lr"] == 0:
            momentum = self._adam.state[self._vector]["exp_avg"]
            self._vector.sub_(momentum, alpha=rate / (1 - beta1**t))

    def state_tensors(self) -> dict[str, Tensor]:
        """Return the moments by number of parameter and torch's name, such as ``0.exp_avg``."""
        tensors: dict[str, Tensor] = {}
        for state in self._adam.state.values():  # none before the first step
            for name in MOMENTS:
                of_each = enumerate(parts(state[name], self._shapes))
                tensors |= {f"{index}.{name}": values for index, values in of_each}
            indices = range(len(self._shapes))
            tensors |= {f"{index}.step": state["step"] for index in indices}
        return tensors

    def load_state(self, tensors: Mapping[str, Tensor]) -> None:
        """Continue from :meth:`state_tensors`, whose tensors are copied."""
        indices = range(len(self._shapes))
        state = {
            name: torch.cat([tensors[f"{index}.{name}"].flatten() for index in indices])
            for name in MOMENTS
        }
        state["step"] = tensors["0.step"].clone()
        before = self._adam.state_dict()
        self._adam.load_state_dict({**before, "state": {0: state}})
