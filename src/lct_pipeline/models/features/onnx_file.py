"""Networks in ONNX files, run by onnxruntime."""

from __future__ import annotations

import hashlib
import logging
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lct_pipeline.errors import DataError
from lct_pipeline.models.digests import file_digest

logger = logging.getLogger(__name__)

# an entry {"location": <file>} of a tensor whose values are in another file, as protobuf writes it:
# field 1 with 8 bytes, then field 2 with its length in one byte, or in two of 7 bits each
LOCATION = re.compile(rb"\n\x08location\x12([\x80-\xff]?)([\x00-\x7f])", re.DOTALL)


def load_onnx(path: Path, device: torch.device) -> Callable[[Tensor], Tensor]:
    """Return a function from float images to the first output of the network of a file.

    It uses as many threads as torch does.

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
    """Return the SHA-256 of an ONNX file, with that of each file beside it that has its tensors."""
    files = [path, *(path.parent / name for name in _external_files(path))]
    digests = [file_digest(file) for file in files]
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
