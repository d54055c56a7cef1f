"""The report's tables and bars."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Any

from pandas import DataFrame

from lct_pipeline.datasets.results import CombinationResult, EvaluationRow
from lct_pipeline.reporting import words
from lct_pipeline.reporting.verdict import fewest_nfe, main_rows

Rows = list[EvaluationRow]
MADE = {  # what says how a value was made
    *("protocol", "extractor", "extractor_digest", "resize", "quantisation"),
    *("file_format", "reference", "num_generated", "num_real", "seeds", "versions"),
}
DISTANCES = ("frechet_distance", "fid")


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
        lines.append(Line(f"{_against(same[0])} [{same[0].protocol}]"))
        models = dict.fromkeys((row.model, row.nfe) for row in same)
        for (model, _), (name, texts) in zip(
            models, words.value_table(same).items(), strict=True
        ):
            cells = [texts.get(metric, words.NONE) for metric in metrics]
            lines.append(Line(name, cells, f"s-{model}"))
    title = f"By features of {words.extractor_name(rows[0].extractor)}"
    return Table(["", *metrics], lines, title)


def _grouped(rows: Iterable[EvaluationRow], name: str) -> list[Rows]:
    """Return rows by a field of theirs, in the order in which they appear."""
    groups: dict[Any, Rows] = {}
    for row in rows:
        groups.setdefault(getattr(row, name), []).append(row)
    return list(groups.values())


def _against(row: EvaluationRow) -> str:
    return f"{row.num_generated:,} images against {row.num_real:,} of {row.reference}"


def protocols(evaluation: Rows) -> list[str]:
    """Return in words how the values of each protocol were made."""
    found = []
    for rows in _grouped(evaluation, "protocol"):
        made = rows[0].model_dump(include=MADE)
        told = (f"{name.replace('_', ' ')}: {value}" for name, value in made.items())
        found.append("; ".join(told))
    return found


def score_bars(evaluation: Rows) -> dict[str, list[Bar]]:
    """Return the main value of each model and control as bars on one scale from 0."""
    rows = main_rows(evaluation)
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
    columns = map(str, report.columns)
    others = [c for c in columns if c.endswith(DISTANCES) and c not in names]
    names |= {c: "test split, other features" for c in others[:1]}
    marked = {combination.name, combination.selected}
    lines = [
        Line(
            row["name"],
            [*(words.number(row[column]) for column in names), _found_by(row)],
            "s-combined" if row["name"] in marked else "",
        )
        for row in report.sort_values("selection_fitness").to_dict("records")
    ]
    return Table(["candidate", *names.values(), "found by"], lines)


def _found_by(row: dict[Any, Any]) -> str:
    return words.MODELS.get(row["baseline"], words.METHODS[row["method"]])
