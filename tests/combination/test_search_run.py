"""Searches: how they are measured, what they are told, and that they go on wherever they stop."""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
from small_runs import Run, last_of, tiny_run, weights

from conftest import changed
from lct_pipeline.combination.fitness import Score
from lct_pipeline.combination.search_run import (
    History,
    SearchRun,
    history_of,
    table_of,
)
from lct_pipeline.combination.sources import Request
from lct_pipeline.datasets.checkpoints import CheckpointsDataset, CheckpointStore
from lct_pipeline.datasets.parts import GrowingTableDataset
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import DataError, ParameterError

METHODS = ("evolution", "cma", "random", "gradient")
TARGET = np.array([1.0, -0.5, 0.2, 0.3])
NUM_EVALUATIONS, FULL = 24, 12
COLUMNS = [
    "evaluation",
    "metric",
    "method",
    "seed",
    "search",
    "kind",
    "split",
    "noise",
    "generation",
    "candidate",
    "name",
    "num_images",
    "fitness",
    "frechet",
    "kernel",
    "alpha",
    "spent",
    "gradient",
]
each_method = pytest.mark.parametrize("method", METHODS)


@dataclass
class Driven:
    """A search that is told the distance to a target."""

    run: SearchRun
    evaluated: History
    requests: list[Request] = field(default_factory=list)  # one an evaluation

    def measure(self, alphas: np.ndarray, request: Request, known: Any) -> Any:
        for candidate in reversed(range(len(alphas))):  # in any order
            if candidate in known:
                continue
            self.requests.append(request)
            away = alphas[candidate] - TARGET
            fitness = float((away**2).sum())
            gradient = 2 * away if request.gradients else None
            yield candidate, Score(fitness, fitness, None), gradient

    def history(self) -> pd.DataFrame:
        for _ in self.run.evaluations(self.measure):
            pass
        return table_of(self.evaluated, "fid", {})


def start(run: Run, method: str, seed: int = 0, **changes: Any) -> Driven:
    own = {"num_evaluations": NUM_EVALUATIONS, "population": 6, "methods": (method,)}
    search = {f"search.{name}": value for name, value in {**own, **changes}.items()}
    parameters = run.combination({"generator": None, "references": None, **search})
    history = History()
    initial = run.stage().initial
    return Driven(SearchRun(0, method, seed, initial, parameters, history), history)


@each_method
def test_a_search_goes_from_the_profiles_to_its_mean_and_every_evaluation_is_a_row(
    tiny: Run, method: str
) -> None:
    driven = start(tiny, method, num_evaluations=60)
    history = driven.history()
    assert history.columns.tolist() == COLUMNS
    assert len(history) == len(driven.requests)
    required = [name for name in COLUMNS if name not in ("kernel", "gradient")]
    assert history[required].notna().all(axis=None)
    middle = ["candidate"] * (len(history) - 4)
    assert history["kind"].tolist() == ["initial"] * 3 + middle + ["mean"]
    assert history["name"].tolist()[:3] == ["EMA 0.9", "uniform", "last"]
    assert history["name"].iloc[-1] == f"{method} 0, mean"
    assert history["fitness"].iloc[-1] < history["fitness"].iloc[:3].min()
    assert history["alpha"].map(sum).tolist() == pytest.approx([1.0] * len(history))


@each_method
def test_the_budget_is_spent_up_to_one_evaluation(tiny: Run, method: str) -> None:
    driven = start(tiny, method)
    spent = driven.history()["spent"]
    assert spent.is_monotonic_increasing
    assert NUM_EVALUATIONS - 1 <= spent.iloc[-1] <= NUM_EVALUATIONS
    passes = [r.num_images * (4 if r.gradients else 1) for r in driven.requests]
    assert sum(passes) / FULL == pytest.approx(NUM_EVALUATIONS, abs=1)


def test_searches_of_other_seeds_have_other_candidates_and_noise(tiny: Run) -> None:
    one, two = (start(tiny, "cma", seed=seed) for seed in (0, 1))
    first, second = (np.stack(run.history()["alpha"]) for run in (one, two))
    np.testing.assert_array_equal(first[:3], second[:3])
    assert (first[3:] != second[3:]).any()
    # all candidates of a search are measured alike
    assert set(one.requests) == {Request("search", FULL, 0)}
    assert set(two.requests) == {Request("search", FULL, 1)}


def test_each_step_of_a_gradient_search_has_new_noise_and_a_gradient(tiny: Run) -> None:
    driven = start(tiny, "gradient")
    driven.history()
    first, steps, last = driven.requests[:3], driven.requests[3:-1], driven.requests[-1]
    assert {*first, last} == {Request("search", FULL, 0)}
    expected = (Request(f"search step {n}", 4, 0, True) for n in range(1, 99))
    assert steps == [next(expected) for _ in steps]


