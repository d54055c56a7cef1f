"""Feature extractors of the distances: one that was fitted here, or one that a kind names."""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor

from lct_pipeline.errors import ParameterError
from lct_pipeline.models.autoencoder.coding import to_float
from lct_pipeline.models.digests import tensors_digest
from lct_pipeline.models.features.base import FeatureExtractor, frozen
from lct_pipeline.models.features.classifier import SmallClassifier
from lct_pipeline.models.features.custom import (
    UNCHANGED_MEAN,
    UNCHANGED_STD,
    Normalisation,
    is_own,
    own_extractor,
)
from lct_pipeline.models.features.dinov2 import dinov2_extractor
from lct_pipeline.models.features.inception import inception_extractor
from lct_pipeline.models.features.inception_pytorch import inception_pytorch_extractor

__all__ = ["FeatureExtractor", "build_extractor", "classifier_extractor"]

KNOWN = {
    "inception": inception_extractor,
    "inception_pytorch": inception_pytorch_extractor,
    "dinov2": dinov2_extractor,
}


def build_extractor(
    kind: str,
    path: str | None,
    size: int | None,
    mean: Normalisation,
    std: Normalisation,
    device: torch.device,
) -> FeatureExtractor:
    """Return the extractor that a kind names, all but a fitted classifier.

    Args:
        kind: ``inception``, ``inception_pytorch``, ``dinov2``, an import path or a file.
        path: Its weights, or what the imported function is given; None: the usual place; nothing.
        size: Side that images are resized to, for a network of one's own; None: as they are.
        mean: Subtracted from images in [0, 1], likewise.
        std: What they are then divided by, likewise.
        device: Where it runs.

    Raises:
        ParameterError: There is no such kind, or it does not go with the other values.
        DataError: A file or a package that it needs is missing, or a file is damaged.
    """
    if is_own(kind):
        return own_extractor(kind, path, size, mean, std, device)
    if kind not in KNOWN:
        raise ParameterError(
            f"features.extractor.kind={kind!r} is not known: give classifier, {', '.join(KNOWN)}, "
            "the import path package.module:name of a function that returns a network, or a "
            "TorchScript (.pt, .pth, .ts) or .onnx file."
        )
    if (size, mean, std) != (None, UNCHANGED_MEAN, UNCHANGED_STD):
        raise ParameterError(
            f"features.extractor.kind={kind} resizes and normalises as it must: size, mean and std "
            "are for networks of one's own."
        )
    return KNOWN[kind](path, device)


def classifier_extractor(
    tensors: dict[str, Tensor], metadata: dict[str, Any], device: torch.device
) -> FeatureExtractor:
    """Return the features of a fitted :class:`SmallClassifier`, named as its metadata says.

    Its score is that of its own classes. One that was fitted to rotations has none.
    """
    classifier = SmallClassifier(
        metadata["num_classes"],
        width=metadata["width"],
        num_features=metadata["num_features"],
    )
    classifier.load_state_dict(tensors)
    frozen(classifier, device)
    name = metadata["name"]
    has_classes = not name.endswith("rotation_classifier")

    def extract(images: Tensor) -> Tensor:
        return classifier.features(to_float(images.to(device)))

    def classify(features: Tensor) -> Tensor:
        return classifier.head(features.to(device)).softmax(1)

    return FeatureExtractor(
        name=name,
        frechet_name=f"{name}_frechet_distance",
        kernel_name=f"{name}_kernel_distance",
        score_name=f"{name}_score" if has_classes else None,
        digest=tensors_digest(tensors),
        resize="none",
        extract=extract,
        differentiate=classifier.features,
        classify=classify if has_classes else None,
    )
