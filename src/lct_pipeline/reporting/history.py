"""The record of a run, over all its sessions: what ran, with what, how long and how large."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lct_pipeline.reporting.words import duration

Record = dict[str, Any]
MAX_NODES = 14  # with a bar of their own


@dataclass(frozen=True)
class NodeBar:
    """Seconds of a node over all sessions, and the most memory that its process held so far."""

    name: str
    seconds: float
    percent: float
    memory_mib: int

    @property
    def text(self) -> str:
        """Return time and memory in words."""
        memory = f" · {self.memory_mib:,} MiB" if self.memory_mib else ""
        return f"{duration(self.seconds)}{memory}"


@dataclass(frozen=True)
class Session:
    """What ran in one session."""

    started: str
    pipelines: str
    status: str
    took: str
    code: str
    device: str
    error: str


def sessions(records: list[Record]) -> list[Session]:
    """Return a line for each session, the last first."""
    return [_session(record) for record in reversed(records)]


def _session(record: Record) -> Session:
    day, _, time = record["started"].partition("T")
    commit = record["commit"]
    code = "no git" if commit is None else commit[:10]
    env = (
        f" --env={record['env']}"
        if record["env"] not in (None, "base", "local")
        else ""
    )
    return Session(
        f"{day} {time[:8].replace('.', ':')} UTC",
        ", ".join(name or "__default__" for name in record["pipelines"]) + env,
        record["status"],
        duration(sum(node["seconds"] for node in record["nodes"])),
        f"{code}, with changes not committed" if record["dirty"] else code,
        f"{record['device']}, {record['machine']}",
        record["error"] or "",
    )


def node_bars(records: list[Record]) -> list[NodeBar]:
    """Return the nodes that took longest, and all others together, over all sessions."""
    seconds: dict[str, float] = {}
    memory: dict[str, int] = {}
    for node in (node for record in records for node in record["nodes"]):
        name = node["node"]
        seconds[name] = seconds.get(name, 0.0) + node["seconds"]
        memory[name] = max(memory.get(name, 0), node["peak_memory_mib"])
    names = sorted(seconds, key=lambda name: -seconds[name])
    longest = max(seconds.values(), default=0.0) or 1.0
    bars = [(n, seconds[n], memory[n]) for n in names[:MAX_NODES]]
    if rest := names[MAX_NODES:]:
        title = f"{len(rest)} others together"
        bars.append((title, sum(seconds[n] for n in rest), 0))
    return [
        NodeBar(name, taken, min(100.0, 100 * taken / longest), mib)
        for name, taken, mib in bars
    ]


def flat(values: dict[str, Any], prefix: str = "") -> Iterator[tuple[str, str]]:
    """Yield each parameter by its dotted name."""
    for name, value in values.items():
        if isinstance(value, dict):
            yield from flat(value, f"{prefix}{name}.")
        else:
            yield f"{prefix}{name}", str(value)


def digests(records: list[Record], side: str) -> dict[str, str]:
    """Return the last known digest of each dataset, of ``inputs`` or ``outputs``."""
    found: dict[str, str] = {}
    for record in records:
        found |= record[side]
    shown = {n: d for n, d in found.items() if not n.startswith("previous_")}
    return dict(sorted(shown.items()))
