"""Numbers, names and the verdict."""

import pytest
from report_results import combination, row, rows

from lct_pipeline.reporting.report.tables import protocols, tails_sentence
from lct_pipeline.reporting.report.verdict import judge, standing
from lct_pipeline.reporting.report.words import (
    duration,
    large,
    metric_name,
    number,
    share,
    with_spread,
)


@pytest.mark.parametrize(
    ("value", "text"),
    [(1.71822, "1.72"), (60.41, "60.4"), (3805.2, "3,805"), (0.0, "0")],
)
def test_numbers_have_three_digits(value: float, text: str) -> None:
    assert number(value) == text


def test_what_is_no_number_is_a_dash() -> None:
    assert number(None) == number(float("nan")) == "\N{EN DASH}"
    assert number(-0.0372) == "\N{MINUS SIGN}0.0372"
    assert number(2.3e-9) == f"2.3e{chr(0x2212)}09"


@pytest.mark.parametrize(
    ("value", "spread", "text"),
    [
        (8.37, 0.48, "8.4 ± 0.5"),
        (60.42, 0.91, "60.4 ± 0.9"),
        (8.66, 1.07, "8.7 ± 1.1"),
        (9.23, 0.975, "9.2 ± 1.0"),
        (8.66, 2.07, "9 ± 2"),
        (120.4, 12.2, "120 ± 12"),
        (1204.0, 122.0, "1,204 ± 122"),
        (32.9, 4.6, "33 ± 5"),
        (1.718224, 0.000614, "1.7182 ± 0.0006"),
        (5.276, None, "5.28"),
        (0.0, 0.0, "0 ± 0"),
    ],
)
def test_a_mean_has_the_decimals_of_its_spread(
    value: float, spread: float | None, text: str
) -> None:
    assert with_spread(value, spread) == text


def test_units_are_words() -> None:
    assert [duration(s) for s in (4.81, 101, 3600, 90_061)] == [
        "4.8 s",
        "1 min 41 s",
        "1 h",
        "1 d 1 h",
    ]
    assert [large(n) for n in (800, 841_504, 1_900_000, 158_000_000)] == [
        "800",
        "0.84 million",
        "1.9 million",
        "158 million",
    ]
    assert [share(s) for s in (0.0, 2.3e-6, 0.014, 0.83)] == [
        "0%",
        "0.00023%",
        "1.4%",
        "83%",
    ]


def test_only_fid_is_called_fid() -> None:
    assert metric_name("fid") == "FID"
    assert metric_name("classifier_frechet_distance") == "Frechet distance"
    assert metric_name("fid_infinity") == "FID, infinitely many images"
    assert metric_name("my_net_kernel_distance") == "Kernel distance"
    assert "FID" not in metric_name("dinov2_frechet_distance_infinity")


def by_seed(
    ours: list[float], theirs: list[float], **changes: object
) -> list[dict[str, object]]:
    """Return rows of a combination and a best average that were measured on the same seeds."""
    given = {"combined": ours, "best_ema": theirs}
    return [
        row(model, sum(values) / 3, 0.4, by_seed=values, **changes)
        for model, values in given.items()
    ]


def test_a_gain_beyond_two_standard_errors_helped() -> None:
    verdict = judge(rows(combined=5.2, std=0.4), combination())
    assert verdict.outcome == "helped"
    assert "17% closer" in verdict.headline
    for text in (
        "5.2 ± 0.4",
        "6.3 ± 0.4",
        "neither training nor search saw",
        "3 seeds",
    ):
        assert text in verdict.sentence


def test_what_the_noise_has_in_common_cancels() -> None:
    """The spread of each is ten times the difference, which is the same for all seeds."""
    verdict = judge(by_seed([5.0, 9.0, 7.0], [5.5, 9.5, 7.5]), combination())
    assert verdict.outcome == "helped"


@pytest.mark.parametrize("last", [7.6, 9.4])
def test_a_difference_within_two_standard_errors_is_called_so(last: float) -> None:
    verdict = judge(by_seed([5.0, 6.0, last], [6.0, 6.2, 7.6]), combination())
    assert verdict.outcome == "chance"
    assert "below two standard errors" in verdict.sentence


def test_a_gain_below_one_percent_is_none_however_sure() -> None:
    verdict = judge(by_seed([9.92] * 3, [10.0] * 3), combination())
    assert verdict.outcome == "chance"
    assert "no difference" in verdict.headline


def test_a_loss_beyond_two_standard_errors_is_called_so() -> None:
    verdict = judge(rows(combined=7.5, std=0.2), combination())
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
    verdict = judge([*rows(), *checked], combination())
    assert verdict.outcome == outcome
    assert text in verdict.sentence
    assert ("disagree" in verdict.headline) == (outcome == "chance")


def test_large_coefficients_are_warned_of() -> None:
    assert "enlarged" not in judge(rows(), combination()).sentence
    large = combination(alpha=[-93.0, 75.0, 19.0])
    assert "absolute values of 187" in judge(rows(), large).sentence


def test_nothing_helped_where_no_model_beats_decoded_noise() -> None:
    noise = [r for r in rows() if r["model"] != "gaussian_latents"]
    verdict = judge([*noise, row("gaussian_latents", 4.0)], combination())
    assert verdict.outcome == "no"
    assert verdict.headline.startswith("Nothing helped")


def test_an_evaluation_without_seeds_one_by_one_is_to_be_made_again() -> None:
    old = [{k: v for k, v in r.items() if k != "by_seed"} for r in rows()]
    assert "evaluate" in judge(old, combination()).sentence


def test_a_gain_that_the_search_lost_is_none_however_good_the_rows_are() -> None:
    lost = combination(gain_survives=False, kept="EMA 0.99")
    verdict = judge(rows(combined=5.2, std=0.1), lost)
    assert verdict.outcome == "no"
    assert "at 5.15, the best control (EMA 0.99) at 6.25" in verdict.sentence
    assert "did not help" in verdict.headline


def test_one_seed_has_no_spread() -> None:
    verdict = judge(rows(combined=5.2, std=None), combination())
    assert verdict.outcome == "chance"
    assert "one seed" in verdict.headline.lower()


def test_images_that_the_models_saw_are_called_so() -> None:
    seen = [{**r, "reference": "all images"} for r in rows()]
    sentence = judge(seen, combination()).sentence
    assert "may have seen" in sentence
    assert "neither" not in sentence


def test_what_is_missing_is_said() -> None:
    assert "combine" in judge(rows(), None).sentence
    without = [r for r in rows() if r["model"] != "combined"]
    for evaluation in ([], without):
        verdict = judge(evaluation, combination())
        assert verdict.outcome == "open"
        assert "evaluate" in verdict.sentence


def test_the_verdict_is_of_the_first_metric_and_the_fewest_steps() -> None:
    other = [
        row("combined", 1.0, 0.1, metric="other"),
        row("best_ema", 9.0, metric="other"),
    ]
    verdict = judge([*rows(combined=6.28), *other], combination())
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


def test_each_protocol_is_told_once() -> None:
    found = protocols(rows())
    assert [text[:8] for text in found] == ["aaaa1111", "bbbb2222"]
    assert "2,000 images against 385 of the test split" in found[0]


def test_heavy_tails_are_called_so() -> None:
    text = tails_sentence({"pixels": 0.0, "latents": 0.001}, 2.3e-6)
    assert "0.10% of the latents lie beyond the outer fences" in text
    assert "heavy tails" in text.partition("0% of the pixels")[0]
    assert "heavy" not in tails_sentence({"pixels": 0.0, "latents": 1e-6}, 2.3e-6)
