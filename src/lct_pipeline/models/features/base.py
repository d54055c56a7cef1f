"""What a feature extractor is, what those of all kinds share, and how images come to them."""

from __future__ import annotations

import io
import warnings
from collections.abc import Callable
from dataclasses import dataclass
from functools import lru_cache
from typing import Any

import numpy as np
import torch
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from lct_pipeline.errors import DataError


@dataclass(frozen=True)
class FeatureExtractor:
    """Maps images to features, and names what they measure.

    Attributes:
        name: Of the network; empty where features are given.
        digest: SHA-256 of its weights.
        resize: What is done to images before the network, as text; ``none``: nothing.
        extract: Maps uint8 images ``(B, 3, H, W)`` to features ``(B, D)``, float32.
        differentiate: Maps float images in [-1, 1] to the same features, up to rounding, and can be
            differentiated by them; None where that cannot be done.
        classify: Maps features ``(B, D)`` to class probabilities ``(B, K)``; None without classes.
        is_inception: Whether its distances are FID and KID, and its score the Inception score.
    """

    name: str
    digest: str
    resize: str
    extract: Callable[[Tensor], Tensor]
    differentiate: Callable[[Tensor], Tensor] | None = None
    classify: Callable[[Tensor], Tensor] | None = None
    is_inception: bool = False

    @property
    def frechet_name(self) -> str:
        """Return the name of its Frechet distance."""
        return "fid" if self.is_inception else self._named("frechet_distance")

    @property
    def kernel_name(self) -> str:
        """Return the name of its kernel distance."""
        return "kid" if self.is_inception else self._named("kernel_distance")

    @property
    def score_name(self) -> str:
        """Return the name of the score of its class probabilities."""
        return "inception_score" if self.is_inception else self._named("score")

    def _named(self, metric: str) -> str:
        return f"{self.name}_{metric}" if self.name else metric


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
        resize: What is done to images first, as text.
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

    return FeatureExtractor(
        name=name,
        digest=digest,
        resize=resize,
        extract=extract,
        differentiate=differentiate if is_differentiable else None,
        classify=None if class_weights is None else classify,
        is_inception=is_inception,
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


def load_torchscript(content: bytes, name: str, device: torch.device) -> nn.Module:
    """Return the network of a TorchScript file, which is code: its ``forward`` may do anything.

    Args:
        content: Of the file, as it was judged.
        name: Of the file, for the message.
        device: Where it runs.

    Raises:
        DataError: The file is not one, or is damaged.
    """
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", FutureWarning)  # the format is deprecated
            network = torch.jit.load(io.BytesIO(content), map_location=device)
    except (RuntimeError, ValueError) as error:
        raise DataError(
            f"{name} is not a whole TorchScript file ({reason(error)}). A download "
            "that was cut short looks so: fetch it again. Weights without a network need "
            "package.module:name of a function that builds one as features.extractor.kind."
        ) from error
    return frozen(network, device)


def resized(images: Tensor, side: int) -> Tensor:
    """Resize float images in [0, 255], ``(B, 3, H, W)``, to a square; clipped, not rounded.

    It is Pillow's bicubic, on any device. Resizing moves the Frechet distance (Parmar et al. 2022):
    clean-fid has Pillow resize one channel of one image at a time, in floats. A product with two
    matrices of weights is the same to 1e-4 of 255, and can be differentiated. torch's own bicubic
    antialiasing computes its weights in float32: it is wrong by up to 1e-2 of 255 on noisy images.
    """
    height, width = images.shape[-2:]
    if (height, width) == (side, side):
        return images
    rows, columns = (bicubic_weights(n, side).to(images) for n in (height, width))
    return (rows @ images @ columns.T).clamp(0, 255)  # it overshoots at edges


@lru_cache(maxsize=16)
def bicubic_weights(size: int, new_size: int) -> Tensor:
    """Return the weights of old pixels in new ones along one side, ``(new_size, size)``, float64.

    Cubic convolution with a = -1/2 (Keys 1981): with x the distance of an old pixel in new
    pixels or, where the image grows, in old ones, the weight is 3/2 |x|^3 - 5/2 |x|^2 + 1 up to 1
    and -1/2 |x|^3 + 5/2 |x|^2 - 4 |x| + 2 up to 2. The weights of a new pixel sum to 1.
    """
    ratio = size / new_size
    old = torch.arange(size, dtype=torch.float64) + 0.5
    new = (torch.arange(new_size, dtype=torch.float64) + 0.5) * ratio
    x = (old - new[:, None]).abs()
    x /= max(ratio, 1)  # wider where it shrinks: antialiasing
    near = (1.5 * x - 2.5) * x**2 + 1
    far = ((2.5 - 0.5 * x) * x - 4) * x + 2
    weights = torch.where(x < 1, near, torch.where(x < 2, far, 0.0))
    return weights / weights.sum(1, keepdim=True)


def through_jpeg(images: Tensor) -> Tensor:
    """Return the pixels that JPEG files of uint8 images ``(B, 3, H, W)`` give back.

    sLCT writes what it generates, and compares with JPEG files of real images. The files are
    written in memory, as Pillow does by default: of quality 75, colour at half the resolution
    (4:2:0).
    """
    arrays = images.permute(0, 2, 3, 1).cpu().numpy()
    decoded = np.stack([_through_jpeg(array) for array in arrays])
    return torch.from_numpy(decoded).permute(0, 3, 1, 2).contiguous().to(images.device)


def _through_jpeg(pixels: np.ndarray) -> np.ndarray:
    file = io.BytesIO()
    Image.fromarray(np.ascontiguousarray(pixels)).save(file, "JPEG", quality=75)
    return np.asarray(Image.open(file))
