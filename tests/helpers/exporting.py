"""Small models of every kind, exported, and what this project's own generator makes of them."""

from __future__ import annotations

import subprocess
import sys
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from describing import described
from small_encoding import autoencoder, deep_compression, tiny
from torch import Tensor

from lct_pipeline.core.normalisation import LatentNormalisation
from lct_pipeline.core.sample_quality import label_batches, noise_batches
from lct_pipeline.core.samplers import SamplingPlan
from lct_pipeline.datasets.export_folder import ExportFolderDataset
from lct_pipeline.evaluation.generator import Generator
from lct_pipeline.export.folder import ExportedModel, build_pipeline
from lct_pipeline.export.latent_pipeline import LatentPipeline
from lct_pipeline.export.model_card import Story
from lct_pipeline.models.autoencoder import (
    Autoencoder,
    PixelAutoencoder,
    decode,
    place,
    to_uint8,
)
from lct_pipeline.models.denoiser import ModelDescription, build_network
from lct_pipeline.parameters import Sampling

COUNT = 5
# two of the names would change places if they were sorted as text
CLASSES: dict[str, Any] = {
    "num_classes": 3,
    "class_counts": {"2": 1, "10": 3, "cat": 2},
}
ONE_STEP = SamplingPlan(1, (80.0,))
STORY = Story(
    run="small",
    model="last checkpoint",
    weights="step-1-raw",
    licence=None,
    parameters={
        "ingestion": {"source": "photos", "image_size": 16},
        "encoding": {"autoencoder": None},
        "training": {"objective": {"kind": "consistency"}, "num_steps": 1},
    },
    commit="abc",
    two_step_improves=True,
    rows=[],
)


with torch.random.fork_rng():
    SMALL_VAE = autoencoder(latent_channels=4).eval()
    TINY_VAE = tiny(num_levels=2, latent_channels=4).eval()
    DEEP_VAE = deep_compression().eval()


@dataclass(frozen=True)
class SmallModel:
    """A model that was never trained, with random weights that all have a say."""

    network: ModelDescription
    autoencoder: Autoencoder
    plans: tuple[SamplingPlan, ...] = (ONE_STEP, SamplingPlan(2, (80.0, 0.5), "same"))
    guidance: float = 1.0

    @property
    def tensors(self) -> dict[str, Tensor]:
        random = torch.Generator().manual_seed(1)
        tensors = build_network(self.network).state_dict()
        return {
            name: 0.2 * torch.randn(tensor.shape, generator=random)
            for name, tensor in sorted(tensors.items())
        }

    @property
    def normalisation(self) -> LatentNormalisation:
        random = torch.Generator().manual_seed(2)
        mean, std = torch.rand(2, *self.network.sample_shape, generator=random)
        return LatentNormalisation(mean, std + 0.5, self.network.sigma_data)

    def pipeline(self) -> LatentPipeline:
        return build_pipeline(
            self.network,
            self.tensors,
            self.normalisation,
            deepcopy(self.autoencoder),  # which a test may change
            list(self.plans),
            self.guidance,
        )

    def generator(self) -> Generator:
        cpu, normalisation = torch.device("cpu"), self.normalisation
        autoencoder = place(deepcopy(self.autoencoder), cpu)
        generator = Generator(
            self.network,
            lambda x: to_uint8(decode(autoencoder, normalisation.denormalise(x))),
            Sampling.model_construct(batch_size=COUNT, guidance=self.guidance),
            cpu,
        )
        generator.load(self.tensors)
        return generator

    def expected(self, plan: SamplingPlan) -> Tensor:
        """Return what this project generates, ``(COUNT, 3, H, W)``, uint8."""
        return next(self.generator().images(COUNT, plan, seed=3, purpose="a"))

    def inputs(self, plan: SamplingPlan) -> dict[str, Any]:
        """Return the same noise and classes, as arguments of the exported pipeline."""
        stream: dict[str, Any] = {"batch_size": COUNT, "seed": 3, "purpose": "a"}
        shape, num = self.network.sample_shape, max(1, len(plan.sigmas))
        counts = list(self.network.class_counts.values())
        return {
            "num_inference_steps": plan.num_evaluations,
            "latents": next(noise_batches(COUNT, shape, num_evaluations=num, **stream)),
            "class_labels": next(label_batches(COUNT, counts, **stream)),
            "output_type": "uint8",
        }

    def write(self, folder: Path) -> Path:
        exported = ExportedModel(self.pipeline(), STORY, onnx=False)
        ExportFolderDataset(path=str(folder)).save(exported)
        return folder


def network(kind: str = "mlp", **changes: Any) -> ModelDescription:
    values = {"sample_shape": (4, 8, 8), "output_norm": "layer_norm", "dropout": 0.5}
    return described(kind, **values | changes)


DIFFUSION = network(model="diffusion", boundary=0.0)
MODELS = {
    "unet": SmallModel(network("unet"), SMALL_VAE),
    "pixels": SmallModel(network(sample_shape=(3, 8, 8)), PixelAutoencoder()),
    "dit": SmallModel(network("dit"), DEEP_VAE),
    "classes": SmallModel(
        network(**CLASSES),
        SMALL_VAE,
        (ONE_STEP, SamplingPlan(2, (80.0, 0.5), "fresh")),
        guidance=2.0,
    ),
    "dpm_solver": SmallModel(
        DIFFUSION,
        SMALL_VAE,
        tuple(SamplingPlan(n, solver="dpm_solver") for n in (2, 5)),
    ),
    "heun": SmallModel(DIFFUSION, TINY_VAE, (SamplingPlan(3, solver="heun"),)),
}

# what Python sees where this project, and what it needs besides, were never installed
ALONE = """
import sys

class Absent:
    def find_spec(self, name, path=None, target=None):
        if name.split(".")[0] in {"lct_pipeline", "kedro", "ot", "omegaconf", "pydantic"}:
            raise ModuleNotFoundError(name, name=name)

sys.meta_path.insert(0, Absent())
import torch
torch.set_num_threads(1)
"""


def run_alone(script: str, modules: Path, *arguments: str) -> str:
    """Run a script in a process of its own that has diffusers and not this project."""
    done = subprocess.run(
        [sys.executable, "-I", "-c", ALONE + script, *arguments],
        env={
            "HF_HUB_OFFLINE": "1",
            "HF_MODULES_CACHE": str(modules),
            "HF_HOME": str(modules),
            "OMP_NUM_THREADS": "1",
            "PATH": "/usr/bin:/bin",
        },
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout
