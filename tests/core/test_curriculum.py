from __future__ import annotations

import math

import pytest
from describing import STAGE

from lct_pipeline.core.curriculum import curriculum


@pytest.mark.parametrize(
    ("num_steps", "s0", "s1", "end"),
    [
        (7 * STAGE, 10, 640, 640),
        (100, 10, 640, 640),
        (3000, 10, 50, 50),  # s1 / s0 no power of two
        (3000, 10, 1000, 1000),
        (7, 3, 50, 50),
        (3000, 10, 45, 40),  # floor(s1 / s0) is one, s1 / s0 is not
        (3, 10, 640, 40),  # fewer steps than stages
    ],
)
def test_curriculum_is_ict_equation_11(
    num_steps: int, s0: int, s1: int, end: int
) -> None:
    """N(k) = min(s0 2^floor(k / K'), s1) + 1, K' = floor(K / (log2 floor(s1 / s0) + 1))."""
    length = math.floor(num_steps / (math.log2(math.floor(s1 / s0)) + 1)) or 1
    steps = [*range(0, num_steps, max(1, length // 6)), num_steps - 1]
    expected = [min(s0 * 2 ** math.floor(k / length), s1) + 1 for k in steps]
    found = [curriculum(k, num_steps=num_steps, s0=s0, s1=s1) + 1 for k in steps]
    assert found == expected
    assert found[-1] == end + 1
