"""Whether one distance is smaller than another, both measured on the same noise."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import fmean, stdev
from typing import Literal

STANDARD_ERRORS = 2.0
LEAST_GAIN = 0.01  # of the other distance: less is none, however sure

Outcome = Literal["gain", "none", "loss", "one seed"]


@dataclass(frozen=True)
class PairedGain:
    """By how much one distance is smaller than another, over seeds of common noise.

    Attributes:
        share: Mean of the differences, as a share of the other distance's mean; positive is less.
        standard_error: Of ``share``: that of a mean of paired differences; nan of one seed.
    """

    share: float
    standard_error: float

    @property
    def outcome(self) -> Outcome:
        """Return what may be said: beyond two standard errors and 1 % it is a gain or a loss."""
        if math.isnan(self.standard_error):
            return "one seed"
        least = max(STANDARD_ERRORS * self.standard_error, LEAST_GAIN)
        if abs(self.share) < least:
            return "none"
        return "gain" if self.share > 0 else "loss"


def paired_gain(ours: Sequence[float], others: Sequence[float]) -> PairedGain:
    """Return how much smaller ``ours`` are than ``others``.

    What both have in common by their noise cancels in the differences, as it does not where two
    standard deviations are added.

    Args:
        ours: A distance for each seed.
        others: Those of another model by the same seeds, in the same order.

    Raises:
        ValueError: There are not as many of both.
    """
    differences = [other - our for our, other in zip(ours, others, strict=True)]
    scale, n = fmean(others), len(differences)
    error = stdev(differences) / math.sqrt(n) if n > 1 else math.nan
    return PairedGain(fmean(differences) / scale, error / scale)
