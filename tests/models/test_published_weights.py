"""Weights that others published: where they are, and that nothing else is loaded for them."""

from __future__ import annotations

import re
import tempfile
from pathlib import Path
from typing import Any

import pytest
import torch
from stand_ins import CPU, TinyInception, built

from lct_pipeline.errors import DataError
from lct_pipeline.models.published_weights import (
    ALEXNET_FILE,
    INCEPTION_FILE,
    PYTORCH_FILE,
    SHA256,
    published_file,
)
from lct_pipeline.models.reconstruction import lpips_distance

READERS: dict[str, Any] = {
    INCEPTION_FILE: lambda path: built("inception", path),
    PYTORCH_FILE: lambda path: built("inception_pytorch", path),
    ALEXNET_FILE: lambda path: lpips_distance(path, CPU),
}


def test_digests_begin_with_the_digits_in_the_names_of_torch_hub() -> None:
    for name in (PYTORCH_FILE, ALEXNET_FILE):
        (digits,) = re.findall(r"-([0-9a-f]{8})\.pth$", name)
        assert SHA256[name].startswith(digits)
    assert all(re.fullmatch("[0-9a-f]{64}", digest) for digest in SHA256.values())


@pytest.mark.parametrize("name", SHA256)
def test_a_file_is_where_it_is_said_or_in_torch_hubs_folder(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    assert published_file(str(tmp_path), name) == tmp_path / name
    assert published_file(str(tmp_path / "own.pth"), name) == tmp_path / "own.pth"
    monkeypatch.setenv("TORCH_HOME", str(tmp_path / "torch"))
    usual = tmp_path / "torch" / "hub" / "checkpoints" / name
    assert published_file(None, name) == usual
    monkeypatch.delenv("TORCH_HOME")
    assert Path(tempfile.gettempdir()) not in published_file(None, name).parents


@pytest.mark.parametrize("name", SHA256)
def test_another_file_is_refused_and_not_loaded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    torch.jit.script(TinyInception()).save(str(tmp_path / name))
    for module in (torch, torch.jit):
        monkeypatch.setattr(module, "load", pytest.fail)
    with pytest.raises(
        DataError, match=rf"{name} is not the published {name}: .*fetch"
    ):
        READERS[name](tmp_path / name)
