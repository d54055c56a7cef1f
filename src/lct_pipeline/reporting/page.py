"""From what a run has left to the page."""

from __future__ import annotations

import logging
from typing import Any

import plotly.graph_objects as go
from jinja2 import Environment, PackageLoader, StrictUndefined

from lct_pipeline.commands import command
from lct_pipeline.datasets.run_folder import RunFolder
from lct_pipeline.datasets.run_records import record_of_training
from lct_pipeline.errors import DataError
from lct_pipeline.models.denoiser import ModelDescription
from lct_pipeline.parameters import flatten
from lct_pipeline.plain_text import lines
from lct_pipeline.reporting import pictures, sentences, svg, tables, words
from lct_pipeline.reporting.curves import draw_training_curves, stages
from lct_pipeline.reporting.searches import draw_search_progress
from lct_pipeline.reporting.verdict import standing, verdict_of

logger = logging.getLogger(__name__)

MAX_BYTES = 5_000_000  # what still goes through the post
STRIP = 10  # samples of a model side by side
HERO = (12, 4)
BEST_FIRST = ("combined", "best_ema", "last")
CHARTS = {  # of each section, by their names in the catalog
    "evaluation": ("size_bias", "two_step_sweep"),
    "combination": ("search_progress", "coefficients", "quality_along_line"),
    "training": ("training_curves",),
    "data": ("pixel_box_plot", "latent_box_plot", "td_std", "td_box_plot"),
}
GROWING = {  # charts of tables that are shown while they grow
    "search_progress": ("search_history", draw_search_progress),
    "training_curves": ("training_metrics", draw_training_curves),
}
TAILS = {
    "pixel_statistics": "pixels",
    "latent_statistics": "latents",
    "td_statistics": "temporal differences at the end of training",
}
Record = dict[str, Any] | None


