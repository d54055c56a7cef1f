"""Which run a scheduled start of a pipeline goes to: none, one that is there, or a new one.

Decided from the records of past runs, the parameters, and the fingerprint of the images alone, so
that the same question has the same answer on every machine that sees the same folder.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, replace
from itertools import chain, count

from lct_pipeline.config_loader import RUN_GROUPS
from lct_pipeline.datasets.run_records import TRAIN_NODE, Record
from lct_pipeline.errors import DataError, ParameterError


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
    parameters: Record
    images: str | None
    scheduled_as: str

    @property
    def trains(self) -> bool:
        """Whether it trains; else it needs a run that was trained."""
        return TRAIN_NODE in self.nodes


@dataclass(frozen=True)
class PastRun:
    """A run that is there.

    Args:
        name: Its ``run_id``.
        records: Of its sessions, the oldest first.
        has_weights: Whether it has checkpoints.
        is_indexed: Whether they are catalogued: its training ended.
    """

    name: str
    records: tuple[Record, ...]
    has_weights: bool
    is_indexed: bool

    @property
    def images(self) -> str | None:
        """Return the fingerprint of its images; None where no session lived to write it."""
        found = [_images_of(record) for record in self.records]
        return next((images for images in reversed(found) if images), None)

    @property
    def continues(self) -> str | None:
        """Return the run from whose weights the schedule started it."""
        found = (continued_by(record) for record in reversed(self.records))
        return next(filter(None, found), None)


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
    readable = re.sub(r"[^A-Za-z0-9._-]+", "-", name.removesuffix("+00:00")).strip(
        "-._"
    )
    if not readable:
        raise ParameterError(
            f"--run-id={name!r} has no letter or digit: give the name of the scheduled start, "
            "such as Airflow's run id."
        )
    return readable


def continued_by(record: Record) -> str | None:
    """Return the run from whose weights the schedule, and no user, started a record's run."""
    return (record.get("schedule") or {}).get("continues")


def decide(start: Start, runs: Iterable[PastRun]) -> Decision:
    """Return which run a pipeline goes to.

    Raises:
        DataError: It needs a trained run, and there is none.
    """
    newest_first = sorted(runs, key=lambda r: r.records[-1]["started"], reverse=True)
    asked = start.parameters["run_id"]
    for run in newest_first:
        if not asked and _began(start, run):
            reason = f"run {run.name} is what this start began: the same again."
            return Decision(run.name, reason, run.continues)
    if not start.trains:
        return _trained(start, newest_first)
    if asked:
        found = next((run for run in newest_first if run.name == asked), None)
        if found is None:
            return Decision(asked, _new(asked, "there is none of this name"))
        return _on(found, start)
    same = [run for run in newest_first if _is_of(run, start, start.groups)]
    here = [run for run in same if run.images in (None, start.images)]
    if here:
        return _on(next((run for run in here if _is_done(run, start)), here[0]), start)
    return _new_run(start, same, {run.name for run in newest_first})


def _began(start: Start, run: PastRun) -> bool:
    return any(
        (record.get("schedule") or {}).get("scheduled_as") == start.scheduled_as
        for record in run.records
    )


def _on(run: PastRun, start: Start) -> Decision:
    """Return the decision for a run of the same parameters and images, or asked for by name."""
    if _is_done(run, start):
        return Decision(run.name, _nothing(run, start), run.continues, True)
    reason = f"run {run.name} has not finished {start.pipeline}: it goes on."
    return Decision(run.name, reason, run.continues)


def _is_done(run: PastRun, start: Start) -> bool:
    here = run.images in (None, start.images)
    return here and finished_nodes(run, start) >= start.nodes


def _nothing(run: PastRun, start: Start) -> str:
    return (
        f"nothing to do: run {run.name} has finished {start.pipeline} with these parameters on "
        "these images."
    )


def _new(name: str, why: str) -> str:
    return f"new run {name}: {why}."


