"""The folder that diffusers loads: weights, configurations, code, a model card and samples."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from PIL import Image

from lct_pipeline.datasets.pictures import tile
from lct_pipeline.export.latent_pipeline import LatentPipeline
from lct_pipeline.export.model_card import Story, model_card
from lct_pipeline.export.onnx_file import write_onnx
from lct_pipeline.export.single_file import single_file
from lct_pipeline.models.digests import file_digest

WEIGHTS = "denoiser/diffusion_pytorch_model.safetensors"
SAMPLES = "samples.png"
MAX_SAMPLES_BYTES = 300 * 1024
MAX_SAMPLES_SIDE = 768  # pixels


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
        _write_samples(pipeline, folder / SAMPLES)
        if self.onnx:
            write_onnx(pipeline, folder / "generator.onnx")
        card = model_card(self.story, pipeline, file_digest(folder / WEIGHTS))
        (folder / "README.md").write_text(card)


def _write_component(component: Any, folder: Path) -> list[str | None]:
    """Write a component and return its entry in the index: a library or module, and the class."""
    if component is None:
        return [None, None]
    component.save_pretrained(folder)
    for weights in folder.glob("*.safetensors"):
        weights.chmod(0o644)  # safetensors writes files for their owner alone
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
