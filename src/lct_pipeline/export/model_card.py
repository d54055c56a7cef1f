"""The model card of an exported folder: what it is, what it is made of, how good it is."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from huggingface_hub import EvalResult, ModelCardData
from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup

from lct_pipeline import __version__
from lct_pipeline.datasets.results import EvaluationRow
from lct_pipeline.evaluation.protocol import headline
from lct_pipeline.export.latent_pipeline import LatentPipeline
from lct_pipeline.plain_text import in_python, markdown, without_marks, without_secrets
from lct_pipeline.reporting.words import metric_name, steps, value_table

# of what was measured; the run's evaluation.json has all
SHOWN = ("fid", "kid", "frechet_distance", "kernel_distance", "precision", "recall")
SOLVERS = {"heun": "Heun", "dpm_solver": "DPM-Solver++"}
RENOISE = {
    "fresh": "with new noise",
    "same": "with the first noise again",
    "coupled": "with new noise in the order of optimal transport (needs `POT`)",
}
ON_THE_HUB = "hf://datasets/"
PUBLIC = ("hf://", "https://", "http://")
HUB_ID = re.compile(r"[\w-][\w.-]*(/[\w-][\w.-]*)?")


@dataclass(frozen=True)
class Story:
    """What a model card tells that the model itself does not know.

    Attributes:
        run: Name of the run.
        model: What of the run it is, as text.
        weights: Name of the checkpoint or combination.
        licence: Identifier of the licence of the weights; None is not given.
        parameters: All parameters of the training.
        commit: Commit of the training; None is unknown.
        two_step_improves: What the validation split said; None where it was not asked.
        rows: Rows of the evaluation that are of this model, then those of real images and of
            decoded noise; none of a model that was not evaluated.
    """

    run: str
    model: str
    weights: str
    licence: str | None
    parameters: dict[str, Any]
    commit: str | None
    two_step_improves: bool | None
    rows: list[EvaluationRow]


def model_card(story: Story, pipeline: LatentPipeline, digest: str) -> str:
    """Return the text of ``README.md``.

    Args:
        story: What the run knows.
        pipeline: The model.
        digest: SHA-256 of the file of weights.
    """
    environment = Environment(
        loader=PackageLoader("lct_pipeline.export"),
        finalize=_shown_as_it_is,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        keep_trailing_newline=True,
    )
    environment.filters["python"] = lambda text: Markup(in_python(text))
    parameters = story.parameters
    return environment.get_template("model_card.md.j2").render(
        header=Markup(_header(story, pipeline.scheduler.config.model)),
        story=story,
        pipeline=pipeline,
        plans=[Markup(_plan(plan)) for plan in pipeline.scheduler.config.plans],
        source=public_name(parameters["ingestion"]["source"]),
        autoencoder=_autoencoder(parameters["encoding"]["autoencoder"]),
        tables=_tables(_shown(story.rows)),
        version=__version__,
        digest=digest,
    )


def _shown_as_it_is(value: Any) -> str:
    """Return a value for any place of the card but for what stands between backticks."""
    return value if isinstance(value, Markup) else markdown(str(value))


def _header(story: Story, kind: str) -> str:
    """Return the metadata that the Hugging Face hub reads, as YAML."""
    task = "unconditional-image-generation"
    source = public_name(story.parameters["ingestion"]["source"])
    name = without_marks(source.removeprefix(ON_THE_HUB).partition("@")[0])
    is_on_hub = source.startswith(ON_THE_HUB)
    results = [
        EvalResult(
            task_type=task,
            dataset_type=name if is_on_hub else "images",
            dataset_name=name,
            metric_type=without_marks(row.metric),
            metric_value=round(row.value, 4),
            metric_name=without_marks(
                f"{metric_name(row.metric)}, {steps(row.nfe)}, {headline(row)}"
            ),
        )
        for row in _shown(story.rows)
        if row.nfe
    ]
    return ModelCardData(
        license=story.licence and without_marks(story.licence),
        library_name="diffusers",
        pipeline_tag=task,
        tags=[f"{kind}-model", "lct_pipeline"],
        datasets=[name] if is_on_hub else None,
        model_name=without_marks(story.run),
        eval_results=results or None,
    ).to_yaml()


def public_name(source: str) -> str:
    """Return a source as others may know it: a path, of any system, by its last part."""
    if source.startswith(PUBLIC):
        return without_secrets(source)
    parts = [part for part in re.split(r"[/\\]", source) if part.strip(".")]
    return parts[-1] if parts else "images"


def _autoencoder(given: str | None) -> str | None:
    """Return the name of a given autoencoder: a hub id whole, a folder by its last part."""
    if given is None or (HUB_ID.fullmatch(given) and not Path(given).exists()):
        return given
    return public_name(given)


def _plan(plan: dict[str, Any]) -> str:
    """Return how images are made in a number of evaluations."""
    taken = steps(plan["num_evaluations"])
    if plan["solver"]:
        return f"{taken}: {SOLVERS[plan['solver']]}"
    levels = " and ".join(f"{sigma:g}" for sigma in plan["sigmas"])
    noise = f", {RENOISE[plan['renoise']]}" if len(plan["sigmas"]) > 1 else ""
    return f"{taken}: noise level {levels}{noise}"


def _shown(rows: list[EvaluationRow]) -> list[EvaluationRow]:
    """Return the rows that a card has room for."""
    return [row for row in rows if row.metric.endswith(SHOWN)]


def _tables(rows: list[EvaluationRow]) -> dict[str, dict[str, dict[str, str]]]:
    """Return the text of each value by protocol, model and metric."""
    return {
        protocol: value_table(row for row in rows if headline(row) == protocol)
        for protocol in map(headline, rows)
    }
