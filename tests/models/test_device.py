from __future__ import annotations

import re

import pytest
import torch
from threadpoolctl import threadpool_info

from lct_pipeline.errors import ParameterError
from lct_pipeline.models.device import (
    batch_size_for,
    choose_device,
    gpu_advice,
    limit_threads,
)


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


@pytest.mark.parametrize(
    ("num_seen", "is_there", "built_for", "visible", "said"),
    [
        (0, False, None, None, None),
        (1, True, "13.2", None, None),
        (4, True, "13.2", None, "4 GPUs are here and 1 of them .*num_processes=4 "),
        (0, True, None, "", "built for CPUs: .* make run TORCH=auto"),
        (0, True, "13.2", "", "CUDA_VISIBLE_DEVICES='' hides all: unset it"),
        (0, True, "13.2", "0", r"driver is older than .*\(CUDA 13\.2\).*nvidia-smi"),
    ],
)
def test_a_gpu_that_is_not_used_is_told_with_cause_and_remedy(
    num_seen: int,
    is_there: bool,
    built_for: str | None,
    visible: str | None,
    said: str | None,
) -> None:
    found = gpu_advice(
        1, num_seen, is_there=is_there, built_for=built_for, visible=visible
    )
    assert found is None if said is None else re.search(said, found or "")


def test_torch_has_the_threads_and_linear_algebra_of_numpy_one() -> None:
    try:
        limit_threads(2)
        assert torch.get_num_threads() == 2
        blas = [lib for lib in threadpool_info() if lib["user_api"] == "blas"]
        assert {lib["num_threads"] for lib in blas} == {1}
    finally:
        limit_threads(1)
    assert torch.get_num_threads() == 1


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