def page(run: RunFolder, ingestion: Record, training: Record) -> str:
    """Return the report as one HTML file that needs nothing else.

    Args:
        run: What the run has left so far.
        ingestion: Record of the ingestion of its images.
        training: Record of its training; None where it was not trained here, or not to its end.

    Raises:
        DataError: The run has left nothing: there is no such run.
    """
    environment = Environment(
        loader=PackageLoader("lct_pipeline.reporting"),
        autoescape=True,
        finalize=lambda value: lines(value) if type(value) is str else value,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    environment.globals["command"] = lambda pipeline: command(pipeline).strip("`")
    view = _view(run, ingestion, training)
    html = environment.get_template("report.html").render(view)
    if len(html) > MAX_BYTES:
        logger.warning("The report has %.1f MB.", len(html) / 1e6)
    return html


def _view(run: RunFolder, ingestion: Record, training: Record) -> dict[str, Any]:
    """Return all that the template shows."""
    network, num_weights = _model(run, training)
    evaluation, combination = run.evaluation, run.combination
    if num_weights is None and run.table("pixel_statistics") is None and not evaluation:
        raise DataError(
            f"run {run.name} has left nothing to report: `kedro lct runs` lists those that have, "
            f"and {command('train')} works from nothing."
        )
    last = run.records[-1] if run.records else None
    # a later command may be of others
    made_by = record_of_training(run.records) or last
    source = made_by.parameters["ingestion"]["source"] if made_by else ""
    bars, report = tables.score_bars(evaluation), run.table("combination_report")
    baselines = None
    if combination is not None and report is not None:
        baselines = tables.baseline_table(report, combination)
    return {
        "run": run.name,
        "title": sentences.title_of(str(source), num_weights is not None),
        "summary": sentences.summary(run, network, num_weights, ingestion),
        "verdict": num_weights and verdict_of(evaluation, combination),
        "standing": standing(evaluation),
        "models": words.MODELS,
        "scores": bars,
        "notes": {model: sentences.note(model, combination) for model in bars},
        "score_caption": evaluation and sentences.score_caption(evaluation[0]),
        **_samples(run),
        "evaluation": tables.evaluation_tables(evaluation),
        "protocols": tables.protocols(evaluation),
        "charts": {name: _charts(run, charts) for name, charts in CHARTS.items()},
        "combination": combination,
        "searched": combination and sentences.searched(combination),
        "baselines": baselines,
        **_training(run),
        **_data(run, ingestion),
        "nearest_neighbours": pictures.figure(run.picture("nearest_neighbours")),
        "sessions": tables.sessions(run.records),
        "nodes": tables.node_bars(run.records),
        "record": last,
        "parameters": flatten(last.parameters if last else {}).items(),
        "digests": {
            side: tables.digests(run.records, side) for side in ("inputs", "outputs")
        },
    }


def _model(
    run: RunFolder, training: Record
) -> tuple[ModelDescription | None, int | None]:
    """Return the description of the network and the number of its weights, where there is one."""
    if training is not None:
        network = ModelDescription.from_json(training["network"])
        return network, training["num_weights"]
    names = run.checkpoints.names()
    if not names:
        return None, None
    last = run.checkpoints.read(names[-1])
    num_weights = sum(tensor.numel() for tensor in last.tensors.values())
    return run.checkpoints.header(names[-1]).network, num_weights


def _charts(run: RunFolder, names: tuple[str, ...]) -> list[svg.Panel]:
    """Return the panels of some charts of the run, as far as they are there."""
    found = []
    for name in names:
        source, draw = GROWING.get(name, ("", None))
        table = run.table(source) if source else None
        if draw is not None and table is not None:
            found += svg.panels_of(draw(table))
        elif draw is None and (saved := run.values(name)):
            found += svg.panels_of(go.Figure(saved))
    return found


def _samples(run: RunFolder) -> dict[str, Any]:
    """Return the pictures: a sheet of the best model, and strips of all from the same noise."""
    found = run.tensors("sample_panels")
    if found is None:
        return {"hero": None, "hero_title": "", "strips": {}}
    panels = found.metadata["panels"]
    strips: dict[str, list[tuple[str, pictures.Picture]]] = {}
    for panel in panels:
        group = f"In {words.steps(panel['nfe'])}" if panel["nfe"] else "For comparison"
        images = found.tensors[f"{panel['model']}-{panel['nfe']}"]
        picture = pictures.strip(images, STRIP)
        strips.setdefault(group, []).append((panel["model"], picture))
    first = [panel for panel in panels if panel["nfe"] == panels[0]["nfe"]]
    best = min(first, key=lambda panel: BEST_FIRST.index(panel["model"]))
    title = f"{words.in_sentence(words.MODELS[best['model']])}, {words.steps(best['nfe'])} each"
    sheet = pictures.strip(found.tensors[f"{best['model']}-{best['nfe']}"], *HERO)
    return {"hero": sheet, "hero_title": title, "strips": strips}


def _training(run: RunFolder) -> dict[str, Any]:
    metrics, copying = run.table("training_metrics"), run.values("copying") or {}
    speed, in_stages = "", False
    if metrics is not None:
        speed = words.number(float(metrics["images_per_second"].median()))
        in_stages = len(stages(metrics)) > 1
    return {
        "speed": speed,
        "in_stages": in_stages,
        "stage_samples": pictures.figure(run.picture("stage_samples")),
        "copied": copying.get("num_images") and sentences.copied(copying),
    }


def _data(run: RunFolder, ingestion: Record) -> dict[str, Any]:
    splits, problems = {}, {}
    if ingestion is not None:
        splits, problems = ingestion["splits"], dict(ingestion["problems"])
        if ingestion["num_copies"]:
            problems["exact copy of another image"] = ingestion["num_copies"]
    quality, tails = run.values("reconstruction_quality"), []
    for name, what in TAILS.items():
        table = run.table(name)
        if table is not None:
            if "num_levels" in table:
                table = table[table["num_levels"] == table["num_levels"].max()]
            tails.append(sentences.tails_sentence(what, table))
    return {
        "splits": sorted(splits.items(), key=lambda split: -split[1]),
        "problems": problems,
        "reconstruction": quality and sentences.reconstruction(quality),
        "tails": " ".join(tails),
    }
