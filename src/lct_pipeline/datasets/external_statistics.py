"""Third-party mean and covariance of real images, in an ``.npz``."""

from __future__ import annotations

import zipfile
import zlib
from pathlib import Path
from typing import Any

import numpy as np
import torch
from kedro.io import AbstractDataset

from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import DataError
from lct_pipeline.given_files import regular_file
from lct_pipeline.models.digests import file_digest

_NAMES = (("mu", "mean"), ("sigma", "cov"))
# of the largest value and eigenvalue: float32 files have about 1e-6 of both
_ASYMMETRY, _NEGATIVE = 1e-3, 1e-4
_DAMAGE = (
    OSError,
    ValueError,
    TypeError,  # an array alone is no archive of several
    EOFError,
    MemoryError,
    NotImplementedError,
    zipfile.BadZipFile,
    zlib.error,
)


class ExternalStatisticsDataset(AbstractDataset[None, TensorFile | None]):
    """``ExternalStatisticsDataset`` reads ``mu`` and ``sigma`` as clean-fid and others write them.

    Args:
        source: An ``.npz`` with ``mu`` ``(D,)`` and ``sigma`` ``(D, D)``. None loads as None.
        protocol: How they were made, as text.
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
        tensors = read_statistics(path)
        about = {"path": path.name, "digest": file_digest(path), **self._about}
        return TensorFile(tensors, about)

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
        with np.load(regular_file(path), allow_pickle=False) as file:
            given = [file[_known(file.files, names, path)] for names in _NAMES]
    except _DAMAGE as error:
        raise DataError(
            f"{path} cannot be read as an .npz of statistics: {error}"
        ) from error
    kinds = {array.dtype.kind for array in given}
    if not kinds <= set("fiu"):
        raise DataError(f"{path} has no real numbers as mean and covariance.")
    mu, sigma = (array.astype(np.float64) for array in given)
    if fault := _fault(mu, sigma):
        raise DataError(
            f"{path} is no mean (D,) and covariance (D, D) of features: {fault}."
        )
    return {"mu": torch.from_numpy(mu), "sigma": torch.from_numpy(sigma)}


def _known(there: list[str], names: tuple[str, ...], path: Path) -> str:
    for name in names:
        if name in there:
            return name
    raise DataError(
        f"{path} has no array {' or '.join(names)}; it has: {', '.join(there) or 'none'}."
    )


def _fault(mu: np.ndarray, sigma: np.ndarray) -> str | None:
    if mu.ndim != 1 or not len(mu) or sigma.shape != (len(mu), len(mu)):
        return f"mu has the shape {mu.shape} and sigma {sigma.shape}"
    if not (np.isfinite(mu).all() and np.isfinite(sigma).all()):
        return "some values are not finite"
    if np.abs(sigma - sigma.T).max() > _ASYMMETRY * np.abs(sigma).max():
        return "sigma is not symmetric"
    eigenvalues = np.linalg.eigvalsh(sigma)
    if eigenvalues[0] < -_NEGATIVE * abs(eigenvalues[-1]):
        return f"sigma has the eigenvalue {eigenvalues[0]:.4g}, which no covariance has"
    return None
