"""Which run a scheduled start of a pipeline goes to."""

from __future__ import annotations

from copy import deepcopy
from pathlib import Path
from typing import Any

import pytest

from conftest import put
from lct_pipeline.datasets.run_records import NodeCost, Record, ScheduledStart
from lct_pipeline.errors import DataError, ParameterError
from lct_pipeline.runs.reading import Run
from lct_pipeline.runs.schedule import (
    Decision,
    Start,
    decide,
    slug,
    unless_unchanged,
)

TRAIN = (
    "ingestion.ingest_images",
    "encoding.encode_images",
    "training.train_model",
    "cataloging.index_checkpoints",
)
COMBINE = ("references.prepare_reference", "combination.search_combination")
PARAMETERS: dict[str, Any] = {
    "run_id": None,
    "runtime": {"num_threads": 1},
    "ingestion": {"source": "photos"},
    "encoding": {"seed": 0},
    "training": {
        "num_steps": 10,
        "init_from": {"run": None, "checkpoint": None},
        "objective": {"kind": "consistency"},
    },
    "combination": {"seed": 0},
}


def changed(**values: Any) -> dict[str, Any]:
    """Return the parameters with other values, by `group__key`."""
    parameters = deepcopy(PARAMETERS)
    for name, value in values.items():
        put(parameters, name.replace("__", "."), value)
    return parameters


def starting(parameters: dict[str, Any] | None = None, **changes: Any) -> Start:
    values: dict[str, Any] = {
        "pipeline": "train",
        "nodes": frozenset(TRAIN),
        "groups": ("ingestion", "encoding", "training"),
        "parameters": parameters or PARAMETERS,
        "images": "A",
        "scheduled_as": "train-tuesday",
    }
    return Start(**{**values, **changes})


def combining(parameters: dict[str, Any] | None = None, **changes: Any) -> Start:
    values = {"pipeline": "combine", "nodes": frozenset(COMBINE)}
    return starting(parameters, groups=("combination",), **{**values, **changes})


def session(nodes: tuple[str, ...] = TRAIN, **changes: Any) -> Record:
    """Return the record of a session as far as decisions look at it."""
    values = {
        "status": "finished",
        "started": "2026-01-01",
        "schedule": None,
        "parameters": changed(run_id="old"),
        "inputs": {"image_source": "A"},
        "outputs": {},
        "nodes": [NodeCost.model_construct(node=name) for name in nodes],
    }
    return Record.model_construct(None, **values | changes)


def past(*records: Record, name: str = "old", **changes: Any) -> Run:
    """Return a run with these records, without its files."""
    run, files = Run(name, Path()), {"checkpoints": [Path("a")], "is_indexed": True}
    told = {"records": list(records) or [session()], "is_of_this_version": True}
    run.__dict__.update(files | told | changes)
    return run


def scheduled(name: str, **changes: Any) -> ScheduledStart:
    values = {"scheduled_as": name, "images": "A", "continues": None}
    return ScheduledStart.model_construct(None, **values | changes)


def test_without_runs_there_is_a_new_one_of_the_schedules_name() -> None:
    decision = decide(starting(scheduled_as="manual__2026-11-22T17:12:13+00:00"), [])
    assert decision.run_id == "manual__2026-11-22T17-12-13"
    assert not decision.nothing_to_do
    assert decision.continues is None


def test_a_finished_run_leaves_nothing_to_do() -> None:
    decision = decide(starting(), [past()])
    assert decision.nothing_to_do
    assert decision.reason == (
        "nothing to do: run old has finished train with these parameters on these images."
    )


def test_sessions_of_single_stages_make_a_finished_run_together() -> None:
    stages = [
        session(TRAIN[:1]),
        session(TRAIN[1:2], inputs={}),
        session(TRAIN[2:], inputs={}),
    ]
    assert decide(starting(), [past(*stages)]).nothing_to_do
    assert decide(starting(), [past(*stages[:2])]) == Decision(
        "old", "run old has not finished train: it goes on."
    )


@pytest.mark.parametrize("status", ["running", "failed"])
def test_a_run_that_was_cut_short_goes_on(status: str) -> None:
    """A streaming node is noted when its stream starts, so that only whole sessions count."""
    decision = decide(starting(), [past(session(status=status))])
    assert decision.run_id == "old"
    assert not decision.nothing_to_do


def test_a_finished_run_counts_beside_an_unfinished_newer_one() -> None:
    newer = past(session(status="running", started="2026-01-02"), name="newer")
    decision = decide(starting(), [past(), newer])
    assert (decision.run_id, decision.nothing_to_do) == ("old", True)


