"""What a search has evaluated: as it is saved, found again, and shown."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest

from lct_pipeline.combination.history import History, SearchEvaluation, history_of
from lct_pipeline.datasets.growing_table import GrowingTableDataset
from lct_pipeline.errors import ParameterError

K = 3
ORIGIN: dict[str, Any] = {
    "parameters": {"search": {"population": 4}, "seed": 0},
    "checkpoints": ["a", "b", "c"],
}
ALPHAS = np.random.default_rng(0).normal(size=(2, K))
FIRST = SearchEvaluation(
    method="cma",
    seed=0,
    search=0,
    kind="candidate",
    split="train",
    noise="search",
    generation=1,
    candidate=0,
    name="first",
    num_images=64,
    fitness=0.1,
    frechet=0.1,
    kernel=math.nan,
    alpha=ALPHAS[0],
    spent=3.0,
    gradient=None,
)
SECOND = replace(
    FIRST,
    search=2,
    candidate=1,
    name="second",
    num_images=32,
    fitness=1 / 3,
    kernel=-1e-300,
    alpha=ALPHAS[1],
    gradient=ALPHAS[0] / 7,
)


def history(*evaluations: SearchEvaluation) -> History:
    found = History()
    for evaluation in evaluations:
        found.add(evaluation)
    return found


def assert_same(found: SearchEvaluation, expected: SearchEvaluation) -> None:
    for name, value in vars(expected).items():
        np.testing.assert_array_equal(getattr(found, name), value, err_msg=name)


def through_a_file(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    dataset = GrowingTableDataset(filepath=str(folder / "history.parquet"))
    dataset.save(table)
    return dataset.load()


def test_a_history_comes_back_from_its_table_bit_for_bit(tmp_path: Path) -> None:
    table = through_a_file(history(SECOND, FIRST).table("fid", ORIGIN), tmp_path)
    found = history_of(table, ORIGIN).by_key
    assert list(found) == [FIRST.key, SECOND.key]
    for evaluation in (FIRST, SECOND):
        assert_same(found[evaluation.key], evaluation)


def test_without_a_table_nothing_is_known() -> None:
    assert history_of(pd.DataFrame(), ORIGIN).by_key == {}


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"parameters": {**ORIGIN["parameters"], "seed": 5}}, r"parameters\.seed: 0 -> 5"),
        (
            {"parameters": {"search": {"population": 8}, "seed": 0}},
            r"parameters\.search\.population: 4 -> 8",
        ),
        ({"checkpoints": ["a", "b"]}, r"checkpoints: \['a', 'b', 'c'\] -> \['a', 'b'\]"),
    ],
    ids=str,
)  # fmt: skip
def test_a_history_of_another_origin_is_refused_with_the_difference(
    changes: dict[str, Any], difference: str
) -> None:
    table = history(FIRST).table("fid", ORIGIN)
    with pytest.raises(ParameterError, match=rf"\({difference}\).*search_history"):
        history_of(table, {**ORIGIN, **changes})


def test_candidates_are_known_by_search_generation_and_number_of_images() -> None:
    kept = history(FIRST)
    assert kept.known(0, 1, 64, ALPHAS) == {0: FIRST}
    for other in [(1, 1, 64), (0, 2, 64), (0, 1, 32)]:
        assert kept.known(*other, ALPHAS) == {}


def test_other_coefficients_than_those_evaluated_are_refused() -> None:
    kept = history(replace(FIRST, alpha=ALPHAS[0] + 1e-15))
    with pytest.raises(ParameterError, match="another version of a library"):
        kept.known(0, 1, 64, ALPHAS)


def test_rows_are_in_the_order_of_the_searches_whatever_came_first() -> None:
    places = [(1, 0, 64), (0, 1, 64), (0, 1, 16), (0, 0, 16)]
    evaluations = [
        replace(FIRST, search=search, candidate=candidate, num_images=num_images)
        for search, candidate, num_images in places
    ]
    table = history(*evaluations).table("fid", ORIGIN)
    columns = ["search", "candidate", "num_images"]
    found = list(table[columns].itertuples(index=False, name=None))
    assert found == [(0, 0, 16), (0, 1, 16), (0, 1, 64), (1, 0, 64)]
    assert table["evaluation"].tolist() == [0, 1, 2, 3]
    assert set(table["metric"]) == {"fid"}
