"""The record of a run, over all its sessions: what ran, with what, how long and how large."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import Any

from lct_pipeline.datasets.run_records import Record
from lct_pipeline.reporting.tables import Bar, Line, Table
from lct_pipeline.reporting.words import duration

MAX_NODES = 14  # with a bar of their own
COLUMNS = ["started", "pipeline", "status", "took", "code", "machine"]


def sessions(records: list[Record]) -> Table:
    """Return a line for each session, the last first."""
    return Table(COLUMNS, [_session(record) for record in reversed(records)])


def _session(record: Record) -> Line:
    day, _, time = record["started"].partition("T")
    env = record["env"] if record["env"] not in (None, "base", "local") else ""
    pipelines = ", ".join(name or "__default__" for name in record["pipelines"])
    code = (record["commit"] or "no git")[:10]
    texts = [
        f"{pipelines} --env={env}" if env else pipelines,
        ": ".join(filter(None, (record["status"], record["error"]))),
        duration(sum(node["seconds"] for node in record["nodes"])),
        f"{code}, with changes not committed" if record["dirty"] else code,
        f"{record['device']}, {record['machine']}",
    ]
    return Line(f"{day} {time[:8].replace('.', ':')} UTC", texts)


def node_seconds(records: list[Record]) -> Counter[str]:
    """Return the seconds of each node over all sessions."""
    seconds: Counter[str] = Counter()
    for node in (node for record in records for node in record["nodes"]):
        seconds[node["node"]] += node["seconds"]
    return seconds


def node_bars(records: list[Record]) -> list[Bar]:
    """Return the nodes that took longest, and all others together, over all sessions.

    Memory is the most that the process of a node held so far.
    """
    memory: dict[str, int] = {}
    for node in (node for record in records for node in record["nodes"]):
        most = max(memory.get(node["node"], 0), node["peak_memory_mib"])
        memory[node["node"]] = most
    ranked = node_seconds(records).most_common()
    shown, rest = ranked[:MAX_NODES], ranked[MAX_NODES:]
    if rest:
        shown.append((f"{len(rest)} others together", sum(taken for _, taken in rest)))
    longest = max((taken for _, taken in ranked), default=0.0) or 1.0
    return [
        Bar(name, _cost(taken, memory.get(name, 0)), min(100.0, 100 * taken / longest))
        for name, taken in shown
    ]


def _cost(seconds: float, mebibytes: int) -> str:
    return duration(seconds) + (f" · {mebibytes:,} MiB" if mebibytes else "")


def flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield each parameter by its dotted name."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)


def digests(records: list[Record], side: str) -> dict[str, str]:
    """Return the last known digest of each dataset, of ``inputs`` or ``outputs``."""
    found = {name: d for record in records for name, d in record[side].items()}
    return {n: found[n] for n in sorted(found) if not n.startswith("previous_")}
