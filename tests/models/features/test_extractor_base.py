"""What extractors of all kinds share."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from stand_ins import CPU, images
from torch import Tensor

from lct_pipeline.errors import DataError
from lct_pipeline.models.features.base import (
    FeatureExtractor,
    extractor_of_network,
    load_torchscript,
)


def means(given: Tensor) -> Tensor:
    return given.mean((2, 3))


def extractor(network: Any = means, **changes: Any) -> FeatureExtractor:
    return extractor_of_network(
        "mine", network, CPU, **{"digest": "", "resize": "none", **changes}
    )


def test_a_network_is_given_pixels_and_its_features_are_float32() -> None:
    found = extractor(lambda given: means(given).double()).extract(images())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, images().float().mean((2, 3)))


def test_images_in_minus_one_to_one_have_the_same_features() -> None:
    given = images()
    found = extractor().differentiate(given / 127.5 - 1)
    torch.testing.assert_close(found, extractor().extract(given))


def test_pooled_maps_of_one_pixel_are_features() -> None:
    pooled = extractor(lambda given: given.mean((2, 3), keepdim=True))
    torch.testing.assert_close(pooled.extract(images()), extractor().extract(images()))


def test_features_are_kept_without_what_made_them() -> None:
    weight = torch.ones(3, requires_grad=True)
    mine = extractor(lambda given: means(given) * weight)
    assert not mine.extract(images()).requires_grad
    assert mine.differentiate(images() / 127.5 - 1).requires_grad


@pytest.mark.parametrize(
    ("network", "found"),
    [
        (lambda x: x, r"of 3 it gave torch\.float32 of shape \(3, 3, 24, 24\)"),
        (lambda x: means(x).flatten(), r"torch\.float32 of shape \(9,\)"),
        (lambda x: means(x)[:2], r"torch\.float32 of shape \(2, 3\)"),
        (lambda x: means(x).long(), r"torch\.int64 of shape \(3, 3\)"),
        (lambda x: (means(x),), "it gave tuple"),
    ],
    ids=range(5),
)
def test_what_is_no_matrix_of_features_is_refused(network: Any, found: str) -> None:
    with pytest.raises(DataError, match=f"feature extractor mine must give .*{found}"):
        extractor(network).extract(images())


@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_features_that_are_not_finite_are_refused(value: float) -> None:
    with pytest.raises(DataError, match=r"feature extractor mine gave .* not finite"):
        extractor(lambda given: means(given) * value).extract(images())


def test_distances_are_named_after_the_network_and_fid_is_inceptions() -> None:
    mine = extractor(class_weights=torch.ones(2, 3))
    assert mine.frechet_name == "mine_frechet_distance"
    assert mine.kernel_name == "mine_kernel_distance"
    assert mine.score_name == "mine_score"
    inception = extractor(class_weights=torch.ones(2, 3), is_inception=True)
    assert inception.frechet_name == "fid"
    assert inception.kernel_name == "kid"
    assert inception.score_name == "inception_score"


def test_class_probabilities_are_the_softmax_of_products_with_the_weights() -> None:
    classify = extractor(class_weights=torch.eye(3)).classify
    assert classify is not None
    found = classify(torch.tensor([[0.0, 0.0, math.log(2)]]))
    torch.testing.assert_close(found, torch.tensor([[0.25, 0.25, 0.5]]))


def test_without_classes_there_is_no_score() -> None:
    assert extractor().score_name is None
    assert extractor().classify is None


def test_what_cannot_be_differentiated_says_so() -> None:
    assert extractor(is_differentiable=False).differentiate is None


@pytest.mark.parametrize("content", ["", "half", "state dict"])
def test_a_file_that_is_not_torchscript_is_refused(
    tmp_path: Path, content: str
) -> None:
    path = tmp_path / "network.pt"
    path.write_bytes(b"")
    if content == "half":
        torch.jit.script(torch.nn.Linear(99, 99)).save(str(path))
        path.write_bytes(path.read_bytes()[:9000])
    if content == "state dict":
        torch.save(torch.nn.Linear(3, 3).state_dict(), path)
    with pytest.raises(DataError, match=r"network\.pt is not a whole TorchScript file"):
        load_torchscript(path, CPU)
