"""From results to the page."""

from __future__ import annotations

import logging
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined

from lct_pipeline.datasets.run_records import TRAIN_NODE
from lct_pipeline.reporting import charts, headline, history, pictures, tables
from lct_pipeline.reporting.data import data_view
from lct_pipeline.reporting.results import Results, is_there
from lct_pipeline.reporting.verdict import standing, verdict_of
from lct_pipeline.reporting.words import (
    MODELS,
    duration,
    in_sentence,
    large,
    number,
    share,
    steps,
)

logger = logging.getLogger(__name__)

MAX_BYTES = 5_000_000  # what still goes through the post
STRIP = 10  # samples of a model side by side
HERO = (12, 4)
BEST_FIRST = ("combined", "best_ema", "last")


def page(results: Results) -> str:
    """Return the report as one HTML file that needs nothing else."""
    environment = Environment(
        loader=PackageLoader("lct_pipeline.reporting"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    html = environment.get_template("report.html").render(view(results))
    if len(html) > MAX_BYTES:
        logger.warning("The report has %.1f MB.", len(html) / 1e6)
    return html


def view(results: Results) -> dict[str, Any]:
    """Return all that the template shows."""
    return {
        "run": results.run,
        "title": headline.title_of(results),
        "summary": headline.summary(results),
        "facts": _facts(results),
        "verdict": verdict_of(results.evaluation, results.combination)
        if results.num_weights is not None
        else None,
        "standing": standing(results.evaluation),
        "scores": headline.score_groups(results.evaluation, results.combination),
        "score_caption": headline.score_caption(results.evaluation)
        if results.evaluation
        else "",
        **_samples(results),
        "evaluation": tables.evaluation_tables(results.evaluation),
        "protocols": tables.protocols(results.evaluation),
        "evaluation_charts": _evaluation_charts(results),
        **_combination(results),
        **_training(results),
        **data_view(results),
        "copying": results.copying
        if (results.copying or {}).get("num_images")
        else None,
        "copying_sentence": _copying_sentence(results.copying),
        "neighbours": _figure(results.nearest_neighbours),
        **_record(results),
    }


def _facts(results: Results) -> list[tuple[str, str]]:
    """Return a few figures with what they are."""
    facts = []
    if results.ingestion is not None:
        used = sum(results.ingestion["splits"].values())
        facts.append((f"{used:,}", "real images"))
    if results.num_weights is not None:
        facts.append((large(results.num_weights), "weights"))
    seconds = headline.node_seconds(results, TRAIN_NODE)
    if seconds:
        facts.append((duration(seconds), "of training"))
    total = sum(n["seconds"] for r in results.records for n in r["nodes"])
    if total:
        facts.append((duration(total), "for everything"))
    return facts


def _samples(results: Results) -> dict[str, Any]:
    """Return the pictures: a sheet of the best model, and strips of all from the same noise."""
    if results.sample_panels is None:
        return {"hero": None, "hero_title": "", "strips": []}
    panels, tensors = (
        results.sample_panels.metadata["panels"],
        results.sample_panels.tensors,
    )
    strips: dict[str, list[tuple[str, str, pictures.Picture]]] = {}
    for panel in panels:
        group = f"In {steps(panel['nfe'])}" if panel["nfe"] else "For comparison"
        picture = pictures.strip(tensors[f"{panel['model']}-{panel['nfe']}"], STRIP)
        title = MODELS[panel["model"]]
        strips.setdefault(group, []).append((title, f"s-{panel['model']}", picture))
    first = [panel for panel in panels if panel["nfe"] == panels[0]["nfe"]]
    best = min(first, key=lambda panel: BEST_FIRST.index(panel["model"]))
    title = f"{in_sentence(MODELS[best['model']])}, {steps(best['nfe'])} each"
    sheet = pictures.strip(tensors[f"{best['model']}-{best['nfe']}"], *HERO)
    return {"hero": sheet, "hero_title": title, "strips": list(strips.items())}


def _evaluation_charts(results: Results) -> list[charts.Chart]:
    found: list[charts.Chart | None] = []
    if is_there(results.distance_by_size):
        found.append(charts.size_chart(results.distance_by_size))
    if is_there(results.two_step_selection):
        found.append(charts.two_step_chart(results.two_step_selection))
    return [chart for chart in found if chart is not None]


def _combination(results: Results) -> dict[str, Any]:
    combination = results.combination
    found: list[charts.Chart | None] = []
    if is_there(results.search_history):
        found.append(charts.search_chart(results.search_history))
    if combination is not None:
        found.append(charts.coefficients_chart(combination))
    baselines = None
    if combination is not None and results.combination_report is not None:
        baselines = tables.baseline_table(results.combination_report, combination)
    return {
        "combination": combination,
        "combination_charts": [chart for chart in found if chart is not None],
        "search_sentence": tables.search_sentence(combination) if combination else "",
        "baselines": baselines,
    }


def _training(results: Results) -> dict[str, Any]:
    metrics = results.training_metrics
    return {
        "training_charts": charts.training_charts(metrics) if is_there(metrics) else [],
        "in_stages": is_there(metrics) and len(charts.stages(metrics)) > 1,
        "speed": _speed(results),
        "stage_samples": _figure(results.stage_samples),
    }


def _speed(results: Results) -> str:
    metrics = results.training_metrics
    if metrics is None or "images_per_second" not in metrics:
        return ""
    return f"{number(float(metrics['images_per_second'].median()))} images a second (median)."


def _copying_sentence(copying: dict[str, Any] | None) -> str:
    if not copying or not copying["num_images"]:
        return ""
    ratio = copying["median_ratio"]
    near = copying["share_below_half"] > 2 * copying["held_out_share_below_half"] + 0.01
    found = "Some may be copies" if near else "Nothing looks copied"
    return (
        f"{found}: generated images are {number(ratio)} times as far from the nearest of "
        f"{copying['num_training']:,} training images as new real images are (median of "
        f"{copying['num_images']:,}), the nearest {number(copying['smallest_ratio'])} times; "
        f"{share(copying['share_below_half'])} are less than half as far, of new real images "
        f"{share(copying['held_out_share_below_half'])}."
    )


def _figure(png: bytes | None) -> pictures.Picture | None:
    return None if png is None else pictures.figure(png)


def _record(results: Results) -> dict[str, Any]:
    records = results.records
    return {
        "sessions": history.sessions(records),
        "nodes": history.node_bars(records),
        "parameters": list(history.flat(results.parameters)),
        "parameters_digest": records[-1]["parameters_digest"] if records else "",
        "versions": records[-1]["versions"] if records else {},
        "python": records[-1]["python"] if records else "",
        "inputs": history.digests(records, "inputs"),
        "outputs": history.digests(records, "outputs"),
    }
