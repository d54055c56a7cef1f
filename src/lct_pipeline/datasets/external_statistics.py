"""Mean and covariance of real images that somebody else measured, in an ``.npz``."""

from __future__ import annotations

import hashlib
import zipfile
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kedro.io import AbstractDataset

from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import DataError

_NAMES = {"mu": ("mu", "mean"), "sigma": ("sigma", "cov")}
_ASYMMETRY = 1e-3  # of the largest value: float32 files are symmetric to about 1e-6


class ExternalStatisticsDataset(AbstractDataset[None, TensorFile | None]):
    """``ExternalStatisticsDataset`` reads ``mu`` and ``sigma`` as clean-fid and others write them.

    Args:
        source: An ``.npz`` with ``mu`` ``(D,)`` and ``sigma`` ``(D, D)``. None loads as None.
        protocol: How they were made, in words.
        num_images: Of how many images.
        metadata: Anything, for plugins such as kedro-viz.
    """

    def __init__(
        self,
        *,
        source: str | None,
        protocol: str | None = None,
        num_images: int | None = None,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._source = source
        self._about = {"protocol": protocol, "num_images": num_images}
        self.metadata = metadata

    def load(self) -> TensorFile | None:
        """Return ``mu`` and ``sigma``, float64, and what is known about them.

        Raises:
            DataError: The file is missing or damaged, or holds something else.
        """
        if self._source is None:
            return None
        path = Path(self._source).expanduser()
        about = {"path": path.name, "digest": _digest(path), **self._about}
        return TensorFile(read_statistics(path), about)

    def save(self, data: None) -> None:
        """What is given is only read."""
        raise DataError("given statistics cannot be written.")

    def _describe(self) -> dict[str, Any]:
        return {"source": self._source, **self._about}


def read_statistics(path: Path) -> dict[str, Any]:
    """Return ``mu`` and ``sigma`` of a file, float64.

    Raises:
        DataError: The file is missing or damaged, or holds something else.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {
                name: np.asarray(file[_known(file.files, names, path)], np.float64)
                for name, names in _NAMES.items()
            }
    except (OSError, ValueError, zipfile.BadZipFile, EOFError) as error:
        raise DataError(
            f"{path} cannot be read as an .npz of statistics: {error}"
        ) from error
    _check(arrays["mu"], arrays["sigma"], path)
    return {name: torch.from_numpy(array) for name, array in arrays.items()}


def _known(there: list[str], names: tuple[str, ...], path: Path) -> str:
    for name in names:
        if name in there:
            return name
    raise DataError(
        f"{path} has no array {' or '.join(names)}; it has: {', '.join(there) or 'none'}."
    )


def _check(mu: np.ndarray, sigma: np.ndarray, path: Path) -> None:
    fault = None
    if mu.ndim != 1 or sigma.shape != (len(mu), len(mu)):
        fault = f"mu has the shape {mu.shape} and sigma {sigma.shape}"
    elif not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
        fault = "some values are not finite"
    elif np.abs(sigma - sigma.T).max() > _ASYMMETRY * np.abs(sigma).max():
        fault = "sigma is not symmetric"
    if fault:
        raise DataError(
            f"{path} is no mean (D,) and covariance (D, D) of features: {fault}."
        )


def _digest(path: Path) -> str:
    try:
        return hashlib.sha256(path.read_bytes()).hexdigest()
    except OSError as error:
        raise DataError(f"{path} cannot be read: {error.strerror}.") from error
