"""DINOv2, against transformers called directly on a tiny one of random weights."""

from __future__ import annotations

import json
import sys
from pathlib import Path

import numpy as np
import pytest
import torch
from cleanfid.resize import make_resizer
from safetensors.torch import load_file, save_file
from stand_ins import IMAGENET, built, images, require_gradients
from torch import Tensor
from transformers import Dinov2Config, Dinov2Model, ViTConfig, ViTModel

from lct_pipeline.errors import DataError

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
