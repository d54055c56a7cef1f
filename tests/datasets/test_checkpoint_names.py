"""Which number of a name is the step."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from lct_pipeline.datasets.checkpoint_names import NO_WEIGHTS, numbers_in, steps_of
from lct_pipeline.datasets.external_checkpoints import ExternalCheckpointsDataset

LOSSES = (0.93, 0.71, 0.64)
# names, in the order in which the trainings that wrote them went on, and their steps
NAMES: dict[str, tuple[list[str], list[int]]] = {
    "metric": ([f"epoch={n}-val_loss={x}.ckpt" for n, x in enumerate(LOSSES)], [0, 1, 2]),
    "whole metric": ([f"epoch{n}_fid{90 - n}.pt" for n in (9, 10)], [9, 10]),
    "both": ([f"epoch={n}-step={n}0.ckpt" for n in (9, 10)], [90, 100]),
    "batch": ([f"iter{n}000_bs{512 // n}.pt" for n in (1, 2, 4)], [1000, 2000, 4000]),
    "version": ([f"style_v2-{n:06}.safetensors" for n in (5, 10)], [5, 10]),
    "rate": ([f"ema_0.9999_{n}.pt" for n in ("050000", "100000")], [50_000, 100_000]),
    "unit": (["lr1e-4_900k.pt", "lr1e-4_1.5M.pt"], [900_000, 1_500_000]),
    "folder": ([f"run1/iter_{n}/net2.pkl" for n in (20, 100)], [20, 100]),
    "date": ([f"2024-05-01_{n}.pt" for n in (99, 100)], [99, 100]),
    "ends": (["ckpt.99", "ckpt.100"], [99, 100]),
    "global": ([f"global_step{n}0-{n}.pt" for n in (9, 10)], [90, 100]),
}  # fmt: skip


@pytest.mark.parametrize(("names", "steps"), NAMES.values(), ids=NAMES)
def test_the_step_is_told_from_other_numbers(
    names: list[str], steps: list[int]
) -> None:
    assert steps_of(sorted(names)) == dict(zip(names, steps, strict=True))


def test_what_is_no_whole_number_is_no_step() -> None:
    assert [n.value for n in numbers_in("a_0.5_1e-4_2.5k_07.pt")] == [2500, 7]


@pytest.mark.parametrize(
    ("name", "is_none"),
    [
        ("opt000100.pt", True),
        ("lr_scheduler_5.pt", True),
        ("training-state-000100.pt", True),
        ("model-00001-of-00002.safetensors", True),
        ("optimal_5.pt", False),
        ("model_5.pt", False),
    ],
)
def test_what_lies_beside_weights_is_none(name: str, is_none: bool) -> None:
    assert bool(NO_WEIGHTS.search(name)) == is_none


def test_the_log_says_which_file_is_which_step_and_where_times_disagree(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    for name, time in {
        "m-9.pt": 30,
        "m-10.pt": 20,
        "m-11.pt": 40,
        "last.pt": 40,
    }.items():
        (tmp_path / name).touch()
        os.utime(tmp_path / name, (time, time))
    nothing = dict.fromkeys(("pattern", "step", "entry", "names", "strip_prefix"))
    ExternalCheckpointsDataset(source=str(tmp_path), **nothing, kind="raw").load()
    order, times = caplog.messages
    told = ["m-9.pt -> step 9", "m-10.pt -> step 10", "m-11.pt -> step 11"]
    assert [line.strip() for line in order.splitlines()[1:]] == [
        *told,
        "last.pt is left out",
    ]
    assert times.startswith("m-9.pt was written after m-10.pt, whose step is higher")
