"""From weights to images, and what is evaluated: trained models, and controls without a model."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from torch import Tensor

from lct_pipeline.core.preconditioning import Denoiser
from lct_pipeline.core.sample_quality import label_batches, noise_batches
from lct_pipeline.core.samplers import SamplingPlan, guided, sample_by_plan
from lct_pipeline.datasets.decoder import Decoder, needed, normalisation_of
from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.errors import MeasureError
from lct_pipeline.models.autoencoder import decode, place, title_of, to_uint8
from lct_pipeline.models.denoiser import ModelDescription, build_model
from lct_pipeline.models.device import choose_device
from lct_pipeline.models.digests import tensors_digest
from lct_pipeline.parameters import Runtime, Sampling

NO_PLAN = {"nfe": 0, "intermediate_sigma": None, "renoise": None, "solver": None}


class LatentDecoder:
    """From latents to images.

    Args:
        decoder: The autoencoder, and the normalisation of its latents.
        device: Where it decodes.
        quantise: Maps float images in [-1, 1], and what made them, to uint8.
    """

    def __init__(
        self,
        decoder: Decoder,
        device: torch.device,
        quantise: Callable[[Tensor, str], Tensor] = to_uint8,
    ) -> None:
        self._normalisation = normalisation_of(decoder.normalisation).to(device)
        self._model = place(decoder.autoencoder.model, device).requires_grad_(False)
        self._quantise = quantise

    def __call__(self, x: Tensor) -> Tensor:
        """Return uint8 images ``(B, 3, H, W)`` of normalised latents.

        Raises:
            MeasureError: Latents, or what is decoded, are not finite: 8 bits would not say so.
        """
        if not x.isfinite().all():
            raise MeasureError(
                f"the network gives latents that are not finite, in {x.dtype}."
            )
        return self.of_raw(self._normalisation.denormalise(x))

    def of_raw(self, z: Tensor) -> Tensor:
        """Return uint8 images of latents as the autoencoder has them."""
        return self._quantise(decode(self._model, z), title_of(self._model))

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
        names = ("boundary", "sigma_min", "sigma_max", "rho")
        levels = {name: getattr(self.network, name) for name in names}
        for noise, labels in zip(*inputs, strict=True):
            model = self._guided(labels)
            x = sample_by_plan(model, list(noise), plan, labels=labels, **levels)
            yield self.decode(x)

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
        network, sigma = self.model.network, self.network.sigma_max
        network.requires_grad_(True).zero_grad()
        inputs = self._inputs(len(by_feature), 1, seed, purpose)
        parts = by_feature.float().split(self.sampling.batch_size)
        for (noise,), labels, part in zip(*inputs, parts, strict=True):
            t = torch.full((len(noise),), sigma, device=noise.device)
            of_class = () if labels is None else (labels,)
            x = self._guided(labels)(sigma * noise, t, *of_class)
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
        stream = {"batch_size": self.sampling.batch_size, "seed": seed}
        shape, counts = self.network.sample_shape, self.network.class_counts.values()
        noises = noise_batches(
            num_images,
            shape,
            num_evaluations=num_evaluations,
            purpose=purpose,
            **stream,
        )
        classes = label_batches(num_images, list(counts), purpose=purpose, **stream)
        return (
            (noise.to(self.device) for noise in noises),
            (c if c is None else c.to(self.device) for c in classes),
        )

    def _guided(self, labels: Tensor | None) -> Callable[..., Tensor]:
        if labels is None:
            return self.model
        weight, null_class = self.sampling.guidance, self.network.num_classes
        return guided(self.model, weight, null_class=null_class)

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
    quantise: Callable[[Tensor, str], Tensor] = to_uint8,
) -> Generator:
    """Return a generator for networks of one description.

    Raises:
        DataError: There is no decoder.
    """
    device = choose_device(runtime.device)
    decode = LatentDecoder(needed(decoder), device, quantise)
    return Generator(network, decode, sampling, device)


@dataclass(frozen=True)
class Subject:
    """Something that makes images: what a row says about it, and batches for a ``seed``.

    Subjects of the same ``weights``, a digest, make the same images with the same plan.
    """

    about: dict[str, Any]
    num_images: int
    batches: Callable[..., Iterator[Tensor]]
    depends_on_seed: bool = True
    weights: str = ""

    @property
    def key(self) -> tuple[Any, ...]:
        """Return what the images depend on, but for the seed."""
        plan = (value for name, value in self.about.items() if name != "model")
        return (self.weights or self.about["model"], *plan)


def trained_models(
    weights: Iterable[tuple[str, Mapping[str, Tensor]]],
    plans: Mapping[str, list[SamplingPlan]],
    generator: Generator,
    count: int,
    purpose: str,
) -> Iterator[Subject]:
    """Yield each model with each of its plans, the generator having its weights until the next."""
    for name, tensors in weights:
        generator.load(tensors)
        digest = tensors_digest(tensors)
        for plan in plans[name]:
            second = plan.sigmas[1] if len(plan.sigmas) > 1 else None
            about = {
                "model": name,
                "nfe": plan.num_evaluations,
                "intermediate_sigma": second,
                "renoise": None if second is None else plan.renoise,
                "solver": plan.solver,
            }
            batches = partial(generator.images, count, plan, purpose=purpose)
            yield Subject(about, count, batches, weights=digest)


def decoded_noise(generator: Generator, count: int) -> Subject:
    """Return images of noise with the latents' mean and standard deviation: no model at all."""
    about = {"model": "gaussian_latents", **NO_PLAN}
    return Subject(about, count, partial(gaussian_images, generator, count))


def gaussian_images(generator: Generator, count: int, seed: int) -> Iterator[Tensor]:
    """Yield decoded noise."""
    for noise in noise_batches(
        count,
        generator.network.sample_shape,
        num_evaluations=1,
        batch_size=generator.sampling.batch_size,
        seed=seed,
        purpose="gaussian",
    ):
        x = generator.model.sigma_data * noise[0].to(generator.device)
        yield generator.decode(x)


def reconstructions(latents: ShardStore, indices: Any, generator: Generator) -> Subject:
    """Return test images through the autoencoder: no model in its latents can be better."""

    def batches(seed: int) -> Iterator[Tensor]:
        for z in latents.batches("mean", generator.sampling.batch_size, indices):
            yield generator.decode.of_raw(z.to(generator.device).float())

    about = {"model": "reconstructed_test_images", **NO_PLAN}
    return Subject(about, len(indices), batches, depends_on_seed=False)
