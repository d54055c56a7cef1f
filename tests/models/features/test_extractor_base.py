"""What extractors of all kinds share, and what becomes of images before them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from cleanfid.resize import make_resizer
from PIL import Image
from stand_ins import CPU, images, require_gradients
from torch import Tensor

from lct_pipeline.errors import DataError
from lct_pipeline.models.autoencoder import to_uint8
from lct_pipeline.models.features.base import (
    FeatureExtractor,
    extractor_of_network,
    load_torchscript,
    resized,
    through_jpeg,
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
        load_torchscript(path.read_bytes(), path.name, CPU)


SIZES = [(8, 8), (32, 32), (256, 256), (299, 299), (300, 300), (512, 512), (40, 100)]


@pytest.mark.parametrize("size", [*SIZES, (700, 299), (299, 40)], ids=str)
@pytest.mark.parametrize("side", [299, 64])
def test_it_is_clean_fids(size: tuple[int, int], side: int) -> None:
    given = images(1, *size)
    resize = make_resizer("PIL", False, "bicubic", (side, side))
    theirs = resize(given[0].permute(1, 2, 0).numpy())
    ours = resized(given.float(), side)[0].permute(1, 2, 0)
    assert np.abs(ours.numpy() - theirs).max() < 1e-4  # of 255


def test_what_overshoots_is_clipped() -> None:
    edge = torch.zeros(1, 3, 16, 16)
    edge[..., 8:] = 255
    found = resized(edge, 50)
    assert (found.min(), found.max()) == (0, 255)


def test_each_image_of_a_batch_is_resized_by_itself() -> None:
    given = images(3, 20, 30).float()
    one_by_one = torch.cat([resized(image[None], 50) for image in given])
    torch.testing.assert_close(resized(given, 50), one_by_one, atol=1e-4, rtol=0)


def test_images_of_the_size_are_left_alone() -> None:
    given = images(2, 50).float()
    assert resized(given, 50) is given


def test_it_can_be_differentiated() -> None:
    given = images(1, 6).double().mul(0.5).add(60).requires_grad_()  # nothing to clip
    assert torch.autograd.gradcheck(lambda x: resized(x, 9), given)


def smooth_images(height: int, width: int) -> Tensor:
    """Return smooth uint8 images: noise of a quarter of the side, enlarged."""
    generator = torch.Generator().manual_seed(0)
    coarse = torch.rand(3, 3, 5, 5, generator=generator) * 255
    return torch.nn.functional.interpolate(
        coarse, (height, width), mode="bilinear"
    ).byte()


@pytest.mark.parametrize("size", [(20, 20), (17, 33)])
def test_pixels_are_those_of_jpeg_files_that_pillow_writes(
    tmp_path: object, size: tuple[int, int]
) -> None:
    given = smooth_images(*size)
    found = through_jpeg(given)
    assert found.shape == given.shape
    assert found.dtype == torch.uint8
    for index, image in enumerate(given):
        path = f"{tmp_path}/{index}.jpg"
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
        read = np.asarray(Image.open(path).convert("RGB"))
        np.testing.assert_array_equal(found[index].permute(1, 2, 0), read)


def test_fractions_of_a_level_are_cut_off_which_darkens_by_half_a_level() -> None:
    levels = {-1.0: 0, 1.0: 255, -1.5: 0, 1.5: 255, 2 * 100.9 / 255 - 1: 100}
    found = to_uint8(torch.tensor([*levels]), truncated=True)
    assert found.dtype == torch.uint8
    assert found.tolist() == [*levels.values()]
    values = torch.rand(100_000, generator=torch.Generator().manual_seed(0)) * 2 - 1
    exact = (values + 1) * 127.5
    shift = (to_uint8(values, truncated=True).float() - exact).mean()
    assert shift.item() == pytest.approx(-0.5, abs=0.01)
    assert (to_uint8(values).float() - exact).mean().abs() < 0.01
