"""Small networks with the interface of the real ones, and images."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import cleanfid.fid
import numpy as np
import pytest
import scipy.linalg
import torch
from PIL import Image
from torch import Tensor, nn

from lct_pipeline.models.features.base import FeatureExtractor
from lct_pipeline.models.features.extractors import build_extractor
from lct_pipeline.models.published_weights import INCEPTION_FILE, SHA256
from lct_pipeline.parameters.evaluation import Extractor

CPU = torch.device("cpu")
IMAGENET = {"mean": (0.485, 0.456, 0.406), "std": (0.229, 0.224, 0.225)}


def images(num: int = 3, height: int = 24, width: int | None = None) -> Tensor:
    """Return uint8 images: noise, which overshoots when it is resized."""
    rng = np.random.default_rng(num + height)
    size = (num, 3, height, width or height)
    return torch.from_numpy(rng.integers(0, 256, size=size, dtype=np.uint8))


def write_pngs(folder: Path, given: Tensor) -> Path:
    folder.mkdir()
    for index, image in enumerate(given):
        path = folder / f"{index:03d}.png"
        Image.fromarray(image.permute(1, 2, 0).numpy()).save(path)
    return folder


def built(kind: str, path: object = None, **changes: Any) -> FeatureExtractor:
    """Return an extractor on the CPU."""
    path = None if path is None else str(path)
    return build_extractor(Extractor(kind=kind, path=path, **changes), CPU)


def require_gradients(extractor: FeatureExtractor, given: Tensor) -> None:
    """Check that features are differentiated by images and not by weights."""
    assert extractor.differentiate is not None
    assert not extractor.extract(given).requires_grad
    pixels = given.float() / 127.5 - 1
    assert not extractor.differentiate(pixels).requires_grad
    features = extractor.differentiate(pixels.requires_grad_())
    torch.testing.assert_close(features, extractor.extract(given), atol=1e-5, rtol=1e-4)
    (features @ torch.linspace(1, 2, features.shape[1])).sum().backward()
    assert pixels.grad is not None and pixels.grad.isfinite().all()
    assert pixels.grad.abs().amax((1, 2, 3)).min() > 0


class TinyInception(nn.Module):
    """The interface of clean-fid's file: ``layers`` take 299 pixels, ``output`` has the classes."""

    def __init__(self, num_features: int = 2048) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.layers = nn.Sequential(
            nn.Conv2d(3, 4, 9, stride=9),
            nn.ReLU(),
            nn.AdaptiveAvgPool2d(4),
            nn.Flatten(),
            nn.Linear(64, num_features),
        )
        self.output = nn.Linear(num_features, 10)

    def forward(self, x: Tensor) -> Tensor:
        return self.output(self.layers(x))


def as_published(path: Path, name: str, patch: pytest.MonkeyPatch) -> Path:
    """Let a stand-in pass for the file that others published; return it."""
    patch.setitem(SHA256, name, hashlib.sha256(path.read_bytes()).hexdigest())
    return path


def write_inception(
    folder: Path, patch: pytest.MonkeyPatch, network: nn.Module | None = None
) -> Path:
    """Write a stand-in of clean-fid's file, and return the file."""
    path = folder / INCEPTION_FILE
    torch.jit.script(network or TinyInception()).save(str(path))
    return as_published(path, INCEPTION_FILE, patch)


def clean_fid(
    folders: Sequence[Path], file: Path, monkeypatch: pytest.MonkeyPatch
) -> float:
    """Return the FID of two folders as clean-fid computes it; SciPy 1.18 has no ``disp``."""

    def sqrtm(matrix: np.ndarray, disp: bool = True) -> Any:
        return scipy.linalg.sqrtm(matrix), np.nan

    monkeypatch.setattr(cleanfid.fid, "linalg", SimpleNamespace(sqrtm=sqrtm))
    layers = torch.jit.load(file).layers
    return cleanfid.fid.compute_fid(
        *map(str, folders),
        custom_feat_extractor=lambda x: layers((x - 128) / 128),
        num_workers=0,
        batch_size=1,  # images of several sizes
        device=CPU,
        verbose=False,
    )
