"""Feature extractors of the distances: the fitted classifier and clean-fid's Inception."""

from __future__ import annotations

import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from lct_pipeline.errors import DataError
from lct_pipeline.models.autoencoder import to_float
from lct_pipeline.models.classifier import SmallClassifier

INCEPTION_FILE = (
    "inception-2015-12-05.pt"  # the TorchScript file that clean-fid downloads
)


@dataclass(frozen=True)
class FeatureExtractor:
    """Maps uint8 images ``(B, 3, S, S)`` to features ``(B, D)``, and names what they measure.

    Only Inception's Frechet distance is called FID. ``differentiate`` maps float images in
    [-1, 1] to the same features, up to rounding, and can be differentiated.
    """

    name: str
    frechet_name: str
    kernel_name: str
    extract: Callable[[Tensor], Tensor]
    differentiate: Callable[[Tensor], Tensor]


def classifier_extractor(
    tensors: dict[str, Tensor], metadata: dict[str, Any], device: torch.device
) -> FeatureExtractor:
    """Return the features of a fitted :class:`SmallClassifier`, named as its metadata says."""
    classifier = SmallClassifier(
        metadata["num_classes"],
        width=metadata["width"],
        num_features=metadata["num_features"],
    )
    classifier.load_state_dict(tensors)
    classifier.to(device).eval().requires_grad_(False)
    name = metadata["name"]

    def extract(images: Tensor) -> Tensor:
        return classifier.features(to_float(images.to(device)))

    return FeatureExtractor(
        name,
        f"{name}_frechet_distance",
        f"{name}_kernel_distance",
        extract,
        classifier.features,
    )


def inception_folder(given: str | None) -> Path:
    """Return the folder that holds clean-fid's Inception.

    Args:
        given: The file or its folder; None is the system's temporary folder, clean-fid's own.

    Raises:
        DataError: The file is not there; says where to put it and what works without.
    """
    path = Path(given) if given else Path(tempfile.gettempdir())
    folder = path.parent if path.name == INCEPTION_FILE else path
    if not (folder / INCEPTION_FILE).is_file():
        raise DataError(
            f"extractor inception needs the file {INCEPTION_FILE} (TorchScript, 95 MB, the one that "
            f"clean-fid downloads), and it is not in {folder}. Put it there or give its folder "
            "as features.extractor.path; features.extractor.kind=classifier works without."
        )
    return folder


def inception_extractor(folder: Path, device: torch.device) -> FeatureExtractor:
    """Return clean-fid's Inception behind clean-fid's resizing, in its ``clean`` mode."""
    from cleanfid.inception_torchscript import InceptionV3W
    from cleanfid.resize import build_resizer

    network = InceptionV3W(str(folder), download=False).to(device).eval()
    network.requires_grad_(False)
    resize = build_resizer("clean")

    def extract(images: Tensor) -> Tensor:
        arrays = images.permute(0, 2, 3, 1).cpu().numpy()
        resized = torch.stack(
            [torch.from_numpy(resize(a)).permute(2, 0, 1) for a in arrays]
        )
        return network(resized.to(device))

    def differentiate(images: Tensor) -> Tensor:
        resized = F.interpolate(
            images, size=(299, 299), mode="bicubic", antialias=True
        )  # agrees with clean-fid's to 3e-4 of 255 after the clamp: it overshoots
        return network((resized.clamp(-1, 1) + 1) * 127.5)

    return FeatureExtractor("inception", "fid", "kid", extract, differentiate)
