"""From stored models to images: what training, combination, evaluation and export share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor

from lct_pipeline.core.normalisation import LatentNormalisation
from lct_pipeline.core.preconditioning import Denoiser
from lct_pipeline.core.sample_quality import generate_images, noise_batches
from lct_pipeline.models.autoencoder import decode, place, to_uint8
from lct_pipeline.models.denoiser import build_model
from lct_pipeline.models.device import choose_device

if TYPE_CHECKING:
    from lct_pipeline.datasets.autoencoder import StoredAutoencoder
    from lct_pipeline.datasets.tensor_file import TensorFile
    from lct_pipeline.parameters import Runtime, Sampling


def normalisation_of(stored: TensorFile) -> LatentNormalisation:
    """Return the normalisation of a ``latent_normalisation`` file."""
    tensors = stored.tensors
    return LatentNormalisation(
        tensors["mean"], tensors["std"], stored.metadata["sigma_data"]
    )


class Generator:
    """Generates images with the weights it is given, always from the same noise for one purpose.

    Args:
        network: Description of the network; see ``build_network``.
        decode_latents: Maps normalised latents to uint8 images.
        sampling: How to generate.
        device: Where to.
    """

    def __init__(
        self,
        network: dict[str, Any],
        decode_latents: Callable[[Tensor], Tensor],
        sampling: Sampling,
        device: torch.device,
    ) -> None:
        self.model: Denoiser = build_model(network).to(device).eval()
        self.decode_latents = decode_latents
        self._sampling = sampling
        self.device = device
        self._sigma_max = network["sigma_max"]
        self.sample_shape = tuple(network["sample_shape"])

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the weights of a raw network's state dict."""
        self.model.network.load_state_dict(tensors)

    def images(
        self, num_images: int, *, num_evaluations: int, seed: int, purpose: str
    ) -> Iterator[Tensor]:
        """Yield batches of uint8 images ``(B, 3, H, W)``, with 1 or 2 evaluations."""
        noises = noise_batches(
            num_images,
            self.sample_shape,
            num_evaluations=num_evaluations,
            batch_size=self._sampling.batch_size,
            seed=seed,
            purpose=purpose,
        )
        return generate_images(
            self.model,
            self.decode_latents,
            (noise.to(self.device) for noise in noises),
            self.levels(num_evaluations),
            sigma_min=self.model.sigma_min,
        )

    def levels(self, num_evaluations: int) -> list[float]:
        """Return the decreasing noise levels of one or two evaluations."""
        return [self._sigma_max, self._sampling.two_step_sigma][:num_evaluations]

    def grid(
        self, tensors: Mapping[str, Tensor], *, num_evaluations: int, seed: int
    ) -> Tensor:
        """Return images for a sample grid, ``(grid_size^2, 3, H, W)``."""
        self.load(tensors)
        count = self._sampling.grid_size**2
        batches = self.images(
            count, num_evaluations=num_evaluations, seed=seed, purpose="grid"
        )
        return torch.cat([batch.cpu() for batch in batches])


def build_generator(
    network: dict[str, Any],
    autoencoder: StoredAutoencoder,
    latent_normalisation: TensorFile,
    sampling: Sampling,
    runtime: Runtime,
) -> Generator:
    """Return a generator for networks of one description."""
    device = choose_device(runtime.device)
    decode_latents = latent_decoder(autoencoder, latent_normalisation, device)
    return Generator(network, decode_latents, sampling, device)


def latent_decoder(
    autoencoder: StoredAutoencoder,
    latent_normalisation: TensorFile,
    device: torch.device,
) -> Callable[[Tensor], Tensor]:
    """Return the function from normalised latents to uint8 images."""
    normalisation = normalisation_of(latent_normalisation).to(device)
    model = place(autoencoder.model, device)
    return lambda x: to_uint8(decode(model, normalisation.denormalise(x)))
