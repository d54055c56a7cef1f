"""Did the combination help? One sentence, that never says more than the values do."""

from __future__ import annotations

from dataclasses import dataclass, replace

from lct_pipeline.commands import command
from lct_pipeline.core.metrics.paired import PairedGain, paired_gain
from lct_pipeline.datasets.results import CombinationResult, EvaluationRow
from lct_pipeline.reporting import words

Rows = list[EvaluationRow]
UNSEEN = "the test split"
CONTROLS = {
    "real_validation_images": "real images that were in no training",
    "gaussian_latents": "decoded noise, without a model",
}
NO_DIFFERENCE = "Combining checkpoints made no difference that can be told from none."
OUTCOMES = {  # by that of a gain: the verdict's, its headline, and what a second extractor says
    "gain": ("helped", "Combining checkpoints helped: {}.", "agrees"),
    "loss": ("worse", "Combining checkpoints made it worse: {}.", "disagrees"),
    "none": ("chance", NO_DIFFERENCE, "sees no gain"),
    "one seed": (
        "chance",
        "By one seed of noise the combination is {}.",
        "says by one seed",
    ),
}
LARGE = 30.0  # sum of absolute coefficients


@dataclass(frozen=True)
class Verdict:
    """``outcome`` is helped, chance, no, worse or open; the sentences are for people."""

    outcome: str
    headline: str
    sentence: str


def main_rows(evaluation: Rows) -> Rows:
    """Return the rows of the value that counts: the first metric, against the first reference.

    Control rows have other numbers of images, and so another protocol.
    """

    def kind(row: EvaluationRow) -> tuple[str, ...]:
        return row.metric, row.extractor_digest, row.reference, row.file_format

    return [row for row in evaluation if kind(row) == kind(evaluation[0])]


def fewest_nfe(rows: Rows) -> int:
    """Return the fewest evaluations of the network that a trained model was measured at."""
    return min((row.nfe for row in rows if row.nfe > 0), default=0)


def verdict_of(evaluation: Rows, combination: CombinationResult | None) -> Verdict:
    """Return whether the combination is better than the best baseline, beyond chance.

    The validation split says which baseline is the best one.
    """
    if combination is None:
        return Verdict(
            "open",
            "No combination yet.",
            f"Checkpoints of this run have not been combined: {command('combine')} searches for "
            "their best combination.",
        )
    rows = main_rows(evaluation)
    models = {row.model: row for row in rows if row.nfe == fewest_nfe(rows)}
    if "combined" not in models:
        return Verdict(
            "open",
            "The combination is not evaluated yet.",
            f"{combination.verdict} {command('evaluate')} measures it on the test split.",
        )
    ours, baseline = models["combined"], models[combination.best_baseline]
    where = f"{words.metric_name(ours.metric)} to {ours.reference} in {words.steps(ours.nfe)}"
    values = (
        f"{where}: {words.row_text(ours)} against {words.row_text(baseline)} of the "
        f"{words.in_sentence(words.MODELS[baseline.model])}, the best baseline by the validation "
        "split (less is better)"
    )
    if no_better_than_noise(rows):
        headline = "Nothing helped: no model is better than decoded noise."
        return Verdict("no", headline, f"{values}.")
    if not combination.is_selected:
        headline = "Combining checkpoints did not help."
        reached = f"{where}: {words.row_text(ours)} (less is better)"
        return Verdict("no", headline, f"{combination.verdict} {reached}.")
    seen = "against images that the models may have seen"
    if ours.reference == UNSEEN:
        seen = "on images that neither training nor search saw"
    gain, check = _gain(ours, baseline), _checked(evaluation, ours, baseline)
    said = conclude(gain, check, combination.alpha, len(ours.seeds))
    return replace(said, sentence=f"{values}, {seen}. {said.sentence}")


def conclude(
    gain: PairedGain, check: PairedGain | None, alpha: list[float], num_seeds: int
) -> Verdict:
    """Return what follows from a comparison with the best baseline, wherever it is told.

    Args:
        gain: By how much the combination is better.
        check: The same by an extractor by which nothing was searched.
        alpha: Its coefficients.
        num_seeds: How many seeds of noise the gains are of.
    """
    closer = _closer(gain.share)
    outcome, headline, _ = OUTCOMES[gain.outcome]
    difference, agreement = f"The difference is {_gain_text(gain)}", ""
    if check is not None:
        says = f"{OUTCOMES[check.outcome][2]}: {_gain_text(check)}"
        agreement = f" A second extractor, by which nothing was searched, {says}."
    if gain.outcome == "one seed":
        sentence = f"{difference}. Nobody knows how much of it is chance.{agreement}"
        return Verdict(outcome, headline.format(closer), sentence)
    difference += f" (standard error) over {num_seeds} seeds of common noise"
    if gain.outcome == "none":
        below = "below two standard errors, or below 1%"
        return Verdict(outcome, headline, f"{difference}: {below}.{agreement}")
    if gain.outcome == "loss":
        return Verdict(outcome, headline.format(closer), f"{difference}.")
    if check is not None and check.outcome == "loss":
        outcome = "chance"
        headline = "Two extractors disagree: {} by one, further by the other."
    sentence = f"{difference}.{agreement}{_warning(alpha)}"
    return Verdict(outcome, headline.format(closer), sentence)


def _gain(ours: EvaluationRow, other: EvaluationRow) -> PairedGain:
    """Return by how much a model's distance is smaller than another's by the same protocol."""
    return paired_gain(ours.by_seed or [ours.value], other.by_seed or [other.value])


def _checked(
    evaluation: Rows, ours: EvaluationRow, baseline: EvaluationRow
) -> PairedGain | None:
    """Return the gain by the extractor by which nothing was searched."""
    rows = {
        row.model: row
        for row in evaluation
        if row.metric.startswith("check_")
        and row.metric.endswith("_frechet_distance")
        and (row.reference, row.nfe) == (ours.reference, ours.nfe)
    }
    return _gain(rows["combined"], rows[baseline.model]) if "combined" in rows else None


def _closer(gain: float) -> str:
    """Return by which share a distance is smaller; a negative one is larger."""
    percent = 100 * abs(gain)
    size = f"{percent:.0f}%" if percent >= 1 else f"{percent:.1g}%"
    return f"{size} {'closer to' if gain >= 0 else 'further from'} real images"


def _gain_text(gain: PairedGain) -> str:
    """Return a paired difference in percent ± its standard error where that is known."""
    return words.value_text(100 * gain.share, 100 * gain.standard_error) + " %"


def _warning(alpha: list[float]) -> str:
    total = sum(map(abs, alpha))
    if total <= LARGE:
        return ""
    return (
        f" Its coefficients have a sum of absolute values of {words.number(total)}: what is wrong "
        "with single checkpoints is enlarged as much, and the gain may be one of this metric alone."
    )


def no_better_than_noise(rows: Rows) -> bool:
    """Return whether no trained model is nearer to real images than decoded noise is."""
    trained = [row.value for row in rows if row.nfe > 0]
    noise = [row.value for row in rows if row.model == "gaussian_latents"]
    return bool(trained and noise) and min(trained) >= noise[0]


def standing(evaluation: Rows) -> str:
    """Return what the values of the models are to be seen against: real images and no model."""
    rows = main_rows(evaluation)
    texts = {row.model: words.row_text(row) for row in rows}
    parts = [f"{texts[m]} of {title}" for m, title in CONTROLS.items() if m in texts]
    text = f"On the same scale: {', '.join(parts)}." if parts else ""
    if no_better_than_noise(rows):
        text += " No model is better than decoded noise: they have not learned yet."
    return text
