"""What extractors of all kinds share."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from stand_ins import CPU, images, require_gradients
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


@pytest.mark.parametrize(
    "network",
    [
        means,
        lambda given: means(given).double(),
        lambda given: given.mean((2, 3), keepdim=True),
    ],
    ids=["matrix", "float64", "maps of one pixel"],
)
def test_a_network_is_given_pixels_and_its_features_are_float32(network: Any) -> None:
    found = extractor(network).extract(images())
    assert found.dtype == torch.float32
    torch.testing.assert_close(found, images().float().mean((2, 3)))
    require_gradients(extractor(network), images())


@pytest.mark.parametrize(
    ("network", "found"),
    [
        (lambda x: x, r"of 3 it gave torch\.float32 of shape \(3, 3, 24, 24\)"),
        (lambda x: means(x).flatten(), r"torch\.float32 of shape \(9,\)"),
        (lambda x: means(x)[:2], r"torch\.float32 of shape \(2, 3\)"),
        (lambda x: means(x).long(), r"torch\.int64 of shape \(3, 3\)"),
        (lambda x: (means(x),), "it gave tuple"),
        (lambda x: means(x) * math.nan, "gave .* not finite"),
        (lambda x: means(x) * math.inf, "gave .* not finite"),
    ],
    ids=range(7),
)
def test_what_is_no_matrix_of_finite_features_is_refused(
    network: Any, found: str
) -> None:
    with pytest.raises(
        DataError, match=f"feature extractor mine (must give .*)?{found}"
    ):
        extractor(network).extract(images())


def test_distances_are_named_after_the_network_and_fid_is_inceptions() -> None:
    def names(**changes: Any) -> tuple[str, ...]:
        found = extractor(**changes)
        return found.frechet_name, found.kernel_name, found.score_name

    of_mine = ("mine_frechet_distance", "mine_kernel_distance", "mine_score")
    assert names() == of_mine
    assert names(is_inception=True) == ("fid", "kid", "inception_score")


def test_class_probabilities_are_the_softmax_of_products_with_the_weights() -> None:
    classify = extractor(class_weights=torch.eye(3)).classify
    assert classify is not None
    found = classify(torch.tensor([[0.0, 0.0, math.log(2)]]))
    torch.testing.assert_close(found, torch.tensor([[0.25, 0.25, 0.5]]))
    assert extractor().classify is None


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
