"""From normalised latents to images: an autoencoder, and the normalisation of its latents."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kedro.io import AbstractDataset

from lct_pipeline.commands import command
from lct_pipeline.core.normalisation import LatentNormalisation
from lct_pipeline.datasets.atomic import AtomicDataset
from lct_pipeline.datasets.autoencoder import StoredAutoencoder
from lct_pipeline.datasets.files import missing
from lct_pipeline.datasets.tensors import TensorFile, content_digest
from lct_pipeline.errors import DataError


def normalisation_of(stored: TensorFile) -> LatentNormalisation:
    """Return the normalisation of a ``latent_normalisation`` file."""
    tensors = stored.tensors
    return LatentNormalisation(
        tensors["mean"], tensors["std"], stored.metadata["sigma_data"]
    )


@dataclass(frozen=True)
class Decoder:
    """An autoencoder, and mean and standard deviation of its latents by position."""

    autoencoder: StoredAutoencoder
    normalisation: TensorFile

    @property
    def digests(self) -> dict[str, str]:
        """Return what tells this pair from others."""
        stored = self.normalisation
        return {
            "autoencoder": self.autoencoder.digest,
            "normalisation": content_digest(stored.tensors, stored.metadata),
        }


def needed(decoder: Decoder | None) -> Decoder:
    """Return a decoder that is there.

    Raises:
        DataError: There is none.
    """
    if decoder is None:
        raise DataError(missing("the autoencoder of this run", "encode"))
    return decoder


class DecoderDataset(AtomicDataset):
    """``DecoderDataset`` notes which two belong together, and loads both.

    Args:
        autoencoder: Configuration of the dataset of the autoencoder.
        normalisation: Configuration of the dataset of the normalisation.
        options: Those of AtomicDataset, for the note, a JSON file with the digests of both.
    """

    def __init__(
        self,
        *,
        autoencoder: dict[str, Any],
        normalisation: dict[str, Any],
        **options: Any,
    ) -> None:
        super().__init__(written_by="encode", **options)
        self._parts = [
            AbstractDataset.from_config("decoder", {**config})
            for config in (autoencoder, normalisation)
        ]

    def load(self) -> Decoder | None:
        """Return both.

        Raises:
            DataError: There is none, or one of the two is not the one that was noted.
        """
        digests = super().load()
        if digests is None:
            return None
        parts = [part.load() for part in self._parts]
        if None not in parts:
            decoder = Decoder(*parts)
            if digests == decoder.digests:
                return decoder
        raise DataError(
            f"the autoencoder or the normalisation that {self._filepath} is of is gone or was "
            f"replaced. {command('encode')} makes them fit again."
        )

    def digests(self) -> dict[str, str]:
        """Return the digests of both as noted, without reading them; empty where there is none."""
        return super().load() or {}

    def save(self, data: Decoder) -> None:
        """Note the digests of both, which are saved by their own datasets."""
        super().save(data.digests)
