from __future__ import annotations

import math
from collections.abc import Iterator
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from scipy import stats
from scipy.optimize import linear_sum_assignment
from scipy.spatial.distance import cdist
from torch import Tensor

from conftest import SmokeResults
from lct_pipeline.core.randomness import derived_generator, derived_seed
from lct_pipeline.datasets.checkpoints import CheckpointStore
from lct_pipeline.datasets.splits import indices_of
from lct_pipeline.errors import ParameterError
from lct_pipeline.models.denoiser import ModelDescription, build_model
from lct_pipeline.pipelines.statistics.measures import summary_of
from lct_pipeline.pipelines.statistics.nodes import measure_temporal_differences


@pytest.mark.parametrize(
    ("table", "store", "name", "manifest"),
    [
        ("pixel_statistics", "images", "images", "image_manifest"),
        ("latent_statistics", "latents", "mean", "latent_manifest"),
    ],
)
def test_statistics_are_those_of_the_training_split(
    results: SmokeResults, table: str, store: str, name: str, manifest: str
) -> None:
    catalog = results.catalog
    indices = indices_of(catalog.load(manifest), "train")
    values = catalog.load(store).gather(name, indices).double().numpy()
    rows = catalog.load(table).set_index("channel")
    for channel in (*map(str, range(values.shape[1])), "all"):
        flat = (values if channel == "all" else values[:, int(channel)]).ravel()
        row = rows.loc[channel]
        q1, median, q3 = np.percentile(flat, [25, 50, 75], method="inverted_cdf")
        assert (row["q1"], row["median"], row["q3"]) == (q1, median, q3)
        assert row["inner_high"] == q3 + 1.5 * (q3 - q1)
        assert row["excess_kurtosis"] == pytest.approx(stats.kurtosis(flat), abs=1e-6)
        beyond = (flat < row["inner_low"]) | (flat > row["inner_high"])
        assert row["share_beyond_inner"] == pytest.approx(beyond.mean(), abs=1e-12)


def measure(results: SmokeResults, **changes: Any) -> pd.DataFrame:
    """Run the node on the smoke run, some of its inputs changed."""
    catalog, parameters = results.catalog, results.parameters
    inputs: dict[str, Any] = {
        name: catalog.load(name)
        for name in (
            "checkpoints",
            "latents",
            "latent_manifest",
            "latent_normalisation",
        )
    }
    inputs |= {
        name: getattr(parameters, name) for name in ("encoding", "training", "runtime")
    }
    inputs |= {"parameters": parameters.statistics}
    return measure_temporal_differences(**{**inputs, **changes})[0]


def plain_samples(results: SmokeResults) -> Iterator[tuple[Tensor, Tensor]]:
    """Yield latents and coupled noise, ``(96, 2, 4, 4)``, three training batches of 32."""
    catalog, seed = results.catalog, results.parameters.training.seed
    indices = indices_of(catalog.load("latent_manifest"), "train")
    order = indices[np.random.default_rng([seed, 0]).permutation(len(indices))]
    scale = catalog.load("latent_normalisation").tensors
    for step in range(3):
        rows = order[32 * step : 32 * step + 32]
        mean, std = (catalog.load("latents").gather(n, rows) for n in ("mean", "std"))
        noise = derived_generator(seed, "posterior", step)
        z = mean + std * torch.randn(mean.shape, generator=noise)
        x = 0.5 * (z - scale["mean"]) / scale["std"].clamp_min(1e-6)
        noise = derived_generator(
            derived_seed(seed, "temporal differences"), "training", step
        )
        eps = torch.randn(x.shape, generator=noise)
        M = cdist(x.flatten(1).double(), eps.flatten(1).double(), "sqeuclidean")
        yield x, eps[linear_sum_assignment(M)[1]]


def test_temporal_differences_are_those_of_a_plain_computation(
    results: SmokeResults,
) -> None:
    table = results.catalog.load("td_statistics")
    x, eps = (torch.cat(v) for v in zip(*plain_samples(results), strict=True))
    for row in table.itertuples():
        name = f"step-{row.step:07d}-raw"
        checkpoint = results.catalog.load("checkpoints").read(name)
        model = build_model(
            ModelDescription.from_json(checkpoint.metadata["network"])
        ).eval()
        model.network.load_state_dict(checkpoint.tensors)
        t, r = (
            torch.full((96,), level, dtype=torch.float64) for level in (row.t, row.r)
        )
        with torch.no_grad():
            d = (model(x + row.t * eps, t) - model(x + row.r * eps, r)).double().numpy()
        assert row.num_values == d.size
        assert row.mean == pytest.approx(d.mean(), abs=1e-6)
        assert row.std == pytest.approx(d.std(), rel=1e-5)
        assert row.maximum == pytest.approx(d.max(), rel=1e-4)
        q = np.percentile(d, [25, 50, 75], method="inverted_cdf")
        assert [row.q1, row.median, row.q3] == pytest.approx(q, abs=1e-3 * d.std())
        beyond = (d < row.outer_low) | (d > row.outer_high)
        assert row.share_beyond_outer == pytest.approx(beyond.mean(), abs=1.5 / d.size)


