"""The searches of a run: continued wherever they stop, and refused where they would mix."""

from __future__ import annotations

import math
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from small_runs import Run, counted, last_of, pixel_run, tiny_run, weights

from conftest import SmokeResults, changed
from lct_pipeline.datasets.checkpoints import CheckpointsDataset, CheckpointStore
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import DataError, ParameterError

THREE: dict[str, Any] = {"search.methods": ("evolution", "cma", "random")}
METHODS = ("gradient", *THREE["search.methods"])
GRADIENT: dict[str, Any] = {
    "search.methods": ("gradient",),
    "search.num_evaluations": 8,
    "fitness.num_images": 6,
    "fitness.kernel_weight": 1.0,
    "search.gradient.num_images": 3,
}


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return tiny_run(tmp_path_factory.mktemp("searching"))


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return pixel_run(tmp_path_factory.mktemp("pixels"))


@pytest.fixture
def measured(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list to which each evaluation adds."""
    return counted(monkeypatch)


def stopped_after(run: Run, changes: dict[str, Any], num: int) -> list[pd.DataFrame]:
    with closing(run.search(changes)) as outputs:
        return [next(outputs) for _ in range(num)]


def assert_continues(run: Run, changes: dict[str, Any], measured: list[Any]) -> None:
    """Stop a search after each of its evaluations; the rest of it gives what the whole does."""
    expected = run.history(changes)
    total = len(measured)
    assert total == len(expected)
    for num in range(1, total + 1):
        measured.clear()
        *_, before = stopped_after(run, changes, num)
        rest = last_of(run.search(changes, before))
        pd.testing.assert_frame_equal(rest, expected, check_exact=True)
        assert len(measured) == total, num


@pytest.mark.parametrize("method", THREE["search.methods"])
def test_wherever_it_stops_a_search_goes_on_to_the_same_history_and_measures_nothing_twice(
    tiny: Run, measured: list[Any], method: str
) -> None:
    changes = {"search.methods": (method,), "search.num_evaluations": 9}
    assert_continues(tiny, changes, measured)


def test_a_gradient_search_goes_on_likewise(pixels: Run, measured: list[Any]) -> None:
    assert_continues(pixels, GRADIENT, measured)


def test_several_searches_go_on_likewise(tiny: Run, measured: list[Any]) -> None:
    changes = {"search.methods": ("random", "cma"), "search.num_seeds": 2}
    assert_continues(tiny, {**changes, "search.num_evaluations": 5}, measured)


def test_the_history_is_there_after_every_evaluation(tiny: Run) -> None:
    lengths = [len(table) for table in tiny.search({"search.num_evaluations": 8})]
    # three of the start, three candidates, one, and the search mean; then the complete one again
    assert lengths == [*range(1, 9), 8]


def test_a_finished_search_reads_no_weights_and_measures_nothing(
    tiny: Run, measured: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    history = tiny.history(THREE)
    measured.clear()
    monkeypatch.setattr(CheckpointStore, "read", None)
    (again,) = tiny.search(THREE, history)
    assert measured == []
    pd.testing.assert_frame_equal(again, history, check_exact=True)


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"seed": 5}, r"combination\.seed: 0 -> 5"),
        ({"window": 0.75}, r"combination\.window: 1\.0 -> 0\.75"),
        ({"fitness.num_images": 13}, r"combination\.fitness\.num_images: 12 -> 13"),
        (
            {"fitness.kernel_weight": 1.0},
            r"combination\.fitness\.kernel_weight: 0\.0 ->",
        ),
        ({"search.population": 4}, r"combination\.search\.population: 3 -> 4"),
        ({"search.num_seeds": 2}, r"combination\.search\.num_seeds: 1 -> 2"),
        ({"generator": "small_runs:other"}, r"combination\.generator: 'small_runs:gen"),
    ],
    ids=str,
)
def test_a_history_of_other_parameters_is_refused_with_both_values(
    tiny: Run, changes: dict[str, Any], difference: str
) -> None:
    *_, history = stopped_after(tiny, {}, 2)
    with pytest.raises(ParameterError, match=f"other values \\({difference}"):
        next(tiny.search(changes, history))


@pytest.mark.parametrize(
    "changes",
    [
        {"memory_mib": 70},
        {"selection.num_candidates": 1},
        {"selection.num_images": 99},
        {"num_line_points": 0},
        {"landscape_size": 9},
    ],
    ids=str,
)
def test_what_a_search_does_not_depend_on_may_change(
    tiny: Run, changes: dict[str, Any]
) -> None:
    *_, before = stopped_after(tiny, {}, 5)
    found, expected = last_of(tiny.search(changes, before)), tiny.history()
    pd.testing.assert_frame_equal(found, expected, check_exact=True)


def test_a_history_of_other_checkpoints_is_refused(tiny: Run, tmp_path: Path) -> None:
    *_, history = stopped_after(tiny, {}, 2)
    other = tiny_run(tmp_path, {step: weights(step + 1) for step in (10, 20, 30, 40)})
    with pytest.raises(ParameterError, match=r"other values \(checkpoints: \['"):
        next(other.search(previous=history))


def test_a_history_of_other_sampling_references_or_autoencoder_is_refused(
    pixels: Run,
) -> None:
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


def test_evaluations_are_numbered_through_all_searches(tiny: Run) -> None:
    history = tiny.history(THREE)
    assert history["evaluation"].tolist() == list(range(len(history)))
    assert (history["split"] == "train").all()


def test_the_smoke_run_searched_by_all_methods_with_all_seeds(
    results: SmokeResults,
) -> None:
    history = results.catalog.load("search_history")
    search = results.parameters.combination.search
    assert set(history["method"]) == set(search.methods)
    assert history["search"].nunique() == len(search.methods) * search.num_seeds
    assert history["evaluation"].tolist() == list(range(len(history)))
    spent = history.groupby("search")["spent"].max()
    assert spent.between(search.num_evaluations - 1, search.num_evaluations).all()
    assert (history["metric"] == "classifier_frechet_distance").all()


def test_no_file_of_a_run_is_a_pickle(results: SmokeResults) -> None:
    suffixes = {path.suffix for path in results.run.rglob("*") if path.is_file()}
    assert suffixes <= {".safetensors", ".json", ".parquet"}


# checkpoints that cannot be combined


def without(tensors: dict[str, Any], name: str) -> dict[str, Any]:
    return {key: tensor for key, tensor in tensors.items() if key != name}


def nan_in_scale(tensors: dict[str, Any]) -> dict[str, Any]:
    return {**tensors, "scale": torch.tensor([1.0, math.nan, 1.0])}


FAULTS: dict[str, tuple[Any, str]] = {
    "not finite": (nan_in_scale, r"step-0000030-raw.*'scale'.*not finite"),
    "missing": (
        lambda tensors: without(tensors, "shift"),
        r"step-0000030-raw.*another network.*'shift' is missing",
    ),
    "other shape": (
        lambda tensors: {**tensors, "scale": torch.ones(5)},
        r"step-0000030-raw.*another network.*'scale' is F32 \(5,\), expected F32 \(3,\)",
    ),
    "other type": (
        lambda tensors: {**tensors, "scale": tensors["scale"].half()},
        r"step-0000030-raw.*'scale' is F16; only float32",
    ),
}


@pytest.mark.parametrize("fault", FAULTS)
def test_a_checkpoint_that_cannot_be_combined_is_named(
    tmp_path: Path, fault: str
) -> None:
    damage, message = FAULTS[fault]
    historys = {step: weights(step) for step in (10, 20, 30)}
    run = tiny_run(tmp_path, {**historys, 30: damage(historys[30])})
    with pytest.raises(DataError, match=message):
        next(run.search())


def test_one_checkpoint_alone_is_refused(tmp_path: Path) -> None:
    run = tiny_run(tmp_path, {10: weights(10)})
    with pytest.raises(
        DataError, match="at least 2 raw checkpoints, and the window has 1"
    ):
        next(run.search())


def test_a_checkpoint_that_was_replaced_is_refused(tmp_path: Path) -> None:
    run = tiny_run(tmp_path)
    dataset = CheckpointsDataset(path=str(run.catalog.store.folder))
    about = run.catalog.store.header("step-0000020-raw").as_metadata()
    dataset.save({"step-0000020-raw": TensorFile(weights(7), about)})
    with pytest.raises(DataError, match="not the checkpoint that was cataloged"):
        next(run.search())
