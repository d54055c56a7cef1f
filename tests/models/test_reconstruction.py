"""PSNR, and LPIPS from a file of AlexNet's weights."""

from __future__ import annotations

import math
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pytest
import torch
from stand_ins import as_published
from torch import Tensor

from lct_pipeline.errors import DataError
from lct_pipeline.models.autoencoder import to_float, to_uint8
from lct_pipeline.models.published_weights import ALEXNET_FILE
from lct_pipeline.models.reconstruction import lpips_distance, psnr, squared_error

CPU = torch.device("cpu")


@pytest.fixture(scope="module")
def weights() -> dict[str, Tensor]:
    """Random weights under the names of torchvision's AlexNet, its features alone."""
    generator = torch.Generator().manual_seed(0)
    sizes = {0: (64, 3, 11), 3: (192, 64, 5), 6: (384, 192, 3)}
    sizes |= {8: (256, 384, 3), 10: (256, 256, 3)}
    found = {}
    for place, (out, given, side) in sizes.items():
        shape = (out, given, side, side)
        scale = (2 / (given * side**2)) ** 0.5
        weight = scale * torch.randn(*shape, generator=generator)
        found[f"features.{place}.weight"] = weight
        found[f"features.{place}.bias"] = 0.1 * torch.randn(out, generator=generator)
    return found


@pytest.fixture(scope="module")
def path(
    weights: dict[str, Tensor], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Path]:
    path = tmp_path_factory.mktemp("lpips") / ALEXNET_FILE
    torch.save(weights, path)
    with pytest.MonkeyPatch.context() as patch:
        yield as_published(path, ALEXNET_FILE, patch)


def images(seed: int, side: int = 64) -> Tensor:
    generator = torch.Generator().manual_seed(seed)
    return torch.randint(256, (3, 3, side, side), generator=generator).byte()


def by_hand(weights: dict[str, Tensor], images: Tensor, others: Tensor) -> Tensor:
    """Return LPIPS by its definition, with the linear weights of the package."""
    import lpips

    folder = Path(lpips.__file__).parent / "weights" / "v0.1"
    linear = torch.load(folder / "alex.pth", "cpu", weights_only=True)
    shift = torch.tensor([-0.030, -0.088, -0.188]).reshape(3, 1, 1)
    scale = torch.tensor([0.458, 0.448, 0.450]).reshape(3, 1, 1)
    x = torch.cat([images, others]).float() / 127.5 - 1
    h = (x - shift) / scale
    total = torch.zeros(len(images))
    strides = {0: (4, 2), 3: (1, 2), 6: (1, 1), 8: (1, 1), 10: (1, 1)}
    for level, (place, (stride, padding)) in enumerate(strides.items()):
        weight, bias = (weights[f"features.{place}.{n}"] for n in ("weight", "bias"))
        if place in (3, 6):
            h = torch.nn.functional.max_pool2d(h, 3, 2)
        h = torch.nn.functional.conv2d(h, weight, bias, stride, padding).relu()
        a, b = (h / h.square().sum(1, keepdim=True).sqrt()).chunk(2)
        by_channel = linear[f"lin{level}.model.1.weight"].reshape(1, -1, 1, 1)
        total += ((a - b).square() * by_channel).sum(1).mean((1, 2))
    return total


def test_it_is_the_distance_by_its_definition(
    path: Path, weights: dict[str, Tensor]
) -> None:
    distance = lpips_distance(path, CPU)
    a, b = images(0), images(1)
    found = distance(a, b)
    assert found.shape == (3,) and (found > 0).all()
    torch.testing.assert_close(found, by_hand(weights, a, b), rtol=1e-4, atol=1e-6)
    assert (distance(a, a) == 0).all()


def test_another_file_than_that_of_alexnet_is_refused(
    weights: dict[str, Tensor], path: Path, tmp_path: Path
) -> None:
    other = tmp_path / ALEXNET_FILE
    torch.save({name: -tensor for name, tensor in weights.items()}, other)
    with pytest.raises(DataError, match=rf"is not the published {ALEXNET_FILE}"):
        lpips_distance(other, CPU)


def test_psnr_is_its_formula_and_infinite_for_equal_images() -> None:
    a = images(2)
    b = to_uint8(to_float(a) + 0.1)
    mse = np.mean((a.numpy().astype(float) - b.numpy().astype(float)) ** 2)
    assert squared_error(a, b) == pytest.approx(mse * a.numel())
    found = psnr(squared_error(a, b), a.numel())
    assert found == pytest.approx(20 * math.log10(255) - 10 * math.log10(mse))
    assert psnr(squared_error(a, a), a.numel()) == math.inf


def test_squared_errors_add_up_without_overflow() -> None:
    black, white = (
        torch.full((2, 3, 256, 256), v, dtype=torch.uint8) for v in (0, 255)
    )
    whole = squared_error(black, white)
    assert whole == 255**2 * black.numel() > 2**31
    assert psnr(whole, black.numel()) == 0
