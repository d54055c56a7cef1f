from __future__ import annotations

import pytest
import torch
from threadpoolctl import threadpool_info

from lct_pipeline.errors import ParameterError
from lct_pipeline.models.device import batch_size_for, choose_device, limit_threads


def pretend(patch: pytest.MonkeyPatch, *, cuda: bool, mps: bool) -> None:
    patch.setattr(torch.cuda, "is_available", lambda: cuda)
    patch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("name", "cuda", "mps", "chosen"),
    [
        ("auto", True, True, "cuda"),
        ("auto", False, True, "mps"),
        ("auto", False, False, "cpu"),
        ("cpu", True, True, "cpu"),
        ("mps", True, True, "mps"),
    ],
)
def test_a_device_is_the_named_one_or_the_fastest_there_is(
    monkeypatch: pytest.MonkeyPatch, name: str, cuda: bool, mps: bool, chosen: str
) -> None:
    pretend(monkeypatch, cuda=cuda, mps=mps)
    assert choose_device(name).type == chosen


@pytest.mark.parametrize(
    ("name", "there"), [("cuda", "mps, cpu"), ("mps", "cuda, cpu")]
)
def test_a_device_that_is_not_there_is_refused_with_those_that_are(
    monkeypatch: pytest.MonkeyPatch, name: str, there: str
) -> None:
    pretend(monkeypatch, cuda=name != "cuda", mps=name != "mps")
    with pytest.raises(
        ParameterError, match=f"runtime.device={name}.*there is: {there}"
    ):
        choose_device(name)


def test_threads_are_those_of_torch_and_of_linear_algebra() -> None:
    try:
        limit_threads(2)
        assert torch.get_num_threads() == 2
    finally:
        limit_threads(1)
    assert torch.get_num_threads() == 1
    blas = [lib for lib in threadpool_info() if lib["user_api"] == "blas"]
    assert {lib["num_threads"] for lib in blas} == {1}


@pytest.mark.parametrize(
    ("given", "side", "on_gpu", "on_cpu"),
    [
        (7, 1024, 7, 7),
        (0, 8, 512, 512),
        (0, 32, 512, 128),
        (0, 128, 256, 8),
        (0, 256, 64, 2),
        (0, 1024, 4, 1),
        (0, 4096, 1, 1),
    ],
)
def test_a_batch_is_as_large_as_said_or_has_as_many_pixels_as_suit_the_device(
    given: int, side: int, on_gpu: int, on_cpu: int
) -> None:
    shape = (3, side, side)
    assert batch_size_for(given, shape, torch.device("cuda")) == on_gpu
    assert batch_size_for(given, shape, torch.device("cpu")) == on_cpu
    assert batch_size_for(given, shape) == on_cpu
