"""From parameters to what is trained."""

from __future__ import annotations

import math

import pytest
import torch
from describing import random_mlp

from conftest import SmokeResults
from lct_pipeline.core.levels import ContinuousSchedule, TruncatedSchedule
from lct_pipeline.core.objectives import TruncatedTraining
from lct_pipeline.training.trainer import (
    build_objective,
    level_schedule,
)

TRUNCATED = {"objective.kind": "truncated", "init_from.run": "first"}


@pytest.mark.parametrize(("batch_size", "share"), [(32, 0.25), (30, 7 / 30)])
def test_truncated_training_is_that_of_tcm(
    results: SmokeResults, batch_size: int, share: float
) -> None:
    """floor(B / 4) samples at the boundary, whose mean weighs 0.1; levels from t' to 80."""
    changes = TRUNCATED | {"noise.schedule": "continuous", "batch_size": batch_size}
    training, frozen = results.training(changes), random_mlp((2, 4, 4), dropout=0.0)
    objective, schedule = build_objective(training, frozen), level_schedule(training)
    assert isinstance(objective, TruncatedTraining)
    assert (objective.boundary_weight, objective.boundary_share) == (0.1, share)
    assert isinstance(schedule, TruncatedSchedule)
    t = schedule.draw(0, batch_size, torch.Generator(), 0.0).t
    assert (t == 1).double().mean().item() == pytest.approx(share)
    assert isinstance(schedule.schedule, ContinuousSchedule)
    assert schedule.schedule.highest == 80
    ect = level_schedule(results.training({"noise.schedule": "continuous"}))
    assert isinstance(ect, ContinuousSchedule)
    assert ect.highest == math.inf
