"""A decoder: which autoencoder and which normalisation belong together."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from kedro.io import DatasetError
from small_autoencoders import autoencoder

from lct_pipeline.datasets.autoencoder import AutoencoderDataset
from lct_pipeline.datasets.decoder import Decoder, DecoderDataset, normalisation_of
from lct_pipeline.datasets.tensors import TensorFile, TensorFileDataset
from lct_pipeline.errors import DataError, user_error_in
from lct_pipeline.models.autoencoder.coding import PixelAutoencoder


def normalisation(std: float = 0.5) -> TensorFile:
    tensors = {"mean": torch.ones(3, 2, 2), "std": torch.full((3, 2, 2), std)}
    return TensorFile(tensors, {"sigma_data": 0.5})


class Parts:
    """A decoder and the two datasets of what it consists of, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        path = str(folder / "autoencoder")
        filepath = str(folder / "latent_normalisation.safetensors")
        self.autoencoder = AutoencoderDataset(path=path)
        self.normalisation = TensorFileDataset(filepath=filepath)
        self.values: dict[str, Any] = {
            "filepath": str(folder / "decoder.json"),
            "autoencoder": {
                "type": "lct_pipeline.datasets.autoencoder.AutoencoderDataset",
                "path": path,
                "optional": True,
            },
            "normalisation": {
                "type": "lct_pipeline.datasets.tensors.TensorFileDataset",
                "filepath": filepath,
                "written_by": "encode",
            },
        }

    def dataset(self, **changes: Any) -> DecoderDataset:
        return DecoderDataset(**self.values, **changes)

    def save(self) -> Decoder:
        self.autoencoder.save(PixelAutoencoder())
        self.normalisation.save(normalisation())
        stored = self.autoencoder.load()
        assert stored is not None
        decoder = Decoder(stored, normalisation())
        self.dataset().save(decoder)
        return decoder


@pytest.fixture
def parts(tmp_path: Path) -> Parts:
    return Parts(tmp_path)


def refused(dataset: DecoderDataset, words: str) -> None:
    with pytest.raises(DatasetError) as caught:
        dataset.load()
    assert isinstance(user_error_in(caught.value), DataError)
    assert words in str(user_error_in(caught.value))


def test_both_come_back_as_saved(parts: Parts) -> None:
    assert not parts.dataset().exists()
    saved = parts.save()
    assert parts.dataset().exists()
    found = parts.dataset().load()
    assert found is not None
    assert isinstance(found.autoencoder.model, PixelAutoencoder)
    assert found.digests == saved.digests
    for name, tensor in normalisation().tensors.items():
        assert torch.equal(found.normalisation.tensors[name], tensor)


def test_what_was_not_made_is_none_where_it_may_be_missing(parts: Parts) -> None:
    assert parts.dataset(optional=True).load() is None
    refused(parts.dataset(), "decoder.json is not there: an earlier stage writes it")


@pytest.mark.parametrize("optional", [True, False])
def test_a_replaced_normalisation_is_refused(parts: Parts, optional: bool) -> None:
    parts.save()
    parts.normalisation.save(normalisation(std=0.25))
    refused(parts.dataset(optional=optional), "is gone or was replaced")


def test_a_replaced_autoencoder_is_refused(parts: Parts) -> None:
    parts.save()
    parts.autoencoder.save(autoencoder())
    refused(parts.dataset(), "is gone or was replaced")


def test_an_autoencoder_that_is_gone_is_refused(parts: Parts) -> None:
    parts.save()
    shutil.rmtree(parts.folder / "autoencoder")
    refused(
        parts.dataset(optional=True), "`kedro run --pipeline=encode` makes them fit"
    )


def test_a_normalisation_that_is_gone_is_refused(parts: Parts) -> None:
    parts.save()
    (parts.folder / "latent_normalisation.safetensors").unlink()
    refused(parts.dataset(optional=True), "Run `kedro run --pipeline=encode` first")


def test_the_digest_is_that_of_both(parts: Parts) -> None:
    saved = parts.save()
    first = parts.dataset().content_digest()
    parts.dataset().save(Decoder(saved.autoencoder, normalisation(std=0.25)))
    assert parts.dataset().content_digest() != first


def test_its_normalisation_is_that_of_the_file() -> None:
    x = torch.randn(5, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    found = normalisation_of(normalisation(std=0.25))
    torch.testing.assert_close(found.normalise(x), (x - 1) / 0.25 * 0.5)
