"""From normalised latents to images: an autoencoder, and the normalisation of its latents."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset

from lct_pipeline.core.normalisation import LatentNormalisation
from lct_pipeline.datasets.autoencoder import StoredAutoencoder
from lct_pipeline.datasets.files import atomic_path
from lct_pipeline.datasets.tensors import TensorFile, content_digest, missing
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
        raise DataError(
            "there is no autoencoder of these parameters: give the --env and --params that the run "
            "was given, or run `kedro run --pipeline=encode` with these."
        )
    return decoder


class DecoderDataset(AbstractDataset[Decoder, Decoder | None]):
    """``DecoderDataset`` notes which two belong together, and loads both.

    Args:
        filepath: The note, a JSON file with their digests.
        autoencoder: Configuration of the dataset of the autoencoder.
        normalisation: Configuration of the dataset of the normalisation.
        optional: Whether it loads as None where it was not made, instead of raising.
        metadata: Anything, for plugins such as kedro-viz.
    """

    def __init__(
        self,
        *,
        filepath: str,
        autoencoder: dict[str, Any],
        normalisation: dict[str, Any],
        optional: bool = False,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._path, self._optional = Path(filepath), optional
        self._parts = [
            AbstractDataset.from_config(name, {**config})
            for name, config in (
                ("autoencoder", autoencoder),
                ("normalisation", normalisation),
            )
        ]
        self.metadata = metadata

    def load(self) -> Decoder | None:
        """Return both.

        Raises:
            DataError: There is none, or one of the two is not the one that was noted.
        """
        if not self._path.exists():
            if self._optional:
                return None
            raise DataError(missing(self._path, "encode"))
        parts = [part.load() for part in self._parts]
        if None not in parts:
            decoder = Decoder(*parts)
            if json.loads(self._path.read_text()) == decoder.digests:
                return decoder
        raise DataError(
            f"the autoencoder or the normalisation that {self._path} is of is gone or was "
            "replaced. `kedro run --pipeline=encode` makes them fit again."
        )

    def save(self, data: Decoder) -> None:
        """Note the digests of both, which are saved by their own datasets."""
        with atomic_path(self._path) as temporary:
            temporary.write_text(json.dumps(data.digests))

    def content_digest(self) -> str:
        """Return the digests of both."""
        return " ".join(json.loads(self._path.read_text()).values())

    def _exists(self) -> bool:
        return self._path.exists()

    def _describe(self) -> dict[str, Any]:
        return {"filepath": str(self._path)}
