"""The report's tables, and the sentences about them."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from pandas import DataFrame

from lct_pipeline.datasets.results import CombinationResult, EvaluationRow
from lct_pipeline.reporting.words import (
    METHODS,
    MODELS,
    NONE,
    extractor_name,
    metric_name,
    number,
    share,
    steps,
    value_text,
)

Row = dict[Any, Any]
DISTANCES = ("frechet_distance", "fid")
HEAVY = 10  # times as many values beyond the outer fences as of a Gaussian are called heavy tails


@dataclass(frozen=True)
class Cell:
    """A text, and the value that it stands for."""

    text: str
    value: float | None = None


@dataclass(frozen=True)
class Line:
    """A line of a table: whose it is, and its cells."""

    title: str
    cells: list[Cell]
    css: str = ""


@dataclass(frozen=True)
class Table:
    """Lines under the same columns; one without cells is a headline."""

    title: str
    columns: list[str]
    lines: list[Line]


def evaluation_tables(evaluation: list[EvaluationRow]) -> list[Table]:
    """Return a table for each extractor, with the rows of each protocol under a headline.

    Only figures of one protocol may be compared to the digit.
    """
    found: dict[str, list[EvaluationRow]] = {}
    for row in evaluation:
        found.setdefault(row.extractor_digest, []).append(row)
    return [_evaluation_table(rows) for rows in found.values()]


def _evaluation_table(rows: list[EvaluationRow]) -> Table:
    metrics = list(dict.fromkeys(row.metric for row in rows))
    of_protocol: dict[str, dict[tuple[str, int], dict[str, EvaluationRow]]] = {}
    for row in rows:
        of_model = of_protocol.setdefault(row.protocol, {})
        of_model.setdefault((row.model, row.nfe), {})[row.metric] = row
    lines = []
    for of_model in of_protocol.values():
        first = next(iter(next(iter(of_model.values())).values()))
        lines.append(Line(_against(first), []))
        for (model, nfe), by_metric in of_model.items():
            cells = [_figure(by_metric.get(metric)) for metric in metrics]
            lines.append(Line(_who(model, nfe), cells, f"s-{model}"))
    title = f"By features of {extractor_name(rows[0].extractor)}"
    return Table(title, [metric_name(metric) for metric in metrics], lines)


def _against(row: EvaluationRow) -> str:
    return (
        f"{row.num_generated:,} images against {row.num_real:,} of {row.reference}"
        f" [{row.protocol}]"
    )


def protocols(evaluation: list[EvaluationRow]) -> list[str]:
    """Return in words how the figures of each protocol were made."""
    first = {row.protocol: row for row in reversed(evaluation)}
    return [_protocol(row) for row in reversed(first.values())]


def _who(model: str, nfe: int) -> str:
    return f"{MODELS[model]}, {steps(nfe)}" if nfe else MODELS[model]


def _figure(row: EvaluationRow | None) -> Cell:
    if row is None:
        return Cell(NONE)
    spread = row.std if row.std is not None else row.standard_error
    return Cell(value_text(row.value, spread), row.value)


def _protocol(row: EvaluationRow) -> str:
    resize = "not resized" if row.resize == "none" else f"resized: {row.resize}"
    seeds = ", ".join(str(seed) for seed in row.seeds) or "none"
    return (
        f"{row.protocol}: {row.num_generated:,} images against {row.num_real:,} of "
        f"{row.reference}; extractor {row.extractor} "
        f"({row.extractor_digest[:8]}), images {resize}, {row.quantisation} to 8 bits, "
        f"stored {row.file_format}; seeds of noise: {seeds}; {row.versions}."
    )


def baseline_table(report: DataFrame, combination: CombinationResult) -> Table:
    """Return the best of each search and both baselines, the best by its score first."""
    metric, columns = combination.metric, [str(column) for column in report]
    names = {"selection_frechet": "validation split", metric: "test split"}
    others = [c for c in columns if c.endswith(DISTANCES) and c not in names]
    names |= {c: "test split, other features" for c in others[:1]}
    marked = {combination.name, combination.selected}
    lines = []
    for row in report.sort_values("selection_fitness").to_dict("records"):
        values = [Cell(number(row[c]), row[c]) for c in names]
        mark = "s-combined" if row["name"] in marked else ""
        lines.append(Line(str(row["name"]), [*values, Cell(_kind(row))], mark))
    return Table("", [*names.values(), "found by"], lines)


def _kind(row: Row) -> str:
    baseline = row["baseline"]
    return MODELS[baseline] if isinstance(baseline, str) else METHODS[row["method"]]


def search_sentence(combination: CombinationResult) -> str:
    """Return what was searched, selected and reported on what."""
    p = combination.parameters
    search = p["search"]
    methods = ", ".join(METHODS[method] for method in search["methods"])
    seeds = "" if search["num_seeds"] == 1 else f"; {search['num_seeds']} of each"
    return (
        f"Searches ({methods}{seeds}) looked for coefficients of the last "
        f"{len(combination.steps)} checkpoints, of sum 1, on the training images "
        f"({p['fitness']['num_images']:,} generated for each of {search['num_evaluations']} "
        f"evaluations). The best were measured again on the validation split "
        f"({p['selection']['num_images']:,} images, new noise), and the best of these once more, "
        "beside the best baseline, which decided. By the test split nothing was selected."
    )


def outlier_table(pixels: DataFrame | None, latents: DataFrame | None) -> Table:
    """Return the tails of pixels and latents, all channels together."""
    rows = {
        title: table.iloc[-1].to_dict()
        for title, table in (("Pixels", pixels), ("Latents", latents))
        if table is not None and len(table)
    }
    columns = [
        "values",
        "beyond inner fences",
        "beyond outer fences",
        "excess kurtosis",
    ]
    lines = [Line(title, _tails(row)) for title, row in rows.items()]
    if rows:
        gauss = next(iter(rows.values()))
        ideal = {
            "share_beyond_inner": gauss["gaussian_share_beyond_inner"],
            "share_beyond_outer": gauss["gaussian_share_beyond_outer"],
            "excess_kurtosis": 0.0,
        }
        lines.append(Line("Gaussian noise", _tails(ideal)))
    return Table("", columns, lines)


def td_table(td_statistics: DataFrame) -> Table:
    """Return the tails of the temporal differences at the end of each stage."""
    lines = []
    for num_levels, rows in td_statistics.groupby("num_levels"):
        weights = rows["weight"] / rows["weight"].sum()
        inner, outer, kurtosis = (
            float((weights * rows[name]).sum())
            for name in ("share_beyond_inner", "share_beyond_outer", "excess_kurtosis")
        )
        cells = [
            Cell(f"{rows['step'].iloc[0]:,}", rows["step"].iloc[0]),
            Cell(share(inner), inner),
            Cell(share(outer), outer),
            Cell(number(kurtosis, 2), kurtosis),
        ]
        lines.append(Line(f"N = {num_levels}", cells))
    columns = ["step", "beyond inner fences", "beyond outer fences", "excess kurtosis"]
    return Table("", columns, lines)


def _tails(row: Row) -> list[Cell]:
    count = row.get("num_values")
    return [
        Cell(NONE if count is None else f"{count:,}", count),
        Cell(share(row["share_beyond_inner"]), row["share_beyond_inner"]),
        Cell(share(row["share_beyond_outer"]), row["share_beyond_outer"]),
        Cell(number(row["excess_kurtosis"], 2), row["excess_kurtosis"]),
    ]


def tails_sentence(shares: dict[str, float], gaussian: float) -> str:
    """Return what the shares of values beyond the outer fences mean.

    Args:
        shares: By what the values are.
        gaussian: The share of Gaussian noise.
    """
    heavy = {what: outer for what, outer in shares.items() if outer > HEAVY * gaussian}
    light = {what: outer for what, outer in shares.items() if what not in heavy}
    found = []
    if heavy:
        found.append(
            f"{_named(heavy)} beyond the outer fences, against {share(gaussian)} of Gaussian "
            "noise: heavy tails, which a squared loss would follow and a robust one does not."
        )
    if light:
        found.append(
            f"{_named(light)} beyond the outer fences, as of Gaussian noise "
            f"({share(gaussian)}): no outliers to speak of."
        )
    return " ".join(found)


def _named(shares: dict[str, float]) -> str:
    parts = [f"{share(outer)} of the {what} lie" for what, outer in shares.items()]
    return " and ".join(
        [*(part.removesuffix(" lie") for part in parts[:-1]), parts[-1]]
    )
