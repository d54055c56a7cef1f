"""From weights to images: what combination, evaluation and export share."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from typing import Any

import torch
from torch import Tensor

from lct_pipeline.core.preconditioning import Denoiser
from lct_pipeline.core.sample_quality import label_batches, noise_batches
from lct_pipeline.core.samplers import Renoise, guided
from lct_pipeline.core.sampling_plans import SamplingPlan, sample_by_plan
from lct_pipeline.datasets.decoder import Decoder, needed, normalisation_of
from lct_pipeline.errors import ParameterError
from lct_pipeline.models.autoencoder import decode, place, to_uint8
from lct_pipeline.models.denoiser import ModelDescription, build_model
from lct_pipeline.models.device import choose_device
from lct_pipeline.parameters import Runtime, Sampling


def one_step(network: ModelDescription) -> SamplingPlan:
    """Return the plan of one evaluation of a consistency model."""
    return SamplingPlan(1, (network.sigma_max,))


def two_step_plans(network: ModelDescription, sampling: Sampling) -> list[SamplingPlan]:
    """Return the candidates for two evaluations: each level with each kind of new noise.

    Levels that the model was not trained on are left out: those below a truncation.
    """
    low, high = _trained_levels(network)
    sigmas = [sigma for sigma in sampling.intermediate_sigmas if low <= sigma < high]
    return [
        SamplingPlan(2, (high, sigma), renoise)
        for renoise in sampling.renoise
        for sigma in sigmas
    ]


def _trained_levels(network: ModelDescription) -> tuple[float, float]:
    return max(network.lowest_level, network.sigma_min), network.sigma_max


def diffusion_plans(sampling: Sampling) -> list[SamplingPlan]:
    """Return the plans of a diffusion model, one for each number of evaluations, fewest first."""
    return [
        SamplingPlan(n, solver=sampling.diffusion.sampler)
        for n in sorted(set(sampling.diffusion.num_evaluations))
    ]


def first_plan(network: ModelDescription, sampling: Sampling) -> SamplingPlan:
    """Return the plan with the fewest evaluations, by which weights are selected."""
    return candidate_plans(network, sampling)[0]


def candidate_plans(
    network: ModelDescription, sampling: Sampling
) -> list[SamplingPlan]:
    """Return all plans that a model may be used with, the fewest evaluations first."""
    if network.model == "diffusion":
        return diffusion_plans(sampling)
    return [one_step(network), *two_step_plans(network, sampling)]


def deployed_plan(
    network: ModelDescription,
    sampling: Sampling,
    nfe: int | None,
    intermediate_sigma: float,
    renoise: Renoise,
) -> SamplingPlan:
    """Return the plan that a model is going to be used with.

    Args:
        network: Description of the network.
        sampling: Has the solver of diffusion models.
        nfe: Number of evaluations; None is the smallest there is.
        intermediate_sigma: Level of the second evaluation of a consistency model.
        renoise: Noise of it.

    Raises:
        ParameterError: A consistency model is asked for more than two, or at a level that it was
            not trained on; Heun's method for a number that it does not have.
    """
    if nfe is None:
        return first_plan(network, sampling)
    if network.model == "diffusion":
        solver = sampling.diffusion.sampler
        if solver == "heun" and (nfe < 3 or nfe % 2 == 0):
            raise ParameterError(
                f"combination.fitness.nfe={nfe}: heun evaluates twice a step but once in the last: "
                "give an odd number from 3 on."
            )
        return SamplingPlan(nfe, solver=solver)
    if nfe == 1:
        return one_step(network)
    low, high = _trained_levels(network)
    if nfe > 2 or not low <= intermediate_sigma < high:
        raise ParameterError(
            f"combination.fitness: {nfe} evaluations, the second at {intermediate_sigma}: a "
            f"consistency model takes one or two, the second between {low} and {high}."
        )
    return SamplingPlan(2, (high, intermediate_sigma), renoise)


class LatentDecoder:
    """From latents to images.

    Args:
        decoder: The autoencoder, and the normalisation of its latents.
        device: Where it decodes.
        quantise: Maps float images in [-1, 1] to uint8.
    """

    def __init__(
        self,
        decoder: Decoder,
        device: torch.device,
        quantise: Callable[[Tensor], Tensor] = to_uint8,
    ) -> None:
        self._normalisation = normalisation_of(decoder.normalisation).to(device)
        self._model = place(decoder.autoencoder.model, device).requires_grad_(False)
        self._quantise = quantise

    def __call__(self, x: Tensor) -> Tensor:
        """Return uint8 images ``(B, 3, H, W)`` of normalised latents."""
        return self.of_raw(self._normalisation.denormalise(x))

    def of_raw(self, z: Tensor) -> Tensor:
        """Return uint8 images of latents as the autoencoder has them."""
        return self._quantise(decode(self._model, z))

    def differentiable(self, x: Tensor) -> Tensor:
        """Return float images in [-1, 1] of normalised latents."""
        return self._model.decode(self._normalisation.denormalise(x)).sample


class Generator:
    """Generates images with the weights it is given, always from the same noise for one purpose.

    Args:
        network: Description of the network.
        decode: Maps normalised latents to images.
        sampling: How to generate.
        device: Where to.
    """

    def __init__(
        self,
        network: ModelDescription,
        decode: LatentDecoder,
        sampling: Sampling,
        device: torch.device,
    ) -> None:
        self.network, self.decode = network, decode
        self.model: Denoiser = build_model(network).to(device).eval()
        self.model.requires_grad_(False)
        self.sampling, self.device = sampling, device

    def load(self, tensors: Mapping[str, Tensor]) -> None:
        """Take the weights of a raw network's state dict."""
        self.model.network.load_state_dict(tensors)

    def images(
        self, num_images: int, plan: SamplingPlan, *, seed: int, purpose: str
    ) -> Iterator[Tensor]:
        """Yield batches of uint8 images ``(B, 3, H, W)``."""
        inputs = self._inputs(num_images, max(1, len(plan.sigmas)), seed, purpose)
        for noise, classes in zip(*inputs, strict=True):
            yield self.decode(self._sample(list(noise), classes, plan))

    def gradients(
        self,
        by_feature: Tensor,
        differentiate: Callable[[Tensor], Tensor],
        *,
        seed: int,
        purpose: str,
    ) -> dict[str, Tensor]:
        """Return the gradient of a loss by each weight, from that by the features of its images.

        The images are those of :meth:`images` in one evaluation of a consistency model, before they
        are rounded to 256 levels. One batch is in memory at a time.

        Args:
            by_feature: Derivative of the loss by the features, ``(N, D)``.
            differentiate: Maps float images in [-1, 1] to features.
            seed: As for :meth:`images`.
            purpose: As for :meth:`images`.
        """
        network = self.model.network
        network.requires_grad_(True).zero_grad()
        inputs = self._inputs(len(by_feature), 1, seed, purpose)
        parts = by_feature.float().split(self.sampling.batch_size)
        for (noise,), labels, part in zip(*inputs, parts, strict=True):
            x = self._one_step(noise, labels)
            images = self.decode.differentiable(x).clamp(-1, 1)
            differentiate(images).backward(part.to(self.device))
        found = {
            name: torch.zeros_like(p) if p.grad is None else p.grad
            for name, p in network.named_parameters()
        }
        network.requires_grad_(False).zero_grad()
        return found

    def _inputs(
        self, num_images: int, num_evaluations: int, seed: int, purpose: str
    ) -> tuple[Iterator[Tensor], Iterator[Tensor | None]]:
        """Return batches of noise and of classes, on the device."""
        stream: dict[str, Any] = {
            "batch_size": self.sampling.batch_size,
            "seed": seed,
            "purpose": purpose,
        }
        noises = noise_batches(
            num_images,
            self.network.sample_shape,
            num_evaluations=num_evaluations,
            **stream,
        )
        counts = list(self.network.class_counts.values())
        classes = label_batches(num_images, counts, **stream)
        return (
            (noise.to(self.device) for noise in noises),
            (c if c is None else c.to(self.device) for c in classes),
        )

    def _guided(self, labels: Tensor | None) -> Callable[..., Tensor]:
        if labels is None:
            return self.model
        weight, null_class = self.sampling.guidance, self.network.num_classes
        return guided(self.model, weight, null_class=null_class)

    def _one_step(self, noise: Tensor, labels: Tensor | None) -> Tensor:
        """Return normalised latents of one evaluation, differentiable."""
        sigma = self.network.sigma_max
        t = torch.full((len(noise),), sigma, device=noise.device)
        more = () if labels is None else (labels,)
        return self._guided(labels)(sigma * noise, t, *more)

    def _sample(
        self, noise: list[Tensor], labels: Tensor | None, plan: SamplingPlan
    ) -> Tensor:
        """Return normalised latents ``(B, C, H, W)``."""
        names = ("boundary", "sigma_min", "sigma_max", "rho")
        levels = {name: getattr(self.network, name) for name in names}
        return sample_by_plan(
            self._guided(labels), noise, plan, labels=labels, **levels
        )

    def grid(
        self, tensors: Mapping[str, Tensor], plan: SamplingPlan, *, seed: int
    ) -> Tensor:
        """Return images for a sample grid, ``(grid_size^2, 3, H, W)``."""
        self.load(tensors)
        count = self.sampling.grid_size**2
        batches = self.images(count, plan, seed=seed, purpose="grid")
        return torch.cat([batch.cpu() for batch in batches])


def build_generator(
    network: ModelDescription,
    decoder: Decoder | None,
    sampling: Sampling,
    runtime: Runtime,
    *,
    quantise: Callable[[Tensor], Tensor] = to_uint8,
) -> Generator:
    """Return a generator for networks of one description.

    Raises:
        DataError: There is no decoder.
    """
    device = choose_device(runtime.device)
    decode = LatentDecoder(needed(decoder), device, quantise)
    return Generator(network, decode, sampling, device)
