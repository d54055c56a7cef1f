"""An autoencoder as a diffusers folder, with the digest of its weights."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from kedro.io import AbstractDataset

from lct_pipeline.datasets.files import atomic_path, tensors_digest
from lct_pipeline.errors import DataError

if TYPE_CHECKING:
    from diffusers import AutoencoderKL

_PROVENANCE = "provenance.json"


@dataclass(frozen=True)
class StoredAutoencoder:
    """An autoencoder and the digest of its weights."""

    model: AutoencoderKL
    digest: str


class AutoencoderDataset(AbstractDataset["AutoencoderKL", StoredAutoencoder | None]):
    """``AutoencoderDataset`` keeps an AutoencoderKL in the folder format of diffusers.

    Args:
        path: A folder; for reading also a hub id. None loads as None.
        optional: Whether a missing folder loads as None instead of raising.
        metadata: Anything, for plugins such as kedro-viz.
    """

    def __init__(
        self,
        *,
        path: str | None,
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
        if self._path is None or (self._optional and not self._exists()):
            return None
        model = _from_pretrained(self._path).eval()
        digest = tensors_digest(model.state_dict())
        provenance = Path(self._path) / _PROVENANCE
        if (
            provenance.exists()
            and json.loads(provenance.read_text())["sha256"] != digest
        ):
            raise DataError(
                f"{self._path} was altered after it was written. Remove the folder."
            )
        return StoredAutoencoder(model, digest)

    def save(self, data: AutoencoderKL) -> None:
        """Write the folder atomically."""
        if self._path is None:
            raise DataError("an autoencoder needs a path to be saved to.")
        digest = tensors_digest(data.state_dict())
        with atomic_path(Path(self._path)) as temporary:
            data.save_pretrained(temporary)
            (temporary / _PROVENANCE).write_text(json.dumps({"sha256": digest}))

    def _exists(self) -> bool:
        return self._path is not None and (Path(self._path) / "config.json").exists()

    def _describe(self) -> dict[str, Any]:
        return {"path": self._path, "optional": self._optional}


def _from_pretrained(path: str) -> AutoencoderKL:
    from diffusers import AutoencoderKL

    try:
        return AutoencoderKL.from_pretrained(
            path, use_safetensors=True, low_cpu_mem_usage=False
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise DataError(
            f"encoding.autoencoder={path!r} is neither a folder nor a hub id of a diffusers "
            f"AutoencoderKL that can be reached from here ({str(error).splitlines()[0]}). Give a "
            "folder with config.json and diffusion_pytorch_model.safetensors, or leave it null to "
            "have a small one fitted."
        ) from error
