"""What a feature extractor is, and what those of all kinds share."""

from __future__ import annotations

import warnings
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lct_pipeline.errors import DataError


@dataclass(frozen=True)
class FeatureExtractor:
    """Maps images to features, and names what they measure.

    Attributes:
        name: Of the network.
        frechet_name: Of its Frechet distance; ``fid`` is that of Inception alone.
        kernel_name: Of its kernel distance; ``kid`` is that of Inception alone.
        score_name: Of the score of its class probabilities; None without classes.
        digest: SHA-256 of its weights.
        resize: In words, what is done to images before the network; ``none``: nothing.
        extract: Maps uint8 images ``(B, 3, H, W)`` to features ``(B, D)``, float32.
        differentiate: Maps float images in [-1, 1] to the same features, up to rounding, and can be
            differentiated by them; None where that cannot be done.
        classify: Maps features ``(B, D)`` to class probabilities ``(B, K)``; None without classes.
    """

    name: str
    frechet_name: str
    kernel_name: str
    score_name: str | None
    digest: str
    resize: str
    extract: Callable[[Tensor], Tensor]
    differentiate: Callable[[Tensor], Tensor] | None
    classify: Callable[[Tensor], Tensor] | None


def extractor_of_network(
    name: str,
    network: Callable[[Tensor], Any],
    device: torch.device,
    *,
    digest: str,
    resize: str,
    class_weights: Tensor | None = None,
    is_inception: bool = False,
    is_differentiable: bool = True,
) -> FeatureExtractor:
    """Return the extractor of a network that takes images as a file holds them.

    Args:
        name: Of the network.
        network: Maps float images in [0, 255] on the device, ``(B, 3, H, W)``, to features,
            ``(B, D)`` or ``(B, D, 1, 1)``; resizes and normalises them itself.
        device: Where the images go.
        digest: SHA-256 of the weights.
        resize: What is done to images first, in words.
        class_weights: Of an output layer without bias, ``(K, D)``: class probabilities are the
            softmax of its products with the features.
        is_inception: Whether its distances are FID and KID, and its score the Inception score.
        is_differentiable: Whether features can be differentiated by images.
    """

    def run(images: Tensor) -> Tensor:
        return _matrix(network(images), len(images), name)

    @torch.no_grad()
    def extract(images: Tensor) -> Tensor:
        features = run(images.to(device).float())
        if not features.isfinite().all():
            raise DataError(
                f"the feature extractor {name} gave values that are not finite: its weights are "
                "damaged, or its images must be normalised otherwise (mean, std)."
            )
        return features

    def differentiate(images: Tensor) -> Tensor:
        return run((images + 1) * 127.5)

    @torch.no_grad()
    def classify(features: Tensor) -> Tensor:
        assert class_weights is not None
        return F.linear(features.to(class_weights), class_weights).softmax(1)

    score_name = "inception_score" if is_inception else f"{name}_score"
    return FeatureExtractor(
        name=name,
        frechet_name="fid" if is_inception else f"{name}_frechet_distance",
        kernel_name="kid" if is_inception else f"{name}_kernel_distance",
        score_name=None if class_weights is None else score_name,
        digest=digest,
        resize=resize,
        extract=extract,
        differentiate=differentiate if is_differentiable else None,
        classify=None if class_weights is None else classify,
    )


def _matrix(features: Any, num_images: int, name: str) -> Tensor:
    """Return what a network gave as a matrix ``(B, D)``, float32.

    Raises:
        DataError: It is something else.
    """
    if isinstance(features, Tensor):
        if features.ndim == 4 and features.shape[2:] == (1, 1):
            features = features.flatten(1)
        is_matrix = features.ndim == 2 and len(features) == num_images
        if is_matrix and features.is_floating_point():
            return features.float()
        found = f"{features.dtype} of shape {tuple(features.shape)}"
    else:
        found = type(features).__name__
    raise DataError(
        f"the feature extractor {name} must give float features (B, D) or (B, D, 1, 1) of B "
        f"images; of {num_images} it gave {found}."
    )


def constants(device: torch.device, *values: tuple[float, ...]) -> list[Tensor]:
    """Return values by channel as tensors ``(3, 1, 1)``."""
    return [torch.tensor(v, device=device).reshape(-1, 1, 1) for v in values]


def frozen(network: nn.Module, device: torch.device) -> nn.Module:
    """Move a network and make it ready for use: no dropout, no gradients by its weights."""
    for parameter in network.parameters():  # TorchScript has no requires_grad_
        parameter.requires_grad_(False)
    return network.to(device).eval()


def reason(error: Exception) -> str:
    """Return the first line of an error's message; its class where it has none."""
    return next(iter(str(error).splitlines()), type(error).__name__)


def load_torchscript(path: Path, device: torch.device) -> nn.Module:
    """Return the network of a TorchScript file.

    Raises:
        DataError: The file is not one, or is damaged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # the format is deprecated
            network = torch.jit.load(path, map_location=device)
    except (RuntimeError, ValueError) as error:
        raise DataError(
            f"{path} is not a whole TorchScript file ({reason(error)}). A download "
            "that was cut short looks so: fetch it again. Weights without a network need "
            "package.module:name of a function that builds one as features.extractor.kind."
        ) from error
    return frozen(network, device)


def weights_file(given: str | None, name: str, usual: Path, *, kind: str) -> Path:
    """Return the file that holds the weights of an extractor.

    Args:
        given: The file or its folder; None is the usual folder.
        name: Usual name of the file.
        usual: The usual folder.
        kind: Of the extractor.

    Raises:
        DataError: The file is not there; says where to put it and what works without.
    """
    path = Path(given) if given else usual
    path = path / name if path.is_dir() else path
    if not path.is_file():
        raise DataError(
            f"the extractor {kind} needs the file {name}, and {path} is not there. Put it there, "
            "or give it or its folder as features.extractor.path; it is not downloaded. "
            "features.extractor.kind=classifier works without."
        )
    return path
