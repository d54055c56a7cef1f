"""Averages of the weights as combinations: what searches start from and have to beat."""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import pytest
import torch
from small_runs import Run, pixel_run, recipe, tiny_run
from torch import nn

from lct_pipeline.combination.baselines import (
    Ema,
    candidate_emas,
    initial_alphas,
    posthoc_alpha,
    stored_emas,
)
from lct_pipeline.combination.weights import CombinedWeights
from lct_pipeline.combination.window import members_of
from lct_pipeline.core.ema.bank import EMABank, Track
from lct_pipeline.core.ema.profiles import gamma_of
from lct_pipeline.datasets.checkpoints import CheckpointsDataset, CheckpointStore
from lct_pipeline.datasets.tensors import TensorFile

NUM_STEPS, INTERVAL = 400, 25
WIDTHS = (0.05, 0.1)  # of the tracks that are stored
KEPT = Track("power", 0.15)  # of one that is compared with


def index_of(checkpoints: list[tuple[int, str, float | None]]) -> pd.DataFrame:
    """Return an index of checkpoints, each of a step, a kind and a width."""
    table = pd.DataFrame(checkpoints, columns=["step", "kind", "ema_width"])
    names = [f"step-{s}-{k}-{w}" for s, k, w in checkpoints]
    return table.assign(name=names)


# two power tracks with three snapshots each, an EMA at the end, and raw checkpoints
INDEX = index_of(
    [
        (20, "power", 0.05),
        (20, "power", 0.1),
        (20, "raw", None),
        (40, "power", 0.05),
        (40, "power", 0.1),
        (40, "raw", None),
        (60, "ema", None),
        (60, "power", 0.05),
        (60, "power", 0.1),
        (60, "raw", None),
    ]
)


def test_the_averages_are_those_of_the_last_step_and_those_made_afterwards() -> None:
    averages = stored_emas(INDEX, (0.07, 0.2))
    assert [(average.name, average.kind) for average in averages] == [
        ("step-60-ema-None", "ema"),
        ("step-60-power-0.05", "power"),
        ("step-60-power-0.1", "power"),
        ("post-hoc-0.07", "posthoc"),
        ("post-hoc-0.2", "posthoc"),
    ]


def test_kept_averages_are_one_hot() -> None:
    places = [int(average.alpha.argmax()) for average in stored_emas(INDEX, ())]
    assert places == [6, 7, 8]
    for average in stored_emas(INDEX, ()):
        assert sorted(average.alpha) == [0] * 9 + [1]


def test_averages_made_afterwards_are_of_power_snapshots_alone_with_sum_one() -> None:
    *_, average = stored_emas(INDEX, (0.2,))
    assert average.alpha.sum() == pytest.approx(1)
    assert set(np.flatnonzero(average.alpha)) == {0, 1, 3, 4, 7, 8}


def test_nothing_is_made_of_one_snapshot() -> None:
    one = INDEX[(INDEX["kind"] != "power") | (INDEX["name"] == "step-60-power-0.1")]
    kinds = [average.kind for average in stored_emas(one, (0.2,))]
    assert kinds == ["ema", "power"]


def test_the_coefficients_are_those_of_the_closest_combination() -> None:
    snapshots = INDEX[INDEX["ema_width"] == 0.1]

    def shares(last: int, width: float) -> np.ndarray:
        cumulative = np.minimum(np.arange(61) / last, 1) ** (gamma_of(width) + 1)
        return np.diff(cumulative)

    p = np.stack([shares(step, 0.1) for step in (20, 40, 60)], axis=1)
    # least squares with sum 1, by its normal equations with a multiplier
    normal = np.block([[p.T @ p, np.ones((3, 1))], [np.ones((1, 3)), np.zeros((1, 1))]])
    expected = np.linalg.solve(normal, np.append(p.T @ shares(60, 0.2), 1))[:3]
    np.testing.assert_allclose(posthoc_alpha(snapshots, 0.2), expected, atol=1e-9)


def test_a_width_that_was_kept_gives_the_average_that_was_kept() -> None:
    snapshots = INDEX[INDEX["kind"] == "power"]
    found = posthoc_alpha(snapshots, 0.1)
    np.testing.assert_allclose(found, [0, 0, 0, 0, 0, 1], atol=1e-9)


