"""Did the combination help? One sentence, that never says more than the figures do."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Any

from lct_pipeline.reporting.report.words import metric_name, number, steps, with_spread

Row = dict[str, Any]
UNSEEN = "the test split"
CONTROLS = {
    "real_validation_images": "real images that were in no training",
    "gaussian_latents": "decoded noise, without a model",
}


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
    models = fewest_steps(main_rows(evaluation)) if evaluation else {}
    if "combined" not in models:
        return Verdict(
            "open",
            "The combination is not evaluated yet.",
            f"{combination['verdict']} `kedro run --pipeline=evaluate` measures it with several "
            "seeds of noise.",
        )
    return _compared(models["combined"], models["best_ema"], combination)


def _compared(ours: Row, best: Row, combination: dict[str, Any]) -> Verdict:
    figures = (
        f"{metric_name(ours['metric'])} to {ours['reference']} in {steps(ours['nfe'])}: "
        f"{_text(ours)} against {_text(best)} of the best average (less is better)"
    )
    if not combination["gain_survives"]:
        found = number(combination["scores"]["final"])
        control = number(combination["control"]["scores"]["final"])
        return Verdict(
            "no",
            "Combining checkpoints did not help.",
            f"On images and noise that the search had not seen its best is at {found}, the best "
            f"control ({combination['kept']}) at {control}, and kept in its place. {figures}.",
        )
    spread = spread_of(ours, best)
    gain = best["value"] - ours["value"]
    if math.isnan(spread):
        headline = (
            "The combination is ahead" if gain > 0 else "The combination is behind"
        )
        sentence = (
            f"{figures}. With one seed of noise nobody knows how much of it is chance."
        )
        return Verdict("chance", f"{headline}, by one seed of noise.", sentence)
    if abs(gain) <= spread:
        return Verdict(
            "chance",
            "Whether combining checkpoints helped cannot be told from chance.",
            f"{figures}. The difference is within the spread over {_seeds(ours)} of noise.",
        )
    percent = 100 * abs(gain) / best["value"]
    size = f"{percent:.0f}%" if percent >= 1 else f"{percent:.1g}%"
    if gain < 0:
        return Verdict(
            "worse",
            "Combining checkpoints made it worse.",
            f"{figures}: {size} more, which is more than the spread over {_seeds(ours)} of noise.",
        )
    return Verdict(
        "helped",
        f"Combining checkpoints helped: {size} closer to real images.",
        f"{figures}, {_where(ours)}. The difference is larger than the spread over "
        f"{_seeds(ours)} of noise.",
    )


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
    trained = [row["value"] for row in rows if row["nfe"] > 0]
    noise = controls.get("gaussian_latents")
    if trained and noise is not None and min(trained) >= noise["value"]:
        text += " No model is better than decoded noise: they have not learned yet."
    return text


def spread_of(one: Row, other: Row) -> float:
    """Return the standard deviation of the difference of two means over seeds; nan of one seed."""
    if one["std"] is None or other["std"] is None:
        return math.nan
    return math.hypot(one["std"], other["std"])


def _text(row: Row) -> str:
    return with_spread(row["value"], row["std"])


def _seeds(row: Row) -> str:
    return f"{len(row['seeds'])} seeds"


def _where(row: Row) -> str:
    if row["reference"] == UNSEEN:
        return "on images that neither training nor search saw"
    return "against images that the models may have seen"
