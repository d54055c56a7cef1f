"""Inception: the features of clean-fid and of pytorch-fid, the same distance, and the score.

DINOv2 stands against transformers called directly on a tiny one of random weights.
"""

from __future__ import annotations

import hashlib
import json
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path

import cleanfid.fid
import numpy as np
import pytest
import scipy.linalg
import torch
import torchvision
from cleanfid import inception_pytorch
from cleanfid.inception_torchscript import InceptionV3W
from cleanfid.resize import make_resizer
from PIL import Image
from safetensors.torch import load_file, save_file
from stand_ins import (
    CPU,
    IMAGENET,
    TinyInception,
    as_published,
    built,
    clean_fid,
    images,
    require_gradients,
    write_inception,
    write_pngs,
)
from torch import Tensor, nn
from torch.nn import functional as F
from transformers import Dinov2Config, Dinov2Model, ViTConfig, ViTModel

from lct_pipeline.core.metrics.frechet import FeatureMoments, frechet_distance
from lct_pipeline.errors import DataError
from lct_pipeline.models.features.base import FeatureExtractor
from lct_pipeline.models.published_weights import INCEPTION_FILE, PYTORCH_FILE


@pytest.fixture
def inception(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    return write_inception(tmp_path, monkeypatch)


def test_the_file_is_found_by_itself_its_folder_and_in_the_usual_place(
    inception: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    digest = hashlib.sha256(inception.read_bytes()).hexdigest()
    assert built("inception", inception).digest == digest
    assert built("inception", inception.parent).digest == digest
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    (tmp_path / "checkpoints").mkdir()
    inception = inception.rename(tmp_path / "checkpoints" / INCEPTION_FILE)
    assert built("inception").digest == digest
    assert built("inception", inception.rename(inception.with_name("mine.pt")))


@pytest.mark.parametrize("given", ["", INCEPTION_FILE, "elsewhere"])
def test_a_missing_file_is_named_with_what_works_without(
    tmp_path: Path, given: str
) -> None:
    with pytest.raises(DataError) as caught:
        built("inception", tmp_path / given)
    message = str(caught.value)
    assert INCEPTION_FILE in message
    assert str(tmp_path) in message
    assert "features.extractor.path" in message
    assert "features.extractor.kind=classifier works without" in message


def test_what_a_row_says_of_it(inception: Path) -> None:
    found = built("inception", inception)
    assert (found.name, found.frechet_name) == ("inception", "fid")
    assert found.resize == "clean-fid bicubic to 299"


@pytest.mark.parametrize("side", [24, 299, 320])
def test_features_are_those_of_clean_fids_own_path(
    inception: Path, tmp_path: Path, side: int
) -> None:
    given = images(3, side)
    theirs = cleanfid.fid.get_folder_features(
        str(write_pngs(tmp_path / "images", given)),
        model=InceptionV3W(str(tmp_path), download=False),
        num_workers=0,
        device=CPU,
        mode="clean",
        verbose=False,
    )
    ours = built("inception", inception).extract(given)
    assert ours.shape == (3, 2048)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


@pytest.mark.parametrize("size", [(24, 24), (299, 299), (320, 320), (30, 50)])
def test_features_are_differentiated(inception: Path, size: tuple[int, int]) -> None:
    require_gradients(built("inception", inception), images(2, *size))


def test_classes_are_those_of_the_output_layer_without_its_bias(
    inception: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    found = built("inception", inception)
    features = found.extract(images())
    expected = torch.exp(features @ TinyInception().output.weight.T)
    expected /= expected.sum(1, keepdim=True)
    torch.testing.assert_close(found.classify(features), expected)
    without = nn.Module()
    without.layers = TinyInception().layers
    other = write_inception(tmp_path, monkeypatch, without)
    assert built("inception", other).classify is None


# the distance of two folders


def our_fid(folders: list[Path], file: Path) -> float:
    extract = built("inception", file).extract
    sides = []
    for folder in folders:
        moments = FeatureMoments(16)
        for path in sorted(folder.iterdir()):
            pixels = np.asarray(Image.open(path)).transpose(2, 0, 1)
            moments.update(extract(torch.from_numpy(pixels.copy())[None]))
        sides.append(moments.statistics())
    return frechet_distance(*sides)


def test_the_distance_is_that_of_clean_fid_and_needs_no_square_root(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """SciPy 1.18 has no sqrtm as clean-fid calls it."""
    network = TinyInception(num_features=16)
    file = write_inception(tmp_path, monkeypatch, network)
    second = (images(50, 40) * torch.tensor([0.9, 0.8, 0.7])[:, None, None]).byte()
    pngs = zip(("a", "b"), (images(60, 48), second), strict=True)
    folders = [write_pngs(tmp_path / name, given) for name, given in pngs]
    theirs = clean_fid(folders, file, monkeypatch)
    monkeypatch.delattr(scipy.linalg, "sqrtm")
    assert theirs > 0.01
    assert our_fid(folders, file) == pytest.approx(theirs, rel=1e-5)


# pytorch-fid's port, against clean-fid's copy of it with the same random weights

KIND = "inception_pytorch"


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
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
def file(
    weights: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("hub") / "checkpoints" / PYTORCH_FILE
    path.parent.mkdir()
    torch.save(weights, path)
    with pytest.MonkeyPatch.context() as patch:
        yield as_published(path, PYTORCH_FILE, patch)
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
    pixels = F.interpolate(given / 255, (299, 299), mode="bilinear")
    with torch.no_grad():
        expected = theirs(pixels)[0].flatten(1)
    assert 0.1 < expected.std() < 10
    assert expected.shape == (2, 2048)
    torch.testing.assert_close(ours.extract(given), expected, atol=1e-4, rtol=1e-4)


def test_what_a_row_says_of_pytorch_fids(
    ours: FeatureExtractor, file: Path, weights: dict[str, Tensor]
) -> None:
    assert (ours.name, ours.frechet_name) == (KIND, "fid")
    assert ours.resize == "bilinear to 299 in the network"
    assert ours.digest == hashlib.sha256(file.read_bytes()).hexdigest()
    require_gradients(ours, images(1, 32))
    features = torch.randn(2, 2048, generator=torch.Generator().manual_seed(0))
    expected = torch.softmax(features @ weights["fc.weight"].T, 1)
    torch.testing.assert_close(ours.classify(features), expected)


def test_without_a_path_torch_hubs_folder_is_searched(
    file: Path, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(file.parents[1]))
    assert built(KIND).digest == built(KIND, file.parent).digest
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with pytest.raises(DataError, match=rf"{PYTORCH_FILE}.*it is not downloaded"):
        built(KIND)


SHAPE = {
    "hidden_size": 32,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "image_size": 70,
    "patch_size": 14,
    "initializer_range": 0.3,
}


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    torch.manual_seed(0)
    Dinov2Model(Dinov2Config(**SHAPE)).save_pretrained(tmp_path / "dinov2")
    return tmp_path / "dinov2"


def normalised(given: Tensor) -> Tensor:
    """Return what DINOv2 takes, by Pillow's resizing of one channel at a time."""
    resize = make_resizer("PIL", False, "bicubic", (224, 224))
    arrays = [resize(image.permute(1, 2, 0).numpy()) for image in given]
    mean, std = (np.array(IMAGENET[name], np.float32) for name in ("mean", "std"))
    return torch.from_numpy((np.stack(arrays) / 255 - mean) / std).permute(0, 3, 1, 2)


@pytest.mark.parametrize("side", [32, 224, 300])
def test_features_are_the_class_token_after_the_last_norm(
    folder: Path, side: int
) -> None:
    given = images(3, side)
    model = Dinov2Model.from_pretrained(folder).eval()
    with torch.no_grad():
        tokens = model(normalised(given)).last_hidden_state
    assert tokens.shape == (3, 1 + 16 * 16, 32)
    found = built("dinov2", folder).extract(given)
    torch.testing.assert_close(found, tokens[:, 0], atol=1e-4, rtol=1e-4)
    assert (found[0] - found[1]).abs().max() > 0.01


def test_what_a_row_says_of_it_and_its_digest_is_that_of_the_weights(
    folder: Path,
) -> None:
    found = built("dinov2", folder)
    require_gradients(found, images())
    assert (found.name, found.classify) == ("dinov2", None)
    assert found.resize == "antialiased bicubic to 224"
    assert built("dinov2", folder).digest == found.digest
    path = folder / "model.safetensors"
    tensors = load_file(path)
    tensors["layernorm.bias"][0] += 1
    save_file(tensors, path, {"format": "pt"})
    assert built("dinov2", folder).digest != found.digest


def test_weights_in_half_precision_are_used_in_float32(folder: Path) -> None:
    Dinov2Model.from_pretrained(folder).half().save_pretrained(folder)
    assert json.loads((folder / "config.json").read_text())["dtype"] == "float16"
    found = built("dinov2", folder).extract(images())
    model = Dinov2Model.from_pretrained(folder, dtype=torch.float32).eval()
    with torch.no_grad():
        expected = model(normalised(images())).pooler_output
    torch.testing.assert_close(found, expected, atol=1e-4, rtol=1e-4)


def test_without_transformers_the_remedy_is_named(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(sys.modules, "transformers", None)
    with pytest.raises(DataError, match=r"pip install 'lct_pipeline\[dinov2\]'"):
        built("dinov2", folder)


def test_a_folder_of_nothing_or_of_another_network_is_refused(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"features\.extractor\.path") as caught:
        built("dinov2", tmp_path)
    assert str(tmp_path) in str(caught.value)
    assert "facebook/dinov2-large" in str(caught.value)
    ViTModel(ViTConfig(**SHAPE, intermediate_size=32)).save_pretrained(tmp_path)
    with pytest.raises(DataError, match="it is a ViTModel"):
        built("dinov2", tmp_path)


def test_weights_that_are_missing_are_not_made_up(folder: Path) -> None:
    path = folder / "model.safetensors"
    tensors = load_file(path)
    del tensors["layernorm.weight"]
    save_file(tensors, path, {"format": "pt"})
    with pytest.raises(DataError, match=r"no weights of layernorm\.weight"):
        built("dinov2", folder)
