"""Did the combination help? The sentence, by the rows of an evaluation."""

import pytest
from making_runs import combination, row
from report_results import rows

from lct_pipeline.datasets.results import EvaluationRow
from lct_pipeline.reporting.verdict import standing, verdict_of
from lct_pipeline.reporting.words import MINUS


def by_seed(
    ours: list[float], theirs: list[float], **changes: object
) -> list[EvaluationRow]:
    """Return rows of a combination and a best EMA that were measured on the same seeds."""
    given = {"combined": ours, "best_ema": theirs}
    return [
        row(model, sum(values) / 3, 0.4, by_seed=values, **changes)
        for model, values in given.items()
    ]


def test_a_gain_beyond_two_standard_errors_helped() -> None:
    verdict = verdict_of(rows(combined=5.2, std=0.4), combination())
    assert verdict.outcome == "helped"
    assert "17% closer" in verdict.headline
    for text in (
        "5.2 ± 0.4 against 6.3 ± 0.4",
        "of the best EMA, the best baseline by the validation split",
        "neither training nor search saw",
        "3 seeds",
    ):
        assert text in verdict.sentence


def test_it_is_compared_with_the_best_baseline_that_validation_found() -> None:
    evaluation = [row("last", 5.5), row("best_ema", 6.0), row("combined", 5.0)]
    for best, gain in (("last", "9% closer"), ("best_ema", "17% closer")):
        verdict = verdict_of(evaluation, combination(best_baseline=best))
        assert (
            verdict.headline == f"Combining checkpoints helped: {gain} to real images."
        )
    verdict = verdict_of(evaluation, combination(best_baseline="last"))
    assert "5.00 ± 0.10 against 5.50 ± 0.10" in verdict.sentence
    assert (
        "of the last checkpoint, the best baseline by the validation"
        in verdict.sentence
    )


def test_what_the_noise_has_in_common_cancels() -> None:
    """Each has ten times the standard deviation of the difference of the seeds."""
    verdict = verdict_of(by_seed([5.0, 9.0, 7.0], [5.5, 9.5, 7.5]), combination())
    assert verdict.outcome == "helped"


@pytest.mark.parametrize("last", [7.6, 9.4])
def test_a_difference_within_two_standard_errors_is_called_so(last: float) -> None:
    verdict = verdict_of(by_seed([5.0, 6.0, last], [6.0, 6.2, 7.6]), combination())
    assert verdict.outcome == "chance"
    assert "below two standard errors" in verdict.sentence


def test_a_gain_below_one_percent_is_none_however_sure() -> None:
    verdict = verdict_of(by_seed([9.92] * 3, [10.0] * 3), combination())
    assert verdict.outcome == "chance"
    assert "no difference" in verdict.headline
    assert "0.800 ± 0 % (standard error) over 3 seeds" in verdict.sentence
    assert "below 1%" in verdict.sentence


def test_a_loss_beyond_two_standard_errors_is_called_so() -> None:
    verdict = verdict_of(rows(combined=7.5, std=0.2), combination())
    assert verdict.outcome == "worse"
    assert "19% further" in verdict.headline


CHECK = {"metric": "check_rotation_classifier_frechet_distance"}


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
    noise = [r for r in rows() if r.model != "gaussian_latents"]
    verdict = verdict_of([*noise, row("gaussian_latents", 4.0)], combination())
    assert verdict.outcome == "no"
    assert verdict.headline.startswith("Nothing helped")


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
    one = [
        row(model, v, None, **changes)
        for model, v in (("combined", 5.2), ("best_ema", 6.5))
    ]
    verdict = verdict_of(one, combination())
    assert verdict.outcome == "chance"
    assert verdict.headline.startswith("By one seed of noise the combination is 20%")
    assert "The difference is 20.0 %. Nobody knows" in verdict.sentence
    check = {"metric": "check_frechet_distance", **changes}
    worse = [row(m, v, None, **check) for m, v in (("combined", 9), ("best_ema", 6))]
    sentence = verdict_of([*one, *worse], combination()).sentence
    assert f"nothing was searched, says by one seed: {MINUS}50.0 %." in sentence


def test_images_that_the_models_saw_are_called_so() -> None:
    seen = [r.model_copy(update={"reference": "all images"}) for r in rows()]
    sentence = verdict_of(seen, combination()).sentence
    assert "may have seen" in sentence
    assert "neither" not in sentence


def test_what_is_missing_is_said() -> None:
    assert "combine" in verdict_of(rows(), None).sentence
    without = [r for r in rows() if r.model != "combined"]
    for evaluation in ([], without):
        verdict = verdict_of(evaluation, combination())
        assert verdict.outcome == "open"
        assert "evaluate" in verdict.sentence


def test_the_verdict_is_of_the_first_metric_and_the_fewest_steps() -> None:
    other = [
        row("combined", 1.0, 0.1, metric="other"),
        row("best_ema", 9.0, metric="other"),
    ]
    verdict = verdict_of([*rows(combined=6.28), *other], combination())
    assert verdict.outcome == "chance"
    assert "1 step" in verdict.sentence


def test_figures_are_set_beside_real_images_and_noise() -> None:
    text = standing(rows())
    assert "5.30 of real images" in text
    assert "60.4 ± 0.9 of decoded noise" in text
    assert "not learned" not in text
    assert standing([]) == ""


def test_models_that_are_no_better_than_noise_are_called_so() -> None:
    worse = [row("best_ema", 9.0), row("gaussian_latents", 8.0)]
    assert "have not learned yet" in standing(worse)
