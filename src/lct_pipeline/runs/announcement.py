"""What a session says when it starts and ends: what it does, how long it takes, where to look."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping
from typing import Any

from lct_pipeline.commands import command
from lct_pipeline.parameters import Parameters
from lct_pipeline.reporting.words import duration
from lct_pipeline.runs.reading import MODELS, REPORTING

STAGES = {  # in order of work, with what each does
    "ingestion": "read the images, make squares of them, split them",
    "encoding": "fit an autoencoder, encode all images",
    "training": "train the model (sLCT)",
    "statistics": "outliers of pixels, latents and temporal differences",
    "cataloging": "list the checkpoints",
    "references": "feature extractors, and what they find in real images",
    "baselines": "find the best average of the weights (EMA)",
    "combination": "search for a better combination of checkpoints (LCSC)",
    "evaluation": "measure and draw what the models generate",
    "export": "write a model for use elsewhere",
    "report": "put the run on one page",
}
BESIDE = {
    "stage_samples": ("stage_samples.png", "how samples developed in training"),
    "sample_grid": ("sample_grid.png", "what each model generates, and real images"),
    "evaluation": ("evaluation.json", "how far that is from real images"),
}
QUICK = {"cataloging", "export", "report"}

logger = logging.getLogger(__name__)


def announce(
    run: str, parameters: Parameters, pipeline: Any, catalog: Any, *, only_missing: bool
) -> None:
    """Log what a session is going to do, unless that is little.

    Args:
        run: Name of the run.
        parameters: All of them.
        pipeline: What is going to run.
        catalog: Its data.
        only_missing: Whether it leaves all that is there.
    """
    from lct_pipeline.runs.estimate import estimated  # which torch comes with

    stages = {node.namespace for node in pipeline.nodes}
    shown = [stage for stage in STAGES if stage in stages]
    if not {*shown} <= QUICK:
        made = new_outputs(pipeline, catalog, only_missing=only_missing)
        logger.info("%s", plan(run, shown, made, estimated(parameters, made)))


def new_outputs(pipeline: Any, catalog: Any, *, only_missing: bool) -> set[str]:
    """Return what a session makes, without what is there and is neither made nor measured again.

    Args:
        pipeline: What is going to run.
        catalog: Its data.
        only_missing: Whether it leaves all that is there.
    """
    inputs = pipeline.inputs()
    return {
        name
        for name in pipeline.all_outputs()
        if not (only_missing or f"previous_{name}" in inputs)
        or not catalog.get(name).exists()
    }


def plan(
    run: str,
    stages: Iterable[str],
    made: Collection[str],
    seconds: Mapping[str, float] | None,
) -> str:
    """Return what is said at the start.

    Args:
        run: Name of the run.
        stages: That are worked through.
        made: What :func:`new_outputs` returns.
        seconds: About how many each takes, as ``estimated`` returns them.
    """
    lines = [f"Run {run}: what comes, and about how long it takes on this machine"]
    for stage in stages:
        known = duration(seconds[stage]) if seconds and stage in seconds else ""
        lines.append(f"  {stage:11} {known:>13}  {STAGES[stage]}")
    if seconds is None:
        lines.append("  Its networks are not tried out beforehand: progress bars tell.")
    elif seconds:
        total = duration(sum(seconds.values()))
        lines.append(
            f"  {'together':11} {total:>13}  and a little where no time stands"
        )
    if "stage_samples" in made:
        lines.append(
            f"  Samples while it trains: {REPORTING / run / 'stage_samples.png'}"
        )
    if "report" in made:
        lines.append(f"  All of it at the end: {REPORTING / run / 'report.html'}")
    return "\n".join(lines)


def outcome(run: str, nodes: Iterable[Mapping[str, Any]], made: Collection[str]) -> str:
    """Return what is said at the end: how long each stage took, and where to look.

    Args:
        run: Name of the run.
        nodes: What each node cost, as the record has it.
        made: What was made.
    """
    seconds: dict[str, float] = {}
    for node in nodes:
        stage = node["node"].partition(".")[0]
        seconds[stage] = seconds.get(stage, 0.0) + node["seconds"]
    in_order = (stage for stage in STAGES if stage in seconds)
    times = ", ".join(f"{stage} {duration(seconds[stage])}" for stage in in_order)
    took = duration(sum(seconds.values()))
    lines = [f"Run {run} took {took}: {times or 'nothing was missing'}."]
    if "report" in made:
        page = REPORTING / "report.html"
        lines.append(f"  Open {page}: the whole run on one page. Beside it:")
        beside = (item for name, item in BESIDE.items() if name in made)
        lines += [f"    {file:18} {shows}" for file, shows in beside]
        models = MODELS / run
        lines.append(f"  The models are in {models}. Look at everything: `make viz`.")
        if "best_ema" in made:
            lines.append(f"  Use one elsewhere: {command('export')}.")
        else:
            lines.append(f"  Measure what they generate: {command('evaluate')}.")
    return "\n".join(lines)
