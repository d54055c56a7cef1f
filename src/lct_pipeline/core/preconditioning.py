"""The preconditioned network of EDM with the boundary condition of consistency models.

Sources: Karras et al. 2022, table 1 and eq. 7; Song et al. 2023 (consistency models), appendix C.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import torch
from torch import Tensor, nn

# model(x_t, t) or model(x_t, t, labels): noisy latents (B, C, H, W) at levels (B,) to clean ones
Model = Callable[..., Tensor]


class Scalings(NamedTuple):
    """The four functions of the noise level, each of shape ``(B,)``."""

    c_skip: Tensor
    c_out: Tensor
    c_in: Tensor
    c_noise: Tensor


def append_dims(values: Tensor, like: Tensor) -> Tensor:
    """Give ``values``, ``(B,)``, trailing axes so that it broadcasts over ``like``."""
    return values.reshape(-1, *[1] * (like.ndim - 1))


def level_type(device: torch.device) -> torch.dtype:
    """Return the type of levels, scalings and distances: float64, which MPS does not have."""
    return torch.float32 if device.type == "mps" else torch.float64


def at_level(x: Tensor, level: float) -> Tensor:
    """Return the levels, ``(B,)``, of samples that are all at one."""
    return torch.full((len(x),), level, dtype=level_type(x.device), device=x.device)


def scalings(sigma: Tensor, *, sigma_data: float, sigma_min: float) -> Scalings:
    """Return c_skip, c_out, c_in and c_noise at the levels ``sigma``, ``(B,)``.

    At ``sigma_min`` c_skip is 1 and c_out is 0: the model is the identity there, which is the
    boundary condition f(x, sigma_min) = x. ``c_noise`` is 1000 * ln(sigma) / 4, the input of a
    sinusoidal embedding.
    """
    above = sigma - sigma_min
    total = sigma**2 + sigma_data**2
    return Scalings(
        c_skip=sigma_data**2 / (above**2 + sigma_data**2),
        c_out=sigma_data * above / total.sqrt(),
        c_in=1 / total.sqrt(),
        c_noise=250 * sigma.log(),
    )


class Denoiser(nn.Module):
    """D_x = c_skip x_t + c_out F_x(c_in x_t, c_noise): the network that all objectives train.

    With its boundary at ``sigma_min`` it is the consistency function f(x_t, t); with its boundary
    at 0 it is the denoiser of EDM.

    Args:
        network: Raw network F_x of a noisy latent ``(B, C, H, W)``, c_noise ``(B,)`` and labels.
        sigma_data: Standard deviation of the data per element.
        sigma_min: Level at which the model is the identity, >= 0.
        autocast: Type of the network's matrix products, such as ``torch.bfloat16``; None leaves
            them as they are. Norms, levels, scalings and the output are float32 all the same.
    """

    def __init__(
        self,
        network: nn.Module,
        *,
        sigma_data: float,
        sigma_min: float,
        autocast: torch.dtype | None = None,
    ) -> None:
        super().__init__()
        self.network = network
        self.sigma_data = sigma_data
        self.sigma_min = sigma_min
        self.autocast = autocast

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map noisy latents ``(B, C, H, W)`` at levels ``t``, ``(B,)``, to clean ones.

        ``labels``, ``(B,)``, are classes of a conditional network. The scalings are computed in
        float64, the output has the type of ``x_t``.
        """
        at_t = scalings(
            t.to(level_type(t.device)),
            sigma_data=self.sigma_data,
            sigma_min=self.sigma_min,
        )
        c_skip, c_out, c_in, c_noise = (c.to(x_t.dtype) for c in at_t)
        enabled = self.autocast is not None
        with torch.autocast(x_t.device.type, dtype=self.autocast, enabled=enabled):
            F_x = self.network(append_dims(c_in, x_t) * x_t, c_noise, labels)
        return append_dims(c_skip, x_t) * x_t + append_dims(c_out, x_t) * F_x.to(
            x_t.dtype
        )
