"""What training says about its model in each checkpoint."""

from __future__ import annotations

from collections.abc import Sequence

from pandas import DataFrame

from lct_pipeline.datasets.splits import usable_rows
from lct_pipeline.errors import ParameterError
from lct_pipeline.models.denoiser import ModelDescription
from lct_pipeline.parameters.training import Training


def describe_model(
    parameters: Training, sample_shape: Sequence[int], class_counts: dict[str, int]
) -> ModelDescription:
    """Return the description of the model that these parameters train.

    Args:
        parameters: The training's parameters.
        sample_shape: ``(C, H, W)`` of a latent.
        class_counts: Training images of each class, of a conditional model; empty otherwise.
    """
    network, noise = parameters.network, parameters.noise
    is_diffusion = parameters.objective.kind == "diffusion"
    # the level at which the model is the identity; the continuous levels of ECT reach down to 0
    at_zero = is_diffusion or noise.schedule == "continuous"
    truncated = parameters.objective.kind == "truncated"
    return ModelDescription(
        model="diffusion" if is_diffusion else "consistency",
        kind=network.kind,
        sample_shape=tuple(sample_shape),
        norm=network.norm,
        output_norm=network.norm,
        dropout=network.dropout,
        num_classes=len(class_counts),
        class_counts=class_counts,
        network=getattr(network, network.kind).model_dump(mode="json"),
        sigma_data=noise.sigma_data,
        boundary=0.0 if at_zero else noise.sigma_min,
        sigma_min=noise.sigma_min,
        sigma_max=noise.sigma_max,
        rho=noise.rho,
        lowest_level=parameters.objective.truncation.level if truncated else 0.0,
    )


def class_counts(latent_manifest: DataFrame, parameters: Training) -> dict[str, int]:
    """Return the training images of each class, sorted by name; empty if not conditional.

    Raises:
        ParameterError: A conditional model is asked for and images have no labels.
    """
    if not parameters.network.conditional:
        return {}
    labels = usable_rows(latent_manifest, "train")["label"]
    if labels.isna().any() or labels.nunique() < 2:
        raise ParameterError(
            "training.network.conditional=true needs a label for every image and at least two "
            "labels: put the images into one folder per class, or give conditional=false."
        )
    return {str(name): int(n) for name, n in labels.value_counts().sort_index().items()}
