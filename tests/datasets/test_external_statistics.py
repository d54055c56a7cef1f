from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from kedro.io import DatasetError

from lct_pipeline.datasets.external_statistics import ExternalStatisticsDataset
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import user_error_in

MU = np.array([0.5, -1.0, 2.0])
SIGMA = np.diag([1.0, 2.0, 3.0])


def load(path: Path | str) -> TensorFile:
    found = ExternalStatisticsDataset(
        source=str(path), protocol="clean-fid", num_images=70_000
    ).load()
    assert found is not None
    return found


def saved(folder: Path, **arrays: Any) -> Path:
    path = folder / "ffhq.npz"
    np.savez(path, **arrays)
    return path


@pytest.mark.parametrize("names", [("mu", "sigma"), ("mean", "cov")])
@pytest.mark.parametrize("dtype", [np.float32, np.float64])
def test_mean_and_covariance_are_read_with_what_is_said_of_them(
    tmp_path: Path, names: tuple[str, str], dtype: type
) -> None:
    arrays = dict(zip(names, (MU.astype(dtype), SIGMA.astype(dtype)), strict=True))
    found = load(saved(tmp_path, **arrays, feats=np.zeros(2)))
    torch.testing.assert_close(found.tensors["mu"], torch.from_numpy(MU))
    torch.testing.assert_close(found.tensors["sigma"], torch.from_numpy(SIGMA))
    digest = found.metadata.pop("digest")
    assert len(digest) == 64
    assert found.metadata == {
        "path": "ffhq.npz",
        "protocol": "clean-fid",
        "num_images": 70_000,
    }


def test_without_a_source_there_is_nothing() -> None:
    assert ExternalStatisticsDataset(source=None).load() is None


@pytest.mark.parametrize(
    ("arrays", "fault"),
    [
        ({"mu": MU}, "has no array sigma or cov; it has: mu"),
        ({"mu": MU, "sigma": SIGMA[:2]}, r"sigma \(2, 3\)"),
        ({"mu": MU[:, None], "sigma": SIGMA}, r"mu has the shape \(3, 1\)"),
        ({"mu": MU * np.nan, "sigma": SIGMA}, "not finite"),
        ({"mu": MU, "sigma": np.triu(np.ones((3, 3)))}, "not symmetric"),
        ({"mu": np.array([{}], dtype=object), "sigma": SIGMA}, "cannot be read"),
        ({"mu": MU, "sigma": SIGMA * 1j}, "no real numbers"),
        ({"mu": MU[:0], "sigma": SIGMA[:0, :0]}, r"mu has the shape \(0,\)"),
        # of [[1, 2], [2, 1]] they are 3 and -1, for the vectors (1, 1) and (1, -1)
        ({"mu": MU[:2], "sigma": np.array([[1, 2], [2, 1]])}, "the eigenvalue -1,"),
    ],
)
def test_anything_else_is_refused_with_the_fault(
    tmp_path: Path, arrays: dict[str, Any], fault: str
) -> None:
    with pytest.raises(DatasetError) as caught:
        load(saved(tmp_path, **arrays))
    message = str(user_error_in(caught.value))
    assert re.search(fault, message)
    assert "ffhq.npz" in message


def test_rounding_below_zero_is_no_fault(tmp_path: Path) -> None:
    features = np.random.default_rng(0).normal(size=(5, 40))  # 36 eigenvalues are 0
    sigma = np.cov(features, rowvar=False).astype(np.float32)
    assert np.linalg.eigvalsh(sigma.astype(np.float64))[0] < 0
    assert load(saved(tmp_path, mu=np.zeros(40), sigma=sigma))


def test_an_array_alone_is_none(tmp_path: Path) -> None:
    with (tmp_path / "stats.npz").open("wb") as file:
        np.save(file, SIGMA)
    with pytest.raises(DatasetError) as caught:
        load(tmp_path / "stats.npz")
    assert "cannot be read as an .npz" in str(user_error_in(caught.value))


@pytest.mark.parametrize("content", [None, b"", b"PK\x03\x04 cut short"])
def test_a_missing_or_damaged_file_is_named(
    tmp_path: Path, content: bytes | None
) -> None:
    path = tmp_path / "stats.npz"
    if content is not None:
        path.write_bytes(content)
    with pytest.raises(DatasetError) as caught:
        load(path)
    assert "stats.npz cannot be read" in str(user_error_in(caught.value))


def test_what_is_given_is_not_written() -> None:
    with pytest.raises(DatasetError, match="cannot be written"):
        ExternalStatisticsDataset(source="x.npz").save(TensorFile({}))  # type: ignore[arg-type]
