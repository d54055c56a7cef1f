"""Which run a scheduled start of a pipeline goes to: none, one that is there, or a new one.

Decided from the records of past runs, the parameters, and the fingerprint of the images alone, so
that the same question has the same answer on every machine that sees the same folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain, count
from typing import Any

from lct_pipeline.config_loader import RUN_GROUPS
from lct_pipeline.datasets.run_records import TRAIN_NODE, Record
from lct_pipeline.errors import DataError, ParameterError
from lct_pipeline.runs.reading import Run


@dataclass(frozen=True)
class Start:
    """A pipeline that is to run.

    Args:
        pipeline: Its name.
        nodes: Names of its nodes.
        groups: The groups of parameters that it takes.
        parameters: All parameters.
        images: Fingerprint of the images as they are now; None where it reads none.
        scheduled_as: Name of this start, by which it is known again when it is repeated.
    """

    pipeline: str
    nodes: frozenset[str]
    groups: tuple[str, ...]
    parameters: dict[str, Any]
    images: str | None
    scheduled_as: str

    @property
    def trains(self) -> bool:
        """Whether it trains; else it needs a run that was trained."""
        return TRAIN_NODE in self.nodes


@dataclass(frozen=True)
class Decision:
    """Where a pipeline goes.

    Args:
        run_id: The run.
        reason: One sentence for the log.
        continues: The run whose last weights its training starts from.
        nothing_to_do: Whether all of it is done.
    """

    run_id: str
    reason: str
    continues: str | None = None
    nothing_to_do: bool = False


def slug(name: str) -> str:
    """Return a name of a run for a name that a scheduler gave.

    Raises:
        ParameterError: Nothing is left of it.
    """
    words = re.findall(r"[A-Za-z0-9._-]+", name.removesuffix("+00:00"))
    readable = "-".join(words).strip("-._")
    if not readable:
        raise ParameterError(
            f"--run-id={name!r} has no letter or digit: give the name of the scheduled start, "
            "such as Airflow's run id."
        )
    return readable


def decide(start: Start, runs: Iterable[Run]) -> Decision:
    """Return which run a pipeline goes to; runs without records of this version keep their names.

    Raises:
        DataError: It needs a trained run, and there is none.
    """
    known = {run.name: run for run in runs}
    ours = (run for run in known.values() if run.records and run.is_of_this_version)
    newest_first = sorted(ours, key=lambda run: run.started, reverse=True)
    asked = start.parameters["run_id"]
    for run in newest_first:
        began = (_schedule(record, "scheduled_as") for record in run.records)
        if not asked and start.scheduled_as in began:
            return _go_on(
                run, f"run {run.name} is what this start began: the same again."
            )
    if not start.trains:
        return _trained(start, newest_first)
    if asked:
        same = here = [run for run in newest_first if run.name == asked]
    else:
        same = [run for run in newest_first if _is_of(run, start, start.groups)]
        here = [run for run in same if _has_images(run, start)]
    for run in here:
        if _has_images(run, start) and finished_nodes(run, start) >= start.nodes:
            return _nothing_to_do(_go_on(run, ""), start)
    if here:
        reason = f"run {here[0].name} has not finished {start.pipeline}: it goes on."
        return _go_on(here[0], reason)
    return _new_run(start, same, set(known))


def _go_on(run: Run, reason: str) -> Decision:
    return Decision(run.name, reason, _continued(run))


def _nothing_to_do(decision: Decision, start: Start) -> Decision:
    reason = (
        f"nothing to do: run {decision.run_id} has finished {start.pipeline} with these "
        "parameters on these images."
    )
    return replace(decision, reason=reason, nothing_to_do=True)


def _new_run(start: Start, same: list[Run], taken: set[str]) -> Decision:
    """Return a new run, for runs of the same parameters that all have other images."""
    asked = start.parameters["run_id"]
    base = asked or slug(start.scheduled_as)
    names = chain([base], (f"{base}-{number}" for number in count(2)))
    name = next(name for name in names if name not in taken)
    old = next((run.name for run in same if run.checkpoints), None)
    if not same:
        why = f"there is none {'of this name' if asked else 'with these parameters'}"
    # also a teacher, or the frozen part of a truncated model, which those kinds always name
    elif start.parameters["training"]["init_from"]["run"]:
        old = None
        why = (
            "the images changed; training.init_from is taken, so that it starts afresh"
        )
    elif old is None:
        why = "the images changed, and no weights are there"
    else:
        why = f"the images changed; it starts from the last weights of {old}"
    return Decision(name, f"new run {name}: {why}.", old)


def _trained(start: Start, newest_first: list[Run]) -> Decision:
    """Return the run asked for, else the newest one trained with these parameters.

    Raises:
        DataError: There is none.
    """
    asked = start.parameters["run_id"]
    for run in newest_first:
        wanted = run.name == asked if asked else _is_of(run, start, RUN_GROUPS)
        if wanted and run.is_indexed:
            return _go_on(run, f"{start.pipeline} on run {run.name}.")
    which = f"run {asked}" if asked else "a run with these training parameters"
    raise DataError(
        f"{start.pipeline} needs {which} whose training has ended, and there is none: run the "
        "pipeline train first, or name another run (run_id)."
    )


def unless_unchanged(
    decision: Decision, run: Run, start: Start, digests: Mapping[str, str]
) -> Decision:
    """Return the decision, or that there is nothing to do.

    Args:
        decision: To run a pipeline on a trained run.
        run: That run.
        start: The pipeline.
        digests: What the inputs that come from other pipelines hold now.
    """
    seen = _seen_inputs(run, start)
    unchanged = all(seen.get(name) == {digest} for name, digest in digests.items())
    if unchanged and finished_nodes(run, start) >= start.nodes:
        return _nothing_to_do(decision, start)
    return decision


def _seen_inputs(run: Run, start: Start) -> dict[str, set[str]]:
    """Return the digests that the last sessions of each node saw or made, by dataset."""
    seen: dict[str, set[str]] = {}
    missing = set(start.nodes)
    for record in reversed(_finished(run, start)):
        if missing & record.node_names:
            missing -= record.node_names
            for name, digest in {**record.outputs, **record.inputs}.items():
                seen.setdefault(name, set()).add(digest)
    return seen


def finished_nodes(run: Run, start: Start) -> set[str]:
    """Return the nodes that finished sessions with these parameters ran."""
    return set().union(*(record.node_names for record in _finished(run, start)))


def _finished(run: Run, start: Start) -> list[Record]:
    done = (record for record in run.records if record.status == "finished")
    return [record for record in done if _same(record, start, start.groups)]


def _schedule(record: Record, key: str) -> str | None:
    """Return what a schedule said of a session; None where a user started it."""
    return getattr(record.schedule, key, None)


def _continued(run: Run) -> str | None:
    """Return the run from whose weights the schedule, and no user, started a run."""
    found = (_schedule(record, "continues") for record in reversed(run.records))
    return next(filter(None, found), None)


def _has_images(run: Run, start: Start) -> bool:
    """Tell whether a run is of the present images, or no session lived to write which."""
    found = (
        record.inputs.get("image_source") or _schedule(record, "images")
        for record in reversed(run.records)
    )
    return next(filter(None, found), None) in (None, start.images)


def _is_of(run: Run, start: Start, groups: Iterable[str]) -> bool:
    """Tell whether a run has the parameters of a start.

    Sessions that failed are left out where others did not: they may have been refused for theirs.
    """
    worked = [record for record in run.records if record.status != "failed"]
    tried = worked or run.records[-1:]
    return any(_same(record, start, groups) for record in tried)


def _same(record: Record, start: Start, groups: Iterable[str]) -> bool:
    """Tell whether a record has the parameters of a start, but for a start from old weights."""
    old = record.parameters
    if _schedule(record, "continues"):
        init_from = {**old["training"].get("init_from", {}), "run": None}
        old = {**old, "training": {**old["training"], "init_from": init_from}}
    return all(old.get(group) == start.parameters[group] for group in groups)