def test_a_killed_session_that_could_not_note_its_images_goes_on() -> None:
    killed = session(status="running", inputs={})
    assert decide(starting(images="B"), [past(killed)]).run_id == "old"
    noted = session(status="running", inputs={}, schedule=scheduled("x", images="A"))
    assert decide(starting(images="B"), [past(noted)]).run_id == "train-tuesday"


@pytest.mark.parametrize(
    ("changes", "is_other"),
    [
        ({"runtime__num_threads": 8}, False),
        ({"combination__seed": 1}, False),  # of a later stage
        ({"training__num_steps": 20}, True),
        ({"training__init_from": {"run": "mine", "checkpoint": None}}, True),
    ],
    ids=str,
)
def test_other_parameters_that_a_pipeline_takes_make_a_run_beside_the_old(
    changes: dict[str, Any], is_other: bool
) -> None:
    decision = decide(starting(changed(**changes)), [past()])
    assert decision.nothing_to_do != is_other
    if is_other:
        reason = "new run train-tuesday: there is none with these parameters."
        assert decision == Decision("train-tuesday", reason)


def test_a_session_that_was_refused_does_not_hide_a_run() -> None:
    other = changed(training__num_steps=20)
    refused = session((), status="failed", parameters=other, inputs={})
    run = past(session(), refused)
    assert decide(starting(), [run]).nothing_to_do
    assert decide(starting(other), [run]).run_id == "train-tuesday"
    assert decide(starting(other), [past(refused)]).run_id == "old"


def test_later_work_with_other_parameters_does_not_hide_a_run() -> None:
    everything = {"groups": ("ingestion", "training", "combination")}
    later = session(COMBINE, parameters=changed(combination__seed=1), inputs={})
    assert decide(starting(**everything), [past(session(), later)]).nothing_to_do


@pytest.mark.parametrize("what", [{"records": []}, {"is_of_this_version": False}])
def test_a_run_that_cannot_be_used_keeps_its_name(what: dict[str, Any]) -> None:
    unusable = past(name="train-tuesday", **what)
    assert decide(starting(), [unusable]).run_id == "train-tuesday-2"
    with pytest.raises(DataError, match="there is none"):
        decide(combining(), [unusable])


def test_a_new_run_never_takes_the_name_of_another() -> None:
    other = past(
        session(parameters=changed(training__num_steps=20)), name="train-tuesday"
    )
    assert decide(starting(), [other]).run_id == "train-tuesday-2"
    second = past(
        session(inputs={"image_source": "B"}, parameters=PARAMETERS),
        name="train-tuesday-2",
    )
    decision = decide(starting(), [other, second])
    assert (decision.run_id, decision.continues) == (
        "train-tuesday-3",
        "train-tuesday-2",
    )


def test_changed_images_continue_from_the_newest_weights() -> None:
    runs = [
        past(session(started="2026-01-02"), name="newer"),
        past(session(started="2026-01-01"), name="older"),
        past(session(started="2026-01-03"), name="newest", checkpoints=[]),
    ]
    decision = decide(starting(images="B"), runs)
    assert (decision.run_id, decision.continues) == ("train-tuesday", "newer")
    assert "starts from the last weights of newer" in decision.reason
    afresh = decide(starting(images="B"), runs[2:])
    assert (afresh.continues, "no weights are there" in afresh.reason) == (None, True)


@pytest.mark.parametrize(
    ("kind", "first", "continues"),
    [
        ("consistency", None, "old"),
        ("diffusion", None, "old"),
        ("distillation", "teacher", None),
        ("consistency", "mine", None),
    ],
)
def test_what_the_user_starts_from_is_kept(
    kind: str, first: str | None, continues: str | None
) -> None:
    parameters = changed(
        training__objective={"kind": kind}, training__init_from={"run": first}
    )
    old = past(session(parameters=parameters))
    decision = decide(starting(parameters, images="B"), [old])
    assert decision.continues == continues
    assert ("afresh" in decision.reason) == (continues is None)


def test_a_run_that_the_schedule_continued_is_found_again() -> None:
    """Its `init_from` was not the user's, so it is no other parameter."""
    first = {"run": "old", "checkpoint": None}
    record = session(
        parameters=changed(training__init_from=first),
        inputs={"image_source": "B"},
        schedule=scheduled("train-monday", images="B", continues="old"),
        started="2026-01-02",
    )
    runs = [past(), past(record, name="second")]
    assert decide(starting(images="B"), runs).run_id == "second"
    assert decide(starting(images="B"), runs).nothing_to_do
    unfinished = past(record.model_copy(update={"status": "failed"}), name="second")
    decision = decide(starting(images="B"), [past(), unfinished])
    assert (decision.run_id, decision.continues) == ("second", "old")
    assert decide(starting(images="C"), runs).continues == "second"