class Trained(NamedTuple):
    """Snapshots of a walk of the weights, and an average that was kept to its end."""

    index: pd.DataFrame
    store: CheckpointStore
    kept: torch.Tensor


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> Trained:
    folder: Path = tmp_path_factory.mktemp("run") / "checkpoints"
    dataset = CheckpointsDataset(path=str(folder))
    generator = torch.Generator().manual_seed(0)
    net = nn.Linear(256, 1, bias=False)
    bank = EMABank(net, (), (*WIDTHS, KEPT.value))
    rows: list[tuple[int, str, float | None]] = []
    for step in range(1, NUM_STEPS + 1):
        net.weight.data += torch.randn(1, 256, generator=generator)
        bank.update(step)
        if step % INTERVAL:
            continue
        for width in WIDTHS:
            rows.append((step, "power", width))
            averaged = bank.state_dict(Track("power", width), net)
            name = f"step-{step}-power-{width}"
            dataset.save({name: TensorFile(dict(averaged))})
    store, index = dataset.load(), index_of(rows)
    digests = [store.digest(name) for name in index["name"]]
    kept = bank.tracks[KEPT]["weight"].clone()
    return Trained(index.assign(digest=digests), store, kept)


def test_an_average_made_afterwards_is_the_one_that_training_would_have_kept(
    trained: Trained,
) -> None:
    *_, average = stored_emas(trained.index, (KEPT.value,))
    combined = CombinedWeights(trained.index, trained.store)
    found = combined.state_dict(average.alpha)["weight"]
    distance = (found - trained.kept).norm()
    assert distance < 1e-3 * trained.kept.norm()


def test_no_stored_average_comes_near_to_it(trained: Trained) -> None:
    stored = [
        trained.store.read(name).tensors["weight"] for name in trained.index["name"]
    ]
    nearest = min((tensor - trained.kept).norm() for tensor in stored)
    assert nearest > 1e-2 * trained.kept.norm()


STEPS = np.array([10, 20, 30, 40])


@pytest.fixture(scope="module")
def pixels(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return pixel_run(tmp_path_factory.mktemp("pixels"))


@pytest.fixture(scope="module")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> Run:
    return tiny_run(tmp_path_factory.mktemp("baselines"))


def emas(run: Run, window: float, widths: tuple[float, ...]) -> list[Ema]:
    members = members_of(run.catalog.rows, window)
    return candidate_emas(members, run.combination(), widths)


def test_searches_start_from_averages_of_the_checkpoints(pixels: Run) -> None:
    members = members_of(pixels.catalog.rows, 0.75)
    profiles = {
        "search.initial_ema_rates": (0.9, 0.95),
        "search.initial_sigma_rels": (0.1,),
    }
    initial = initial_alphas(members, pixels.combination(profiles))
    steps, gamma = STEPS[1:], gamma_of(0.1)
    # a checkpoint stands for the steps since the one before it, the first for all older ones
    expected: dict[str, Any] = {
        "EMA 0.9": np.diff(0.9 ** (40 - steps), prepend=0),
        "EMA 0.95": np.diff(0.95 ** (40 - steps), prepend=0),
        "power 0.1": np.diff((steps / 40) ** (gamma + 1), prepend=0),
        "uniform": np.full(3, 1 / 3),
        "last": [0, 0, 1],
    }
    assert list(initial) == list(expected)
    for name, alpha in expected.items():
        np.testing.assert_allclose(initial[name], alpha, atol=1e-12, err_msg=name)


def test_the_best_ema_is_among_stored_ones_made_ones_and_those_of_the_window(
    pixels: Run,
) -> None:
    found = emas(pixels, 0.5, (0.1, 0.2))
    assert [(ema.name, ema.kind) for ema in found] == [
        ("step-0000040-ema-0.9", "ema"),
        ("step-0000040-power-0.1", "power"),
        ("post-hoc-0.1", "posthoc"),
        ("post-hoc-0.2", "posthoc"),
        ("EMA 0.9", "window"),
        ("uniform", "window"),
    ]
    alphas = {ema.name: ema.alpha.tolist() for ema in found}
    assert alphas["step-0000040-ema-0.9"] == [0, 0, 0, 1, 0]
    assert alphas["step-0000040-power-0.1"] == [0, 0, 0, 0, 1]
    assert alphas["uniform"] == [0.5, 0.5, 0, 0, 0]
    for ema in found:
        assert ema.alpha.sum() == pytest.approx(1)


def test_of_one_checkpoint_in_the_window_no_average_is_made(pixels: Run) -> None:
    kinds = [ema.kind for ema in emas(pixels, 0.25, ())]
    assert kinds == ["ema", "power"]


def test_without_stored_averages_there_are_those_of_the_window(tiny: Run) -> None:
    assert [ema.name for ema in emas(tiny, 1.0, (0.1, 0.2))] == ["EMA 0.9", "uniform"]


def test_the_base_recipe_has_at_least_ten_averages_of_different_profiles(
    tiny: Run,
) -> None:
    index = tiny.catalog.rows.assign(step=[2500, 3000, 4000, 5000])
    found = candidate_emas(members_of(index, 1.0), recipe("base").combination, ())
    assert len({tuple(ema.alpha.round(6)) for ema in found}) >= 10
