"""The Inception of FID as pytorch-fid ported it, by which sLCT and much of the literature measure.

It has the weights of clean-fid's, but other resizing: bilinear, without antialiasing. So its FID is
not that of clean-fid.
"""

from __future__ import annotations

import pickle
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lct_pipeline.errors import DataError
from lct_pipeline.models.digests import file_digest
from lct_pipeline.models.features.base import (
    FeatureExtractor,
    extractor_of_network,
    frozen,
    reason,
    weights_file,
)

PYTORCH_FILE = "pt_inception-2015-12-05-6726825d.pth"  # state dict, 95 MB
SIDE = 299
NUM_CLASSES = 1008  # of TensorFlow's Inception


def inception_pytorch_extractor(
    path: str | None, device: torch.device
) -> FeatureExtractor:
    """Return the features of the last pooling layer, as pytorch-fid computes them.

    Args:
        path: The file that pytorch-fid downloads, or its folder; None is torch hub's folder, where
            pytorch-fid keeps it.
        device: Where it runs.

    Raises:
        DataError: The file is not there, damaged, or of another network.
    """
    usual = Path(torch.hub.get_dir()) / "checkpoints"
    file = weights_file(path, PYTORCH_FILE, usual, kind="inception_pytorch")
    network: Any = frozen(_network(file), device)
    class_weights, network.fc = network.fc.weight, nn.Identity()

    def features(images: Tensor) -> Tensor:
        images = F.interpolate(images / 255, (SIDE, SIDE), mode="bilinear")
        return network(2 * images - 1)

    return extractor_of_network(
        "inception_pytorch",
        features,
        device,
        digest=file_digest(file),
        resize=f"bilinear to {SIDE} in the network",
        class_weights=class_weights,
        is_inception=True,
    )


def _network(file: Path) -> nn.Module:
    """Return torchvision's Inception with the blocks of pytorch-fid and the weights of a file."""
    from cleanfid import inception_pytorch as port
    from torchvision.models import inception

    def last_block(num_channels: int) -> nn.Module:
        first, second = port.FIDInceptionE_1, port.FIDInceptionE_2
        return (first if num_channels == 1280 else second)(num_channels)

    blocks = [
        inception.BasicConv2d,
        port.FIDInceptionA,
        inception.InceptionB,
        port.FIDInceptionC,
        inception.InceptionD,
        last_block,
        inception.InceptionAux,
    ]
    with torch.device("meta"):  # the weights come from the file
        network = inception.Inception3(
            NUM_CLASSES, aux_logits=False, inception_blocks=blocks, init_weights=False
        )
    try:
        tensors = torch.load(file, map_location="cpu", weights_only=True)
        network.load_state_dict(tensors, assign=True)
    except (RuntimeError, ValueError, TypeError, EOFError, pickle.PickleError) as error:
        raise DataError(
            f"{file} does not hold the weights of pytorch-fid's Inception "
            f"({reason(error)}): fetch it again."
        ) from error
    return network
