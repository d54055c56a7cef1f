from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch

from lct_pipeline.datasets.results import EvaluationRow
from lct_pipeline.evaluation.protocol import (
    CLEAN,
    SLCT_PAPER,
    by_protocol,
    library_versions,
    log_by_protocol,
    protocol_columns,
)
from lct_pipeline.models.autoencoder import to_uint8

PROTOCOL: dict[str, Any] = {
    "extractor": "inception",
    "extractor_digest": "1234",
    "resize": "clean-fid bicubic to 299",
    "quantisation": "rounded",
    "file_format": "lossless",
    "reference": "the test split",
    "reference_digest": "abcd",
    "num_generated": 5000,
    "num_real": 1000,
    "kept_generated": 500,
    "kept_real": 400,
}


def digest(**changes: Any) -> str:
    return protocol_columns(**PROTOCOL | changes)["protocol"]


@pytest.mark.parametrize("name", PROTOCOL)
def test_every_part_of_a_protocol_makes_another_one(name: str) -> None:
    value = PROTOCOL[name]
    other: Any = value + 1 if isinstance(value, int) else f"{value}, or so"
    assert digest(**{name: other}) != digest() == digest(**{name: value})


def test_a_protocol_is_all_of_a_row_that_says_how_it_was_made() -> None:
    names = list(EvaluationRow.model_fields)
    first, last = names.index("protocol"), names.index("kept_real")
    assert list(protocol_columns(**PROTOCOL)) == names[first : last + 1]


def table() -> pd.DataFrame:
    fewer = PROTOCOL | {"num_generated": 400}
    rows = [
        {
            "model": model,
            "nfe": 1,
            "metric": metric,
            "value": value,
            "std": 0.25 if metric == "fid" else None,
            "standard_error": 0.125 if metric == "kid" else None,
            **protocol_columns(**made),
        }
        for model, made, value in [
            ("last", PROTOCOL, 9.0),
            ("real", fewer, 3.0),
            ("combined", PROTOCOL, 5.0),
        ]
        for metric in ("fid", "kid", "inception_score")
    ]
    return pd.DataFrame(rows)


def test_rows_of_two_protocols_are_never_in_one_table() -> None:
    groups = dict(by_protocol(table()))
    assert [set(rows["model"]) for rows in groups.values()] == [
        {"last", "combined"},
        {"real"},
    ]
    first, second = groups
    assert "5,000 images against 1,000 of the test split" in first
    assert "400 images against 1,000 of the test split" in second
    assert digest() in first


def test_the_log_keeps_the_order_of_models_and_says_how_figures_were_made(
    caplog: pytest.LogCaptureFixture,
) -> None:
    with caplog.at_level("INFO", logger="lct_pipeline"):
        log_by_protocol(table())
    one, other = (record.getMessage() for record in caplog.records)
    titles, last, combined = map(str.split, one.splitlines()[1:])
    assert titles == ["FID", "KID", "Inception", "score"]
    assert last == "Last checkpoint, 1 step 9.0 ± 0.2 9.00 ± 0.12 9.00".split()
    assert combined[0] == "Combination,"
    assert "400 images" in other and "3.0 ± 0.2" in other


def test_the_papers_format_truncates_and_goes_through_jpeg_files() -> None:
    levels = torch.tensor([-1.0, -0.999, 0.0, 0.998, 0.9999, 1.0, 7.0])
    # 127.5 (x + 1): 0, 0.1275, 127.5, 254.745, 254.98725, 255, clamped
    assert SLCT_PAPER.quantise(levels).tolist() == [0, 0, 127, 254, 254, 255, 255]
    assert CLEAN.quantise is to_uint8
    images = torch.randint(256, (2, 3, 16, 16), dtype=torch.uint8)
    assert torch.equal(CLEAN.store(images), images)
    stored = SLCT_PAPER.store(images)
    assert stored.shape == images.shape
    assert not torch.equal(stored, images)


def test_versions_are_of_what_changes_pixels_and_features() -> None:
    text = library_versions()
    assert f"torch {torch.__version__.split('+')[0]}" in text
    assert "clean-fid" in text
