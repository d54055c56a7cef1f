"""The code of an exported folder, made of this project's source."""

from __future__ import annotations

import re
from collections.abc import Callable
from typing import Any

import pytest

from lct_pipeline.export.latent_denoiser import DiTDenoiser, MLPDenoiser, UNetDenoiser
from lct_pipeline.export.latent_pipeline import LatentPipeline
from lct_pipeline.export.latent_scheduler import LatentScheduler
from lct_pipeline.export.single_file import single_file
from lct_pipeline.models.denoiser import build_network
from lct_pipeline.pipelines.export.nodes import export_model


@pytest.mark.parametrize(
    "exported",
    [MLPDenoiser, UNetDenoiser, DiTDenoiser, LatentScheduler, LatentPipeline],
)
def test_a_single_file_imports_nothing_of_this_project(exported: type) -> None:
    text = single_file(exported)
    compile(text, exported.__name__, "exec")
    assert f"\nclass {exported.__name__}(" in text
    assert not re.search(r"^\s*(from|import) lct_pipeline", text, re.MULTILINE)


def test_what_is_not_used_is_left_out() -> None:
    text = single_file(MLPDenoiser)
    assert "class MLPNetwork" in text
    assert "class LatentNormalisation" in text
    assert "PosteriorMoments" not in text
    assert "UNet" not in text


@pytest.mark.parametrize(
    ("thing", "reason"),
    [
        (build_network, "ResidualBlock is in .* and in"),
        (export_model, "inside a function"),
    ],
)
def test_what_one_file_cannot_say_is_refused(
    thing: Callable[..., Any], reason: str
) -> None:
    with pytest.raises(ValueError, match=reason):
        single_file(thing)