@dataclass
class Faulty(Driven):
    """Every third evaluation fails, and one derivative is not finite."""

    def measure(self, alphas: np.ndarray, request: Request, known: Any) -> Any:
        bad = Score(math.inf, math.inf, None, fault="it fails")
        found = super().measure(alphas, request, known)
        for candidate, score, gradient in found:
            if (self.run.search.generation + candidate) % 3 == 1:
                yield candidate, bad, None
            elif request.purpose == "search step 4":
                yield candidate, score, gradient * math.nan
            else:
                yield candidate, score, gradient


@each_method
def test_what_cannot_be_measured_is_infinite_and_the_search_goes_on_wherever_it_stops(
    tiny: Run, method: str, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    driven = Faulty(**vars(start(tiny, method)))
    table = through_a_file(driven.history(), tmp_path)
    is_bad = np.isinf(table["fitness"])
    assert table["kernel"].isna().all() and table.loc[is_bad, "gradient"].isna().all()
    numbers = table[["generation", "candidate"]].sum(axis=1)
    is_step_4 = table["noise"] == "search step 4"
    assert is_bad.tolist() == ((numbers % 3 == 1) | is_step_4).tolist()
    (said,) = caplog.messages
    assert f"seed 0: {is_bad.sum()} of {len(table)} could not be measured" in said
    for num in range(1, len(table)):
        again = Faulty(**vars(start(tiny, method)))
        again.evaluated.update(history_of(table.iloc[:num], {}))
        pd.testing.assert_frame_equal(again.history(), table, check_exact=True)
        assert len(again.requests) == len(table) - num


def through_a_file(table: pd.DataFrame, folder: Path) -> pd.DataFrame:
    dataset = GrowingTableDataset(filepath=str(folder / "history.parquet"))
    dataset.save(table)
    return dataset.load()


@pytest.mark.parametrize("method", ["gradient", "cma"])
def test_a_history_comes_back_from_its_table_bit_for_bit(
    tiny: Run, tmp_path: Path, method: str
) -> None:
    driven = start(tiny, method)
    table = through_a_file(driven.history(), tmp_path)
    found = history_of(table, {})
    assert list(found) == sorted(driven.evaluated)
    for key, evaluation in found.items():
        for name, value in vars(driven.evaluated[key]).items():
            np.testing.assert_array_equal(
                getattr(evaluation, name), value, err_msg=name
            )
    pd.testing.assert_frame_equal(table_of(found, "fid", {}), table, check_exact=True)


def test_other_coefficients_than_those_evaluated_are_refused(tiny: Run) -> None:
    driven = start(tiny, "cma")
    driven.history()
    place = (0, 1, FULL, 2)
    evaluation = driven.evaluated[place]
    driven.evaluated[place] = replace(evaluation, alpha=evaluation.alpha + 1e-15)
    again = start(tiny, "cma")
    again.evaluated.update(driven.evaluated)
    with pytest.raises(ParameterError, match="another version of a library"):
        again.history()


# through the node: stopped, continued, refused


def stopped_after(run: Run, changes: dict[str, Any], num: int) -> list[pd.DataFrame]:
    with closing(run.search(changes)) as outputs:
        return [next(outputs) for _ in range(num)]


@pytest.mark.parametrize(
    ("name", "methods", "changes"),
    [
        ("tiny", ("evolution",), {"search.num_evaluations": 9}),
        ("tiny", ("cma",), {"search.num_evaluations": 9}),
        ("tiny", ("random", "cma"), {"search.num_seeds": 2, "search.num_evaluations": 5}),
        ("pixels", ("gradient",), {"fitness.kernel_weight": 1.0, "search.num_evaluations": 8}),
    ],
    ids=str,
)  # fmt: skip
def test_wherever_it_stops_a_search_goes_on_to_the_same_history_and_measures_nothing_twice(
    request: pytest.FixtureRequest,
    measured: list[Any],
    name: str,
    methods: tuple[str, ...],
    changes: dict[str, Any],
) -> None:
    run, changes = request.getfixturevalue(name), {"search.methods": methods, **changes}
    expected = run.history(changes)
    total = len(measured)
    assert total == len(expected)
    for num in range(1, total + 1):
        measured.clear()
        *_, before = stopped_after(run, changes, num)
        rest = last_of(run.search(changes, before))
        pd.testing.assert_frame_equal(rest, expected, check_exact=True)
        assert len(measured) == total, num


def test_the_log_says_which_checkpoints_the_window_has(
    tiny: Run, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO")
    next(tiny.search({"window": 0.5}))
    assert "The window has 2 of 4 checkpoints: of steps 30, 40." in caplog.messages


def test_the_history_is_there_after_every_evaluation_and_a_finished_one_reads_nothing(
    tiny: Run, measured: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    tables = list(tiny.search({"search.num_evaluations": 8}))
    # three of the start, three candidates, one, and the search mean; then the complete one again
    assert [len(table) for table in tables] == [*range(1, 9), 8]
    measured.clear()
    monkeypatch.setattr(CheckpointStore, "read", None)
    (again,) = tiny.search({"search.num_evaluations": 8}, tables[-1])
    assert measured == []
    pd.testing.assert_frame_equal(again, tables[-1], check_exact=True)


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"seed": 5}, r"combination\.seed: 0 -> 5"),
        ({"window": 0.75}, r"combination\.window: 1\.0 -> 0\.75"),
        ({"fitness.num_images": 13}, r"combination\.fitness\.num_images: 12 -> 13"),
        ({"search.population": 4}, r"combination\.search\.population: 3 -> 4"),
        ({"generator": "small_runs:other"}, r"combination\.generator: 'small_runs:gen"),
    ],
    ids=str,
)
def test_a_history_of_other_parameters_is_refused_with_both_values(
    tiny: Run, changes: dict[str, Any], difference: str
) -> None:
    *_, history = stopped_after(tiny, {}, 2)
    message = rf"other values \({difference}.*remove search_history\.parquet"
    with pytest.raises(ParameterError, match=message):
        next(tiny.search(changes, history))


