"""The report's tables and bars: of the evaluation, the baselines, and the sessions of the run."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pandas import DataFrame

from lct_pipeline.datasets.results import CombinationResult, EvaluationRow
from lct_pipeline.datasets.run_records import Record
from lct_pipeline.reporting import words
from lct_pipeline.reporting.verdict import Rows, fewest_nfe, main_rows

MADE = {  # what says how a value was made
    *("protocol", "extractor", "extractor_digest", "resize", "quantisation"),
    *("file_format", "reference", "num_generated", "num_real", "seeds", "versions"),
}
DISTANCES = ("frechet_distance", "fid")
MAX_NODES = 14  # with a bar of their own
SESSION = ["started", "pipeline", "status", "took", "code", "machine"]


@dataclass(frozen=True)
class Line:
    """A line of a table: whose it is, its texts, and a class; one without texts is a headline."""

    title: str
    texts: list[str] = field(default_factory=list)
    css: str = ""


@dataclass(frozen=True)
class Table:
    """Lines under the same columns, the first of which is of the lines' titles."""

    columns: list[str]
    lines: list[Line]
    title: str = ""


@dataclass(frozen=True)
class Bar:
    """A bar: ``percent`` of the longest there could be, ``std`` likewise."""

    label: str
    text: str
    percent: float
    std: float = 0.0
    weak: bool = False


def evaluation_tables(evaluation: Rows) -> list[Table]:
    """Return a table for each extractor, with the rows of each protocol under a headline.

    Only values of one protocol may be compared to the digit.
    """
    return [
        _evaluation_table(rows) for rows in _grouped(evaluation, "extractor_digest")
    ]


def _evaluation_table(rows: Rows) -> Table:
    metrics = list(dict.fromkeys(words.metric_name(row.metric) for row in rows))
    lines = []
    for same in _grouped(rows, "protocol"):
        row = same[0]
        against = f"{row.num_real:,} of {row.reference} [{row.protocol}]"
        lines.append(Line(f"{row.num_generated:,} images against {against}"))
        classes = dict.fromkeys((f"s-{row.model}", row.nfe) for row in same)
        named = words.value_table(same).items()
        for (css, _), (name, texts) in zip(classes, named, strict=True):
            cells = [texts.get(metric, words.NONE) for metric in metrics]
            lines.append(Line(name, cells, css))
    title = f"By features of {words.extractor_name(rows[0].extractor)}"
    return Table(["", *metrics], lines, title)


def _grouped(rows: Iterable[EvaluationRow], name: str) -> list[Rows]:
    """Return rows by a field of theirs, in the order in which they appear."""
    groups: dict[Any, Rows] = {}
    for row in rows:
        groups.setdefault(getattr(row, name), []).append(row)
    return list(groups.values())


def protocols(evaluation: Rows) -> list[str]:
    """Return in words how the values of each protocol were made."""
    found = []
    for row, *_ in _grouped(evaluation, "protocol"):
        made = row.model_dump(include=MADE).items()
        texts = (f"{name.replace('_', ' ')}: {value}" for name, value in made)
        found.append("; ".join(texts))
    return found


def score_bars(evaluation: Rows) -> dict[str, list[Bar]]:
    """Return the main value of each model and control as bars on one scale from 0."""
    rows = [row for row in main_rows(evaluation) if row.model in words.MODELS]
    longest = max((row.value + (row.std or 0) for row in rows), default=0.0) or 1.0
    fewest = fewest_nfe(rows)
    bars: dict[str, list[Bar]] = {model: [] for model in words.MODELS}
    for row in rows:
        bar = Bar(
            words.steps(row.nfe) if row.nfe else f"{row.num_generated:,} images",
            words.row_text(row),
            max(0.0, 100 * row.value / longest),
            100 * (row.std or 0.0) / longest,
            row.nfe > fewest,
        )
        bars[row.model].append(bar)
    return {model: found for model, found in bars.items() if found}


def baseline_table(report: DataFrame, combination: CombinationResult) -> Table:
    """Return the best of each search and both baselines, the best by its score first."""
    names = {"selection_frechet": "validation split", combination.metric: "test split"}
    others = [c for c in report if str(c).endswith(DISTANCES) and c not in names]
    names |= {str(c): "test split, other features" for c in others[:1]}
    marked = {combination.name, combination.selected}
    lines = []
    for row in report.sort_values("selection_fitness").to_dict("records"):
        found_by = words.MODELS.get(row["baseline"], words.METHODS[row["method"]])
        texts = [*(words.number(row[column]) for column in names), found_by]
        css = "s-combined" if row["name"] in marked else ""
        lines.append(Line(row["name"], texts, css))
    return Table(["candidate", *names.values(), "found by"], lines)


def sessions(records: list[Record]) -> Table:
    """Return a line for each session, the last first."""
    return Table(SESSION, [_session(record) for record in reversed(records)])


def _session(record: Record) -> Line:
    day, _, time = record.started.partition("T")
    is_named = record.env not in (None, "base", "local")
    pipelines = ", ".join(record.pipelines)
    code = (record.commit or "no git")[:10]
    texts = [
        f"{pipelines} --env={record.env}" if is_named else pipelines,
        ": ".join(filter(None, (record.status, record.error))),
        words.duration(sum(cost.seconds for cost in record.nodes)),
        f"{code}, with changes not committed" if record.dirty else code,
        f"{record.device}, {record.machine}",
    ]
    return Line(f"{day} {time[:8].replace('.', ':')} UTC", texts)


def node_costs(records: list[Record]) -> dict[str, tuple[float, int]]:
    """Return seconds and the most MiB of each node over all sessions, the longest first."""
    costs: dict[str, tuple[float, int]] = {}
    for cost in (cost for record in records for cost in record.nodes):
        seconds, memory = costs.get(cost.node, (0.0, 0))
        most = max(memory, cost.peak_memory_mib)
        costs[cost.node] = (seconds + cost.seconds, most)
    return dict(sorted(costs.items(), key=lambda cost: -cost[1][0]))


def node_bars(records: list[Record]) -> list[Bar]:
    """Return the nodes that took longest, and all others together, over all sessions.

    Memory is the most that the process of a node held so far.
    """
    costs = [(name, *cost) for name, cost in node_costs(records).items()]
    if len(costs) > MAX_NODES:
        rest = [seconds for _, seconds, _ in costs[MAX_NODES:]]
        costs[MAX_NODES:] = [(f"{len(rest)} others together", sum(rest), 0)]
    longest = max((seconds for _, seconds, _ in costs[:1]), default=0.0) or 1.0
    return [
        Bar(
            name,
            words.duration(seconds) + (f" · {memory:,} MiB" if memory else ""),
            min(100.0, 100 * seconds / longest),
        )
        for name, seconds, memory in costs
    ]


def digests(records: list[Record], side: str) -> dict[str, str]:
    """Return the last known digest of each dataset, of ``inputs`` or ``outputs``."""
    found = {name: d for record in records for name, d in getattr(record, side).items()}
    return {n: found[n] for n in sorted(found) if not n.startswith("previous_")}
