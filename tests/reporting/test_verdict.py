"""Did the combination help? The sentence, by the rows of an evaluation."""

import pytest
from making_runs import combination, row
from report_results import rows

from lct_pipeline.datasets.results import EvaluationRow
from lct_pipeline.reporting.verdict import Rows, standing, verdict_of
from lct_pipeline.reporting.words import MINUS

TWO_ERRORS = "below two standard errors"
CHECK = {"metric": "check_rotation_classifier_frechet_distance"}


def by_seed(ours: list[float], theirs: list[float], **changes: object) -> Rows:
    """Return rows of a combination and a best EMA that were measured on the same seeds."""
    given = {"combined": ours, "best_ema": theirs}
    return [
        row(model, sum(values) / 3, 0.4, by_seed=values, **changes)
        for model, values in given.items()
    ]


@pytest.mark.parametrize(
    ("evaluation", "outcome", "headline", "sentence"),
    [
        (rows(combined=5.2, std=0.4), "helped", "17% closer", "over 3 seeds"),
        # each has ten times the standard deviation of the difference, which noise shares
        (by_seed([5, 9, 7], [5.5, 9.5, 7.5]), "helped", "7% closer", "± 0 %"),
        (by_seed([5, 6, 7.6], [6, 6.2, 7.6]), "chance", "no difference", TWO_ERRORS),
        (by_seed([5, 6, 9.4], [6, 6.2, 7.6]), "chance", "no difference", TWO_ERRORS),
        # however sure
        (by_seed([9.92] * 3, [10] * 3), "chance", "no difference", "0.800 ± 0 %"),
        (by_seed([9.92] * 3, [10] * 3), "chance", "no difference", "below 1%"),
        (rows(combined=7.5, std=0.2), "worse", "19% further", "standard error"),
    ],
)
def test_a_gain_or_a_loss_is_beyond_two_standard_errors_and_one_percent(
    evaluation: Rows, outcome: str, headline: str, sentence: str
) -> None:
    verdict = verdict_of(evaluation, combination())
    assert verdict.outcome == outcome
    assert headline in verdict.headline
    assert sentence in verdict.sentence


def test_the_sentence_says_what_was_compared() -> None:
    sentence = verdict_of(rows(combined=5.2, std=0.4), combination()).sentence
    for text in (
        "5.2 ± 0.4 against 6.3 ± 0.4",
        "of the best EMA, the best baseline by the validation split",
        "neither training nor search saw",
        "in 1 step",
    ):
        assert text in sentence
    seen = [r.model_copy(update={"reference": "all images"}) for r in rows()]
    sentence = verdict_of(seen, combination()).sentence
    assert "may have seen" in sentence and "neither" not in sentence


@pytest.mark.parametrize(
    ("best", "gain", "text"),
    [
        ("last", "9% closer", "5.00 ± 0.10 against 5.50 ± 0.10 of the last checkpoint"),
        ("best_ema", "17% closer", "against 6.00 ± 0.10 of the best EMA"),
    ],
)
def test_it_is_compared_with_the_best_baseline_that_validation_found(
    best: str, gain: str, text: str
) -> None:
    evaluation = [row("last", 5.5), row("best_ema", 6.0), row("combined", 5.0)]
    verdict = verdict_of(evaluation, combination(best_baseline=best))
    assert verdict.headline == f"Combining checkpoints helped: {gain} to real images."
    assert text in verdict.sentence


@pytest.mark.parametrize(
    ("by_check", "outcome", "text"),
    [
        ([50.0] * 3, "helped", "agrees: 16.7 ± 0 %"),
        ([59.9] * 3, "helped", "sees no gain"),
        ([75.0] * 3, "chance", "disagrees"),
    ],
)
def test_the_headline_says_where_the_second_extractor_disagrees(
    by_check: list[float], outcome: str, text: str
) -> None:
    checked = by_seed(by_check, [60.0] * 3, **CHECK)
    verdict = verdict_of([*rows(), *checked], combination())
    assert verdict.outcome == outcome
    assert text in verdict.sentence
    assert ("Two extractors disagree" in verdict.headline) == (outcome == "chance")


def test_the_second_extractor_compares_with_the_same_baseline() -> None:
    checked = [*by_seed([50.0] * 3, [60.0] * 3, **CHECK), row("last", 40.0, **CHECK)]
    verdict = verdict_of([*rows(), *checked], combination(best_baseline="last"))
    assert "disagrees" in verdict.sentence


def test_large_coefficients_are_warned_of() -> None:
    assert "enlarged" not in verdict_of(rows(), combination()).sentence
    large = combination(alpha=[-93.0, 75.0, 19.0])
    assert "absolute values of 187" in verdict_of(rows(), large).sentence


def test_nothing_helped_where_no_model_beats_decoded_noise() -> None:
    trained = [r for r in rows() if r.model != "gaussian_latents"]
    evaluation = [*trained, row("gaussian_latents", 4.0)]
    verdict = verdict_of(evaluation, combination())
    assert verdict.outcome == "no"
    assert verdict.headline.startswith("Nothing helped")
    assert "have not learned yet" in standing(evaluation)


def test_a_combination_that_was_not_selected_did_not_help_however_good_its_rows_are() -> (
    None
):
    said = "On the validation split EMA 0.9 is better."
    lost = combination(is_selected=False, selected="EMA 0.9", verdict=said)
    verdict = verdict_of(rows(combined=5.2, std=0.1), lost)
    assert verdict.outcome == "no"
    assert verdict.headline == "Combining checkpoints did not help."
    assert verdict.sentence.startswith(said)
    assert "in 1 step: 5.20 ± 0.10 (less is better)" in verdict.sentence


@pytest.mark.parametrize("changes", [{}, {"by_seed": None}], ids=str)
def test_of_one_seed_nobody_knows_how_much_is_chance(
    changes: dict[str, object],
) -> None:
    def pair(ours: float, theirs: float, **more: object) -> list[EvaluationRow]:
        given = {"combined": ours, "best_ema": theirs}
        return [row(m, v, None, **changes, **more) for m, v in given.items()]

    one = pair(5.2, 6.5)
    verdict = verdict_of(one, combination())
    assert verdict.outcome == "chance"
    assert verdict.headline.startswith("By one seed of noise the combination is 20%")
    assert "The difference is 20.0 %. Nobody knows" in verdict.sentence
    worse = pair(9, 6, metric="check_frechet_distance")
    sentence = verdict_of([*one, *worse], combination()).sentence
    assert f"nothing was searched, says by one seed: {MINUS}50.0 %." in sentence


def test_what_is_missing_is_said() -> None:
    assert "combine" in verdict_of(rows(), None).sentence
    without = [r for r in rows() if r.model != "combined"]
    for evaluation in ([], without):
        verdict = verdict_of(evaluation, combination())
        assert verdict.outcome == "open"
        assert "evaluate" in verdict.sentence


def test_the_verdict_is_of_the_first_metric() -> None:
    other = by_seed([1.0] * 3, [9.0] * 3, metric="other")
    verdict = verdict_of([*rows(combined=6.28), *other], combination())
    assert verdict.outcome == "chance"


def test_values_are_set_beside_real_images_and_noise() -> None:
    text = standing(rows())
    assert "5.30 of real images" in text
    assert "60.4 ± 0.9 of decoded noise" in text
    assert "not learned" not in text
    assert standing([]) == ""
