"""Custom networks, by import path and in TorchScript files."""

from __future__ import annotations

import hashlib
import importlib
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
from cleanfid.resize import make_resizer
from stand_ins import IMAGENET, built, images, require_gradients
from torch import Tensor, nn

from lct_pipeline.errors import DataError, ParameterError
from lct_pipeline.models.digests import tensors_digest

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
    maps = nn.functional.conv2d(
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


def test_an_import_path_that_leads_nowhere_is_refused(module: Path) -> None:
    message = r"features\.extractor\.kind='my_networks:no_such' cannot be imported"
    with pytest.raises(ParameterError, match=message):
        built("my_networks:no_such")


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
