"""Which kinds of extractors there are, and custom networks by import path or in a file."""

from __future__ import annotations

import hashlib
import importlib
import logging
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import onnxruntime
import pytest
import torch
from cleanfid.resize import make_resizer
from onnx import TensorProto, helper, numpy_helper
from pydantic import ValidationError
from stand_ins import IMAGENET, built, images, require_gradients
from torch import Tensor
from torch.nn import functional as F

from lct_pipeline.errors import DataError
from lct_pipeline.models.digests import tensors_digest
from lct_pipeline.models.features.extractors import KNOWN, load_onnx, onnx_digest
from lct_pipeline.parameters.evaluation import KINDS, Extractor


def test_every_kind_but_the_classifier_can_be_built() -> None:
    assert set(KINDS) == {"classifier", *KNOWN}


@pytest.mark.parametrize("kind", ["Inception", "resnet", "my_module.network", ":a"])
def test_an_unknown_kind_is_refused_with_what_is_known(kind: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Extractor(kind=kind)
    for word in (*KINDS, "package.module:name", ".pt", ".onnx"):
        assert word in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "change", [{"size": 64}, *({k: v} for k, v in IMAGENET.items())]
)
def test_what_a_known_network_does_to_images_cannot_be_changed(
    kind: str, change: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError, match=f"{kind} resizes .* custom networks"):
        Extractor(kind=kind, **change)


def test_a_file_takes_no_path() -> None:
    with pytest.raises(ValidationError, match=r"path='weights' is for a function"):
        Extractor(kind="mine.pt", path="weights")


@pytest.mark.parametrize("name", ["no_such.pt", "no_such.onnx"])
def test_a_file_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(DataError, match=rf"{name}'.* no such file"):
        built(name)


MODULE = """
import torch
from torch import nn

class Network(nn.Module):
    def __init__(self, num_features):
        super().__init__()
        self.convolution = nn.Conv2d(3, num_features, 5, stride=5)
        self.dropout = nn.Dropout(0.5)

    def forward(self, x):
        return self.dropout(self.convolution(x)).mean((2, 3))

def network(path=None):
    torch.manual_seed(0)
    network = Network(6)
    if path is not None:
        network.load_state_dict(torch.load(path, weights_only=True))
    return network

def pixels():
    return lambda x: x.flatten(1)

def pooling():
    return nn.AdaptiveAvgPool2d(1)

def nothing():
    return None
"""


@pytest.fixture
def module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    """Write a module of the user into the current folder."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [*sys.path])
    path = tmp_path / "my_networks.py"
    path.write_text(MODULE)
    importlib.invalidate_caches()
    yield path
    sys.modules.pop("my_networks", None)


def expected(weights: dict[str, Tensor], given: Tensor) -> Tensor:
    """Return the features of the module's network without dropout."""
    maps = F.conv2d(
        given, weights["convolution.weight"], weights["convolution.bias"], stride=5
    )
    return maps.mean((2, 3))


def own_weights(module: Path) -> dict[str, Tensor]:
    sys.path.insert(0, str(module.parent))
    return importlib.import_module("my_networks").network().state_dict()


@pytest.mark.parametrize("shift", [None, 1])
def test_a_function_of_the_current_folder_gives_a_network(
    module: Path, shift: int | None
) -> None:
    weights, path = own_weights(module), None
    if shift is not None:  # the function is given the path
        weights = {k: v + shift for k, v in weights.items()}
        path = module.with_name("weights.pt")
        torch.save(weights, path)
    found = built("my_networks:network", path)
    torch.testing.assert_close(
        found.extract(images()), expected(weights, images() / 255)
    )
    assert (found.name, found.resize, found.classify) == ("network", "none", None)
    assert found.digest == tensors_digest(weights)


