"""Samples of every model from the same noise, beside real images: kept, and drawn as a grid."""

from __future__ import annotations

from typing import Any

from lct_pipeline.datasets.autoencoder import StoredAutoencoder
from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.datasets.tensor_file import CheckpointStore, TensorFile
from lct_pipeline.lazy import DataFrame
from lct_pipeline.parameters import Runtime, Sampling
from lct_pipeline.pipelines.evaluation.models import (
    TITLES,
    gaussian_images,
    plans_of,
    weights_of,
)
from lct_pipeline.pipelines.splits import indices_of

NO_MODEL, REAL = "gaussian_latents", "real_test_images"
OTHER_TITLES = {
    NO_MODEL: "no model: decoded noise",
    REAL: "real images (test split)",
}


def make_sample_panels(
    best_average: TensorFile,
    combined_model: TensorFile | None,
    checkpoint_index: DataFrame,
    checkpoints: CheckpointStore,
    sampling_plans: dict[str, Any],
    images: ShardStore,
    image_manifest: DataFrame,
    autoencoder: StoredAutoencoder,
    latent_normalisation: TensorFile,
    sampling: Sampling,
    runtime: Runtime,
) -> TensorFile:
    """Return samples of each model and plan from the same noise, decoded noise and real images.

    Each tensor is uint8, ``(grid_size^2, 3, H, W)`` (real images: at most as many); the metadata's
    ``panels`` says of which model and number of evaluations, in the order of the plans.
    """
    import torch

    from lct_pipeline.pipelines.generation import build_generator

    generator = build_generator(
        best_average.metadata["network"],
        autoencoder,
        latent_normalisation,
        sampling,
        runtime,
    )
    weights = weights_of(best_average, combined_model, checkpoint_index, checkpoints)
    found = {
        (name, plan.num_evaluations): generator.grid(tensors, plan, seed=0)
        for plan in plans_of(sampling_plans)
        for name, tensors in weights.items()
    }
    count = sampling.grid_size**2
    noise = torch.cat(list(gaussian_images(generator, count, seed=0)))
    test = indices_of(image_manifest, "test")[:count]
    found[NO_MODEL, 0] = noise.cpu()
    found[REAL, 0] = images.gather("images", test)
    panels = [{"model": name, "nfe": nfe} for name, nfe in found]
    tensors = {panel_key(p): t for p, t in zip(panels, found.values(), strict=True)}
    return TensorFile(tensors, {"panels": panels})


def panel_key(panel: dict[str, Any]) -> str:
    """Return the name of a panel's tensor."""
    return f"{panel['model']}-{panel['nfe']}"


def draw_sample_grid(sample_panels: TensorFile) -> Any:
    """Draw each model with the fewest evaluations, the final one with the most, and the others."""
    from lct_pipeline.reporting.sample_grids import draw_panels

    panels = sample_panels.metadata["panels"]
    trained = [p for p in panels if p["model"] in TITLES]
    first = [p for p in trained if p["nfe"] == trained[0]["nfe"]]
    shown = [*first, *([trained[-1]] if trained[-1] not in first else [])]
    shown += [p for p in panels if p not in trained]
    drawn = {_title(p): sample_panels.tensors[panel_key(p)] for p in shown}
    return draw_panels(drawn, "Samples from the same noise")


def _title(panel: dict[str, Any]) -> str:
    model = panel["model"]
    if model in OTHER_TITLES:
        return OTHER_TITLES[model]
    return f"{TITLES[model]}, NFE {panel['nfe']}"
