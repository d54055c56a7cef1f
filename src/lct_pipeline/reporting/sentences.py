"""What the report says of a run in sentences."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from pandas import DataFrame

from lct_pipeline.datasets.results import CombinationResult, EvaluationRow
from lct_pipeline.datasets.run_folder import RunFolder
from lct_pipeline.datasets.run_records import TRAIN_NODE
from lct_pipeline.models.denoiser import ModelDescription
from lct_pipeline.reporting import words
from lct_pipeline.reporting.box_plots import tails
from lct_pipeline.reporting.tables import node_costs

NOTES = {  # what models and controls are
    "last": "the weights at the end of training, as they are",
    "best_ema": "the best of all averages of the weights over training, by the validation split",
    "combined": "the checkpoints, weighted by coefficients that a search found",
    "real_validation_images": "that were in no training: what a perfect generator would get",
    "reconstructed_test_images": "the real test images, encoded and decoded: the floor of any "
    "model behind this autoencoder",
    "gaussian_latents": "decoded noise: where one begins",
}
HEAVY = 10  # times as many values beyond the outer fences as of a Gaussian are called heavy tails


def title_of(source: str, is_model: bool) -> str:
    """Return what was made of images from ``source``, which may be unknown."""
    kind = "generator" if is_model else "data set"
    if source == "digits":
        return f"A {kind} of handwritten digits"
    return f"A {kind} of images" + (f": {Path(source).stem}" if source else "")


def summary(
    run: RunFolder,
    network: ModelDescription | None,
    num_weights: int | None,
    ingestion: dict[str, Any] | None,
) -> str:
    """Return in one or two sentences what was trained on what, how long and where."""
    if num_weights is None or not run.records:
        return "No model has been trained in this run yet."
    size = f"{num_weights:,} weights"
    if network is None:
        return f"Checkpoints of another trainer, of {size} each."
    parameters = run.records[-1].parameters
    side = parameters["ingestion"]["image_size"]
    latent = f" {words.TIMES} ".join(str(n) for n in network.sample_shape)
    space = "pixels" if parameters["encoding"]["autoencoder"] == "pixels" else "latents"
    return (
        f"Images of {side} {words.TIMES} {side} pixels, made by a {network.model} model of {size} "
        f"({words.NETWORKS[network.kind]}, on {latent} {space}).{_training(run, ingestion)}"
    )


def _training(run: RunFolder, ingestion: dict[str, Any] | None) -> str:
    metrics, record = run.table("training_metrics"), run.records[-1]
    if metrics is None:
        return ""
    batch = record.parameters["training"]["batch_size"]
    text = f" Trained for {metrics['step'].max():,.0f} steps of {batch} images"
    if ingestion is not None:
        text += f", from {ingestion['splits']['train']:,} training images"
    seconds, _ = node_costs(run.records).get(TRAIN_NODE, (0.0, 0))
    if seconds:
        text += f", in {words.duration(seconds)}"
    device = "CPU" if record.device == "cpu" else record.device
    return f"{text} on {device} ({record.machine})."


def note(model: str, combination: CombinationResult | None) -> str:
    """Return what a model or control is."""
    if model == "combined" and combination is not None:
        if combination.is_selected:
            count = len(combination.steps)
            return f"{count} checkpoints, with coefficients that a search found"
        return f"the search's gain was gone on new noise: {combination.selected} in its place"
    return NOTES[model]


def score_caption(row: EvaluationRow) -> str:
    """Return what the bars show, of how many images, by what."""
    seeds, name = len(row.seeds), words.metric_name(row.metric)
    over = f", mean ± standard deviation over {seeds} seeds of noise" * (seeds > 1)
    plain = " This is not FID, and not comparable with published ones."
    return (
        f"A step is one evaluation of the network. {name} of {row.num_generated:,} generated "
        f"images to {row.num_real:,} real ones of {row.reference}{over}; less is better. It "
        f"compares features of {words.extractor_name(row.extractor)}."
        f"{'' if name == 'FID' else plain}"
    )


def searched(combination: CombinationResult) -> str:
    """Return what was searched, selected and reported on what."""
    p = combination.parameters
    search = p["search"]
    methods = ", ".join(words.METHODS[method] for method in search["methods"])
    seeds = "" if search["num_seeds"] == 1 else f"; {search['num_seeds']} of each"
    return (
        f"Searches ({methods}{seeds}) looked for coefficients of the last "
        f"{len(combination.steps)} checkpoints, of sum 1, on the training images "
        f"({p['fitness']['num_images']:,} generated for each of {search['num_evaluations']} "
        f"evaluations). The best were measured again on the validation split "
        f"({p['selection']['num_images']:,} images, new noise), and the best of these once more, "
        "beside the best baseline, which decided. By the test split nothing was selected."
    )


def tails_sentence(what: str, statistics: DataFrame) -> str:
    """Return what the share of values beyond the outer fences means.

    Args:
        what: The values.
        statistics: Of outliers.
    """
    outer = tails(statistics)["share_beyond_outer"]
    gaussian = float(statistics["gaussian_share_beyond_outer"].iloc[-1])
    text = f"{words.share(outer)} of the {what} lie beyond the outer fences"
    if outer > HEAVY * gaussian:
        return (
            f"{text}, against {words.share(gaussian)} of Gaussian noise: heavy tails, which a "
            "squared loss would follow and a robust one does not."
        )
    return f"{text}, as of Gaussian noise ({words.share(gaussian)}): no outliers to speak of."


def reconstruction(quality: dict[str, Any]) -> str:
    """Return what is lost by the autoencoder."""
    if quality["exact"]:
        return "The model works on the pixels: nothing is lost by an autoencoder."
    lpips = (
        "" if quality["lpips"] is None else f", LPIPS {words.number(quality['lpips'])}"
    )
    return (
        f"The autoencoder gives {quality['num_images']:,} images of the validation split back with "
        f"{words.number(quality['psnr_db'])} dB PSNR{lpips}: samples cannot be sharper than that."
    )


def copied(copying: dict[str, Any]) -> str:
    """Return whether images were copied, by how near generated and new real ones are."""
    ours, real = copying["share_below_half"], copying["held_out_share_below_half"]
    found = "Some may be copies" if ours > 2 * real + 0.01 else "Nothing looks copied"
    return (
        f"{found}: generated images are {words.number(copying['median_ratio'])} times as far from "
        f"the nearest of {copying['num_training']:,} training images as new real images are "
        f"(median of {copying['num_images']:,}), the nearest "
        f"{words.number(copying['smallest_ratio'])} times; "
        f"{words.share(ours)} are less than half as far, of new real images {words.share(real)}."
    )
