"""The model card of an exported folder: what it is, what it is made of, how good it is."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any

import yaml

from lct_pipeline import __version__
from lct_pipeline.datasets.results import EvaluationRow
from lct_pipeline.evaluation.protocol import headline
from lct_pipeline.export.latent_pipeline import LatentPipeline
from lct_pipeline.reporting.words import metric_name, steps, value_table

# of what was measured; the run's evaluation.json has all
Rows = list[EvaluationRow]
SHOWN = ("fid", "kid", "frechet_distance", "kernel_distance", "precision", "recall")
LICENCE_TODO = (
    "**Licence: not given yet.** Add `license: <identifier>` to the header of this file before "
    "you share the folder, or export again with `--params=export.license=<identifier>`. The "
    "licences of the images and of a named autoencoder bear on it."
)


@dataclass(frozen=True)
class Story:
    """What a model card tells that the model itself does not know.

    Attributes:
        run: Name of the run.
        model: What of the run it is, in words.
        weights: Name of the checkpoint or combination.
        licence: Identifier of the licence of the weights; None is not given.
        source: What images it was trained on, as the user named them.
        image_size: Their side in pixels.
        objective: Kind of training.
        num_steps: Training steps.
        autoencoder: The autoencoder that was named; None is one fitted in the run.
        commit: Commit of the training; None is unknown.
        two_step_improves: What the validation split said; None where it was not asked.
        rows: Rows of the evaluation that are of this model.
        controls: Rows of real images and of decoded noise, for comparison.
    """

    run: str
    model: str
    weights: str
    licence: str | None
    source: str
    image_size: int
    objective: str
    num_steps: int
    autoencoder: str | None
    commit: str | None
    two_step_improves: bool | None
    rows: Rows = field(default_factory=list)
    controls: Rows = field(default_factory=list)


def model_card(story: Story, pipeline: LatentPipeline, digest: str) -> str:
    """Return the text of ``README.md``.

    Args:
        story: What the run knows.
        pipeline: The model.
        digest: SHA-256 of the file of weights.
    """
    header = yaml.safe_dump(_header(story, pipeline), sort_keys=False)
    if story.licence is None:
        header = f"# license: to be filled in, such as apache-2.0\n{header}"
    parts = [
        f"---\n{header}---",
        f"# {story.run}",
        _what(story, pipeline),
        "![Samples](samples.png)",
        "" if story.licence else LICENCE_TODO,
        "## Use",
        _use(pipeline),
        "## Training",
        _training(story),
        "## Figures",
        *_figures(story),
        "## Limits",
        _limits(story, pipeline),
        "## Where it comes from",
        _origin(story, digest),
    ]
    return "\n\n".join(part for part in parts if part) + "\n"


def _header(story: Story, pipeline: LatentPipeline) -> dict[str, Any]:
    task = "unconditional-image-generation"
    licence = {} if story.licence is None else {"license": story.licence}
    prefix = "hf://datasets/"
    hub = story.source.startswith(prefix)
    dataset = story.source.removeprefix(prefix)
    header: dict[str, Any] = {
        **licence,
        "library_name": "diffusers",
        "pipeline_tag": task,
        "tags": [f"{pipeline.scheduler.config.model}-model", "lct_pipeline"],
        **({"datasets": [dataset]} if hub else {}),
    }
    rows = _shown(story.rows)
    if not rows:
        return header
    result = {
        "task": {"type": task},
        "dataset": {"type": dataset if hub else "images", "name": dataset},
        "metrics": [
            {
                "type": row.metric,
                "value": round(row.value, 4),
                "name": f"{metric_name(row.metric)}, {steps(row.nfe)}, {headline(row)}",
            }
            for row in rows
        ],
    }
    header["model-index"] = [{"name": story.run, "results": [result]}]
    return header


def _what(story: Story, pipeline: LatentPipeline) -> str:
    denoiser = pipeline.denoiser
    kind = pipeline.scheduler.config.model
    taken = "one network evaluation" if kind == "consistency" else "a few evaluations"
    where = (
        "pixels"
        if pipeline.vae is None
        else "latents of shape "
        + "x".join(str(n) for n in denoiser.config.sample_shape)
    )
    num_weights = sum(p.numel() for p in denoiser.parameters())
    classes = (
        f", {denoiser.config.num_classes} classes"
        if denoiser.config.num_classes
        else ""
    )
    return (
        f"A {kind} model that makes images of {story.image_size} x {story.image_size} pixels in "
        f"{taken}: {type(denoiser).__name__.removesuffix('Denoiser')}, "
        f"{num_weights:,} weights, {where}{classes}. These are the weights of the "
        f"{story.model}: {story.weights}."
    )


def _use(pipeline: LatentPipeline) -> str:
    scheduler, names = pipeline.scheduler, pipeline.denoiser.config.class_names
    count = scheduler.default_steps
    plans = [_plan(plan) for plan in scheduler.config.plans]
    label = f", class_labels={names[0]!r}" if names else ""
    example = f"""```python
import torch
from diffusers import DiffusionPipeline

folder = "."  # this folder, or its id on the hub
pipe = DiffusionPipeline.from_pretrained(
    folder, custom_pipeline=folder, trust_remote_code=True
)
pipe.to("cuda" if torch.cuda.is_available() else "cpu")
noise = torch.Generator().manual_seed(0)
images = pipe(16, num_inference_steps={count}{label}, generator=noise).images
images[0].save("image.png")
```"""
    return (
        f"{example}\n\nIt needs `diffusers` and nothing else; `trust_remote_code` lets diffusers "
        "run `pipeline.py` and the Python file in `denoiser/` and `scheduler/`, which you can read."
        f" Steps are network evaluations:\n\n" + "\n".join(plans)
    )


def _plan(plan: dict[str, Any]) -> str:
    taken = steps(plan["num_evaluations"])
    if plan["solver"]:
        solver = {"heun": "Heun", "dpm_solver": "DPM-Solver++"}[plan["solver"]]
        return f"- {taken}: {solver}"
    levels = " and ".join(f"{sigma:g}" for sigma in plan["sigmas"])
    noise = {
        "fresh": "with new noise",
        "same": "with the first noise again",
        "coupled": "with new noise in the order of optimal transport (needs `POT`)",
    }
    again = f", {noise[plan['renoise']]}" if len(plan["sigmas"]) > 1 else ""
    return f"- {taken}: noise level {levels}{again}"


def _training(story: Story) -> str:
    autoencoder = story.autoencoder or "a small one, fitted to the same images"
    return (
        f"- images: `{story.source}`\n- objective: {story.objective}, {story.num_steps:,} steps\n"
        f"- autoencoder: {autoencoder}"
    )


def _figures(story: Story) -> Iterator[str]:
    if not story.rows:
        yield (
            "None: this model was not evaluated. `kedro run --pipeline=evaluate`, then export "
            "again."
        )
        return
    yield (
        "Means and standard deviations over seeds of noise. Figures of different protocols cannot "
        "be compared, and none of them is FID but where it says so."
    )
    of_protocol: dict[str, Rows] = {}
    for row in _shown([*story.rows, *story.controls]):
        of_protocol.setdefault(row.protocol, []).append(row)
    for rows in of_protocol.values():
        yield f"{headline(rows[0])}:"
        yield _table(rows)
    if story.two_step_improves is False:
        yield "On the validation split a second step did not make the images better."


def _shown(rows: Rows) -> Rows:
    """Return the rows that a card has room for."""
    return [row for row in rows if row.metric.endswith(SHOWN)]


def _table(rows: Rows) -> str:
    texts = value_table(rows)
    metrics = list(
        dict.fromkeys(metric for of_model in texts.values() for metric in of_model)
    )
    lines = [["images of", *metrics], ["---"] * (len(metrics) + 1)]
    lines += [
        [model, *(of_model.get(metric, "") for metric in metrics)]
        for model, of_model in texts.items()
    ]
    return "\n".join(f"| {' | '.join(line)} |" for line in lines)


def _limits(story: Story, pipeline: LatentPipeline) -> str:
    num = f"{story.image_size} x {story.image_size}"
    alone = (
        "" if pipeline.vae is None else " Its autoencoder bounds how sharp they can be."
    )
    return (
        f"It makes images of {num} pixels that resemble those it was trained on, with their "
        f"biases, and nothing else.{alone} It may reproduce training images: the run's "
        "`copying.json` compares some with their nearest neighbours. There is no filter of what it "
        "makes. It was not made for decisions about people."
    )


def _origin(story: Story, digest: str) -> str:
    commit = f", commit {story.commit}" if story.commit else ""
    return (
        f"Run `{story.run}` of lct_pipeline {__version__}{commit}: sLCT (arXiv 2502.01441), "
        "combination of checkpoints after LCSC (arXiv 2404.02241). SHA-256 of "
        f"`denoiser/diffusion_pytorch_model.safetensors`: `{digest}`."
    )
