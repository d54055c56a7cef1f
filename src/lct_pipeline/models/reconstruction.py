"""How alike two sets of images are: PSNR, and LPIPS (Zhang et al. 2018, arXiv 1801.03924).

LPIPS is that of the package ``lpips``, version 0.1, on AlexNet. The package brings its linear
weights; AlexNet's are a file of torchvision's, which is read where it is and never downloaded.
"""

from __future__ import annotations

import io
import math
import warnings
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lct_pipeline.models.autoencoder import to_float
from lct_pipeline.models.published_weights import ALEXNET_FILE, read_published

MIN_SIDE = 64  # of the images that its linear weights were fitted on

Distance = Callable[[Tensor, Tensor], Tensor]


def squared_error(images: Tensor, reconstructions: Tensor) -> int:
    """Return the sum of squared differences of uint8 images."""
    difference = images.int() - reconstructions.int()
    return int(difference.square().sum())


def psnr(squared_error: int, num_values: int) -> float:
    """Return the peak signal-to-noise ratio in dB over ``num_values`` values together."""
    if squared_error == 0:
        return math.inf
    return 10 * math.log10(255**2 * num_values / squared_error)


def lpips_distance(path: Path, device: torch.device) -> Distance:
    """Return the function from two batches of uint8 images ``(B, 3, S, S)`` to distances ``(B,)``.

    Args:
        path: File of AlexNet's weights.
        device: Where to.

    Raises:
        DataError: The file is not that of torchvision's AlexNet.
    """
    network = _network(path).to(device).requires_grad_(False)

    def distance(images: Tensor, others: Tensor) -> Tensor:
        with torch.no_grad():
            pair = (to_float(x.to(device)) for x in (images, others))
            return network(*pair).flatten()

    return distance


def _network(path: Path) -> Any:
    import lpips

    content = io.BytesIO(read_published(path, ALEXNET_FILE))
    weights = torch.load(content, map_location="cpu", weights_only=True)
    # it calls torchvision with an argument of older versions
    with warnings.catch_warnings():
        warnings.simplefilter("ignore", UserWarning)
        network = lpips.LPIPS(net="alex", pnet_rand=True, verbose=False)
    names = network.net.state_dict()  # "slice2.3.bias" is "features.3.bias"
    network.net.load_state_dict(
        {name: weights[f"features.{name.partition('.')[2]}"] for name in names}
    )
    return network.eval()
