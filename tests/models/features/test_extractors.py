"""Which kinds of extractors there are, and what may be said of each."""

from __future__ import annotations

from typing import Any

import pytest
from pydantic import ValidationError
from stand_ins import IMAGENET, built

from lct_pipeline.errors import DataError
from lct_pipeline.models.features.extractors import KNOWN
from lct_pipeline.parameters.evaluation import KINDS, Extractor


def test_every_kind_but_the_classifier_can_be_built() -> None:
    assert set(KINDS) == {"classifier", *KNOWN}


@pytest.mark.parametrize("kind", ["Inception", "resnet", "my_module.network", ":a"])
def test_an_unknown_kind_is_refused_with_what_is_known(kind: str) -> None:
    with pytest.raises(ValidationError) as caught:
        Extractor(kind=kind)
    for word in (*KINDS, "package.module:name", ".pt", ".onnx"):
        assert word in str(caught.value)


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize(
    "change", [{"size": 64}, *({k: v} for k, v in IMAGENET.items())]
)
def test_what_a_known_network_does_to_images_cannot_be_changed(
    kind: str, change: dict[str, Any]
) -> None:
    with pytest.raises(ValidationError, match=f"{kind} resizes .* custom networks"):
        Extractor(kind=kind, **change)


def test_a_file_takes_no_path() -> None:
    with pytest.raises(ValidationError, match=r"path='weights' is for a function"):
        Extractor(kind="mine.pt", path="weights")


@pytest.mark.parametrize("name", ["no_such.pt", "no_such.onnx"])
def test_a_file_that_is_not_there_is_named(name: str) -> None:
    with pytest.raises(DataError, match=rf"{name}'.* no such file"):
        built(name)