def test_every_stage_has_a_row_for_each_chosen_level(results: SmokeResults) -> None:
    table = results.catalog.load("td_statistics")
    stages = {n: rows["n"].tolist() for n, rows in table.groupby("num_levels")}
    assert stages == {4: [0, 1, 2, 3], 8: [0, 2, 4, 5, 7], 16: [0, 4, 8, 11, 15]}
    assert table.groupby("num_levels")["step"].unique().tolist() == [20, 40, 60]
    assert set(table["space"]) == {"latents"}
    assert set(table["channel"]) == {"all"}
    np.testing.assert_allclose(table.groupby("num_levels")["weight"].sum(), 1)
    c = [math.exp(-1.15 * math.log(N) - 0.85) for N in table["num_levels"]]
    first = 0.00054 * math.sqrt(2 * 4 * 4)
    expected = [
        first if row.num_levels == 4 else c[row.Index] for row in table.itertuples()
    ]
    assert table["c_paper"].tolist() == pytest.approx(expected)
    trained = results.catalog.load("training_metrics").set_index("num_levels")["c"]
    assert table["c_paper"].tolist() == [
        trained[[N]].iloc[0] for N in table["num_levels"]
    ]


def test_the_size_of_the_networks_batches_changes_nothing(
    results: SmokeResults,
) -> None:
    expected = results.catalog.load("td_statistics")
    encoding = results.parameters.encoding.model_copy(update={"batch_size": 7})
    found = measure(results, encoding=encoding)
    exact = ["num_levels", "step", "n", "t", "r", "weight", "num_values", "space"]
    pd.testing.assert_frame_equal(found[exact], expected[exact])
    values = ["mean", "std", "minimum", "maximum", "q1", "median", "q3"]
    difference = (found[values] - expected[values]).abs()
    assert difference.div(expected["std"], axis=0).max(axis=None) < 1e-3


@pytest.mark.parametrize(("asked", "got"), [(40, 40), (0, None), (10**6, None)])
def test_as_many_images_are_measured_as_asked_for_or_all(
    results: SmokeResults, asked: int, got: int | None
) -> None:
    parameters = results.parameters.statistics.model_copy(
        update={"num_td_images": asked, "num_td_levels": 2}
    )
    table = measure(results, parameters=parameters)
    every = len(indices_of(results.catalog.load("latent_manifest"), "train"))
    size = math.prod(results.catalog.load("latent_normalisation").tensors["mean"].shape)
    assert set(table["num_values"]) == {(got or every) * size}


def test_a_model_of_pixels_is_called_so(results: SmokeResults) -> None:
    encoding = results.parameters.encoding.model_copy(update={"autoencoder": "pixels"})
    assert set(measure(results, encoding=encoding)["space"]) == {"pixels"}


def test_a_diffusion_model_has_an_empty_table_with_the_same_columns(
    results: SmokeResults, caplog: pytest.LogCaptureFixture
) -> None:
    training = results.parameters.training
    objective = training.objective.model_copy(update={"kind": "diffusion"})
    with caplog.at_level("INFO", logger="lct_pipeline"):
        table = measure(
            results, training=training.model_copy(update={"objective": objective})
        )
    assert "diffusion model has no temporal differences" in caplog.text
    assert table.empty
    assert list(table) == list(results.catalog.load("td_statistics"))
    summary = summary_of(table)
    assert summary.empty
    assert list(summary) == list(results.catalog.load("td_summary"))


def test_before_training_the_table_is_empty(
    results: SmokeResults, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level("INFO", logger="lct_pipeline"):
        table = measure(
            results,
            checkpoints=CheckpointStore(results.project / "new" / "checkpoints"),
        )
    assert table.empty
    assert "No stage of run new is trained yet" in caplog.text


def test_checkpoints_of_other_parameters_are_refused(results: SmokeResults) -> None:
    training = results.parameters.training.model_copy(update={"seed": 9})
    with pytest.raises(ParameterError, match=r"run tested .* other values .*run_id"):
        measure(results, training=training)


def test_the_summary_has_the_std_over_all_levels_and_the_law_through_it(
    results: SmokeResults,
) -> None:
    table, summary = (
        results.catalog.load(name) for name in ("td_statistics", "td_summary")
    )
    assert summary["num_levels"].tolist() == [4, 8, 16]
    for row in summary.itertuples():
        levels = table[table["num_levels"] == row.num_levels]
        square = (levels["weight"] * (levels["std"] ** 2 + levels["mean"] ** 2)).sum()
        mean = (levels["weight"] * levels["mean"]).sum()
        assert row.std == pytest.approx(math.sqrt(square - mean**2))
    N, std = np.log(summary["num_levels"]), np.log(summary["std"])
    slope, intercept = np.polyfit(N, std, 1)
    assert summary["slope"].tolist() == pytest.approx([slope] * 3)
    np.testing.assert_allclose(summary["c_fitted"], np.exp(slope * N + intercept))


def test_the_record_has_the_tails_of_pixels_and_latents(results: SmokeResults) -> None:
    load = results.catalog.load
    record = load("statistics_record")
    assert record["stages"] == 3
    for name in ("pixels", "latents"):
        rows = load(f"{name.removesuffix('s')}_statistics").set_index("channel")
        names = ["share_beyond_inner", "share_beyond_outer", "excess_kurtosis"]
        assert record[name] == rows.loc["all", names].to_dict()
