"""What a session says at its start and at its end."""

from __future__ import annotations

from pathlib import Path

import pytest
from kedro.io import DataCatalog, MemoryDataset
from kedro.pipeline import Node, Pipeline

from lct_pipeline.datasets.atomic import AtomicDataset
from lct_pipeline.pipeline_registry import STAGES as REGISTERED
from lct_pipeline.runs.announcement import STAGES, new_outputs, outcome, plan


def test_all_stages_of_runs_are_told() -> None:
    assert {*STAGES} == {*REGISTERED} - {"comparison"}


def test_what_is_there_and_stays_takes_no_time(tmp_path: Path) -> None:
    names = ("goes_on", "again", "missing")
    files = {n: AtomicDataset(filepath=str(tmp_path / f"{n}.json")) for n in names}
    catalog = DataCatalog({**files, "previous_goes_on": MemoryDataset(1)})
    for name in names[:2]:
        files[name].save(1)
    inputs = "previous_goes_on"
    node = Node(lambda _: (1, 2, 3), inputs=inputs, outputs=[*names], name="n")
    both = [
        new_outputs(Pipeline([node]), catalog, only_missing=only)
        for only in (False, True)
    ]
    assert both == [{"again", "missing"}, {"missing"}]


def test_the_plan_has_stages_times_and_where_to_look() -> None:
    times = {"encoding": 62.0, "training": 100.0}
    said = plan("tried", ["encoding", "training", "report"], {"report"}, times)
    lines = [" ".join(line.split()) for line in said.splitlines()]
    assert lines == [
        "Run tried: what comes, and about how long it takes on this machine",
        "encoding 1 min 2 s fit an autoencoder, encode all images",
        "training 1 min 40 s train the model (sLCT)",
        "report put the run on one page",
        "together 2 min 42 s and a little where no time stands",
        "All of it at the end: data/08_reporting/tried/report.html",
    ]
    assert "not tried out" in plan("tried", ["training"], {"stage_samples"}, None)


def test_the_end_has_the_time_of_each_stage_and_where_to_look() -> None:
    costs = {"training.a": 60.0, "ingestion.b": 3.0, "training.c": 9.0}
    nodes = [{"node": name, "seconds": seconds} for name, seconds in costs.items()]
    said = outcome("tried", nodes, {"report", "evaluation"})
    assert "Run tried took 1 min 12 s: ingestion 3.0 s, training 1 min 9 s." in said
    assert "data/08_reporting/report.html" in said
    assert "evaluation.json" in said and "sample_grid.png" not in said
    assert outcome("tried", nodes, set()).count("\n") == 0


@pytest.mark.parametrize(
    ("made", "following"),
    [
        ({"training_state", "report"}, "--pipeline=evaluate"),  # no best EMA to export
        ({"best_ema", "evaluation", "report"}, "--pipeline=export"),
    ],
)
def test_the_command_at_the_end_is_one_that_can_follow(
    made: set[str], following: str
) -> None:
    assert f"kedro run {following}" in outcome("tried", [], made).splitlines()[-1]
