"""Samples of every model from the same noise, beside real images: kept, and drawn as a grid."""

from __future__ import annotations

from typing import Any

import torch
from matplotlib.figure import Figure
from pandas import DataFrame

from lct_pipeline.datasets.decoder import Decoder
from lct_pipeline.datasets.model_set import ModelSet
from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.datasets.splits import indices_of
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.evaluation.generator import build_generator
from lct_pipeline.evaluation.models import gaussian_images, plans_of
from lct_pipeline.parameters import Runtime, Sampling
from lct_pipeline.reporting.grids import draw_panels
from lct_pipeline.reporting.words import MODELS

NO_MODEL, REAL = "gaussian_latents", "real_test_images"


def sample_panels(
    models: ModelSet,
    decoder: Decoder,
    images: ShardStore,
    image_manifest: DataFrame,
    sampling: Sampling,
    runtime: Runtime,
) -> TensorFile:
    """Return samples of each model and plan from the same noise, decoded noise and real images.

    Each tensor is uint8, ``(grid_size^2, 3, H, W)`` (real images: at most as many); the metadata's
    ``panels`` says of which model and number of evaluations, in the order of the plans.
    """
    generator = build_generator(models.network, decoder, sampling, runtime)
    files = {name: models.file(name) for name in models.names}
    found = {}
    # the plans of all models with as many evaluations side by side, fewest first
    for plans in zip(*(plans_of(models, name) for name in files), strict=True):
        for (name, file), plan in zip(files.items(), plans, strict=True):
            samples = generator.grid(file.tensors, plan, seed=0)
            found[name, plan.num_evaluations] = samples
    count = sampling.grid_size**2
    noise = torch.cat(list(gaussian_images(generator, count, seed=0)))
    found[NO_MODEL, 0] = noise.cpu()
    test = indices_of(image_manifest, "test")[:count]
    found[REAL, 0] = images.gather("images", test)
    titles = {**MODELS}
    combined = files["combined"].metadata if "combined" in files else {}
    if combined.get("kind") == "baseline":
        titles["combined"] = f"best baseline: {combined['name']}"
    panels = [{"model": name, "nfe": nfe, "title": titles[name]} for name, nfe in found]
    tensors = {panel_key(p): t for p, t in zip(panels, found.values(), strict=True)}
    return TensorFile(tensors, {"panels": panels})


def panel_key(panel: dict[str, Any]) -> str:
    """Return the name of a panel's tensor."""
    return f"{panel['model']}-{panel['nfe']}"


def draw_sample_grid(sample_panels: TensorFile) -> Figure:
    """Draw each model with the fewest evaluations, the final one with the most, and the others."""
    panels = sample_panels.metadata["panels"]
    trained = [p for p in panels if p["nfe"] > 0]
    first = [p for p in trained if p["nfe"] == trained[0]["nfe"]]
    shown = [*first, *([trained[-1]] if trained[-1] not in first else [])]
    drawn = {
        f"{p['title']}, NFE {p['nfe']}": sample_panels.tensors[panel_key(p)]
        for p in shown
    }
    others = (p for p in panels if p not in trained)
    drawn |= {p["title"]: sample_panels.tensors[panel_key(p)] for p in others}
    return draw_panels(drawn, "Samples from the same noise")
