"""Feature extractors by their kinds: known ones, and custom networks, imported or in a file."""

from __future__ import annotations

import hashlib
import inspect
import logging
import re
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lct_pipeline.errors import DataError
from lct_pipeline.given_files import indexed_file, refuse_replaceable, regular_file
from lct_pipeline.models.digests import file_digest, tensors_digest
from lct_pipeline.models.features.base import (
    FeatureExtractor,
    constants,
    extractor_of_network,
    frozen,
    load_torchscript,
    resized,
)
from lct_pipeline.models.features.pretrained import (
    dinov2_extractor,
    inception_extractor,
    inception_pytorch_extractor,
)
from lct_pipeline.models.importing import imported
from lct_pipeline.parameters.evaluation import UNCHANGED, Extractor

logger = logging.getLogger(__name__)

KNOWN = {
    "inception": inception_extractor,
    "inception_pytorch": inception_pytorch_extractor,
    "dinov2": dinov2_extractor,
}
# an entry {"location": <file>} of a tensor whose values are in another file, as protobuf writes it:
# field 1 with 8 bytes, then field 2 with its length in one byte, or in two of 7 bits each
LOCATION = re.compile(rb"\n\x08location\x12([\x80-\xff]?)([\x00-\x7f])", re.DOTALL)

Network = Callable[[Tensor], Any]


def build_extractor(extractor: Extractor, device: torch.device) -> FeatureExtractor:
    """Return the extractor of a kind, all but a classifier that is trained here.

    Raises:
        ParameterError: A function that it names cannot be imported.
        DataError: A file or a package that it needs is missing, or a file is damaged.
    """
    if extractor.kind in KNOWN:
        return KNOWN[extractor.kind](extractor.path, device)
    return custom_extractor(extractor, device)


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
    if not file.exists():
        raise DataError(
            f"features.extractor.kind={extractor.kind!r}: there is no such file."
        )
    regular_file(file)
    if file.suffix == ".onnx":
        digest = onnx_digest(file)
        return load_onnx(file, device), digest
    refuse_replaceable(file)
    content = file.read_bytes()
    network = load_torchscript(content, str(file), device)
    return network, hashlib.sha256(content).hexdigest()


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


def load_onnx(path: Path, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Return a function from float images to the first output of the network of an ONNX file.

    Onnxruntime runs it. It uses as many threads as torch does.

    Raises:
        DataError: onnxruntime is not installed, or the file is damaged or of another interface.
    """
    try:
        import onnxruntime
    except ImportError as error:
        raise DataError(
            f"{path} needs onnxruntime: pip install 'lct_pipeline[onnx]'"
        ) from error
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = torch.get_num_threads()
    providers = _providers(device, onnxruntime.get_available_providers())
    try:
        session = onnxruntime.InferenceSession(path, options, providers=providers)
    except Exception as error:  # onnxruntime's own classes have no common one
        raise DataError(
            f"{path} is not a network that onnxruntime runs: {error}"
        ) from error
    name = _input_name(session, path)

    def run(images: Tensor) -> Tensor:
        try:
            outputs = session.run(None, {name: images.cpu().numpy()})
        except Exception as error:
            raise DataError(
                f"{path} cannot take images of shape {tuple(images.shape)}: {error}. It may need "
                "another features.extractor.size, or to be exported with a dynamic batch."
            ) from error
        return torch.from_numpy(outputs[0]).to(images.device)

    return run


def _providers(device: torch.device, available: list[str]) -> list[Any]:
    """Return what onnxruntime is to run on."""
    on_gpu = ("CUDAExecutionProvider", {"device_id": device.index or 0})
    if device.type == "cuda" and on_gpu[0] in available:
        return [on_gpu, "CPUExecutionProvider"]
    if device.type == "cuda":
        logger.warning(
            "onnxruntime runs on the CPU here: pip install onnxruntime-gpu for the GPU."
        )
    return ["CPUExecutionProvider"]


def _input_name(session: Any, path: Path) -> str:
    """Return the name of the only input."""
    inputs = session.get_inputs()
    if len(inputs) == 1 and inputs[0].type == "tensor(float)":
        return inputs[0].name
    found = ", ".join(f"{given.name}: {given.type}" for given in inputs)
    raise DataError(
        f"{path} must have images of float32 as its only input; it has {found}."
    )


def onnx_digest(path: Path) -> str:
    """Return the SHA-256 of an ONNX file, with that of each file beside it that has its tensors.

    Raises:
        DataError: It names a file elsewhere, or one that is not regular.
    """
    files = [path, *(indexed_file(path, name) for name in _external_files(path))]
    digests = [file_digest(regular_file(file)) for file in files]
    if len(digests) == 1:
        return digests[0]
    return hashlib.sha256(" ".join(digests).encode()).hexdigest()


def _external_files(path: Path) -> list[str]:
    """Return the names of the files that hold tensors of an ONNX file, in order."""
    content = path.read_bytes()
    names = set()
    for found in LOCATION.finditer(content):
        first, second = found[1], found[2][0]
        length = (first[0] & 127) + 128 * second if first else second
        names.add(content[found.end() : found.end() + length].decode())
    return sorted(names)
