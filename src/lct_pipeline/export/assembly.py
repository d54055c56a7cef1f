"""From weights and their description to the pipeline that is exported."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict

from torch import Tensor

from lct_pipeline.core.normalisation import LatentNormalisation
from lct_pipeline.core.sampling_plans import SamplingPlan
from lct_pipeline.export.latent_denoiser import (
    DiTDenoiser,
    LatentDenoiser,
    MLPDenoiser,
    UNetDenoiser,
)
from lct_pipeline.export.latent_pipeline import LatentPipeline
from lct_pipeline.export.latent_scheduler import LatentScheduler
from lct_pipeline.models.autoencoder.coding import Autoencoder, PixelAutoencoder
from lct_pipeline.models.description import ModelDescription

DENOISERS = {"mlp": MLPDenoiser, "unet": UNetDenoiser, "dit": DiTDenoiser}


def build_pipeline(
    network: ModelDescription,
    tensors: Mapping[str, Tensor],
    normalisation: LatentNormalisation,
    autoencoder: Autoencoder,
    plans: list[SamplingPlan],
    guidance: float,
) -> LatentPipeline:
    """Return a pipeline of diffusers that generates as this project does.

    Args:
        network: Description of the network.
        tensors: State dict of the raw network.
        normalisation: Of the latents.
        autoencoder: Of the images; a ``PixelAutoencoder`` is left out, the latents being pixels.
        plans: How the model generates with each number of evaluations.
        guidance: Weight of classifier-free guidance.
    """
    has_autoencoder = not isinstance(autoencoder, PixelAutoencoder)
    return LatentPipeline(
        build_denoiser(network, tensors, normalisation),
        build_scheduler(network, plans, guidance),
        autoencoder if has_autoencoder else None,
    )


def build_denoiser(
    network: ModelDescription,
    tensors: Mapping[str, Tensor],
    normalisation: LatentNormalisation,
) -> LatentDenoiser:
    """Return the denoiser of a description, with these weights."""
    own = ("norm", "output_norm", "dropout", "num_classes", "sigma_data", "boundary")
    denoiser = DENOISERS[network.kind](
        sample_shape=list(network.sample_shape),
        class_names=list(network.class_counts),
        class_counts=list(network.class_counts.values()),
        network=network.network,
        **{name: getattr(network, name) for name in own},
    )
    denoiser.model.network.load_state_dict(tensors)
    denoiser.latent_mean.copy_(normalisation.mean)
    denoiser.latent_std.copy_(normalisation.std)
    return denoiser.eval()


def build_scheduler(
    network: ModelDescription, plans: list[SamplingPlan], guidance: float
) -> LatentScheduler:
    """Return the scheduler of a description."""
    own = ("model", "boundary", "sigma_min", "sigma_max", "rho", "lowest_level")
    return LatentScheduler(
        plans=[asdict(plan) for plan in plans],
        guidance=guidance,
        **{name: getattr(network, name) for name in own},
    )
