"""A denoiser as a model of diffusers, with the normalisation of its latents."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from diffusers import ConfigMixin, ModelMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor, nn

from lct_pipeline.core.normalisation import LatentNormalisation
from lct_pipeline.core.preconditioning import Denoiser
from lct_pipeline.models.dit import DiTNetwork
from lct_pipeline.models.mlp import MLPNetwork
from lct_pipeline.models.unet import UNetNetwork


class LatentDenoiser(ModelMixin, ConfigMixin):
    """The consistency function f(x_t, t) or the denoiser D(x_t, t), and what its latents mean.

    Args:
        sample_shape: ``[C, H, W]`` of a latent.
        norm: Norm of the network.
        output_norm: Norm before its last layer.
        dropout: Probability in training.
        num_classes: Number of classes, 0 for an unconditional model.
        class_names: Their names.
        class_counts: How often each was seen in training.
        network: What else the network takes.
        sigma_data: Standard deviation of normalised latents.
        boundary: Level at which the model is the identity.
    """

    network_class: ClassVar[type[nn.Module]]

    @register_to_config
    def __init__(
        self,
        sample_shape: list[int],
        norm: str,
        output_norm: str,
        dropout: float,
        num_classes: int,
        class_names: list[str],
        class_counts: list[int],
        network: dict[str, Any],
        sigma_data: float,
        boundary: float,
    ) -> None:
        super().__init__()
        raw = self.network_class(
            tuple(sample_shape),
            norm=norm,
            output_norm=output_norm,
            dropout=dropout,
            num_classes=num_classes,
            **network,
        )
        self.model = Denoiser(raw, sigma_data=sigma_data, sigma_min=boundary)
        self.latent_mean: Tensor
        self.latent_std: Tensor
        self.register_buffer("latent_mean", torch.zeros(*sample_shape))
        self.register_buffer("latent_std", torch.ones(*sample_shape))

    def forward(self, x_t: Tensor, t: Tensor, labels: Tensor | None = None) -> Tensor:
        """Map noisy latents ``(B, C, H, W)`` at levels ``(B,)`` to clean ones, all normalised."""
        narrow = next(self.model.parameters()).dtype
        self.model.autocast = None if narrow == torch.float32 else narrow
        if self.model.autocast is not None:  # in which all but norms compute
            norms = (m for m in self.modules() if type(m).__name__.endswith("Norm"))
            for norm in norms:
                norm.float()
        return self.model(x_t, t, labels)

    def denormalise(self, x: Tensor) -> Tensor:
        """Map normalised latents to those of the autoencoder."""
        mean, std = self.latent_mean.float(), self.latent_std.float()
        return LatentNormalisation(mean, std, self.model.sigma_data).denormalise(x)


class MLPDenoiser(LatentDenoiser):
    """A denoiser whose network is of kind ``mlp``."""

    network_class = MLPNetwork


class UNetDenoiser(LatentDenoiser):
    """A denoiser whose network is of kind ``unet``."""

    network_class = UNetNetwork


class DiTDenoiser(LatentDenoiser):
    """A denoiser whose network is of kind ``dit``."""

    network_class = DiTNetwork
