"""Custom networks: by import path, or in a TorchScript or ONNX file."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lct_pipeline.errors import DataError
from lct_pipeline.models.digests import file_digest, tensors_digest
from lct_pipeline.models.features.base import (
    FeatureExtractor,
    constants,
    extractor_of_network,
    frozen,
    load_torchscript,
)
from lct_pipeline.models.features.onnx_file import load_onnx, onnx_digest
from lct_pipeline.models.features.resizing import resized
from lct_pipeline.models.importing import imported
from lct_pipeline.parameters.evaluation import UNCHANGED, Extractor

Network = Callable[[Tensor], Any]


def custom_extractor(extractor: Extractor, device: torch.device) -> FeatureExtractor:
    """Return the features of a custom network.

    It is given float images ``(B, 3, size, size)``, (x / 255 - mean) / std, and returns features
    ``(B, D)`` or ``(B, D, 1, 1)``.

    Args:
        extractor: Its ``kind`` is ``package.module:name`` of a function, which is given ``path``
            where there is one and returns a ``torch.nn.Module`` or another callable; or a
            TorchScript or ONNX file.
        device: Where it runs.

    Raises:
        ParameterError: There is no such function.
        DataError: There is no such file, or it is damaged.
    """
    kind, size = extractor.kind, extractor.size
    name = Path(kind).stem if extractor.is_file else kind.partition(":")[2]
    network, digest = _network(extractor, device)
    mean, std = constants(device, extractor.mean, extractor.std)

    def features(images: Tensor) -> Tensor:
        images = images if size is None else resized(images, size)
        return network((images / 255 - mean) / std)

    return extractor_of_network(
        name,
        features,
        device,
        digest=digest,
        resize=_as_text(extractor),
        is_differentiable=not kind.endswith(".onnx"),
    )


def _as_text(extractor: Extractor) -> str:
    """Return what is done to images; normalisation too, for it changes the features as well."""
    parts = []
    if extractor.size is not None:
        parts.append(f"antialiased bicubic to {extractor.size}")
    if (extractor.mean, extractor.std) != UNCHANGED:
        mean, std = (" ".join(map(str, v)) for v in (extractor.mean, extractor.std))
        parts.append(f"mean {mean}, std {std}")
    return ", ".join(parts) or "none"


def _network(extractor: Extractor, device: torch.device) -> tuple[Network, str]:
    """Return a network and the digest of its weights."""
    if not extractor.is_file:
        return _imported_network(extractor.kind, extractor.path, device)
    file = Path(extractor.kind)
    if not file.is_file():
        raise DataError(
            f"features.extractor.kind={extractor.kind!r}: there is no such file."
        )
    if file.suffix == ".onnx":
        return load_onnx(file, device), onnx_digest(file)
    return load_torchscript(file, device), file_digest(file)


def _imported_network(
    kind: str, path: str | None, device: torch.device
) -> tuple[Network, str]:
    function = imported(kind, "features.extractor.kind")
    network = function() if path is None else function(path)
    if not callable(network):
        raise DataError(
            f"features.extractor.kind={kind!r} must return a torch.nn.Module or another callable; "
            f"it returned {type(network).__name__}."
        )
    tensors = network.state_dict() if isinstance(network, nn.Module) else {}
    digest = tensors_digest(tensors) if tensors else _code_digest(kind)
    if isinstance(network, nn.Module):
        network = frozen(network, device)
    return network, digest


def _code_digest(kind: str) -> str:
    """Return the SHA-256 of an import path and of the code that it leads to."""
    module = sys.modules[kind.partition(":")[0]]
    code = file_digest(Path(inspect.getfile(module)))
    return hashlib.sha256(f"{kind} {code}".encode()).hexdigest()
