"""The window, and averages of the weights as combinations: what searches start from and beat."""

from __future__ import annotations

from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from configuration import recipe
from small_runs import Run
from torch import nn

from lct_pipeline.combination.baselines import (
    candidate_emas,
    initial_alphas,
    posthoc_alpha,
)
from lct_pipeline.combination.weights import CombinedWeights
from lct_pipeline.combination.window import check_window, members_of
from lct_pipeline.core.ema.bank import EMABank, Track
from lct_pipeline.core.ema.profiles import gamma_of
from lct_pipeline.datasets.checkpoints import CheckpointsDataset
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import DataError

STEPS = np.array([10, 20, 30, 40])
AVERAGES = ["step-0000020-power-0.1", "step-0000040-ema-0.9", "step-0000040-power-0.1"]


@pytest.mark.parametrize(("window", "first"), [(1.0, 0), (0.75, 1), (0.5, 2)])
def test_the_window_is_the_last_share_of_the_steps(
    pixels: Run, window: float, first: int
) -> None:
    members = members_of(pixels.catalog.rows, window)
    assert members.window["step"].tolist() == STEPS[first:].tolist()
    assert set(members.window["kind"]) == {"raw"}
    assert members.rows["name"].tolist()[members.window_size :] == AVERAGES


def test_a_window_of_one_checkpoint_is_refused_with_what_helps(pixels: Run) -> None:
    with pytest.raises(DataError, match=r"at least 2.*has 1.*combination\.window"):
        check_window(members_of(pixels.catalog.rows, 0.25))


def test_coefficients_of_the_window_are_none_of_the_averages(pixels: Run) -> None:
    members = members_of(pixels.catalog.rows, 0.5)
    alphas = np.array([[0.25, 0.75], [-1.0, 2.0]])
    padded = members.padded(alphas)
    np.testing.assert_array_equal(padded, np.pad(alphas, ((0, 0), (0, 3))))
    np.testing.assert_array_equal(members.padded(alphas[0]), padded[0])


def test_searches_start_from_averages_of_the_checkpoints() -> None:
    initial = initial_alphas([20, 30, 40], (0.9, 0.95), (0.1,))
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
    pixels: Run, tiny: Run
) -> None:
    def found(run: Run, window: float, widths: tuple[float, ...]) -> dict[str, Any]:
        stage = run.stage({"window": window})
        emas = candidate_emas(stage.members, stage.initial, widths)
        assert all(ema.alpha.sum() == pytest.approx(1) for ema in emas)
        return {ema.name: (ema.kind, ema.alpha.tolist()) for ema in emas}

    emas = found(pixels, 0.5, (0.1, 0.2))  # two of the window, then three averages
    kinds = ["ema", "power", "posthoc", "posthoc", "window", "window"]
    assert [kind for kind, _ in emas.values()] == kinds
    assert emas["step-0000040-ema-0.9"][1] == [0, 0, 0, 1, 0]
    assert emas["step-0000040-power-0.1"][1] == [0, 0, 0, 0, 1]
    # a width that was kept gives the average that was kept
    np.testing.assert_allclose(emas["post-hoc-0.1"][1], [0, 0, 0, 0, 1], atol=1e-9)
    other = np.array(emas["post-hoc-0.2"][1])
    assert set(np.flatnonzero(other)) == {2, 4}
    assert emas["uniform"][1] == [0.5, 0.5, 0, 0, 0]
    assert list(found(pixels, 0.25, ())) == AVERAGES[1:]  # one in the window
    assert list(found(tiny, 1.0, (0.1, 0.2))) == ["EMA 0.9", "uniform"]  # none stored


def test_the_coefficients_are_those_of_the_closest_combination() -> None:
    def shares(last: int, width: float) -> np.ndarray:
        cumulative = np.minimum(np.arange(61) / last, 1) ** (gamma_of(width) + 1)
        return np.diff(cumulative)

    p = np.stack([shares(step, 0.1) for step in (20, 40, 60)], axis=1)
    # least squares with sum 1, by its normal equations with a multiplier
    normal = np.block([[p.T @ p, np.ones((3, 1))], [np.ones((1, 3)), np.zeros((1, 1))]])
    expected = np.linalg.solve(normal, np.append(p.T @ shares(60, 0.2), 1))[:3]
    snapshots = pd.DataFrame({"step": [20, 40, 60], "ema_width": 0.1})
    np.testing.assert_allclose(posthoc_alpha(snapshots, 0.2), expected, atol=1e-9)


def test_an_average_made_afterwards_is_the_one_that_training_would_have_kept(
    tmp_path_factory: pytest.TempPathFactory,
) -> None:
    folder = tmp_path_factory.mktemp("run") / "checkpoints"
    dataset = CheckpointsDataset(path=str(folder))
    generator = torch.Generator().manual_seed(0)
    net, widths, kept = nn.Linear(256, 1, bias=False), (0.05, 0.1), Track("power", 0.15)
    bank, rows = EMABank(net, (), (*widths, kept.value)), []
    for step in range(1, 401):
        net.weight.data += torch.randn(1, 256, generator=generator)
        bank.update(step)
        for width in widths if step % 25 == 0 else ():
            name = f"step-{step}-power-{width}"
            averaged = dict(bank.state_dict(Track("power", width), net))
            dataset.save({name: TensorFile(averaged)})
            rows.append({"name": name, "step": step, "ema_width": width})
    store, index = dataset.load(), pd.DataFrame(rows)
    index["digest"] = [store.digest(name) for name in index["name"]]
    alpha = posthoc_alpha(index, kept.value)
    found = CombinedWeights(index, store).state_dict(alpha)["weight"]
    expected = bank.tracks[kept]["weight"]
    assert (found - expected).norm() < 1e-3 * expected.norm()
    stored = [store.read(name).tensors["weight"] for name in index["name"]]
    nearest = min((tensor - expected).norm() for tensor in stored)
    assert nearest > 1e-2 * expected.norm()  # no stored one comes near to it


def test_the_base_recipe_has_at_least_ten_averages_of_different_profiles() -> None:
    search, steps = recipe("base").combination.search, [2500, 3000, 4000, 5000]
    rates, widths = search.initial_ema_rates, search.initial_sigma_rels
    found = initial_alphas(steps, rates, widths).values()
    assert (
        len({tuple(alpha.round(6)) for alpha in found}) >= 11
    )  # and the last checkpoint
