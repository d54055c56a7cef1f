"""The quality around a combination: what lies on the line and in the plane."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_runs import Run

from lct_pipeline.combination.candidates import selection_request
from lct_pipeline.combination.landscape import line, plane
from lct_pipeline.combination.stage import SELECTION_SPLIT
from lct_pipeline.combination.window import members_of
from lct_pipeline.datasets.results import Baseline, CombinationResult

START, END = [0.0, 0.0, 0.0, 1.0], [0.4, -0.5, 0.3, 0.8]
COMBINATION = CombinationResult.model_construct(
    name="ours", baselines={"best_ema": Baseline.model_construct(name="theirs")}
)
CANDIDATES = pd.DataFrame(
    [("ours", "cma", None, END), ("theirs", "baseline", "best_ema", START)],
    columns=["name", "method", "baseline", "alpha"],
).assign(seed=0, selection_fitness=1.0)


def landscape(run: Run, num_line_points: int, landscape_size: int) -> pd.DataFrame:
    sizes = {"num_line_points": num_line_points, "landscape_size": landscape_size}
    return run.landscape(CANDIDATES, COMBINATION, sizes)


def fitness(run: Run, alpha: Any) -> float:
    """Return what a candidate is measured at."""
    stage = run.stage()
    with stage.measuring(SELECTION_SPLIT) as measure:
        ((_, score),) = measure(np.array([alpha]), selection_request(stage.parameters))
    return score.fitness


def test_the_line_goes_through_the_best_ema_and_the_combination() -> None:
    rows, alphas = line(np.array(START), np.array(END), 5)
    assert [row["x"] for row in rows] == [-0.5, 0.0, 0.5, 1.0, 1.5]
    np.testing.assert_array_equal(alphas[1], START)
    np.testing.assert_allclose(alphas[2], np.mean([START, END], axis=0))
    np.testing.assert_allclose(alphas[3], END)
    np.testing.assert_allclose(alphas.sum(1), 1)


def test_the_plane_has_the_three_checkpoints_at_its_corners(pixels: Run) -> None:
    members = members_of(pixels.catalog.rows, 1.0)
    rows, alphas = plane(members, 5)
    at = {(row["x"], row["y"]): alpha for row, alpha in zip(rows, alphas, strict=True)}
    assert len(at) == 25
    first, middle, last = np.eye(len(members.rows))[[0, 2, 3]]
    np.testing.assert_array_equal(at[0.0, 0.0], first)
    np.testing.assert_array_equal(at[1.0, 0.0], middle)
    np.testing.assert_array_equal(at[0.0, 1.0], last)
    np.testing.assert_array_equal(at[1.5, -0.5], 1.5 * middle - 0.5 * last)
    np.testing.assert_allclose(alphas.sum(1), 1)
    rows, alphas = plane(members_of(pixels.catalog.rows, 0.5), 3)  # of two checkpoints
    assert len(rows) == 9
    np.testing.assert_allclose(alphas.sum(1), 1)


def test_a_point_has_the_fitness_of_its_coefficients_and_is_not_measured_twice(
    tiny: Run, measured: list[Any]
) -> None:
    table = landscape(tiny, 5, 5)
    assert table.columns.tolist() == ["figure", "x", "y", "fitness", "metric"]
    assert set(table["metric"]) == {"frechet_distance"}
    # what the candidates' scores say: both ends of the line, and the last checkpoint
    assert len(measured) == len(table) - 3
    values = {
        (r["figure"], r["x"], r["y"]): r["fitness"] for r in table.to_dict("records")
    }
    known = [("line", 0.0, 0.0), ("line", 1.0, 0.0), ("plane", 0.0, 1.0)]
    assert [values[place] for place in known] == [1.0] * 3
    for place, alpha in [
        (("line", 0.5, 0.0), (np.array(START) + END) / 2),
        (("line", 1.5, 0.0), 1.5 * np.array(END) - 0.5 * np.array(START)),
        (("plane", 0.0, 0.0), np.eye(4)[0]),
        (("plane", 1.0, 0.0), np.eye(4)[2]),
    ]:
        assert values[place] == pytest.approx(fitness(tiny, alpha), rel=1e-5)


@pytest.mark.parametrize(
    ("points", "size", "counts"),
    [(0, 3, {"plane": 9}), (5, 0, {"line": 5}), (0, 0, {})],
)
def test_what_is_switched_off_has_no_rows(
    tiny: Run, points: int, size: int, counts: dict[str, int]
) -> None:
    table = landscape(tiny, points, size)
    assert table["figure"].value_counts().to_dict() == counts
    assert "fitness" in table
