from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch

from conftest import SmokeResults
from lct_pipeline.core.ema_profiles import gamma_of
from lct_pipeline.datasets.tensor_file import TensorFile
from lct_pipeline.errors import DataError, ParameterError
from lct_pipeline.parameters import Combination
from lct_pipeline.pipelines.combination import create_pipeline
from lct_pipeline.pipelines.combination.nodes import search_combination, window_of


def _search(
    results: SmokeResults, parameters: Combination, state: TensorFile | None = None
) -> Any:
    load = results.catalog.load
    return search_combination(
        load("checkpoint_index"),
        load("checkpoints"),
        load("autoencoder"),
        load("latent_normalisation"),
        load("feature_extractor"),
        load("reference_statistics"),
        state,
        parameters,
        results.parameters.sampling,
        results.parameters.runtime,
    )


def test_continued_after_a_generation_it_ends_with_the_same_history(
    results: SmokeResults,
) -> None:
    parameters = results.parameters.combination
    whole = list(_search(results, parameters))
    first = list(itertools.islice(_search(results, parameters), 2))
    rest = list(_search(results, parameters, first[-1][1]))
    histories = [pd.concat([h for h, _ in p]) for p in (whole, first + rest)]
    pd.testing.assert_frame_equal(*histories)
    for name, tensor in whole[-1][1].tensors.items():
        assert torch.equal(rest[-1][1].tensors[name], tensor)


def test_every_coefficient_vector_sums_to_one(results: SmokeResults) -> None:
    history = results.catalog.load("search_history")
    sums = [sum(alpha) for alpha in history["alpha"].dropna()]
    assert sums == pytest.approx([1.0] * len(sums))
    children = history.loc[history["kind"] == "child", "alpha"]
    assert any(min(alpha) < 0 for alpha in children)


def test_the_combined_model_is_the_sum_of_its_checkpoints(
    results: SmokeResults,
) -> None:
    combination = results.catalog.load("combination")
    combined = results.catalog.load("combined_model")
    checkpoints = results.catalog.load("checkpoints")
    expected: dict[str, torch.Tensor] = {}
    pairs = zip(combination["checkpoints"], combination["alpha"], strict=True)
    for name, alpha in pairs:
        for key, tensor in checkpoints.read(name).tensors.items():
            expected[key] = expected.get(key, 0) + alpha * tensor.double()
    for key, tensor in expected.items():
        assert torch.allclose(combined.tensors[key].double(), tensor, atol=1e-6), key


def test_the_search_starts_from_averages_of_the_checkpoints(
    results: SmokeResults,
) -> None:
    history = results.catalog.load("search_history")
    initial = history[history["kind"] == "initial"].set_index("name")["alpha"]
    steps = np.array([35, 40, 45, 50, 55, 60])
    gamma = gamma_of(0.1)
    # a checkpoint stands for the steps since the one before it, the first for all older ones
    expected = {
        "EMA 0.9": np.diff(0.9 ** (60 - steps), prepend=0),
        "EMA 0.95": np.diff(0.95 ** (60 - steps), prepend=0),
        "power 0.1": np.diff((steps / 60) ** (gamma + 1), prepend=0),
        "uniform": np.full(6, 1 / 6),
        "last": [0, 0, 0, 0, 0, 1],
    }
    assert initial.index.tolist() == list(expected)
    for name, alpha in expected.items():
        np.testing.assert_allclose(initial[name], alpha, atol=1e-12, err_msg=name)


def test_the_start_stands_for_the_controls(results: SmokeResults) -> None:
    history = results.catalog.load("search_history")
    initial = history[history["kind"] == "initial"].set_index("name")["control"]
    assert initial.to_dict() == {
        "EMA 0.9": "best EMA",
        "EMA 0.95": "best EMA",
        "power 0.1": "best EMA",
        "uniform": "uniform average",
        "last": "last checkpoint",
    }


def test_the_combined_model_and_its_description_are_all_that_is_chosen() -> None:
    outputs = create_pipeline().only_nodes("choose_models").all_outputs()
    assert outputs == {"combination", "combined_model"}


def test_the_same_fitness_is_found_again_from_the_written_weights(
    results: SmokeResults,
) -> None:
    """The combination is what was evaluated: generate from the file and compare."""
    from lct_pipeline.core.frechet import feature_statistics, frechet_distance
    from lct_pipeline.core.sample_quality import features_of
    from lct_pipeline.pipelines.generation import build_generator, first_plan
    from lct_pipeline.pipelines.references.nodes import extractor_of

    load, parameters = results.catalog.load, results.parameters
    combined = load("combined_model")
    generator = build_generator(
        combined.metadata["network"],
        load("autoencoder"),
        load("latent_normalisation"),
        parameters.sampling,
        parameters.runtime,
    )
    generator.load(combined.tensors)
    settings = parameters.combination
    plan = first_plan(combined.metadata["network"], parameters.sampling)
    images = generator.images(
        settings.num_images, plan, seed=settings.seed, purpose="search"
    )
    extractor = extractor_of(load("feature_extractor"), parameters.runtime)
    references = load("reference_statistics").tensors
    distance = frechet_distance(
        feature_statistics(features_of(images, extractor.extract)),
        feature_statistics(references["validation.features"]),
    )
    # a product for one candidate rounds otherwise than one for a population
    assert distance == pytest.approx(load("combination")["fitness"], rel=1e-4)


def test_window_takes_the_last_raw_checkpoints(results: SmokeResults) -> None:
    index = results.catalog.load("checkpoint_index")
    assert window_of(index, 0.5)["step"].tolist() == [35, 40, 45, 50, 55, 60]
    with pytest.raises(DataError, match=r"at least 2.*has 1.*combination\.window"):
        window_of(index, 0.05)


def test_other_search_parameters_are_refused_with_both_values(
    results: SmokeResults,
) -> None:
    state = results.catalog.load("previous_search_state")
    parameters = results.parameters.combination.model_copy(update={"seed": 5})
    with pytest.raises(ParameterError, match=r"seed: 0 -> 5"):
        list(_search(results, parameters, state))


def test_search_reads_and_writes_no_pickle(results: SmokeResults) -> None:
    suffixes = {path.suffix for path in Path(results.run).rglob("*") if path.is_file()}
    assert suffixes <= {".safetensors", ".json", ".parquet"}


def test_controls_are_in_the_history_once_each(results: SmokeResults) -> None:
    history = results.catalog.load("search_history")
    controls = history[history["kind"] == "control"]
    assert len(controls) == len(controls["name"].unique())
    window = window_of(results.catalog.load("checkpoint_index"), 0.5)
    tracks = {f"step-0000060-{t}" for t in ("ema-0.9", "ema-0.95", "power-0.1")}
    assert set(controls["name"]) == set(window["name"]) | tracks
    assert np.isfinite(history["fitness"]).all()
