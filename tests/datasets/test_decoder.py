"""A decoder: which autoencoder and which normalisation belong together."""

import shutil
from pathlib import Path
from typing import Any

import pytest
import torch
from kedro.io import DatasetError
from small_encoding import autoencoder

from lct_pipeline.datasets.autoencoder import AutoencoderDataset
from lct_pipeline.datasets.decoder import Decoder, DecoderDataset, normalisation_of
from lct_pipeline.datasets.tensors import TensorFile, TensorFileDataset
from lct_pipeline.errors import DataError, user_error_in
from lct_pipeline.models.autoencoder import PixelAutoencoder


def normalisation(std: float = 0.5) -> TensorFile:
    tensors = {"mean": torch.ones(3, 2, 2), "std": torch.full((3, 2, 2), std)}
    return TensorFile(tensors, {"sigma_data": 0.5})


class Parts:
    """A decoder and the two datasets of what it consists of, in a folder."""

    def __init__(self, folder: Path) -> None:
        self.autoencoder_path = folder / "autoencoder"
        self.normalisation_path = folder / "latent_normalisation.safetensors"
        paths = str(self.autoencoder_path), str(self.normalisation_path)
        self.autoencoder = AutoencoderDataset(path=paths[0])
        self.normalisation = TensorFileDataset(filepath=paths[1])
        module = "lct_pipeline.datasets"
        self.values: dict[str, Any] = {
            "filepath": str(folder / "decoder.json"),
            "autoencoder": {
                "type": f"{module}.autoencoder.AutoencoderDataset",
                "path": paths[0],
                "optional": True,
            },
            "normalisation": {
                "type": f"{module}.tensors.TensorFileDataset",
                "filepath": paths[1],
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
    assert parts.dataset(optional=True).load() is None
    refused(
        parts.dataset(),
        "decoder.json is not there. Run `kedro run --pipeline=encode` first",
    )
    saved = parts.save()
    assert parts.dataset().exists()
    found = parts.dataset().load()
    assert found is not None
    assert isinstance(found.autoencoder.model, PixelAutoencoder)
    assert found.digests == saved.digests
    for name, tensor in normalisation().tensors.items():
        assert torch.equal(found.normalisation.tensors[name], tensor)


@pytest.mark.parametrize("optional", [True, False])
@pytest.mark.parametrize("replaced", ["normalisation", "autoencoder", "both gone"])
def test_what_is_replaced_or_gone_is_refused(
    parts: Parts, optional: bool, replaced: str
) -> None:
    parts.save()
    message = "is gone or was replaced. `kedro run --pipeline=encode` makes them fit"
    if replaced == "normalisation":
        parts.normalisation.save(normalisation(std=0.25))
    elif replaced == "autoencoder":
        parts.autoencoder.save(autoencoder())
    else:
        shutil.rmtree(parts.autoencoder_path)
        refused(parts.dataset(optional=optional), message)
        parts.normalisation_path.unlink()
        message = "Run `kedro run --pipeline=encode` first"
    refused(parts.dataset(optional=optional), message)


def test_the_digest_is_that_of_both(parts: Parts) -> None:
    saved = parts.save()
    first = parts.dataset().content_digest()
    parts.dataset().save(Decoder(saved.autoencoder, normalisation(std=0.25)))
    assert parts.dataset().content_digest() != first


def test_its_normalisation_is_that_of_the_file() -> None:
    x = torch.randn(5, 3, 2, 2, generator=torch.Generator().manual_seed(0))
    found = normalisation_of(normalisation(std=0.25))
    torch.testing.assert_close(found.normalise(x), (x - 1) / 0.25 * 0.5)
