"""Which checkpoints are combined."""

from __future__ import annotations

import numpy as np
import pytest
from small_runs import Run, pixel_run

from lct_pipeline.combination.window import check_window, members_of
from lct_pipeline.errors import DataError

STEPS = np.array([10, 20, 30, 40])
RAW = [f"step-{step:07d}-raw" for step in STEPS]
AVERAGES = [
    "step-0000020-power-0.1",
    "step-0000040-ema-0.9",
    "step-0000040-power-0.1",
]


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return pixel_run(tmp_path_factory.mktemp("pixels"))


@pytest.mark.parametrize(
    ("window", "steps"),
    [(1.0, [10, 20, 30, 40]), (0.75, [20, 30, 40]), (0.5, [30, 40])],
)
def test_the_window_is_the_last_share_of_the_steps(
    pixels: Run, window: float, steps: list[int]
) -> None:
    members = members_of(pixels.catalog.rows, window)
    assert members.window["step"].tolist() == steps
    assert set(members.window["kind"]) == {"raw"}
    assert members.averages["name"].tolist() == AVERAGES


def test_a_window_of_one_checkpoint_is_refused_with_what_helps(pixels: Run) -> None:
    with pytest.raises(DataError, match=r"at least 2.*has 1.*combination\.window"):
        check_window(members_of(pixels.catalog.rows, 0.25))


def test_coefficients_of_the_window_are_none_of_the_averages(pixels: Run) -> None:
    members = members_of(pixels.catalog.rows, 0.5)
    alphas = np.array([[0.25, 0.75], [-1.0, 2.0]])
    padded = members.padded(alphas)
    np.testing.assert_array_equal(padded[:, :2], alphas)
    assert padded.shape == (2, 2 + len(AVERAGES)) and not padded[:, 2:].any()
    np.testing.assert_array_equal(members.padded(alphas[0]), padded[0])
