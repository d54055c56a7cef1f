"""pytorch-fid's Inception, against clean-fid's copy of it with the same random weights."""

from __future__ import annotations

import hashlib
import warnings
from collections.abc import Iterator
from pathlib import Path

import pytest
import torch
import torchvision
from cleanfid import inception_pytorch
from stand_ins import built, images
from torch import Tensor, nn
from torch.nn import functional as F

from lct_pipeline.errors import DataError
from lct_pipeline.models.autoencoder.coding import to_float
from lct_pipeline.models.features.base import FeatureExtractor
from lct_pipeline.models.features.inception_pytorch import PYTORCH_FILE

KIND = "inception_pytorch"


def random_weights() -> dict[str, Tensor]:
    """Return weights that neither damp nor blow up what passes through the layers."""
    torch.manual_seed(0)
    network = torchvision.models.Inception3(1008, aux_logits=False, init_weights=False)
    for module in network.modules():
        if isinstance(module, nn.Conv2d):
            nn.init.kaiming_normal_(module.weight, nonlinearity="relu")
        if isinstance(module, nn.BatchNorm2d):
            nn.init.normal_(module.bias, std=0.1)
            nn.init.uniform_(module.running_var, 0.8, 1.2)
    return network.state_dict()


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    return random_weights()


@pytest.fixture(scope="module")
def file(
    weights: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("hub") / "checkpoints" / PYTORCH_FILE
    path.parent.mkdir()
    torch.save(weights, path)
    yield path
    path.unlink()  # 95 MB


@pytest.fixture(scope="module")
def ours(file: Path) -> FeatureExtractor:
    return built(KIND, file)


@pytest.fixture(scope="module")
def theirs(weights: dict[str, Tensor]) -> nn.Module:
    with pytest.MonkeyPatch.context() as patch, warnings.catch_warnings():
        warnings.simplefilter("ignore")
        patch.setattr(
            inception_pytorch, "load_state_dict_from_url", lambda *_, **__: weights
        )
        return inception_pytorch.InceptionV3(resize_input=False).eval()


@pytest.mark.parametrize("side", [32, 320])
def test_features_are_those_of_pytorch_fid(
    ours: FeatureExtractor, theirs: nn.Module, side: int
) -> None:
    given = images(2, side)
    pixels = F.interpolate(
        given / 255, (299, 299), mode="bilinear", align_corners=False
    )
    with torch.no_grad():
        expected = theirs(pixels)[0].flatten(1)
    assert 0.1 < expected.std() < 10
    assert expected.shape == (2, 2048)
    torch.testing.assert_close(ours.extract(given), expected, atol=1e-4, rtol=1e-4)


def test_features_are_differentiated_by_images(ours: FeatureExtractor) -> None:
    given = to_float(images(1, 32)).requires_grad_()
    features = ours.differentiate(given)
    torch.testing.assert_close(features, ours.extract(images(1, 32)))
    features.square().sum().backward()
    assert given.grad is not None
    assert given.grad.isfinite().all()
    assert given.grad.abs().max() > 0


def test_what_a_row_says_of_it(ours: FeatureExtractor, file: Path) -> None:
    assert (ours.name, ours.frechet_name, ours.kernel_name) == (KIND, "fid", "kid")
    assert ours.resize == "bilinear to 299 in the network"
    assert ours.digest == hashlib.sha256(file.read_bytes()).hexdigest()


def test_classes_are_those_of_the_last_layer_without_its_bias(
    ours: FeatureExtractor, weights: dict[str, Tensor]
) -> None:
    features = torch.randn(2, 2048, generator=torch.Generator().manual_seed(0))
    expected = torch.softmax(features @ weights["fc.weight"].T, 1)
    assert ours.score_name == "inception_score"
    torch.testing.assert_close(ours.classify(features), expected)


def test_without_a_path_torch_hubs_folder_is_searched(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(file.parents[1]))
    assert built(KIND).digest == built(KIND, file.parent).digest


def test_a_missing_file_is_named_and_not_downloaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(DataError, match=rf"{PYTORCH_FILE}.*it is not downloaded"):
        built(KIND)


@pytest.mark.parametrize("content", ["other", "half", "nothing"])
def test_a_file_of_something_else_is_refused(tmp_path: Path, content: str) -> None:
    path = tmp_path / PYTORCH_FILE
    torch.save(nn.Linear(3, 3).state_dict(), path)
    if content == "half":
        path.write_bytes(path.read_bytes()[:500])
    if content == "nothing":
        path.write_bytes(b"")
    with pytest.raises(DataError, match="does not hold the weights of pytorch-fid's"):
        built(KIND, path)
