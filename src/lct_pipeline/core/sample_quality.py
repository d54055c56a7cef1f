"""From a denoiser and fixed noise to a distance: the fitness of the search and the evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from lct_pipeline.core.frechet import (
    FeatureStatistics,
    feature_statistics,
    frechet_distance,
)
from lct_pipeline.core.randomness import derived_generator
from lct_pipeline.core.samplers import sample_multistep


def noise_batches(
    num_images: int,
    shape: tuple[int, ...],
    *,
    num_evaluations: int,
    batch_size: int,
    seed: int,
    purpose: str,
) -> Iterator[Tensor]:
    """Yield unit noise for all evaluations of a batch, ``(S, B, *shape)``.

    Each batch has a generator of its own: the noise of a purpose is the same on every machine and
    whatever was drawn before, and memory does not grow with the number of images.
    """
    for start in range(0, num_images, batch_size):
        generator = derived_generator(seed, purpose, start)
        size = min(batch_size, num_images - start)
        yield torch.randn(num_evaluations, size, *shape, generator=generator)


def generate_images(
    model: Callable[[Tensor, Tensor], Tensor],
    decode: Callable[[Tensor], Tensor],
    noises: Iterable[Tensor],
    sigmas: Sequence[float],
    *,
    sigma_min: float,
) -> Iterator[Tensor]:
    """Yield uint8 images ``(B, 3, H, W)``, one batch for each batch of noise.

    Args:
        model: The consistency function.
        decode: Maps normalised latents to uint8 images.
        noises: Batches of :func:`noise_batches`, on the model's device.
        sigmas: Decreasing levels, one per evaluation.
        sigma_min: Level of the model's output.
    """
    for noise in noises:
        yield decode(sample_multistep(model, list(noise), sigmas, sigma_min=sigma_min))


@torch.no_grad()
def features_of(
    batches: Iterable[Tensor], extractor: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return the features, ``(N, D)``, of batches of uint8 images."""
    return torch.cat([extractor(images).float().cpu() for images in batches])


def frechet_fitness(features: Tensor, reference: FeatureStatistics) -> float:
    """Return the Frechet distance between features ``(N, D)`` and reference statistics."""
    return frechet_distance(feature_statistics(features), reference)
