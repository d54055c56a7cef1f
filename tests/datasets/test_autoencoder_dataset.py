"""Autoencoders as folders."""

import json
from pathlib import Path

import pytest
import torch
from kedro.io import DatasetError

from lct_pipeline.datasets.autoencoder import (
    AutoencoderDataset,
    GivenAutoencoderDataset,
    StoredAutoencoder,
)
from lct_pipeline.errors import DataError
from lct_pipeline.models.autoencoder.coding import PixelAutoencoder, encode
from lct_pipeline.models.autoencoder.fitting import build_autoencoder
from lct_pipeline.models.digests import tensors_digest

WEIGHTS = "diffusion_pytorch_model.safetensors"


@pytest.fixture(autouse=True)
def _no_network(monkeypatch: pytest.MonkeyPatch) -> None:
    import huggingface_hub.constants

    monkeypatch.setattr(huggingface_hub.constants, "HF_HUB_OFFLINE", True)


@pytest.fixture(scope="module")
def model() -> torch.nn.Module:
    torch.manual_seed(0)
    return build_autoencoder(block_channels=(8, 8), latent_channels=2)


@pytest.fixture
def folder(tmp_path: Path, model: torch.nn.Module) -> Path:
    AutoencoderDataset(path=str(tmp_path / "autoencoder")).save(model)
    return tmp_path / "autoencoder"


def load(path: Path | str) -> StoredAutoencoder:
    found = AutoencoderDataset(path=str(path)).load()
    assert found is not None
    return found


def load_given(source: str) -> StoredAutoencoder:
    found = GivenAutoencoderDataset(source=source).load()
    assert found is not None
    return found


def test_an_autoencoder_comes_back_as_saved(
    folder: Path, model: torch.nn.Module
) -> None:
    found = load(folder)
    assert not found.model.training
    assert found.model.config.latent_channels == 2
    assert found.digest == tensors_digest(model.state_dict())
    for name, expected in model.state_dict().items():
        assert torch.equal(found.model.state_dict()[name], expected), name


def test_a_save_replaces_the_folder_and_leaves_no_temporary_one(folder: Path) -> None:
    (folder / "stray").touch()
    other = build_autoencoder(block_channels=(8, 8), latent_channels=3)
    AutoencoderDataset(path=str(folder)).save(other)
    assert load(folder).model.config.latent_channels == 3
    assert not (folder / "stray").exists()
    assert list(folder.parent.iterdir()) == [folder]


