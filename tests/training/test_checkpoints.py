"""What training leaves behind: which checkpoints when, what they say, and rows of metrics."""

from __future__ import annotations

import logging
from types import SimpleNamespace
from typing import Any

import pandas as pd
import pytest

from conftest import DIFFUSION, SmokeResults
from lct_pipeline.datasets.tensors import TensorFile

WORKER = "lct_pipeline.training.loop"


NONE: set[str] = set()


RAW, RATES, POWER = {"raw"}, {"ema-0.9", "ema-0.95"}, {"power-0.1"}


ALL = RAW | RATES | POWER


# stages end after steps 4, 8 and 12; weights are due each 5 of the last half, snapshots each 6
# steps; the state is written where something would be due
EDGES = {4: ALL, 8: ALL, 12: ALL}


USUAL = {**EDGES, 5: NONE, 6: POWER, 10: RAW}


COLUMNS = (
    "step",
    "loss",
    "consistency_loss",
    "diffusion_loss",
    "num_levels",
    "c",
    "td_rms",
    "gradient_norm",
    "coupling_seconds",
    "wait_seconds",
    "images_per_second",
)


def names_by_step(
    results: SmokeResults, changes: dict[str, Any]
) -> dict[int, set[str]]:
    """Return the checkpoints of each step, without the step in their names."""
    return {
        piece.step: {
            name.removeprefix(f"step-{piece.step:07d}-") for name in piece.checkpoints
        }
        for piece in results.train(changes)
    }


@pytest.mark.parametrize(
    ("changes", "expected"),
    [
        ({}, USUAL),
        (
            {"checkpoint_window": 1.0},
            {4: ALL, 5: RAW, 6: POWER, 8: ALL, 10: RAW, 12: ALL},
        ),
        (
            {"checkpoint_interval": 6, "checkpoint_window": 0.6},
            {4: ALL, 6: RAW | POWER, 8: ALL, 12: ALL},
        ),
        ({"checkpoint_interval": 100, "ema.snapshot_interval": 100}, EDGES),
        ({"ema.rates": []}, {n: found - RATES for n, found in USUAL.items()}),
        ({"ema.sigma_rels": []}, {n: found - POWER for n, found in USUAL.items()}),
        ({"noise.s1": 4}, {5: NONE, 6: POWER, 10: RAW, 12: ALL}),
        (DIFFUSION, {5: NONE, 6: POWER, 10: RAW, 12: ALL}),
        ({"num_steps": 1}, {1: ALL}),
    ],
)
def test_checkpoints_are_due_at_intervals_of_the_window_snapshots_and_ends_of_stages(
    results: SmokeResults, changes: dict[str, Any], expected: dict[int, set[str]]
) -> None:
    assert names_by_step(results, changes) == expected


@pytest.fixture(scope="module")
def last(results: SmokeResults) -> dict[str, TensorFile]:
    *_, piece = results.train({})
    return piece.checkpoints


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("raw", {"kind": "raw", "ema_rate": None, "ema_width": None}),
        ("ema-0.9", {"kind": "ema", "ema_rate": 0.9, "ema_width": None}),
        ("ema-0.95", {"kind": "ema", "ema_rate": 0.95, "ema_width": None}),
        ("power-0.1", {"kind": "power", "ema_rate": None, "ema_width": 0.1}),
    ],
)
def test_a_checkpoint_says_what_it_is(
    last: dict[str, TensorFile], name: str, expected: dict[str, Any]
) -> None:
    about = last[f"step-0000012-{name}"].metadata
    assert {key: about[key] for key in expected} == expected
    assert about["step"] == 12
    assert about["num_images"] == 12 * 16
    assert about["num_levels"] == 16
    assert about["ends_stage"] is True
    assert about["network"]["kind"] == "mlp"


def test_a_checkpoint_between_ends_of_stages_says_so(results: SmokeResults) -> None:
    pieces = list(results.train({"checkpoint_window": 1.0}))
    ends, levels = (
        {
            piece.step: {file.metadata[key] for file in piece.checkpoints.values()}
            for piece in pieces
        }
        for key in ("ends_stage", "num_levels")
    )
    between = {5, 6, 10}
    assert ends == {step: {step not in between} for step in (4, 5, 6, 8, 10, 12)}
    assert levels == {4: {4}, 5: {8}, 6: {8}, 8: {8}, 10: {16}, 12: {16}}


@pytest.mark.parametrize(
    "changes", [{}, {"checkpoint_interval": 1, "ema.snapshot_interval": 2}, DIFFUSION]
)
def test_as_many_checkpoints_are_announced_as_are_written(
    results: SmokeResults, caplog: pytest.LogCaptureFixture, changes: dict[str, Any]
) -> None:
    caplog.set_level(logging.INFO, WORKER)
    pieces = list(results.train(changes))
    num_files = sum(len(piece.checkpoints) for piece in pieces)
    assert f"Its {num_files} checkpoints take 0.00 GiB of disk." in caplog.text


def test_too_little_disk_is_warned_of_with_what_helps(
    results: SmokeResults,
    caplog: pytest.LogCaptureFixture,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    full = SimpleNamespace(free=2**20)
    monkeypatch.setattr(f"{WORKER}.shutil.disk_usage", lambda _: full)
    next(results.train({}))
    assert "Only 0.00 GiB are free" not in caplog.text  # 14 checkpoints of 25 kB
    full.free = 1000
    next(results.train({}))
    (record,) = [r for r in caplog.records if r.levelname == "WARNING"]
    assert record.getMessage() == (
        "Only 0.00 GiB are free there: raise training.checkpoint_interval, or lower "
        "training.checkpoint_window."
    )


def test_rows_are_means_over_their_intervals(results: SmokeResults) -> None:
    each, fours = (
        pd.concat([p.rows for p in results.train({"metrics_interval": n})])
        for n in (1, 4)
    )
    assert list(each) == list(fours) == list(COLUMNS)
    assert each["step"].tolist() == list(range(1, 13))
    assert fours["step"].tolist() == [4, 8, 12]
    for name in ("loss", "consistency_loss", "diffusion_loss", "td_rms"):
        means = each[name].to_numpy().reshape(3, 4).mean(1)
        assert fours[name].tolist() == pytest.approx(means.tolist())
    for name in ("num_levels", "c"):
        assert fours[name].tolist() == each[name].tolist()[3::4]


def test_no_row_is_handed_over_twice(results: SmokeResults) -> None:
    steps = [piece.rows["step"].tolist() for piece in results.train({})]
    assert steps == [[1, 2, 3, 4], [5], [6], [7, 8], [9, 10], [11, 12]]
    pieces = results.train({"num_steps": 7, "metrics_interval": 5})
    steps = [step for piece in pieces for step in piece.rows.get("step", [])]
    assert steps == [5, 7]  # the last row covers the steps that are left