def test_images_are_resized_and_then_normalised(module: Path) -> None:
    given = images(2, 32)
    resize = make_resizer("PIL", False, "bicubic", (50, 50))
    arrays = [
        torch.from_numpy(resize(image.permute(1, 2, 0).numpy())) for image in given
    ]
    mean, std = (torch.tensor(IMAGENET[name]) for name in ("mean", "std"))
    normalised = ((torch.stack(arrays) / 255 - mean) / std).permute(0, 3, 1, 2)
    found = built("my_networks:network", size=50, **IMAGENET)
    torch.testing.assert_close(
        found.extract(given),
        expected(own_weights(module), normalised),
        atol=1e-5,
        rtol=1e-4,
    )


def test_normalisation_is_part_of_what_is_said_of_resizing(module: Path) -> None:
    def resize(**changes: object) -> str:
        return built("my_networks:network", **changes).resize

    assert resize(size=50) == "antialiased bicubic to 50"
    words = "mean 0.485 0.456 0.406, std 0.229 0.224 0.225"
    assert resize(size=50, **IMAGENET) == f"antialiased bicubic to 50, {words}"
    assert resize(std=(0.5, 0.5, 0.5)) == "mean 0.0 0.0 0.0, std 0.5 0.5 0.5"


@pytest.mark.parametrize("name", ["pixels", "pooling"])
def test_what_has_no_weights_is_known_by_its_code(module: Path, name: str) -> None:
    found = built(f"my_networks:{name}")
    features = found.extract(images())
    values = images() / 255
    torch.testing.assert_close(
        features, values.flatten(1) if name == "pixels" else values.mean((2, 3))
    )
    digest = found.digest
    assert built(f"my_networks:{name}").digest == digest
    assert built("my_networks:network").digest != digest
    module.write_text(MODULE.replace("x.flatten(1)", "2 * x.flatten(1)"))
    assert built(f"my_networks:{name}").digest != digest


def test_what_is_no_network_is_refused(module: Path) -> None:
    with pytest.raises(DataError, match=r"my_networks:nothing.* returned NoneType"):
        built("my_networks:nothing")


# TorchScript files


@pytest.mark.parametrize("name", ["mine.pt", "mine.ts", "mine.pth"])
def test_a_torchscript_file_is_used_as_it_would_be_by_import(
    module: Path, name: str
) -> None:
    own_weights(module)
    script, given = module.with_name(name), images(2, 32)
    torch.jit.script(sys.modules["my_networks"].network()).save(str(script))
    imported = built("my_networks:network", size=40, **IMAGENET)
    found = built(str(script), size=40, **IMAGENET)
    torch.testing.assert_close(found.extract(given), imported.extract(given))
    assert (found.name, found.resize) == ("mine", imported.resize)
    assert found.digest == hashlib.sha256(script.read_bytes()).hexdigest()
    require_gradients(found, given)
    require_gradients(imported, given)


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


def convolved(given: Tensor) -> Tensor:
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
    torch.testing.assert_close(found.extract(images()), convolved(images() / 255))
    assert (found.name, found.differentiate) == ("mine", None)
    assert found.digest == hashlib.sha256(file.read_bytes()).hexdigest()
    mean, std = (torch.tensor(IMAGENET[n]).reshape(3, 1, 1) for n in ("mean", "std"))
    normalised = (images() / 255 - mean) / std
    resized = built(str(file), size=24, **IMAGENET).extract
    torch.testing.assert_close(
        resized(images()), convolved(normalised), atol=1e-5, rtol=1e-4
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
    torch.testing.assert_close(found.extract(images()), convolved(images() / 255))
    weights = path.with_name(location)
    content = bytearray(weights.read_bytes())
    content[3] ^= 1
    weights.write_bytes(content)
    assert onnx_digest(path) != found.digest


def test_weights_outside_of_the_folder_are_not_read(tmp_path: Path) -> None:
    path = write_external(tmp_path / "network" / "mine.onnx", "weights.bin")
    weights = path.with_name("weights.bin")
    weights.rename(tmp_path / "elsewhere.bin")
    weights.symlink_to(tmp_path / "elsewhere.bin")
    with pytest.raises(
        DataError, match=r"mine\.onnx names 'weights\.bin', a link that"
    ):
        built(str(path))


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
