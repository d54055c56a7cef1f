"""Numbers, names and sentences."""

from dataclasses import replace
from pathlib import Path

import pandas as pd
import pytest
from click.testing import CliRunner
from exporting import MODELS as EXPORTED
from exporting import STORY
from making_runs import make_record, make_run, row

from lct_pipeline.cli import cli
from lct_pipeline.datasets.run_folder import RunFolder
from lct_pipeline.evaluation.protocol import log_by_protocol
from lct_pipeline.export.model_card import model_card
from lct_pipeline.reporting.page import page
from lct_pipeline.reporting.words import (
    MINUS,
    MODELS,
    NONE,
    duration,
    in_sentence,
    mean_text,
    metric_name,
    metric_title,
    number,
    share,
    value_text,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [
        (1.71822, "1.72"),
        (60.41, "60.4"),
        (3805.2, "3,805"),
        (0.0, "0"),
        (-0.0372, f"{MINUS}0.0372"),
        (2.3e-9, f"2.3e{MINUS}09"),
        (None, NONE),
        (float("nan"), NONE),
    ],
)
def test_numbers_have_three_digits(value: float | None, text: str) -> None:
    assert number(value) == text


@pytest.mark.parametrize(
    ("value", "std", "text"),
    [
        (8.37, 0.48, "8.4 ± 0.5"),
        (60.42, 0.91, "60.4 ± 0.9"),
        (8.66, 1.07, "8.7 ± 1.1"),
        (9.23, 0.975, "9.2 ± 1.0"),
        (8.66, 2.07, "9 ± 2"),
        (120.4, 12.2, "120 ± 12"),
        (1204.0, 122.0, "1,204 ± 122"),
        (32.9, 4.6, "33 ± 5"),
        (1.718224, 0.000614, "1.7182 ± 0.0006"),
        (5.276, None, "5.28"),
        (0.0, 0.0, "0 ± 0"),
    ],
)
def test_a_mean_has_the_decimals_of_its_std(
    value: float, std: float | None, text: str
) -> None:
    assert value_text(value, std) == text


def test_units_are_words() -> None:
    times = {4.81: "4.8 s", 101: "1 min 41 s", 3600: "1 h", 90_061: "1 d 1 h"}
    assert [duration(seconds) for seconds in times] == list(times.values())
    shares = {0.0: "0%", 2.3e-6: "0.00023%", 0.014: "1.4%", 0.83: "83%"}
    assert [share(value) for value in shares] == list(shares.values())


def test_only_fid_is_called_fid() -> None:
    names = {
        "fid": "FID",
        "classifier_frechet_distance": "Frechet distance",
        "fid_infinity": "FID, infinitely many images",
        "my_net_kernel_distance": "Kernel distance",
        "dinov2_frechet_distance_infinity": "Frechet distance, infinitely many images",
        "precision": "Precision",
        "dinov2_score": "Class score",
    }
    assert [metric_name(metric) for metric in names] == list(names.values())
    assert metric_name("inception_score") == metric_title("inception_score")
    title = metric_title("check_rotation_classifier_frechet_distance")
    assert title == "Frechet distance (check rotation classifier)"


def test_a_mean_of_seeds_has_their_std() -> None:
    assert mean_text([5.0, 6.0, 7.0]) == "6.0 ± 1.0"
    assert mean_text([5.0]) == "5.00"


def test_within_a_sentence_a_name_stays_one() -> None:
    assert in_sentence(MODELS["last"]) == "last checkpoint"
    assert in_sentence(MODELS["best_ema"]) == "best EMA"


def test_one_value_is_printed_alike_in_log_report_card_and_list(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    rows = [row("last", 8.374, 0.482), row("combined", 1234.4, 12.2)]
    make_run(tmp_path, "a", make_record(), rows=rows)
    data = tmp_path / "data"
    run = RunFolder(data / "06_models" / "a", data / "08_reporting" / "a")
    monkeypatch.chdir(tmp_path)
    with caplog.at_level("INFO"):
        log_by_protocol(pd.DataFrame([each.model_dump() for each in rows]))
    printed = [
        caplog.text,
        page(run, None, None),
        model_card(replace(STORY, rows=rows), EXPORTED["classes"].pipeline(), "0" * 64),
        CliRunner().invoke(cli, ["lct", "runs"]).output,
        CliRunner().invoke(cli, ["lct", "diff", "a", "a"]).output,
    ]
    for text in printed:
        assert "8.4 ± 0.5" in text and "1,234 ± 12" in text
    for text in printed[:3]:
        assert "Last checkpoint, 1 step" in text and "Frechet distance" in text
