"""DINOv2 (Oquab et al. 2023): its Frechet distance follows human judgement (Stein et al. 2023)."""

from __future__ import annotations

from typing import TYPE_CHECKING

import torch
from torch import Tensor

from lct_pipeline.errors import DataError
from lct_pipeline.models.digests import tensors_digest
from lct_pipeline.models.features.base import (
    FeatureExtractor,
    constants,
    extractor_of_network,
    frozen,
    reason,
)
from lct_pipeline.models.features.resizing import resized

if TYPE_CHECKING:
    from transformers import Dinov2Model

DEFAULT = "facebook/dinov2-large"  # ViT-L/14, as Stein et al. and EDM2 have it
SIDE = 224
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def dinov2_extractor(source: str | None, device: torch.device) -> FeatureExtractor:
    """Return the class token after the last norm.

    Args:
        source: Folder or hub id of a ``Dinov2Model`` of transformers; None is DINOv2 ViT-L/14.
        device: Where it runs.

    Raises:
        DataError: transformers is not installed, or there is no such model.
    """
    model = _load(source or DEFAULT)
    digest = tensors_digest(model.state_dict())
    frozen(model, device)
    mean, std = constants(device, IMAGENET_MEAN, IMAGENET_STD)

    def features(images: Tensor) -> Tensor:
        normalised = (resized(images, SIDE) / 255 - mean) / std
        return model(pixel_values=normalised).pooler_output

    return extractor_of_network(
        "dinov2",
        features,
        device,
        digest=digest,
        resize=f"antialiased bicubic to {SIDE}",
    )


def _load(source: str) -> Dinov2Model:
    try:
        from transformers import AutoModel, Dinov2Model
    except ImportError as error:
        raise DataError(
            "the extractor dinov2 needs transformers: pip install 'lct_pipeline[dinov2]'"
        ) from error
    try:
        model, found = AutoModel.from_pretrained(
            source,
            dtype=torch.float32,
            use_safetensors=True,
            trust_remote_code=False,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise _unusable(source, reason(error)) from error
    if not isinstance(model, Dinov2Model):
        raise _unusable(source, f"it is a {type(model).__name__}")
    if found["missing_keys"]:
        raise _unusable(source, f"no weights of {min(found['missing_keys'])}")
    return model


def _unusable(source: str, reason: str) -> DataError:
    return DataError(
        f"{source} is neither a folder nor a hub id of DINOv2 that can be reached from here "
        f"({reason}). Give a folder with config.json and model.safetensors as "
        f"features.extractor.path, a copy of {DEFAULT} for instance."
    )
