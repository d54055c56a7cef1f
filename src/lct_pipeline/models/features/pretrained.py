"""Pretrained networks: the Inception of FID (Heusel et al. 2017), and DINOv2 (Oquab et al. 2023).

Clean-fid and pytorch-fid have the same weights of Inception, but clean-fid resizes with
antialiasing (Parmar et al. 2022), and pytorch-fid, by which sLCT and much of the literature
measure, bilinearly without. So their FIDs are two metrics. The Frechet distance of DINOv2 agrees
best with people (Stein et al. 2023).
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lct_pipeline.errors import DataError
from lct_pipeline.given_files import check_folder
from lct_pipeline.models.digests import tensors_digest
from lct_pipeline.models.features.base import (
    FeatureExtractor,
    constants,
    extractor_of_network,
    frozen,
    load_torchscript,
    reason,
    resized,
)
from lct_pipeline.models.published_weights import (
    INCEPTION_FILE,
    PYTORCH_FILE,
    SHA256,
    published_file,
    read_published,
)

if TYPE_CHECKING:
    from transformers import Dinov2Model


INCEPTION_SIDE, INCEPTION_CLASSES = 299, 1008  # of TensorFlow's
DINOV2 = "facebook/dinov2-large"  # ViT-L/14, as Stein et al. and EDM2 have it
DINOV2_SIDE = 224
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def inception_extractor(path: str | None, device: torch.device) -> FeatureExtractor:
    """Return the features of the last pooling layer, behind clean-fid's resizing (``clean``).

    Class probabilities are those of the Inception score, whose authors left the bias of the output
    layer out (Salimans et al. 2016). A file without output layer has no classes.

    Args:
        path: The file that clean-fid downloads, or its folder; None is torch hub's folder. Not the
            system's temporary one, where clean-fid keeps it and every user can put another.
        device: Where it runs.

    Raises:
        DataError: The file is not there, or is not the published one.
    """
    content = _weights(path, INCEPTION_FILE, "inception")
    network: Any = load_torchscript(content, INCEPTION_FILE, device)

    def features(images: Tensor) -> Tensor:
        return network.layers((resized(images, INCEPTION_SIDE) - 128) / 128).flatten(1)

    return extractor_of_network(
        "inception",
        features,
        device,
        digest=SHA256[INCEPTION_FILE],
        resize=f"clean-fid bicubic to {INCEPTION_SIDE}",
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
        DataError: The file is not there, or is not the published one.
    """
    content = _weights(path, PYTORCH_FILE, "inception_pytorch")
    network: Any = frozen(_pytorch_network(content), device)
    class_weights, network.fc = network.fc.weight, nn.Identity()

    def features(images: Tensor) -> Tensor:
        images = F.interpolate(
            images / 255, (INCEPTION_SIDE, INCEPTION_SIDE), mode="bilinear"
        )
        return network(2 * images - 1)

    return extractor_of_network(
        "inception_pytorch",
        features,
        device,
        digest=SHA256[PYTORCH_FILE],
        resize=f"bilinear to {INCEPTION_SIDE} in the network",
        class_weights=class_weights,
        is_inception=True,
    )


def _pytorch_network(content: bytes) -> nn.Module:
    """Return torchvision's Inception with the blocks and the weights of pytorch-fid."""
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
    with torch.device("meta"):  # it gets its weights below
        network = inception.Inception3(
            INCEPTION_CLASSES,
            aux_logits=False,
            inception_blocks=blocks,
            init_weights=False,
        )
    tensors = torch.load(io.BytesIO(content), map_location="cpu", weights_only=True)
    network.load_state_dict(tensors, assign=True)
    return network


def _weights(given: str | None, name: str, kind: str) -> bytes:
    """Return the content of the published file of a kind, which is at its usual place or given.

    Raises:
        DataError: It is not there, with where to put it and what works without; or not that file.
    """
    path = published_file(given, name)
    if not path.exists():
        raise DataError(
            f"the extractor {kind} needs the file {name}, and {path} is not there. Put it there, "
            "or give it or its folder as features.extractor.path; it is not downloaded. "
            "features.extractor.kind=classifier works without."
        )
    return read_published(path, name)


def dinov2_extractor(source: str | None, device: torch.device) -> FeatureExtractor:
    """Return the class token of DINOv2 after the last norm.

    Args:
        source: Folder or hub id of a ``Dinov2Model`` of transformers; None is DINOv2 ViT-L/14.
        device: Where it runs.

    Raises:
        DataError: transformers is not installed, or there is no such model.
    """
    model = _load(source or DINOV2)
    digest = tensors_digest(model.state_dict())
    frozen(model, device)
    mean, std = constants(device, IMAGENET_MEAN, IMAGENET_STD)

    def features(images: Tensor) -> Tensor:
        normalised = (resized(images, DINOV2_SIDE) / 255 - mean) / std
        return model(pixel_values=normalised).pooler_output

    return extractor_of_network(
        "dinov2",
        features,
        device,
        digest=digest,
        resize=f"antialiased bicubic to {DINOV2_SIDE}",
    )


def _load(source: str) -> Dinov2Model:
    check_folder(Path(source))
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
        if not isinstance(model, Dinov2Model):
            raise ValueError(f"it is a {type(model).__name__}")
        if found["missing_keys"]:
            raise ValueError(f"no weights of {min(found['missing_keys'])}")
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(
            f"{source} is neither a folder nor a hub id of DINOv2 that can be reached from here "
            f"({reason(error)}). Give a folder with config.json and model.safetensors as "
            f"features.extractor.path, a copy of {DINOV2} for instance."
        ) from error
    return model
