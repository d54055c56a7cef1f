from __future__ import annotations

import tempfile
from pathlib import Path
from typing import Any

import cleanfid.fid
import numpy as np
import pytest
import torch
from cleanfid.inception_torchscript import InceptionV3W
from PIL import Image
from torch import Tensor, nn
from torch.nn import functional as F

from lct_pipeline.errors import DataError
from lct_pipeline.models.autoencoder import to_float
from lct_pipeline.models.classifier import SmallClassifier
from lct_pipeline.models.features import (
    INCEPTION_FILE,
    FeatureExtractor,
    classifier_extractor,
    inception_extractor,
    inception_folder,
)

CPU = torch.device("cpu")


class TinyInception(nn.Module):
    """The interface of clean-fid's file: ``layers`` maps 299x299 to 2048 features."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 9, stride=9),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(64, 2048),
        )

    def forward(self, x: Tensor) -> Tensor:
        return self.layers(x)


def images(num: int = 3, side: int = 24) -> Tensor:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, size=(num, 3, side, side), dtype=np.uint8)
    return torch.from_numpy(values)


@pytest.fixture
def inception(tmp_path: Path) -> Path:
    torch.jit.script(TinyInception()).save(str(tmp_path / INCEPTION_FILE))
    return tmp_path


def fitted(name: str) -> tuple[dict[str, Tensor], dict[str, Any]]:
    torch.manual_seed(0)
    classifier = SmallClassifier(4, width=8, num_features=6)
    about = {"num_classes": 4, "width": 8, "num_features": 6, "name": name}
    return classifier.state_dict(), about


@pytest.mark.parametrize(
    "name", ["classifier", "rotation_classifier", "check_rotation_classifier"]
)
def test_a_classifiers_distances_are_named_after_it_and_never_fid(name: str) -> None:
    extractor = classifier_extractor(*fitted(name), CPU)
    assert extractor.name == name
    assert extractor.frechet_name == f"{name}_frechet_distance"
    assert extractor.kernel_name == f"{name}_kernel_distance"


def test_a_classifiers_features_are_those_of_its_hidden_layer() -> None:
    tensors, about = fitted("classifier")
    classifier = SmallClassifier(4, width=8, num_features=6)
    classifier.load_state_dict(tensors)
    extractor = classifier_extractor(tensors, about, CPU)
    expected = classifier.features(images().float() / 255 * 2 - 1)
    torch.testing.assert_close(extractor.extract(images()), expected)


@pytest.mark.parametrize("as_file", [False, True], ids=["folder", "file"])
def test_the_inception_is_found_by_its_folder_and_by_itself(
    inception: Path, as_file: bool
) -> None:
    given = inception / INCEPTION_FILE if as_file else inception
    assert inception_folder(str(given)) == inception


def test_without_a_path_the_temporary_folder_is_searched(
    inception: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(tempfile, "tempdir", str(inception))
    assert inception_folder(None) == inception


@pytest.mark.parametrize("given", ["", INCEPTION_FILE, "elsewhere"])
def test_a_missing_inception_is_named_with_what_works_without(
    tmp_path: Path, given: str
) -> None:
    with pytest.raises(DataError) as caught:
        inception_folder(str(tmp_path / given))
    message = str(caught.value)
    assert INCEPTION_FILE in message
    assert str(tmp_path) in message
    assert "features.extractor.path" in message
    assert "features.extractor=classifier" in message


@pytest.mark.parametrize("side", [24, 299, 320])
def test_inception_features_are_those_of_clean_fids_own_path(
    inception: Path, tmp_path: Path, side: int
) -> None:
    folder = tmp_path / "images"
    folder.mkdir()
    given = images(side=side)
    for index, image in enumerate(given):
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(folder / f"{index}.png")
    theirs = cleanfid.fid.get_folder_features(
        str(folder),
        model=InceptionV3W(str(inception), download=False),
        num_workers=0,
        device=CPU,
        mode="clean",
        verbose=False,
    )
    extractor = inception_extractor(inception, CPU)
    with torch.no_grad():
        ours = extractor.extract(given)
    assert ours.shape == (3, 2048)
    np.testing.assert_allclose(ours, theirs, atol=1e-6)
    assert (extractor.frechet_name, extractor.kernel_name) == ("fid", "kid")


def test_inception_resizing_is_clean_fids_and_not_torchs(inception: Path) -> None:
    extractor = inception_extractor(inception, CPU)
    layers = InceptionV3W(str(inception), download=False).layers
    given = images(side=320)
    resized = F.interpolate(given.float(), (299, 299), mode="bilinear")
    with torch.no_grad():
        other = layers((resized - 128) / 128)
        assert not torch.allclose(extractor.extract(given), other, atol=1e-4)


@pytest.mark.parametrize("side", [24, 299, 320])
def test_differentiable_inception_features_are_the_same_up_to_rounding(
    inception: Path, side: int
) -> None:
    extractor = inception_extractor(inception, CPU)
    given = images(side=side)
    with torch.no_grad():
        found = extractor.differentiate(to_float(given))
        torch.testing.assert_close(
            found, extractor.extract(given), atol=1e-5, rtol=1e-4
        )


def test_differentiable_classifier_features_are_the_same() -> None:
    extractor = classifier_extractor(*fitted("classifier"), CPU)
    found = extractor.differentiate(to_float(images()))
    assert torch.equal(found, extractor.extract(images()))


def extractors(inception: Path) -> list[FeatureExtractor]:
    return [
        inception_extractor(inception, CPU),
        classifier_extractor(*fitted("classifier"), CPU),
    ]


def test_features_can_be_differentiated_by_the_images(inception: Path) -> None:
    for extractor in extractors(inception):
        given = to_float(images()).requires_grad_()
        extractor.differentiate(given).square().sum().backward()
        assert given.grad is not None
        assert given.grad.isfinite().all()
        assert given.grad.abs().amax((1, 2, 3)).min() > 0


def test_features_are_not_differentiated_by_the_extractors_weights(
    inception: Path,
) -> None:
    for extractor in extractors(inception):
        assert not extractor.differentiate(to_float(images())).requires_grad
        assert not extractor.extract(images()).requires_grad
