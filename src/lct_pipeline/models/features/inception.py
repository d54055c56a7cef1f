"""The Inception of FID (Heusel et al. 2017), as clean-fid and as pytorch-fid run it.

Both have the same weights, but clean-fid resizes with antialiasing (Parmar et al. 2022), and
pytorch-fid, by which sLCT and much of the literature measure, bilinearly without. So their FIDs are
two metrics.
"""

from __future__ import annotations

import pickle
import tempfile
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
    load_torchscript,
    reason,
)
from lct_pipeline.models.features.resizing import resized

INCEPTION_FILE = "inception-2015-12-05.pt"  # TorchScript, 95 MB
PYTORCH_FILE = "pt_inception-2015-12-05-6726825d.pth"  # state dict, 95 MB
SIDE = 299
NUM_CLASSES = 1008  # of TensorFlow's Inception


def inception_extractor(path: str | None, device: torch.device) -> FeatureExtractor:
    """Return the features of the last pooling layer, behind clean-fid's resizing (``clean``).

    Class probabilities are those of the Inception score, whose authors left the bias of the output
    layer out (Salimans et al. 2016). A file without output layer has no classes.

    Args:
        path: The file that clean-fid downloads, or its folder; None is the system's temporary
            folder, where clean-fid keeps it.
        device: Where it runs.

    Raises:
        DataError: The file is not there, or damaged.
    """
    file = _weights_file(path or tempfile.gettempdir(), INCEPTION_FILE, "inception")
    network: Any = load_torchscript(file, device)

    def features(images: Tensor) -> Tensor:
        return network.layers((resized(images, SIDE) - 128) / 128).flatten(1)

    return extractor_of_network(
        "inception",
        features,
        device,
        digest=file_digest(file),
        resize=f"clean-fid bicubic to {SIDE}",
        class_weights=network.output.weight if hasattr(network, "output") else None,
        is_inception=True,
    )


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
    usual = f"{torch.hub.get_dir()}/checkpoints"
    file = _weights_file(path or usual, PYTORCH_FILE, "inception_pytorch")
    network: Any = frozen(_pytorch_network(file), device)
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


def _pytorch_network(file: Path) -> nn.Module:
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


def _weights_file(place: str, name: str, kind: str) -> Path:
    """Return the file with the weights of a kind: the place itself, or a file in that folder.

    Raises:
        DataError: The file is not there; says where to put it and what works without.
    """
    path = Path(place)
    path = path / name if path.is_dir() else path
    if not path.is_file():
        raise DataError(
            f"the extractor {kind} needs the file {name}, and {path} is not there. Put it there, "
            "or give it or its folder as features.extractor.path; it is not downloaded. "
            "features.extractor.kind=classifier works without."
        )
    return path