def test_the_same_start_again_goes_where_it_went() -> None:
    """Airflow clears or retries the task: the answer may not depend on what it did since."""
    schedule = scheduled("train-tuesday", images="B", continues="old")
    began = past(session(schedule=schedule), name="began")
    for start in (
        starting(),
        starting(images="C"),
        starting(changed(training__num_steps=9)),
    ):
        decision = decide(start, [past(), began])
        assert (decision.run_id, decision.continues) == ("began", "old")
        assert not decision.nothing_to_do


def test_a_name_that_was_asked_for_is_taken() -> None:
    start = starting(changed(run_id="mine"))
    assert decide(start, [past()]).run_id == "mine"
    assert not decide(start, [past()]).nothing_to_do
    assert decide(start, [past(name="mine")]).nothing_to_do
    unfinished = past(session(status="failed"), name="mine")
    assert decide(start, [past(), unfinished]).run_id == "mine"
    began = past(session(schedule=scheduled("train-tuesday")), name="began")
    assert decide(start, [began]).run_id == "mine"
    other_images = starting(changed(run_id="mine"), images="B")
    assert not decide(other_images, [past(name="mine")]).nothing_to_do


def test_combining_takes_the_newest_trained_run() -> None:
    runs = [
        past(session(started="1"), name="first"),
        past(session(started="2"), name="second"),
        past(session(started="3"), name="in training", is_indexed=False),
        past(
            session(started="4", parameters=changed(encoding__seed=1)), name="another"
        ),
    ]
    assert decide(combining(), runs).run_id == "second"
    assert decide(combining(changed(run_id="first")), runs).run_id == "first"


@pytest.mark.parametrize("run_id", [None, "nowhere", "in training"])
def test_combining_needs_a_trained_run(run_id: str | None) -> None:
    runs = [past(name="in training", is_indexed=False)]
    with pytest.raises(DataError, match="run the pipeline train first"):
        decide(combining(changed(run_id=run_id)), runs)


INPUTS = {"checkpoints": "1", "images": "2"}
NEW = {**INPUTS, "combined_model": "4"}


def combined(*more: Record, **changes: Any) -> Run:
    """Return a trained run that was combined in two sessions, and more."""
    first = session(COMBINE[:1], inputs={"images": "2"})
    second = session(COMBINE[1:], inputs={"checkpoints": "1"})
    return past(session(), first, second.model_copy(update=changes), *more)


AGAIN = session(COMBINE[1:], inputs={"checkpoints": "3"})


@pytest.mark.parametrize(
    ("run", "digests", "nothing_to_do"),
    [
        (combined(), INPUTS, True),
        (combined(), {**INPUTS, "checkpoints": "3"}, False),
        (combined(), NEW, False),  # it was not there then
        (combined(outputs={"combined_model": "4"}), NEW, True),  # made by the session
        (combined(status="running"), {"images": "2"}, False),
        (combined(AGAIN), INPUTS, False),  # the last session of a node counts
        (combined(AGAIN), {**INPUTS, "checkpoints": "3"}, True),
    ],
)
def test_a_combination_is_done_where_its_last_sessions_saw_the_same_inputs(
    run: Run, digests: dict[str, str], nothing_to_do: bool
) -> None:
    asked = Decision("old", ".")
    decision = unless_unchanged(asked, run, combining(), digests)
    assert decision.nothing_to_do == nothing_to_do
    if nothing_to_do:
        assert "nothing to do: run old has finished combine" in decision.reason
    other = combining(changed(combination__seed=1))
    assert unless_unchanged(asked, run, other, digests) == asked


@pytest.mark.parametrize(
    ("given", "name"),
    [
        ("manual__2026-11-22T17:12:13.5+00:00", "manual__2026-11-22T17-12-13.5"),
        (
            "scheduled__2026-11-22T00:00:00+02:00",
            "scheduled__2026-11-22T00-00-00-02-00",
        ),
        ("../a b;c", "a-b-c"),
        ("_x_", "x"),
    ],
)
def test_slugs_are_names_of_runs(given: str, name: str) -> None:
    assert slug(given) == name


@pytest.mark.parametrize("given", ["", "  ", "../..", "__"])
def test_a_slug_of_nothing_is_refused(given: str) -> None:
    with pytest.raises(ParameterError, match="no letter or digit"):
        slug(given)
