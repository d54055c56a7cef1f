"""The evaluation as a stage: what it ends with, and how it goes with and without a combination."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest

from conftest import SmokeResults
from lct_pipeline.errors import DataError
from lct_pipeline.pipeline_registry import register_pipelines
from lct_pipeline.pipelines.evaluation.nodes import conclude_evaluation
from lct_pipeline.reporting.words import MODELS

FRECHET = "classifier_frechet_distance"


def conclude(results: SmokeResults, table: pd.DataFrame) -> tuple[Any, ...]:
    """Conclude an evaluation with this table of figures."""
    others = ("two_step_selection", "distance_by_size", "sample_panels", "copying")
    return conclude_evaluation(table, *map(results.catalog.load, others))


def test_the_table_is_logged_for_a_person(
    results: SmokeResults, caplog: pytest.LogCaptureFixture
) -> None:
    rows = results.catalog.load("evaluation_table")
    with caplog.at_level("INFO", logger="lct_pipeline"):
        conclude(results, rows)
    for model in ("last", "best_ema", "combined"):
        assert MODELS[model] in caplog.text
    assert "of the test split" in caplog.text


def test_a_table_without_rows_is_refused(results: SmokeResults) -> None:
    with pytest.raises(DataError, match="no rows"):
        conclude(results, pd.DataFrame())


def test_the_record_has_the_first_distance_of_each_model_and_plan(
    results: SmokeResults,
) -> None:
    load = results.catalog.load
    table = load("evaluation_table")
    *_, record = conclude(results, table)
    assert record == load("evaluation_record")
    assert {d["metric"] for d in record["distances"]} == {FRECHET}
    first = table[(table["metric"] == FRECHET) & (table["nfe"] > 0)]
    found = {(d["model"], d["nfe"]): d["value"] for d in record["distances"]}
    expected = first.set_index(["model", "nfe"])["value"].to_dict()
    assert expected.items() <= found.items()


def test_in_a_whole_run_evaluation_waits_for_the_combination() -> None:
    whole = register_pipelines()["__default__"]
    nodes = whole.from_nodes("combination.select_combination").nodes
    waiting = ("select_sampling_plan", "evaluate_models", "make_sample_panels")
    assert {f"evaluation.{name}" for name in waiting} <= {node.name for node in nodes}
    assert "combined_model" not in whole.inputs()


def test_evaluation_alone_takes_the_combined_model_that_is_there(
    results: SmokeResults,
) -> None:
    assert "combined_model" in register_pipelines()["evaluate"].inputs()
    models = results.catalog.load("models")
    assert models.names == ["last", "best_ema", "combined"]
    one, other = models.file("combined"), results.catalog.load("combined_model")
    assert one.metadata == other.metadata
