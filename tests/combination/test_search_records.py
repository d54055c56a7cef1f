"""What a search has evaluated: as it is saved, found again, and shown."""

from __future__ import annotations

import math
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lct_pipeline.combination.records import (
    Record,
    Records,
    history_rows,
    records_of,
)
from lct_pipeline.datasets.tensors import TensorFile, TensorFileDataset
from lct_pipeline.errors import ParameterError

K = 3
ORIGIN: dict[str, Any] = {
    "parameters": {"search": {"population": 4}, "seed": 0},
    "checkpoints": ["a", "b", "c"],
}
ALPHAS = np.random.default_rng(0).normal(size=(2, K))
FIRST = Record(0, 1, 0, 64, ALPHAS[0], 0.1, 0.1, math.nan, None)
SECOND = Record(2, 1, 1, 32, ALPHAS[1], 1 / 3, 0.2, -1e-300, ALPHAS[0] / 7)


def records(*kept: Record) -> Records:
    found = Records()
    for record in kept:
        found.add(record)
    return found


def assert_same(found: Record, expected: Record) -> None:
    for name, value in vars(expected).items():
        np.testing.assert_array_equal(getattr(found, name), value, err_msg=name)


def through_a_file(state: TensorFile, folder: Path) -> TensorFile:
    dataset = TensorFileDataset(filepath=str(folder / "state.safetensors"))
    dataset.save(state)
    loaded = dataset.load()
    assert loaded is not None
    return loaded


def test_a_state_has_every_evaluation_bit_for_bit(tmp_path: Path) -> None:
    state = through_a_file(records(FIRST, SECOND).state(ORIGIN), tmp_path)
    found = records_of(state, ORIGIN).by_key
    assert list(found) == [FIRST.key, SECOND.key]
    for record in (FIRST, SECOND):
        assert_same(found[record.key], record)


def test_without_a_state_nothing_is_known() -> None:
    assert records_of(None, ORIGIN).by_key == {}


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
def test_a_state_of_another_origin_is_refused_with_the_difference(
    changes: dict[str, Any], difference: str
) -> None:
    state = records(FIRST).state(ORIGIN)
    with pytest.raises(ParameterError, match=rf"\({difference}\).*folder `search`"):
        records_of(state, {**ORIGIN, **changes})


def test_candidates_are_known_by_search_generation_and_number_of_images() -> None:
    kept = records(FIRST)
    assert kept.known(0, 1, 64, ALPHAS) == {0: FIRST}
    for other in [(1, 1, 64), (0, 2, 64), (0, 1, 32)]:
        assert kept.known(*other, ALPHAS) == {}


def test_other_coefficients_than_those_evaluated_are_refused() -> None:
    kept = records(replace(FIRST, alpha=ALPHAS[0] + 1e-15))
    with pytest.raises(ParameterError, match="another version of a library"):
        kept.known(0, 1, 64, ALPHAS)


def test_rows_are_ordered_by_number_of_images_and_candidate() -> None:
    kept = [
        replace(FIRST, candidate=candidate, num_images=num_images)
        for candidate, num_images in [(1, 64), (1, 16), (0, 16)]
    ]
    rows = history_rows(kept, {"method": "cma"}, ["zero", "one"])
    assert rows["num_images"].tolist() == [16, 16, 64]
    assert rows["name"].tolist() == ["zero", "one", "one"]
    assert rows["alpha"].tolist() == [ALPHAS[0].tolist()] * 3
    assert set(rows["method"]) == {"cma"}
