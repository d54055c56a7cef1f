"""The Inception of FID, as clean-fid runs it (Heusel et al. 2017; Parmar et al. 2022)."""

from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lct_pipeline.models.digests import file_digest
from lct_pipeline.models.features.base import (
    FeatureExtractor,
    extractor_of_network,
    load_torchscript,
    weights_file,
)
from lct_pipeline.models.features.resizing import resized

INCEPTION_FILE = "inception-2015-12-05.pt"  # TorchScript, 95 MB
SIDE = 299


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
    usual = Path(tempfile.gettempdir())
    file = weights_file(path, INCEPTION_FILE, usual, kind="inception")
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