def test_what_a_search_does_not_depend_on_may_change(tiny: Run) -> None:
    *_, before = stopped_after(tiny, {}, 5)
    later = {"memory_mib": 70, "num_line_points": 0, "landscape_size": 9}
    later |= {"selection.num_candidates": 1, "selection.num_images": 99}
    found, expected = last_of(tiny.search(later, before)), tiny.history()
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_a_history_of_other_checkpoints_sampling_references_or_autoencoder_is_refused(
    tiny: Run, pixels: Run, tmp_path: Path
) -> None:
    *_, history = stopped_after(tiny, {}, 2)
    other = tiny_run(tmp_path, {step: weights(step + 1) for step in (10, 20, 30, 40)})
    with pytest.raises(ParameterError, match=r"other values \(checkpoints: \['"):
        next(other.search(previous=history))
    *_, history = stopped_after(pixels, {}, 2)
    sampling = changed(pixels.parameters.sampling, {"batch_size": 5})
    with pytest.raises(ParameterError, match=r"sampling\.batch_size: \d+ -> 5"):
        next(pixels.search(previous=history, sampling=sampling))
    tensors = pixels.reference.statistics.tensors
    statistics = TensorFile(tensors, {"num_images": dict.fromkeys(("train",), 9)})
    reference = replace(pixels.reference, statistics=statistics)
    with pytest.raises(ParameterError, match=r"references\.num_images\.train: 40 -> 9"):
        next(replace(pixels, reference=reference).search(previous=history))
    assert pixels.decoder is not None
    autoencoder = replace(pixels.decoder.autoencoder, digest="other")
    decoder = replace(pixels.decoder, autoencoder=autoencoder)
    with pytest.raises(ParameterError, match=r"autoencoder: 'none' -> 'other'"):
        next(replace(pixels, decoder=decoder).search(previous=history))


def test_each_method_is_searched_with_each_seed_and_the_same_budget(
    pixels: Run,
) -> None:
    changes = {"search.methods": METHODS, "search.num_seeds": 2, "seed": 3}
    history = pixels.history({**changes, "search.num_evaluations": 7})
    searches = history.groupby("search")[["method", "seed", "spent"]].last()
    expected = [(method, seed) for method in METHODS for seed in (3, 4)]
    assert list(zip(searches["method"], searches["seed"], strict=True)) == expected
    assert searches["spent"].between(6, 7).all()
    assert history["evaluation"].tolist() == list(range(len(history)))
    assert (history["split"] == "train").all()


def test_one_checkpoint_alone_and_one_that_was_replaced_are_refused(
    tmp_path: Path,
) -> None:
    alone = tiny_run(tmp_path / "alone", {10: weights(10)})
    with pytest.raises(
        DataError, match="at least 2 raw checkpoints, and the window ha"
    ):
        next(alone.search())
    run = tiny_run(tmp_path)
    dataset = CheckpointsDataset(path=str(run.catalog.store.folder))
    about = run.catalog.store.header("step-0000020-raw").as_metadata()
    dataset.save({"step-0000020-raw": TensorFile(weights(7), about)})
    with pytest.raises(DataError, match="not the checkpoint that was cataloged"):
        next(run.search())