def test_a_failed_save_leaves_the_old_folder(
    folder: Path, model: torch.nn.Module, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(path: Path) -> None:
        Path(path).mkdir()
        (Path(path) / "config.json").write_text("{")
        raise OSError("disk full")

    before = load(folder).digest
    monkeypatch.setattr(model, "save_pretrained", fail)
    with pytest.raises(DatasetError, match="disk full"):
        AutoencoderDataset(path=str(folder)).save(model)
    assert load(folder).digest == before
    assert list(folder.parent.iterdir()) == [folder]


def test_altered_weights_are_refused(folder: Path) -> None:
    content = bytearray((folder / WEIGHTS).read_bytes())
    content[-2] ^= 1
    (folder / WEIGHTS).write_bytes(content)
    with pytest.raises(DatasetError, match="was altered after it was written") as e:
        load(folder)
    assert isinstance(e.value.__cause__, DataError)
    assert str(folder) in str(e.value.__cause__)


def test_a_given_folder_without_provenance_is_accepted(folder: Path) -> None:
    digest = load(folder).digest
    (folder / "provenance.json").unlink()
    assert load(folder).digest == digest


@pytest.mark.parametrize("damage", ["truncated", "missing", "other network"])
def test_a_damaged_folder_names_the_parameter(folder: Path, damage: str) -> None:
    weights = folder / WEIGHTS
    if damage == "truncated":
        weights.write_bytes(weights.read_bytes()[:-100])
    elif damage == "missing":
        weights.unlink()
    else:
        config = json.loads((folder / "config.json").read_text())
        config["block_out_channels"] = [16, 16]
        (folder / "config.json").write_text(json.dumps(config))
    with pytest.raises(DatasetError) as caught:
        load(folder)
    assert isinstance(caught.value.__cause__, DataError)
    assert f"encoding.autoencoder='{folder}'" in str(caught.value)


def test_a_path_that_is_not_there_names_the_parameter(tmp_path: Path) -> None:
    path = tmp_path / "nowhere"
    with pytest.raises(DatasetError, match=rf"encoding\.autoencoder='{path}'") as e:
        load(path)
    assert isinstance(e.value.__cause__, DataError)
    assert "config.json" in str(e.value)


def test_an_optional_missing_folder_loads_as_none(tmp_path: Path) -> None:
    dataset = AutoencoderDataset(path=str(tmp_path / "none"), optional=True)
    assert not dataset.exists()
    assert dataset.load() is None


def test_the_given_one_is_the_folder_that_is_named(folder: Path) -> None:
    assert load_given(str(folder)).digest == load(folder).digest


def test_a_given_name_that_leads_nowhere_names_the_parameter() -> None:
    with pytest.raises(DatasetError, match=r"encoding\.autoencoder='some/vae'") as e:
        load_given("some/vae")
    assert isinstance(e.value.__cause__, DataError)


def test_none_given_loads_as_none_and_nothing_is_written_to_it() -> None:
    dataset = GivenAutoencoderDataset(source=None)
    assert dataset.load() is None
    with pytest.raises(DatasetError, match="cannot be written"):
        dataset.save(torch.nn.Identity())  # type: ignore[arg-type]


def test_pixels_are_kept_as_a_folder_that_says_so(tmp_path: Path) -> None:
    given = load_given("pixels")
    AutoencoderDataset(path=str(tmp_path / "kept")).save(given.model)
    kept = load(tmp_path / "kept")
    assert isinstance(kept.model, PixelAutoencoder)
    assert kept.digest == given.digest == tensors_digest({})
    config = json.loads((tmp_path / "kept" / "config.json").read_text())
    assert config == {"_class_name": "PixelAutoencoder"}
    files = {path.name for path in (tmp_path / "kept").iterdir()}
    assert files == {"config.json", "provenance.json"}


def test_pixels_and_weights_replace_each_other(
    folder: Path, model: torch.nn.Module
) -> None:
    digest = load(folder).digest
    AutoencoderDataset(path=str(folder)).save(PixelAutoencoder())
    assert load(folder).digest != digest
    AutoencoderDataset(path=str(folder)).save(model)
    assert load(folder).digest == digest


def test_a_folder_named_pixels_is_given_with_a_dot(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.rename(folder.parent / "pixels")
    monkeypatch.chdir(folder.parent)
    assert isinstance(load_given("pixels").model, PixelAutoencoder)
    assert load_given("./pixels").model.config.latent_channels == 2


def test_a_folder_of_pixels_with_another_digest_is_refused(tmp_path: Path) -> None:
    AutoencoderDataset(path=str(tmp_path / "kept")).save(PixelAutoencoder())
    (tmp_path / "kept" / "provenance.json").write_text('{"sha256": "0"}')
    with pytest.raises(DatasetError, match="was altered after it was written"):
        load(tmp_path / "kept")


def other_classes() -> dict[str, torch.nn.Module]:
    from diffusers import AutoencoderDC, AutoencoderTiny

    torch.manual_seed(0)
    widths = {f"{side}_block_out_channels": (8, 8) for side in ("encoder", "decoder")}
    blocks = {f"num_{side}_blocks": (1, 1) for side in ("encoder", "decoder")}
    levels = {
        f"{side}_{name}": value
        for side in ("encoder", "decoder")
        for name, value in {
            "block_types": "ResBlock",
            "layers_per_block": (1, 1),
            "qkv_multiscales": ((), ()),
        }.items()
    }
    return {
        "AutoencoderTiny": AutoencoderTiny(latent_channels=3, **widths, **blocks),
        "AutoencoderDC": AutoencoderDC(
            latent_channels=4, attention_head_dim=4, **widths, **levels
        ),
    }


@pytest.mark.parametrize("name", ["AutoencoderTiny", "AutoencoderDC"])
def test_an_autoencoder_is_of_the_class_that_its_folder_names(
    tmp_path: Path, name: str
) -> None:
    model = other_classes()[name].eval()
    model.save_pretrained(tmp_path / "given")
    given = load_given(str(tmp_path / "given"))
    AutoencoderDataset(path=str(tmp_path / "kept")).save(given.model)
    kept = load(tmp_path / "kept")
    assert type(kept.model).__name__ == name and not kept.model.training
    assert kept.digest == given.digest == tensors_digest(model.state_dict())
    images = torch.randint(256, (1, 3, 8, 8)).byte()
    assert torch.equal(encode(kept.model, images)[0], encode(model, images)[0])
    weights = tmp_path / "kept" / WEIGHTS
    weights.write_bytes(weights.read_bytes()[:-2] + b"\0\1")
    with pytest.raises(DatasetError, match="was altered after it was written"):
        load(tmp_path / "kept")


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        (
            {"_class_name": "AsymmetricAutoencoderKL"},
            "is of class AsymmetricAutoencoderKL",
        ),
        ({"_class_name": "Popen"}, "it can be of AutoencoderKL, AutoencoderTiny"),
        ({"in_channels": 1}, "is of images of 1 channels, not 3"),
    ],
)
def test_other_classes_and_other_images_are_refused(
    folder: Path, changes: dict[str, object], message: str
) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | changes))
    with pytest.raises(DatasetError, match=message) as caught:
        load_given(str(folder))
    assert isinstance(caught.value.__cause__, DataError)
    assert f"encoding.autoencoder='{folder}'" in str(caught.value)
