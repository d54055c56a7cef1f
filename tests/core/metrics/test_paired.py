from __future__ import annotations

import math

import numpy as np
import pytest
from scipy.stats import ttest_rel

from lct_pipeline.core.metrics.paired import paired_gain


def test_the_standard_error_is_that_of_a_paired_test() -> None:
    generator = np.random.default_rng(0)
    noise = generator.normal(10.0, 2.0, 6)
    ours = (noise + generator.normal(0.0, 0.3, 6)).tolist()
    others = (noise + generator.normal(1.0, 0.3, 6)).tolist()
    gain = paired_gain(ours, others)
    test = ttest_rel(others, ours)
    assert gain.share / gain.standard_error == pytest.approx(test.statistic)
    assert gain.share == pytest.approx(1 - np.mean(ours) / np.mean(others))
    assert gain.outcome == "gain"
    assert paired_gain(others, ours).outcome == "loss"


@pytest.mark.parametrize(
    ("ours", "outcome"),
    [
        ([9.95, 9.95], "none"),  # half a percent
        ([9.8, 9.8], "gain"),
        ([10.2, 10.2], "loss"),
        ([9.0, 9.9], "none"),  # 5.5 % and a standard error of 4.5 %
        ([9.8], "one seed"),
    ],
)
def test_less_than_two_standard_errors_or_one_percent_is_none(
    ours: list[float], outcome: str
) -> None:
    gain = paired_gain(ours, [10.0] * len(ours))
    assert gain.outcome == outcome
    assert math.isnan(gain.standard_error) == (len(ours) == 1)
    with pytest.raises(ValueError, match="argument"):
        paired_gain(ours, [10.0] * 3)
