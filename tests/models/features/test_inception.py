"""clean-fid's Inception: the same features, the same distance, and the Inception score."""

from __future__ import annotations

import hashlib
import tempfile
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cleanfid.fid
import numpy as np
import pytest
import scipy.linalg
import torch
from cleanfid.inception_torchscript import InceptionV3W
from stand_ins import CPU, TinyInception, built, images, write_inception, write_pngs
from torch import nn
from torch.nn import functional as F

from lct_pipeline.core.metrics.frechet import FeatureMoments, frechet_distance
from lct_pipeline.errors import DataError
from lct_pipeline.models.autoencoder.coding import to_float
from lct_pipeline.models.features.inception import INCEPTION_FILE


@pytest.fixture
def inception(tmp_path: Path) -> Path:
    return write_inception(tmp_path)


@pytest.mark.parametrize("as_folder", [False, True], ids=["file", "folder"])
def test_the_file_is_found_by_itself_and_by_its_folder(
    inception: Path, as_folder: bool
) -> None:
    found = built("inception", inception.parent if as_folder else inception)
    assert found.digest == hashlib.sha256(inception.read_bytes()).hexdigest()


def test_the_file_may_have_another_name(inception: Path) -> None:
    assert built("inception", inception.rename(inception.with_name("mine.pt")))


def test_without_a_path_the_temporary_folder_is_searched(
    inception: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(inception.parent))
    assert built("inception").digest == built("inception", inception).digest


@pytest.mark.parametrize("given", ["", INCEPTION_FILE, "elsewhere"])
def test_a_missing_file_is_named_with_what_works_without(
    tmp_path: Path, given: str
) -> None:
    with pytest.raises(DataError) as caught:
        built("inception", tmp_path / given)
    message = str(caught.value)
    assert INCEPTION_FILE in message
    assert str(tmp_path) in message
    assert "features.extractor.path" in message
    assert "features.extractor.kind=classifier works without" in message


def test_what_a_row_says_of_it(inception: Path) -> None:
    found = built("inception", inception)
    assert (found.name, found.frechet_name, found.kernel_name) == (
        "inception",
        "fid",
        "kid",
    )
    assert found.resize == "clean-fid bicubic to 299"


@pytest.mark.parametrize("side", [24, 299, 320])
def test_features_are_those_of_clean_fids_own_path(
    inception: Path, tmp_path: Path, side: int
) -> None:
    given = images(3, side)
    theirs = cleanfid.fid.get_folder_features(
        str(write_pngs(tmp_path / "images", given)),
        model=InceptionV3W(str(tmp_path), download=False),
        num_workers=0,
        device=CPU,
        mode="clean",
        verbose=False,
    )
    ours = built("inception", inception).extract(given)
    assert ours.shape == (3, 2048)
    np.testing.assert_allclose(ours, theirs, atol=1e-5)


def test_images_of_other_sizes_come_one_by_one(inception: Path) -> None:
    extract = built("inception", inception).extract
    for size in ((30, 50), (299, 40), (320, 320)):
        assert extract(images(1, *size)).shape == (1, 2048)


def test_resizing_is_clean_fids_and_not_pytorch_fids(inception: Path) -> None:
    found = built("inception", inception)
    given = images(3, 320)
    bilinear = F.interpolate(given.float(), (299, 299), mode="bilinear")
    with torch.no_grad():
        other = TinyInception().layers((bilinear - 128) / 128)
    assert not torch.allclose(found.extract(given), other, atol=1e-3)


@pytest.mark.parametrize("side", [24, 299, 320])
def test_differentiable_features_are_the_same_up_to_rounding(
    inception: Path, side: int
) -> None:
    found = built("inception", inception)
    given = images(3, side)
    torch.testing.assert_close(
        found.differentiate(to_float(given)), found.extract(given), atol=1e-5, rtol=1e-4
    )


def test_features_are_differentiated_by_images_and_not_by_weights(
    inception: Path,
) -> None:
    found = built("inception", inception)
    given = to_float(images())
    assert not found.differentiate(given).requires_grad
    found.differentiate(given.requires_grad_()).square().sum().backward()
    assert given.grad is not None
    assert given.grad.isfinite().all()
    assert given.grad.abs().amax((1, 2, 3)).min() > 0


def test_classes_are_those_of_the_output_layer_without_its_bias(
    inception: Path,
) -> None:
    found = built("inception", inception)
    features = found.extract(images())
    weight = TinyInception().output.weight
    expected = torch.exp(features @ weight.T)
    expected /= expected.sum(1, keepdim=True)
    assert found.score_name == "inception_score"
    torch.testing.assert_close(found.classify(features), expected)


def test_a_file_without_output_layer_has_no_score(tmp_path: Path) -> None:
    found = built("inception", write_inception(tmp_path, OnlyLayers()))
    assert found.score_name is None
    assert found.classify is None


class OnlyLayers(nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layers = TinyInception().layers

    def forward(self, x: torch.Tensor) -> torch.Tensor:
        return self.layers(x)


# the distance of two folders


@pytest.fixture
def folders(tmp_path: Path) -> list[Path]:
    """Return two folders of images that differ in contrast and colour."""
    first = images(60, 48)
    second = (images(50, 40) * torch.tensor([0.9, 0.8, 0.7])[:, None, None]).byte()
    return [write_pngs(tmp_path / "a", first), write_pngs(tmp_path / "b", second)]


@pytest.fixture
def small(tmp_path: Path) -> Path:
    """Return a stand-in with fewer features than images."""
    return write_inception(tmp_path, TinyInception(num_features=16))


def sqrtm_of_any_scipy(matrix: np.ndarray, disp: bool = True) -> Any:
    """SciPy's square root with the argument that 1.18 removed."""
    root = scipy.linalg.sqrtm(matrix)
    return root if disp else (root, np.nan)


def clean_fid(folders: list[Path], file: Path) -> float:
    layers = torch.jit.load(file).layers
    return cleanfid.fid.compute_fid(
        *map(str, folders),
        custom_feat_extractor=lambda x: layers((x - 128) / 128),
        mode="clean",
        num_workers=0,
        device=CPU,
        verbose=False,
    )


def our_fid(folders: list[Path], file: Path) -> float:
    from PIL import Image

    extract = built("inception", file).extract
    sides = []
    for folder in folders:
        moments = FeatureMoments(16)
        for path in sorted(folder.iterdir()):
            pixels = np.asarray(Image.open(path)).transpose(2, 0, 1)
            moments.update(extract(torch.from_numpy(pixels.copy())[None]))
        sides.append(moments.statistics())
    return frechet_distance(*sides)


def test_the_distance_is_that_of_clean_fid(
    folders: list[Path], small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    linalg = SimpleNamespace(sqrtm=sqrtm_of_any_scipy)
    monkeypatch.setattr(cleanfid.fid, "linalg", linalg)
    theirs = clean_fid(folders, small)
    assert theirs > 0.01
    assert our_fid(folders, small) == pytest.approx(theirs, rel=1e-5)


def test_our_distance_needs_no_square_root_of_scipy(
    folders: list[Path], small: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As with SciPy 1.18, where that of clean-fid fails."""
    before = our_fid(folders, small)

    def without_disp(A: np.ndarray) -> np.ndarray:
        raise AssertionError("not to be called")

    monkeypatch.setattr(scipy.linalg, "sqrtm", without_disp)
    with pytest.raises(TypeError, match="disp"):
        clean_fid(folders, small)
    assert our_fid(folders, small) == before
