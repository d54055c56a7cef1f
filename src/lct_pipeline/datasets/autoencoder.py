"""Autoencoders: the one that is named, and folders, with the digest of the weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset
from kedro_datasets._typing import JSONPreview

from lct_pipeline.datasets.files import atomic_path
from lct_pipeline.datasets.previews import NOTHING
from lct_pipeline.errors import DataError
from lct_pipeline.given_files import check_folder
from lct_pipeline.models.autoencoder import (
    DIFFUSERS_CLASSES,
    Autoencoder,
    PixelAutoencoder,
)
from lct_pipeline.models.digests import tensors_digest
from lct_pipeline.models.features.base import reason

PIXELS = "pixels"  # names no autoencoder at all
_CONFIG = "config.json"
_PROVENANCE = "provenance.json"
_PIXEL_CONFIG = {"_class_name": "PixelAutoencoder"}


@dataclass(frozen=True)
class StoredAutoencoder:
    """An autoencoder and the digest of its weights."""

    model: Autoencoder
    digest: str


class AutoencoderDataset(AbstractDataset["Autoencoder", StoredAutoencoder | None]):
    """``AutoencoderDataset`` keeps an autoencoder in the folder format of diffusers.

    A PixelAutoencoder, which has no weights, is a folder whose ``config.json`` says so.

    Args:
        path: The folder.
        optional: Whether a missing folder loads as None instead of raising.
        metadata: Anything, for plugins such as kedro-viz.
    """

    def __init__(
        self,
        *,
        path: str,
        optional: bool = False,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._path = path
        self._optional = optional
        self.metadata = metadata

    def load(self) -> StoredAutoencoder | None:
        """Return the autoencoder in evaluation mode.

        Raises:
            DataError: There is none, or its weights are not those that were saved.
        """
        if self._optional and not self._exists():
            return None
        return _load(self._path)

    def save(self, data: Autoencoder) -> None:
        """Write the folder atomically."""
        digest = tensors_digest(data.state_dict())
        with atomic_path(Path(self._path)) as temporary:
            _save_model(data, temporary)
            (temporary / _PROVENANCE).write_text(json.dumps({"sha256": digest}))

    def content_digest(self) -> str:
        """Return the digest of the weights."""
        return json.loads((Path(self._path) / _PROVENANCE).read_text())["sha256"]

    def preview(self) -> JSONPreview:
        """Return the configuration for kedro-viz."""
        if not self._exists():
            return NOTHING
        return JSONPreview((Path(self._path) / _CONFIG).read_text())

    def _exists(self) -> bool:
        return (Path(self._path) / _CONFIG).exists()

    def _describe(self) -> dict[str, Any]:
        return {"path": self._path, "optional": self._optional}


class GivenAutoencoderDataset(AbstractDataset[None, StoredAutoencoder | None]):
    """``GivenAutoencoderDataset`` reads the autoencoder that the user names.

    Args:
        source: A folder, a hub id, or ``pixels`` for a PixelAutoencoder; a folder of that name
            is given as ``./pixels``. None loads as None. Not called ``path``, which Kedro would
            prefix with the project's folder: a hub id is no path.
        metadata: Anything, for plugins such as kedro-viz.
    """

    def __init__(
        self, *, source: str | None, metadata: dict[str, Any] | None = None
    ) -> None:
        self._source = source
        self.metadata = metadata

    def load(self) -> StoredAutoencoder | None:
        """Return the autoencoder in evaluation mode.

        Raises:
            DataError: There is none, or its weights are not those that were saved.
        """
        if self._source is None:
            return None
        if self._source == PIXELS:
            return _stored(PixelAutoencoder())
        return _load(self._source)

    def save(self, data: None) -> None:
        """What is given is only read."""
        raise DataError("a given autoencoder cannot be written.")

    def _describe(self) -> dict[str, Any]:
        return {"source": self._source}


def _stored(model: Autoencoder) -> StoredAutoencoder:
    return StoredAutoencoder(model.eval(), tensors_digest(model.state_dict()))


def _load(source: str) -> StoredAutoencoder:
    check_folder(Path(source))
    of_pixels = _is_of_pixels(Path(source))
    found = _stored(PixelAutoencoder() if of_pixels else _from_pretrained(source))
    provenance = Path(source) / _PROVENANCE
    if (
        provenance.exists()
        and json.loads(provenance.read_text())["sha256"] != found.digest
    ):
        raise DataError(
            f"{source} was altered after it was written. Remove the folder."
        )
    return found


def _is_of_pixels(folder: Path) -> bool:
    try:
        return json.loads((folder / _CONFIG).read_text()) == _PIXEL_CONFIG
    except (OSError, ValueError):  # diffusers says what is wrong with it
        return False


def _save_model(model: Autoencoder, folder: Path) -> None:
    if isinstance(model, PixelAutoencoder):
        folder.mkdir()
        (folder / _CONFIG).write_text(json.dumps(_PIXEL_CONFIG))
    else:
        model.save_pretrained(folder)


def _from_pretrained(source: str) -> Autoencoder:
    """Read the autoencoder of the class that its ``config.json`` names."""
    import diffusers  # takes seconds

    try:
        config = diffusers.AutoencoderKL.load_config(source)
        kind = getattr(diffusers, _checked_class(source, config))
        options = {"use_safetensors": True, "low_cpu_mem_usage": False}
        return kind.from_pretrained(source, **options)
    except DataError:
        raise
    except Exception as error:  # of a configuration that is none: all kinds
        raise DataError(
            f"encoding.autoencoder={source!r} is neither a folder nor a hub id of a diffusers "
            f"autoencoder that can be reached from here ({reason(error)}). Give a "
            "folder with config.json and diffusion_pytorch_model.safetensors, or leave it null to "
            "have a small one fitted."
        ) from error


def _checked_class(source: str, config: dict[str, Any]) -> str:
    """Return the name of the class.

    Raises:
        DataError: It is none of those that are known, or not of colour images.
    """
    name = config.get("_class_name")
    if name not in DIFFUSERS_CLASSES:
        raise DataError(
            f"encoding.autoencoder={source!r} is of class {name}; it can be of "
            f"{', '.join(DIFFUSERS_CLASSES)}."
        )
    for key in ("in_channels", "out_channels"):
        if config.get(key, 3) != 3:
            raise DataError(
                f"encoding.autoencoder={source!r} is of images of {config[key]} channels, not 3: "
                f"{key} of its config.json."
            )
    return name
