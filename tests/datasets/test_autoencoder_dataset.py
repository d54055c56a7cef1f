"""Autoencoders as folders."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from kedro.io import DatasetError
from small_encoding import MAKERS, autoencoder, images

from lct_pipeline.datasets.autoencoder import (
    AutoencoderDataset,
    GivenAutoencoderDataset,
    StoredAutoencoder,
)
from lct_pipeline.errors import DataError
from lct_pipeline.models.autoencoder import PixelAutoencoder, encode
from lct_pipeline.models.digests import tensors_digest

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    AutoencoderDataset(path=str(tmp_path / "autoencoder")).save(autoencoder())
    return tmp_path / "autoencoder"


def load(path: Path | str) -> StoredAutoencoder:
    found = AutoencoderDataset(path=str(path)).load()
    assert found is not None
    return found


def load_given(source: Path | str) -> StoredAutoencoder:
    found = GivenAutoencoderDataset(source=str(source)).load()
    assert found is not None
    return found


def refused(source: Path | str, message: str) -> None:
    with pytest.raises(DatasetError, match=message) as caught:
        load_given(source)
    assert isinstance(caught.value.__cause__, DataError)
    assert str(source) in str(caught.value)


@pytest.mark.parametrize("make", MAKERS)
def test_an_autoencoder_of_each_class_comes_back_as_saved(
    tmp_path: Path, make: Callable[[], Any]
) -> None:
    model, x = make().eval(), images(1)
    AutoencoderDataset(path=str(tmp_path / "kept")).save(model)
    kept = load(tmp_path / "kept")
    assert type(kept.model) is type(model) and not kept.model.training
    assert kept.digest == tensors_digest(model.state_dict())
    assert load_given(tmp_path / "kept").digest == kept.digest
    assert torch.equal(encode(kept.model, x)[0], encode(model, x)[0])
    (tmp_path / "kept" / "provenance.json").write_text('{"sha256": "0"}')
    refused(tmp_path / "kept", "was altered after it was written")


def test_altered_weights_are_refused_where_a_digest_was_written(folder: Path) -> None:
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-2] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    refused(folder, "was altered after it was written")
    (folder / "provenance.json").unlink()
    assert load(folder).digest


def test_a_save_replaces_the_folder_and_leaves_no_temporary_one(folder: Path) -> None:
    (folder / "stray").touch()
    AutoencoderDataset(path=str(folder)).save(autoencoder(latent_channels=3))
    assert load(folder).model.config.latent_channels == 3
    assert not (folder / "stray").exists()
    AutoencoderDataset(path=str(folder)).save(PixelAutoencoder())
    assert isinstance(load(folder).model, PixelAutoencoder)
    assert {file.name for file in folder.iterdir()} == {
        "config.json",
        "provenance.json",
    }
    assert list(folder.parent.iterdir()) == [folder]


def test_a_failed_save_leaves_the_old_folder(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        Path(path).mkdir()
        (Path(path) / "config.json").write_text("{")
        raise OSError("disk full")

    before, model = load(folder).digest, autoencoder()
    monkeypatch.setattr(model, "save_pretrained", fail)
    with pytest.raises(DatasetError, match="disk full"):
        AutoencoderDataset(path=str(folder)).save(model)
    assert load(folder).digest == before
    assert list(folder.parent.iterdir()) == [folder]


@pytest.mark.parametrize("damage", ["truncated", "missing", "nowhere"])
def test_a_damaged_folder_names_the_parameter(folder: Path, damage: str) -> None:
    weights = folder / WEIGHTS
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "missing":
        weights.unlink()
    else:
        folder = folder / "nowhere"
    refused(folder, rf"encoding\.autoencoder='{folder}'.*config\.json")
    refused("some/vae", r"encoding\.autoencoder='some/vae'")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"_class_name": "AsymmetricAutoencoderKL"}, "is of class AsymmetricAuto"),
        ({"_class_name": "Popen"}, "it can be of AutoencoderKL, AutoencoderTiny"),
        ({"in_channels": 1}, "is of images of 1 channels, not 3"),
        ({"out_channels": 6}, "is of images of 6 channels, not 3: out_channels"),
        ({"block_out_channels": [16, 16]}, r"encoding\.autoencoder='"),
        ({"block_out_channels": [17, 19]}, r"encoding\.autoencoder='"),
        ({"block_out_channels": 16}, r"encoding\.autoencoder='"),
    ],
)
def test_other_classes_and_other_networks_are_refused(
    folder: Path, changes: dict[str, object], message: str
) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    refused(folder, message)


def test_what_is_not_there_loads_as_none_where_it_may(tmp_path: Path) -> None:
    dataset = AutoencoderDataset(path=str(tmp_path / "none"), optional=True)
    assert not dataset.exists()
    assert dataset.load() is None
    given = GivenAutoencoderDataset(source=None)
    assert given.load() is None
    with pytest.raises(DatasetError, match="cannot be written"):
        given.save(torch.nn.Identity())  # type: ignore[arg-type]


def test_a_folder_named_pixels_is_given_with_a_dot(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.rename(folder.parent / "pixels")
    monkeypatch.chdir(folder.parent)
    assert isinstance(load_given("pixels").model, PixelAutoencoder)
    assert load_given("./pixels").model.config.latent_channels == 2
