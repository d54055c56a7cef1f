"""Did the combination help? One sentence, that never says more than the figures do."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lct_pipeline.core.metrics.paired import PairedGain, paired_gain
from lct_pipeline.reporting.report.words import (
    closer,
    metric_name,
    number,
    steps,
    with_spread,
)

Row = dict[str, Any]
UNSEEN = "the test split"
CONTROLS = {
    "real_validation_images": "real images that were in no training",
    "gaussian_latents": "decoded noise, without a model",
}
LARGE = 30.0  # sum of absolute coefficients


@dataclass(frozen=True)
class Verdict:
    """``outcome`` is helped, chance, no, worse or open; the sentences are for people."""

    outcome: str
    headline: str
    sentence: str


def main_rows(evaluation: list[Row]) -> list[Row]:
    """Return the rows of the figure that counts: the first metric, against the first reference.

    Control rows have other numbers of images, and so another protocol.
    """
    first = evaluation[0]
    keys = ("metric", "extractor_digest", "reference", "file_format")
    return [row for row in evaluation if all(row[k] == first[k] for k in keys)]


def fewest_steps(rows: list[Row]) -> dict[str, Row]:
    """Return the row of each trained model with the fewest evaluations."""
    trained = [row for row in rows if row["nfe"] > 0]
    fewest = min((row["nfe"] for row in trained), default=0)
    return {row["model"]: row for row in trained if row["nfe"] == fewest}


def judge(evaluation: list[Row], combination: dict[str, Any] | None) -> Verdict:
    """Return whether the combination is better than the best average, beyond chance."""
    if combination is None:
        return Verdict(
            "open",
            "No combination yet.",
            "Checkpoints of this run have not been combined: `kedro run --pipeline=combine` "
            "searches for their best combination.",
        )
    rows = main_rows(evaluation) if evaluation else []
    models = fewest_steps(rows)
    if "by_seed" not in models.get("combined", {}):
        return Verdict(
            "open",
            "The combination is not evaluated yet.",
            f"{combination['verdict']} `kedro run --pipeline=evaluate` measures it with several "
            "seeds of noise.",
        )
    ours, best = models["combined"], models["best_ema"]
    figures = (
        f"{metric_name(ours['metric'])} to {ours['reference']} in {steps(ours['nfe'])}: "
        f"{_text(ours)} against {_text(best)} of the best average (less is better)"
    )
    if no_better_than_noise(rows):
        return Verdict(
            "no",
            "Nothing helped: no model is better than decoded noise.",
            f"{figures}.",
        )
    if not combination["gain_survives"]:
        return _lost(figures, combination)
    return _compared(figures, ours, best, _checked(evaluation, ours), combination)


def _lost(figures: str, combination: dict[str, Any]) -> Verdict:
    found = number(combination["scores"]["final"])
    control = number(combination["control"]["scores"]["final"])
    return Verdict(
        "no",
        "Combining checkpoints did not help.",
        f"On images and noise that the search had not seen its best is at {found}, the best "
        f"control ({combination['kept']}) at {control}, and kept in its place. {figures}.",
    )


def _compared(
    figures: str,
    ours: Row,
    best: Row,
    check: PairedGain | None,
    combination: dict[str, Any],
) -> Verdict:
    gain = gain_of(ours, best)
    size = closer(gain.share)
    seeds = f"{len(ours['seeds'])} seeds of common noise"
    difference = f"The difference is {_text_of(gain)} (standard error) over {seeds}"
    if gain.outcome == "one seed":
        return Verdict(
            "chance",
            f"By one seed of noise the combination is {size}.",
            f"{figures}. Nobody knows how much of it is chance.",
        )
    if gain.outcome == "none":
        return Verdict(
            "chance",
            "Combining checkpoints made no difference that can be told from none.",
            f"{figures}. {difference}: below two standard errors, or below 1%.",
        )
    if gain.outcome == "loss":
        return Verdict(
            "worse",
            f"Combining checkpoints made it worse: {size}.",
            f"{figures}. {difference}.",
        )
    warning = _large_coefficients(combination["alpha"])
    sentence = f"{figures}, {_where(ours)}. {difference}.{_agreement(check)}{warning}"
    if check is not None and check.outcome == "loss":
        return Verdict(
            "chance",
            f"Two extractors disagree: {size} by one, further by the other.",
            sentence,
        )
    return Verdict("helped", f"Combining checkpoints helped: {size}.", sentence)


def gain_of(ours: Row, other: Row) -> PairedGain:
    """Return by how much a model's distance is smaller than another's by the same protocol."""
    return paired_gain(ours["by_seed"], other["by_seed"])


def _checked(evaluation: list[Row], ours: Row) -> PairedGain | None:
    """Return the gain by the extractor by which nothing was searched or chosen."""
    rows = {
        row["model"]: row
        for row in evaluation
        if row["metric"].startswith("check_")
        and row["metric"].endswith("_frechet_distance")
        and (row["reference"], row["nfe"]) == (ours["reference"], ours["nfe"])
    }
    return gain_of(rows["combined"], rows["best_ema"]) if "combined" in rows else None


def _agreement(check: PairedGain | None) -> str:
    if check is None:
        return ""
    says = {"gain": "agrees", "loss": "disagrees"}.get(check.outcome, "sees no gain")
    return f" A second extractor, by which nothing was searched, {says}: {_text_of(check)}."


def _large_coefficients(alpha: list[float]) -> str:
    total = sum(map(abs, alpha))
    if total <= LARGE:
        return ""
    return (
        f" Its coefficients have a sum of absolute values of {number(total)}: what is wrong with "
        "single checkpoints is enlarged as much, and the gain may be one of this metric alone."
    )


def no_better_than_noise(rows: list[Row]) -> bool:
    """Return whether no trained model is nearer to real images than decoded noise is."""
    trained = [row["value"] for row in rows if row["nfe"] > 0]
    noise = [row["value"] for row in rows if row["model"] == "gaussian_latents"]
    return bool(trained and noise) and min(trained) >= noise[0]


def standing(evaluation: list[Row]) -> str:
    """Return what the figures of the models are to be seen against: real images and no model."""
    rows = main_rows(evaluation) if evaluation else []
    controls = {row["model"]: row for row in rows if row["nfe"] == 0}
    parts = [
        f"{_text(controls[model])} of {title}"
        for model, title in CONTROLS.items()
        if model in controls
    ]
    text = f"On the same scale: {', '.join(parts)}." if parts else ""
    if no_better_than_noise(rows):
        text += " No model is better than decoded noise: they have not learned yet."
    return text


def _text(row: Row) -> str:
    return with_spread(row["value"], row["std"])


def _text_of(gain: PairedGain) -> str:
    return with_spread(100 * gain.share, 100 * gain.standard_error) + " %"


def _where(row: Row) -> str:
    if row["reference"] == UNSEEN:
        return "on images that neither training nor search saw"
    return "against images that the models may have seen"
