"""Networks of one's own: by import path, or in a TorchScript or ONNX file."""

from __future__ import annotations

import hashlib
import inspect
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn

from lct_pipeline.errors import DataError, ParameterError
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

TORCHSCRIPT_SUFFIXES = (".pt", ".pth", ".ts")
ONNX_SUFFIX = ".onnx"
UNCHANGED_MEAN, UNCHANGED_STD = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)

Normalisation = tuple[float, float, float]


class OwnNetwork(NamedTuple):
    """A network, what it is called, and the digest of its weights."""

    name: str
    run: Callable[[Tensor], Any]
    digest: str
    is_differentiable: bool


def is_own(kind: str) -> bool:
    """Return whether a kind is an import path or a file."""
    suffixes = (*TORCHSCRIPT_SUFFIXES, ONNX_SUFFIX)
    return Path(kind).suffix in suffixes or ":" in kind


def own_extractor(
    kind: str,
    path: str | None,
    size: int | None,
    mean: Normalisation,
    std: Normalisation,
    device: torch.device,
) -> FeatureExtractor:
    """Return the features of a network of one's own.

    It is given float images ``(B, 3, size, size)``, (x / 255 - mean) / std, and returns features
    ``(B, D)`` or ``(B, D, 1, 1)``.

    Args:
        kind: ``package.module:name`` of a function that returns a ``torch.nn.Module``, or another
            callable; or a TorchScript or ONNX file.
        path: What the function is given; None: nothing.
        size: Side that images are resized to; None: as they are.
        mean: By channel, of images in [0, 1].
        std: Likewise.
        device: Where it runs.

    Raises:
        ParameterError: There is no such function.
        DataError: There is no such file, or it is damaged.
    """
    network = _network(kind, path, device)
    shift, scale = constants(device, mean, std)

    def features(images: Tensor) -> Tensor:
        images = images if size is None else resized(images, size)
        return network.run((images / 255 - shift) / scale)

    return extractor_of_network(
        network.name,
        features,
        device,
        digest=network.digest,
        resize=_in_words(size, mean, std),
        is_differentiable=network.is_differentiable,
    )


def _in_words(size: int | None, mean: Normalisation, std: Normalisation) -> str:
    """Return what is done to images; normalisation too, for it changes the features as well."""
    words = [] if size is None else [f"antialiased bicubic to {size}"]
    if (mean, std) != (UNCHANGED_MEAN, UNCHANGED_STD):
        numbers = [" ".join(map(str, values)) for values in (mean, std)]
        words.append(f"mean {numbers[0]}, std {numbers[1]}")
    return ", ".join(words) or "none"


def _network(kind: str, path: str | None, device: torch.device) -> OwnNetwork:
    file = Path(kind)
    if file.suffix not in (*TORCHSCRIPT_SUFFIXES, ONNX_SUFFIX):
        return _imported_network(kind, path, device)
    if path is not None:
        raise ParameterError(
            f"features.extractor.path={path!r} is for a function; {kind} has its weights inside."
        )
    if not file.is_file():
        raise DataError(f"features.extractor.kind={kind!r}: there is no such file.")
    if file.suffix == ONNX_SUFFIX:
        return OwnNetwork(file.stem, load_onnx(file, device), onnx_digest(file), False)
    network = load_torchscript(file, device)
    return OwnNetwork(file.stem, network, file_digest(file), True)


def _imported_network(kind: str, path: str | None, device: torch.device) -> OwnNetwork:
    function = imported(kind, "features.extractor.kind")
    network = function() if path is None else function(path)
    if not callable(network):
        raise DataError(
            f"features.extractor.kind={kind!r} must return a torch.nn.Module or another callable; "
            f"it returned {type(network).__name__}."
        )
    module, _, name = kind.partition(":")
    if not isinstance(network, nn.Module):
        return OwnNetwork(name, network, _code_digest(kind, module), True)
    tensors = network.state_dict()
    digest = tensors_digest(tensors) if tensors else _code_digest(kind, module)
    return OwnNetwork(name, frozen(network, device), digest, True)


def _code_digest(kind: str, module: str) -> str:
    """Return the SHA-256 of an import path and of the code that it leads to."""
    code = file_digest(Path(inspect.getfile(sys.modules[module])))
    return hashlib.sha256(f"{kind} {code}".encode()).hexdigest()
