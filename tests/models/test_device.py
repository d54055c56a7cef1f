from __future__ import annotations

import pytest
import torch

from lct_pipeline.errors import ParameterError
from lct_pipeline.models.device import choose_device


def pretend(patch: pytest.MonkeyPatch, *, cuda: bool, mps: bool) -> None:
    patch.setattr(torch.cuda, "is_available", lambda: cuda)
    patch.setattr(torch.backends.mps, "is_available", lambda: mps)


@pytest.mark.parametrize(
    ("cuda", "mps", "chosen"),
    [
        (True, True, "cuda"),
        (True, False, "cuda"),
        (False, True, "mps"),
        (False, False, "cpu"),
    ],
)
def test_auto_takes_the_fastest_device_there_is(
    monkeypatch: pytest.MonkeyPatch, cuda: bool, mps: bool, chosen: str
) -> None:
    pretend(monkeypatch, cuda=cuda, mps=mps)
    assert choose_device("auto").type == chosen


@pytest.mark.parametrize("name", ["cpu", "cuda", "mps"])
def test_a_named_device_that_is_there_is_taken(
    monkeypatch: pytest.MonkeyPatch, name: str
) -> None:
    pretend(monkeypatch, cuda=True, mps=True)
    assert choose_device(name).type == name


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
