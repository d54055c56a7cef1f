"""Samples of every model from the same noise, beside real images: kept, and drawn as a grid."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from matplotlib.figure import Figure
from pandas import DataFrame

from lct_pipeline.core.sampling_plans import SamplingPlan
from lct_pipeline.datasets.decoder import Decoder
from lct_pipeline.datasets.model_set import ModelSet
from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.datasets.splits import indices_of
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.evaluation.generator import build_generator
from lct_pipeline.evaluation.models import TITLES, gaussian_images, plans_of
from lct_pipeline.parameters import Runtime, Sampling
from lct_pipeline.reporting.sample_grids import draw_panels

NO_MODEL, REAL = "gaussian_latents", "real_test_images"
OTHER_TITLES = {
    NO_MODEL: "no model: decoded noise",
    REAL: "real images (test split)",
}


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
    plans = {name: plans_of(models, name) for name in models.names}
    found = {
        (name, each[name].num_evaluations): generator.grid(
            file.tensors, each[name], seed=0
        )
        for each in _side_by_side(plans)
        for name, file in files.items()
    }
    count = sampling.grid_size**2
    noise = torch.cat(list(gaussian_images(generator, count, seed=0)))
    test = indices_of(image_manifest, "test")[:count]
    found[NO_MODEL, 0] = noise.cpu()
    found[REAL, 0] = images.gather("images", test)
    titles = TITLES | OTHER_TITLES | _title_of_combined(files.get("combined"))
    panels = [{"model": name, "nfe": nfe, "title": titles[name]} for name, nfe in found]
    tensors = {panel_key(p): t for p, t in zip(panels, found.values(), strict=True)}
    return TensorFile(tensors, {"panels": panels})


def _side_by_side(
    plans: dict[str, list[SamplingPlan]],
) -> Iterator[dict[str, SamplingPlan]]:
    """Yield the plans of all models with as many evaluations, fewest first."""
    for each in zip(*plans.values(), strict=True):
        yield dict(zip(plans, each, strict=True))


def _title_of_combined(combined_model: TensorFile | None) -> dict[str, str]:
    """Return what stands over the combination where the best baseline is in its place."""
    about = combined_model.metadata if combined_model is not None else {}
    if about.get("kind") != "baseline":
        return {}
    return {"combined": f"best baseline: {about['name']}"}


def panel_key(panel: dict[str, Any]) -> str:
    """Return the name of a panel's tensor."""
    return f"{panel['model']}-{panel['nfe']}"


def draw_sample_grid(sample_panels: TensorFile) -> Figure:
    """Draw each model with the fewest evaluations, the final one with the most, and the others."""
    panels = sample_panels.metadata["panels"]
    trained = [p for p in panels if p["model"] in TITLES]
    first = [p for p in trained if p["nfe"] == trained[0]["nfe"]]
    shown = [*first, *([trained[-1]] if trained[-1] not in first else [])]
    shown += [p for p in panels if p not in trained]
    drawn = {_heading(p): sample_panels.tensors[panel_key(p)] for p in shown}
    return draw_panels(drawn, "Samples from the same noise")


def _heading(panel: dict[str, Any]) -> str:
    title, nfe = panel["title"], panel["nfe"]
    return title if panel["model"] in OTHER_TITLES else f"{title}, NFE {nfe}"