def _new_run(start: Start, same: list[PastRun], taken: set[str]) -> Decision:
    """Return a new run, for runs of the same parameters that all have other images."""
    base = slug(start.scheduled_as)
    names = chain([base], (f"{base}-{number}" for number in count(2)))
    name = next(name for name in names if name not in taken)
    if not same:
        return Decision(name, _new(name, "there is none with these parameters"))
    old = next((run.name for run in same if run.has_weights), None)
    # also a teacher, or the frozen part of a truncated model, which those kinds always name
    if start.parameters["training"]["init_from"]["run"]:
        why = (
            "the images changed; training.init_from is taken, so that it starts afresh"
        )
        return Decision(name, _new(name, why))
    if old is None:
        return Decision(
            name, _new(name, "the images changed, and no weights are there")
        )
    why = f"the images changed; it starts from the last weights of {old}"
    return Decision(name, _new(name, why), old)


def _trained(start: Start, newest_first: list[PastRun]) -> Decision:
    """Return the run asked for, else the newest one trained with these parameters.

    Raises:
        DataError: There is none.
    """
    asked = start.parameters["run_id"]
    for run in newest_first:
        wanted = run.name == asked if asked else _is_of(run, start, RUN_GROUPS)
        if wanted and run.is_indexed:
            reason = f"{start.pipeline} on run {run.name}."
            return Decision(run.name, reason, run.continues)
    which = f"run {asked}" if asked else "a run with these training parameters"
    raise DataError(
        f"{start.pipeline} needs {which} whose training has ended, and there is none: run the "
        "pipeline train first, or name another run (run_id)."
    )


def unless_unchanged(
    decision: Decision, run: PastRun, start: Start, digests: Mapping[str, str]
) -> Decision:
    """Return the decision, or that there is nothing to do.

    Args:
        decision: To run a pipeline on a trained run.
        run: That run.
        start: The pipeline.
        digests: What the inputs that come from other pipelines hold now.
    """
    if not finished_nodes(run, start) >= start.nodes:
        return decision
    seen = _seen_inputs(run, start)
    if all(seen.get(name) == {digest} for name, digest in digests.items()):
        return replace(decision, reason=_nothing(run, start), nothing_to_do=True)
    return decision


def _seen_inputs(run: PastRun, start: Start) -> dict[str, set[str]]:
    """Return the digests that the last sessions of each node saw or made, by dataset."""
    seen: dict[str, set[str]] = {}
    missing = set(start.nodes)
    for record in reversed(_finished(run, start)):
        if missing & _nodes(record):
            missing -= _nodes(record)
            for name, digest in {**record["outputs"], **record["inputs"]}.items():
                seen.setdefault(name, set()).add(digest)
    return seen


def finished_nodes(run: PastRun, start: Start) -> set[str]:
    """Return the nodes that finished sessions with these parameters ran."""
    return set().union(*(_nodes(record) for record in _finished(run, start)))


def _finished(run: PastRun, start: Start) -> list[Record]:
    return [
        record
        for record in run.records
        if record["status"] == "finished" and _same(record, start, start.groups)
    ]


def _nodes(record: Record) -> set[str]:
    return {entry["node"] for entry in record["nodes"]}


def _images_of(record: Record) -> str | None:
    read = record["inputs"].get("image_source")
    return read or (record.get("schedule") or {}).get("images")


def _is_of(run: PastRun, start: Start, groups: Iterable[str]) -> bool:
    """Tell whether a run has the parameters of a start.

    Sessions that failed are left out where others did not: they may have been refused for theirs.
    """
    worked = [record for record in run.records if record["status"] != "failed"]
    tried = worked or run.records[-1:]
    return any(_same(record, start, groups) for record in tried)


def _same(record: Record, start: Start, groups: Iterable[str]) -> bool:
    """Tell whether a record has the parameters of a start, but for a start from old weights."""
    old, new = record["parameters"], start.parameters
    for group in groups:
        values = dict(old.get(group) or {})
        if group == "training" and continued_by(record):
            values["init_from"] = {**values["init_from"], "run": None}
        if values != new[group]:
            return False
    return True
