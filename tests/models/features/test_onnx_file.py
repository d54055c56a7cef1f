"""Networks in ONNX files, against the same network in torch."""

from __future__ import annotations

import hashlib
import logging
import sys
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from onnx import TensorProto, helper, numpy_helper
from stand_ins import IMAGENET, built, images
from torch import Tensor
from torch.nn import functional as F

from lct_pipeline.errors import DataError
from lct_pipeline.models.features.onnx_file import load_onnx, onnx_digest

WEIGHT = np.random.default_rng(0).normal(size=(5, 3, 4, 4)).astype(np.float32)


def model(batch: str | int = "batch", kind: int = TensorProto.FLOAT) -> onnx.ModelProto:
    """Return a convolution of stride 4, ReLU and global average pooling: ``(B, 5, 1, 1)``."""
    node, info = helper.make_node, helper.make_tensor_value_info
    graph = helper.make_graph(
        [
            node("Cast", ["x"], ["images"], to=TensorProto.FLOAT),
            node("Conv", ["images", "weight"], ["maps"], strides=[4, 4]),
            node("Relu", ["maps"], ["positive"]),
            node("GlobalAveragePool", ["positive"], ["features"]),
        ],
        "network",
        [info("x", kind, [batch, 3, "h", "w"])],
        [info("features", TensorProto.FLOAT, [batch, 5, 1, 1])],
        [numpy_helper.from_array(WEIGHT, "weight")],
    )
    opsets = [helper.make_opsetid("", 17)]
    return helper.make_model(graph, opset_imports=opsets, ir_version=9)


def expected(given: Tensor) -> Tensor:
    return F.conv2d(given, torch.from_numpy(WEIGHT), stride=4).relu().mean((2, 3))


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "mine.onnx"
    onnx.save(model(), path)
    return path


def write_external(path: Path, location: str) -> Path:
    """Write a network whose weights are in another file."""
    path.parent.mkdir(exist_ok=True)
    onnx.save(
        model(),
        path,
        save_as_external_data=True,
        location=location,
        size_threshold=0,
    )
    return path


def test_features_are_those_of_the_same_network_in_torch(file: Path) -> None:
    found = built(str(file))
    torch.testing.assert_close(found.extract(images()), expected(images() / 255))
    assert (found.name, found.differentiate) == ("mine", None)
    assert found.digest == hashlib.sha256(file.read_bytes()).hexdigest()
    mean, std = (torch.tensor(IMAGENET[n]).reshape(3, 1, 1) for n in ("mean", "std"))
    normalised = (images() / 255 - mean) / std
    resized = built(str(file), size=24, **IMAGENET).extract
    torch.testing.assert_close(
        resized(images()), expected(normalised), atol=1e-5, rtol=1e-4
    )
    assert resized(images(2, 60)).shape == (2, 5)


def test_it_uses_as_many_threads_as_torch(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    sessions = []

    class Session(onnxruntime.InferenceSession):
        def __init__(self, *args: Any, **kwargs: Any) -> None:
            super().__init__(*args, **kwargs)
            sessions.append(self)

    monkeypatch.setattr(onnxruntime, "InferenceSession", Session)
    monkeypatch.setattr(torch, "get_num_threads", lambda: 3)
    built(str(file))
    assert sessions[0].get_session_options().intra_op_num_threads == 3


def test_on_a_gpu_without_the_packages_gpu_it_says_that_it_runs_on_the_cpu(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setattr(
        onnxruntime, "get_available_providers", lambda: ["CPUExecutionProvider"]
    )
    with caplog.at_level(logging.WARNING):
        run = load_onnx(file, torch.device("cuda"))
    assert "onnxruntime-gpu" in caplog.text
    assert run(images().float()).shape == (3, 5, 1, 1)


@pytest.mark.parametrize("location", ["weights.bin", "w" * 200])
def test_the_digest_covers_weights_in_another_file(
    tmp_path: Path, location: str
) -> None:
    path = write_external(tmp_path / "network" / "mine.onnx", location)
    found = built(str(path))
    torch.testing.assert_close(found.extract(images()), expected(images() / 255))
    weights = path.with_name(location)
    content = bytearray(weights.read_bytes())
    content[3] ^= 1
    weights.write_bytes(content)
    assert onnx_digest(path) != found.digest


def test_without_onnxruntime_the_remedy_is_named(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "onnxruntime", None)
    with pytest.raises(DataError, match=r"pip install 'lct_pipeline\[onnx\]'"):
        built(str(file))


def test_a_damaged_file_or_another_input_is_refused(file: Path) -> None:
    file.write_bytes(file.read_bytes()[:100])
    with pytest.raises(DataError, match=r"mine\.onnx is not a network that onnxrun"):
        built(str(file))
    onnx.save(model(kind=TensorProto.DOUBLE), file)
    with pytest.raises(DataError, match=r"float32 .*it has x: tensor\(double\)"):
        built(str(file))


def test_a_fixed_batch_is_refused_with_the_remedy(tmp_path: Path) -> None:
    path = tmp_path / "one.onnx"
    onnx.save(model(batch=1), path)
    message = r"cannot take images of shape \(3, 3, 24, 24\).*dynamic batch"
    with pytest.raises(DataError, match=f"(?s){message}"):
        built(str(path)).extract(images())
