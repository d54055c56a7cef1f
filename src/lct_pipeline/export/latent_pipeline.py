"""A latent consistency or diffusion model: noise in, images out."""

from __future__ import annotations

import inspect
import json
import os
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import torch
from diffusers import DiffusionPipeline, ImagePipelineOutput
from diffusers.utils.torch_utils import randn_tensor
from PIL import Image
from torch import Tensor

from lct_pipeline.models.autoencoder import decode, place, to_uint8


class LatentPipeline(DiffusionPipeline):
    """Generates images in one network evaluation, or in a few.

    Args:
        denoiser: The network, with the normalisation of its latents.
        scheduler: How it generates.
        vae: Autoencoder; None where the latents are the pixels.
    """

    model_cpu_offload_seq = "denoiser->vae"
    _optional_components: ClassVar[list[str]] = ["vae"]

    def __init__(self, denoiser: Any, scheduler: Any, vae: Any = None) -> None:
        super().__init__()
        self.register_modules(denoiser=denoiser, scheduler=scheduler, vae=vae)

    # diffusers 0.36 cannot read annotations that are text, as those of this file are
    __init__.__annotations__.clear()

    def save_pretrained(
        self, save_directory: str | os.PathLike[str], **options: Any
    ) -> None:
        """Save as diffusers does, with the code, without which the folder cannot be loaded."""
        super().save_pretrained(save_directory, **options)
        folder = Path(save_directory)
        index = json.loads((folder / "model_index.json").read_text())
        index.pop("_name_or_path", None)
        index["_class_name"] = ["pipeline", type(self).__name__]
        shutil.copyfile(inspect.getfile(type(self)), folder / "pipeline.py")
        for name, component in self.components.items():
            kind = type(component)
            if component is not None and not kind.__module__.startswith("diffusers."):
                module = kind.__module__.rpartition(".")[2]
                shutil.copyfile(inspect.getfile(kind), folder / name / f"{module}.py")
                index[name] = [module, kind.__name__]
        (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")

    @torch.no_grad()
    def __call__(
        self,
        batch_size: int | None = None,
        num_inference_steps: int | None = None,
        class_labels: int | str | Sequence[int | str] | Tensor | None = None,
        guidance_scale: float | None = None,
        sigmas: Sequence[float] | None = None,
        generator: torch.Generator | list[torch.Generator] | None = None,
        latents: Tensor | None = None,
        output_type: str = "pil",
        return_dict: bool = True,
    ) -> Any:
        """Return ``batch_size`` images.

        Args:
            batch_size: Number of images; 1, or as many as there are labels or latents.
            num_inference_steps: Network evaluations; the model card has the numbers that were
                evaluated. By default 1, of a diffusion model the largest of these.
            class_labels: Number or name of a class, for all images or each; by default classes
                are drawn as often as they were seen in training.
            guidance_scale: Weight of classifier-free guidance; 1 is none. By default that of the
                model's run.
            sigmas: Other levels of a consistency model than those that its run chose; the kind of
                new noise is the chosen one.
            generator: Source of the noise; of a list one for each image.
            latents: Unit noise instead, ``(B, C, H, W)``, or ``(S, B, C, H, W)`` for each of S
                evaluations.
            output_type: ``pil``, ``uint8`` (a tensor ``(B, 3, H, W)``), ``pt`` or ``np`` (floats
                in [0, 1]), or ``latent`` (those of the autoencoder).
            return_dict: Whether images come as the attribute ``images``, or as a tuple.

        Raises:
            ValueError: Arguments do not go together, or not with the model.
        """
        plan = self.scheduler.plan(num_inference_steps, sigmas)
        has_classes = bool(self.denoiser.config.num_classes)
        if not has_classes and not (class_labels is guidance_scale is None):
            raise ValueError(
                "class_labels and guidance_scale: this model has no classes."
            )
        given = None if class_labels is None else self._labels(class_labels)
        count = _count(batch_size, given, latents, generator)
        noises = self._noises(count, max(1, len(plan.sigmas)), generator, latents)
        labels = None
        if has_classes:
            drawn = self._drawn_labels(count, generator) if given is None else given
            labels = drawn.expand(count).to(self._execution_device)
        x = self.scheduler.sample(
            self.denoiser,
            [noise.to(self._execution_device) for noise in noises],
            plan,
            labels,
            guidance=guidance_scale,
            null_class=self.denoiser.config.num_classes,
        )
        images = self._output(self.denoiser.denormalise(x), output_type)
        self.maybe_free_model_hooks()
        return ImagePipelineOutput(images=images) if return_dict else (images,)

    def _noises(
        self,
        count: int,
        num_evaluations: int,
        generator: torch.Generator | list[torch.Generator] | None,
        latents: Tensor | None,
    ) -> list[Tensor]:
        """Return unit noise for each evaluation."""
        shape = (count, *self.denoiser.config.sample_shape)
        given = [] if latents is None else list(latents.reshape(-1, *shape).float())
        # one draw an evaluation: the first is the same however many follow
        return given[:num_evaluations] + [
            randn_tensor(shape, generator=generator, dtype=torch.float32)
            for _ in range(num_evaluations - len(given))
        ]

    def _labels(self, given: Any) -> Tensor:
        """Return classes by number, one or as many as there are images."""
        names = self.denoiser.config.class_names
        values = given.tolist() if isinstance(given, Tensor) else given
        several = values if isinstance(values, list | tuple) else [values]
        return torch.tensor([_class_number(label, names) for label in several])

    def _drawn_labels(
        self, count: int, generator: torch.Generator | list[torch.Generator] | None
    ) -> Tensor:
        weights = torch.tensor(self.denoiser.config.class_counts, dtype=torch.float64)
        if not isinstance(generator, list):
            return torch.multinomial(weights, count, True, generator=generator)
        drawn = [torch.multinomial(weights, 1, True, generator=g) for g in generator]
        return torch.cat(drawn)

    def _output(self, z: Tensor, output_type: str) -> Any:
        if output_type == "latent":
            return z
        floats = self._decoded(z).float()
        as_bytes = output_type in ("uint8", "pil")
        images = to_uint8(floats) if as_bytes else (floats.clamp(-1, 1) + 1) / 2
        if output_type in ("uint8", "pt"):
            return images
        arrays = images.permute(0, 2, 3, 1).cpu().numpy()
        if output_type == "np":
            return arrays
        if output_type == "pil":
            return [Image.fromarray(array) for array in arrays]
        raise ValueError(
            f"output_type={output_type!r}: give pil, uint8, pt, np or latent."
        )

    def _decoded(self, z: Tensor) -> Tensor:
        if self.vae is None:
            return z
        narrow = self.vae.dtype
        with torch.autocast(z.device.type, narrow, enabled=narrow != torch.float32):
            return decode(place(self.vae, z.device), z)


def _class_number(label: Any, names: list[str]) -> int:
    """Return the number of a class, given by name or number."""
    if label in names:
        return names.index(label)
    number = int(label) if str(label).isdecimal() else -1
    if number not in range(len(names)):
        known = ", ".join(names[:20]) + (", ..." if len(names) > 20 else "")
        raise ValueError(
            f"class_labels: {label} is no class; there are {len(names)}: {known}."
        )
    return number


def _count(
    batch_size: int | None,
    labels: Tensor | None,
    latents: Tensor | None,
    generator: Any,
) -> int:
    """Return how many images are asked for, which all arguments that tell agree on."""
    sizes = {
        "batch_size": batch_size,
        "class_labels": len(labels) if labels is not None and len(labels) > 1 else None,
        "latents": None if latents is None else latents.shape[-4],
        "generator": len(generator) if isinstance(generator, list) else None,
    }
    given = {name: size for name, size in sizes.items() if size is not None}
    if len(set(given.values())) > 1:
        raise ValueError(f"these numbers of images do not go together: {given}.")
    return next(iter(given.values()), 1)
