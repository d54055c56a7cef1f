"""The quality around a combination: what lies on the line and in the plane."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_runs import Run, pixel_run, tiny_run

from conftest import SmokeResults
from lct_pipeline.combination import measuring
from lct_pipeline.combination.landscape import line, plane
from lct_pipeline.combination.scoring import selection_request
from lct_pipeline.combination.stage import SELECTION_SPLIT
from lct_pipeline.combination.window import members_of
from lct_pipeline.datasets.results import Baseline, CombinationResult

START, END = [0.0, 0.0, 0.0, 1.0], [0.4, -0.5, 0.3, 0.8]
COMBINATION = CombinationResult.model_construct(
    name="ours", baselines={"best_ema": Baseline.model_construct(name="theirs")}
)
COLUMNS = ["figure", "x", "y", "fitness", "metric"]


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return tiny_run(tmp_path_factory.mktemp("landscape"))


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return pixel_run(tmp_path_factory.mktemp("pixels"))


def candidates() -> pd.DataFrame:
    rows: list[dict[str, Any]] = [
        {"name": "ours", "method": "cma", "baseline": None, "alpha": END},
        {
            "name": "theirs",
            "method": "baseline",
            "baseline": "best_ema",
            "alpha": START,
        },
    ]
    return pd.DataFrame(rows).assign(seed=0, selection_fitness=1.0)


def measured(run: Run, **changes: int) -> pd.DataFrame:
    sizes = {"num_line_points": 5, "landscape_size": 3, **changes}
    return run.landscape(candidates(), COMBINATION, sizes)


def fitness(run: Run, alpha: list[float]) -> float:
    """Return what a candidate is measured at."""
    stage = run.stage()
    measurer = stage.measurer(1, SELECTION_SPLIT)
    request = selection_request(stage.parameters)
    ((_, score),) = measurer.measure(np.array([alpha]), request)
    return score.fitness


def test_the_line_goes_through_the_best_ema_and_the_combination() -> None:
    places, alphas = line(np.array(START), np.array(END), 5)
    assert places.tolist() == [-0.5, 0.0, 0.5, 1.0, 1.5]
    np.testing.assert_array_equal(alphas[1], START)
    np.testing.assert_allclose(alphas[3], END)
    np.testing.assert_allclose(alphas.sum(1), 1)
    np.testing.assert_allclose(alphas[2], np.mean([START, END], axis=0))


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


def test_two_checkpoints_have_a_plane_too(pixels: Run) -> None:
    rows, alphas = plane(members_of(pixels.catalog.rows, 0.5), 3)
    assert len(rows) == 9
    np.testing.assert_allclose(alphas.sum(1), 1)


def test_each_point_is_measured_once_and_says_by_what(tiny: Run) -> None:
    table = measured(tiny)
    assert table.columns.tolist() == COLUMNS
    assert table["figure"].tolist() == ["line"] * 5 + ["plane"] * 9
    assert np.isfinite(table["fitness"]).all()
    assert set(table["metric"]) == {"frechet_distance"}


def test_what_was_scored_on_the_same_noise_is_not_measured_again(
    tiny: Run, monkeypatch: pytest.MonkeyPatch
) -> None:
    counted: list[Any] = []
    plain = measuring.Fitness.measure
    count = lambda self, *given: counted.append(given) or plain(self, *given)  # noqa: E731
    monkeypatch.setattr(measuring.Fitness, "measure", count)
    line = measured(tiny, landscape_size=0).set_index("x")["fitness"]
    assert line[0.0] == line[1.0] == 1.0  # as the candidates' scores say
    assert len(counted) == len(line) - 2
    plane = measured(tiny, num_line_points=0, landscape_size=5)
    at = plane.set_index(["x", "y"])["fitness"]
    assert at[0.0, 1.0] == 1.0  # the last checkpoint


def test_a_point_of_the_line_has_the_fitness_of_its_coefficients(tiny: Run) -> None:
    values = measured(tiny, num_line_points=9, landscape_size=0)
    values = values.set_index("x")["fitness"]
    assert values[0.25] == pytest.approx(fitness(tiny, between(0.25)), rel=1e-5)
    assert values[1.5] == pytest.approx(fitness(tiny, between(1.5)), rel=1e-5)


def between(x: float) -> list[float]:
    return [(1 - x) * a + x * b for a, b in zip(START, END, strict=True)]


def test_the_corners_of_the_plane_have_the_fitness_of_their_checkpoints(
    tiny: Run,
) -> None:
    table = measured(tiny, num_line_points=0, landscape_size=5)
    at = table.set_index(["x", "y"])["fitness"]
    for place, number in [((0.0, 0.0), 0), ((1.0, 0.0), 2)]:
        alone = fitness(tiny, np.eye(4)[number].tolist())
        assert at[place] == pytest.approx(alone, rel=1e-5)


@pytest.mark.parametrize(
    ("changes", "figures"),
    [
        ({"num_line_points": 0}, {"plane"}),
        ({"landscape_size": 0}, {"line"}),
        ({"num_line_points": 0, "landscape_size": 0}, set()),
    ],
    ids=str,
)
def test_what_is_switched_off_has_no_rows(
    tiny: Run, changes: dict[str, int], figures: set[str]
) -> None:
    table = measured(tiny, **changes)
    assert table.columns.tolist() == COLUMNS
    assert set(table["figure"]) == figures


def test_the_smoke_runs_landscape_has_all_its_points(results: SmokeResults) -> None:
    table = results.catalog.load("landscape")
    parameters = results.parameters.combination
    counts = table.groupby("figure").size().to_dict()
    assert counts == {
        "line": parameters.num_line_points,
        "plane": parameters.landscape_size**2,
    }
    assert np.isfinite(table["fitness"]).all()
