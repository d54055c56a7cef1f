from __future__ import annotations

import pytest
import torch
from threadpoolctl import threadpool_info

from lct_pipeline.errors import ParameterError
from lct_pipeline.models.device import choose_device, limit_threads


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
