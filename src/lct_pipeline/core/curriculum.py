"""The curriculum: how fine the grid of noise levels is at a training step.

Source: Song & Dhariwal 2023 (iCT), section 3.4, which sLCT keeps.
"""

from __future__ import annotations

import math


def curriculum_stage(step: int, *, num_steps: int, num_stages: int) -> int:
    """Return the stage, counted from 0, that training step ``step`` belongs to.

    All stages have ``K' = floor(K / num_stages)`` steps; the last takes the remainder.
    """
    steps_per_stage = max(1, num_steps // num_stages)
    return min(step // steps_per_stage, num_stages - 1)


def curriculum(step: int, *, num_steps: int, s0: int, s1: int) -> int:
    """Return N(k) = min(s0 * 2^floor(k / K'), s1), the number of intervals at step k.

    iCT's improved curriculum, with K' = floor(K / (log2 floor(s1 / s0) + 1)) for K steps, without
    its "+ 1": we count intervals, iCT counts levels. The logarithm keeps its fraction, so the last
    stage is shorter where floor(s1 / s0) is no power of two; where it is one and s1 / s0 is not,
    the formula ends below s1.
    """
    steps_per_stage = max(1, int(num_steps / (math.log2(s1 // s0) + 1)))
    return int(min(s0 * 2 ** (step // steps_per_stage), s1))
