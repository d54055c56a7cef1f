"""The folder that diffusers loads: weights, configurations, code, a model card and samples."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor

from lct_pipeline.core.normalisation import LatentNormalisation
from lct_pipeline.core.samplers import SamplingPlan
from lct_pipeline.datasets.pictures import tile
from lct_pipeline.export.latent_denoiser import (
    DiTDenoiser,
    LatentDenoiser,
    MLPDenoiser,
    UNetDenoiser,
)
from lct_pipeline.export.latent_pipeline import LatentPipeline
from lct_pipeline.export.latent_scheduler import LatentScheduler
from lct_pipeline.export.model_card import Story, model_card
from lct_pipeline.export.onnx_file import write_onnx
from lct_pipeline.export.single_file import single_file
from lct_pipeline.models.autoencoder import Autoencoder, PixelAutoencoder
from lct_pipeline.models.denoiser import ModelDescription
from lct_pipeline.models.digests import file_digest

DENOISERS = {"mlp": MLPDenoiser, "unet": UNetDenoiser, "dit": DiTDenoiser}
WEIGHTS = "denoiser/diffusion_pytorch_model.safetensors"
MAX_SAMPLES_BYTES = 300 * 1024
MAX_SAMPLES_SIDE = 768  # pixels


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


@dataclass(frozen=True)
class ExportedModel:
    """A model with what its card tells, and whether it is written as ONNX too."""

    pipeline: LatentPipeline
    story: Story
    onnx: bool

    @property
    def title(self) -> str:
        """Return which model of which run it is."""
        return f"{self.story.model} of {self.story.run}"

    def write(self, folder: Path) -> None:
        """Write everything into a folder that is not there yet."""
        pipeline = self.pipeline
        folder.mkdir()
        index: dict[str, Any] = {"_class_name": ["pipeline", type(pipeline).__name__]}
        for name, component in pipeline.components.items():
            index[name] = _write_component(component, folder / name)
        index["_diffusers_version"] = "0.36.0"  # the oldest that is known to load it
        (folder / "model_index.json").write_text(json.dumps(index, indent=2) + "\n")
        (folder / "pipeline.py").write_text(single_file(type(pipeline)))
        _write_samples(pipeline, folder / "samples.png")
        if self.onnx:
            write_onnx(pipeline, folder / "generator.onnx")
        card = model_card(self.story, pipeline, file_digest(folder / WEIGHTS))
        (folder / "README.md").write_text(card)


def _write_component(component: Any, folder: Path) -> list[str | None]:
    """Write a component and return its entry in the index: a library or module, and the class."""
    if component is None:
        return [None, None]
    component.save_pretrained(folder)
    for config in folder.glob("*config.json"):
        values = json.loads(config.read_text())
        values.pop("_name_or_path", None)  # a path of this machine
        config.write_text(json.dumps(values, indent=2) + "\n")
    kind = type(component)
    if kind.__module__.startswith("diffusers."):
        return ["diffusers", kind.__name__]
    source = single_file(kind)
    # diffusers keeps the code of all folders in one place: another version has another name
    digest = hashlib.sha256(source.encode()).hexdigest()[:8]
    module = f"{kind.__module__.rpartition('.')[2]}_{digest}"
    (folder / f"{module}.py").write_text(source)
    return [module, kind.__name__]


def _write_samples(pipeline: LatentPipeline, path: Path) -> None:
    """Write a square of images, made smaller where they are large."""
    with torch.no_grad():
        height = pipeline(1, output_type="pt").images.shape[-2]
    columns = max(2, min(8, MAX_SAMPLES_SIDE // height))
    generator = torch.Generator().manual_seed(0)
    images = pipeline(columns**2, generator=generator, output_type="uint8").images
    write_picture(tile(images.cpu()), path, MAX_SAMPLES_BYTES)


def write_picture(pixels: np.ndarray, path: Path, max_bytes: int) -> None:
    """Write a PNG file, made smaller until it has no more than so many bytes.

    Args:
        pixels: ``(H, W, 3)``, uint8.
        path: The file.
        max_bytes: Largest size.
    """
    picture = Image.fromarray(pixels)
    picture.save(path, optimize=True)
    while path.stat().st_size > max_bytes and min(picture.size) > 64:
        smaller = (picture.width * 4 // 5, picture.height * 4 // 5)
        picture = picture.resize(smaller, Image.Resampling.LANCZOS)
        picture.save(path, optimize=True)
