from __future__ import annotations

import copy
from dataclasses import replace
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lct_pipeline.core.losses import adaptive_c, constant_c
from lct_pipeline.core.preconditioning import Denoiser
from lct_pipeline.core.samplers import sample_multistep
from lct_pipeline.core.training_loop import (
    EpochOrder,
    NoiseSchedule,
    NonFiniteLossError,
    Objective,
    StepMetrics,
    Trainer,
    training_steps,
)
from lct_pipeline.models.mlp import MLPNetwork

SHAPE = (1, 2, 2)
SCHEDULE = NoiseSchedule(
    sigma_min=0.002,
    sigma_max=80.0,
    rho=7.0,
    s0=4,
    s1=16,
    P_mean=-1.1,
    P_std=2.0,
    num_steps=12,
)
OBJECTIVE = Objective(
    loss="cauchy",
    adaptive_c=True,
    diffusion_weight=5.0,
    diffusion_threshold=0.75,
    optimal_transport=True,
    sigma_data=0.5,
)


def make_model(dropout: float = 0.2) -> Denoiser:
    torch.manual_seed(0)
    network = MLPNetwork(
        SHAPE, width=16, num_blocks=2, norm="non_scaling_layer_norm", dropout=dropout
    )
    with torch.no_grad():  # no zero weights: every part acts from the first step
        for p in network.parameters():
            p.add_(0.05 * torch.randn_like(p))
    return Denoiser(network, sigma_data=0.5, sigma_min=0.002)


def make_trainer(model: Denoiser | None = None, **changes: Any) -> Trainer:
    arguments: dict[str, Any] = {
        "schedule": SCHEDULE,
        "objective": OBJECTIVE,
        "learning_rate": 1e-2,
        "weight_decay": 1e-4,
        "ema_rates": (0.9, 0.99),
        "seed": 3,
    }
    return Trainer(model or make_model(), **(arguments | changes))


def read_batch(step: int) -> Tensor:
    generator = torch.Generator().manual_seed(1000 + step)
    return 0.5 * torch.randn(8, *SHAPE, generator=generator)


def first_step(x: Tensor | None = None, **changes: Any) -> StepMetrics:
    """Metrics of a step in the second stage, where c differs from the constant."""
    trainer = make_trainer(objective=replace(OBJECTIVE, **changes))
    trainer.step = 5
    return trainer.train_step(read_batch(0) if x is None else x)


# one step and its switches


@pytest.mark.parametrize("step", range(12))
def test_an_interrupted_run_ends_bit_for_bit_as_an_uninterrupted_one(step: int) -> None:
    whole = make_trainer()
    list(training_steps(whole, read_batch, 12))
    first = make_trainer()
    list(training_steps(first, read_batch, step))
    saved = {name: t.clone() for name, t in first.state_tensors().items()}

    torch.manual_seed(step)  # another process: another global generator, other weights
    network = MLPNetwork(
        SHAPE, width=16, num_blocks=2, norm="non_scaling_layer_norm", dropout=0.2
    )
    second = make_trainer(Denoiser(network, sigma_data=0.5, sigma_min=0.002))
    second.load_state(saved, step)
    metrics = list(training_steps(second, read_batch, 12))
    assert [m.step for m in metrics] == list(range(step + 1, 13))
    expected, found = whole.state_tensors(), second.state_tensors()
    assert found.keys() == expected.keys()
    assert all(torch.equal(found[name], expected[name]) for name in expected)


def test_a_run_repeats_itself_and_another_seed_does_not() -> None:
    losses = [
        [m.loss for m in training_steps(make_trainer(seed=seed), read_batch, 4)]
        for seed in (3, 3, 4)
    ]
    assert losses[0] == losses[1] != losses[2]


def test_training_leaves_the_global_generator_as_it_was() -> None:
    trainer = make_trainer()
    before = torch.get_rng_state()
    list(training_steps(trainer, read_batch, 2))
    assert torch.equal(torch.get_rng_state(), before)


def test_the_weights_move_as_torchs_own_radam_moves_them() -> None:
    model = make_model(dropout=0.0)
    plain = copy.deepcopy(model)
    optimizer = torch.optim.RAdam(
        plain.parameters(), lr=1e-2, weight_decay=1e-4, foreach=False
    )
    trainer = make_trainer(model)
    for step in range(8):  # beyond the sixth, where the rectification sets in
        trainer.train_step(read_batch(step))
        gradients = [p.grad for p in model.parameters()]
        for p, gradient in zip(plain.parameters(), gradients, strict=True):
            assert gradient is not None
            p.grad = gradient.clone()
        optimizer.step()
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-6)


def test_ema_tracks_follow_the_weights_after_every_step() -> None:
    trainer = make_trainer()
    network = trainer.model.network
    slow = {name: p.detach().double() for name, p in network.named_parameters()}
    for step in range(6):
        trainer.train_step(read_batch(step))
        for name, p in network.named_parameters():
            slow[name] = 0.9 * slow[name] + 0.1 * p.detach().double()
    for name, average in trainer.ema.tracks[0.9].items():
        np.testing.assert_allclose(average, slow[name], rtol=1e-4, atol=1e-6)


def test_metrics_follow_the_curriculum() -> None:
    metrics = list(training_steps(make_trainer(), read_batch, 12))
    assert [m.num_levels for m in metrics] == [4] * 4 + [8] * 4 + [16] * 4
    dimension = 4
    assert [m.c for m in metrics] == [
        adaptive_c(m.num_levels, s0=4, dimension=dimension) for m in metrics
    ]
    assert [m.step for m in metrics] == list(range(1, 13))


def test_without_adaptive_c_the_scale_is_that_of_ict_throughout() -> None:
    trainer = make_trainer(objective=replace(OBJECTIVE, adaptive_c=False))
    metrics = list(training_steps(trainer, read_batch, 12))
    assert {m.c for m in metrics} == {constant_c(4)}
    assert first_step(adaptive_c=False).loss != first_step().loss


def test_the_diffusion_loss_enters_the_total_with_its_weight() -> None:
    off = first_step(diffusion_weight=0.0, diffusion_threshold=0.0)
    assert off.loss == pytest.approx(off.consistency_loss, rel=1e-6)
    for weight in (1.0, 5.0):
        on = first_step(diffusion_weight=weight, diffusion_threshold=0.0)
        assert on.consistency_loss == off.consistency_loss
        expected = off.loss + weight * off.diffusion_loss
        assert on.loss == pytest.approx(expected, rel=1e-5)


def test_a_higher_threshold_leaves_fewer_samples_with_the_diffusion_loss() -> None:
    losses = [
        first_step(diffusion_threshold=threshold).diffusion_loss
        for threshold in (0.0, 0.4, 0.75, 1.0)
    ]
    assert losses == sorted(losses, reverse=True)
    assert losses[0] > losses[-1] == 0


def test_a_batch_without_small_noise_trains_without_nan() -> None:
    trainer = make_trainer(objective=replace(OBJECTIVE, diffusion_threshold=1.0))
    metrics = trainer.train_step(read_batch(0))
    assert metrics.diffusion_loss == 0
    assert metrics.loss == pytest.approx(metrics.consistency_loss)
    assert all(torch.isfinite(p).all() for p in trainer.model.parameters())


def test_each_robust_loss_gives_a_loss_of_its_own() -> None:
    names = ("cauchy", "pseudo_huber", "geman_mcclure", "l2")
    found = {first_step(loss=name).consistency_loss for name in names}
    assert len(found) == 4
    diffusion = {first_step(loss=name).diffusion_loss for name in names}
    assert len(diffusion) == 1


def noise_of_first_step(optimal_transport: bool) -> tuple[Tensor, Tensor]:
    """Return latents and noise of a step, the noise solved from what the model saw."""
    trainer = make_trainer(
        objective=replace(OBJECTIVE, optimal_transport=optimal_transport)
    )
    seen: list[tuple[Tensor, Tensor]] = []
    trainer.model.register_forward_pre_hook(lambda _, given: seen.append(given))
    x = read_batch(0)
    trainer.train_step(x)
    x_t, t = seen[0]
    return x, (x_t - x) / t.reshape(-1, 1, 1, 1)


def test_optimal_transport_reorders_the_noise_towards_the_latents() -> None:
    x, plain = noise_of_first_step(optimal_transport=False)
    _, coupled = noise_of_first_step(optimal_transport=True)
    assert (x - coupled).square().sum() < (x - plain).square().sum()
    near = torch.cdist(coupled.flatten(1), plain.flatten(1)).amin(1)
    assert (near < 1e-3).all()  # the same noise vectors in another order


def test_levels_of_a_step_are_neighbours_on_the_grid() -> None:
    trainer = make_trainer()
    seen: list[Tensor] = []
    trainer.model.register_forward_pre_hook(lambda _, given: seen.append(given[1]))
    trainer.train_step(read_batch(0))
    t, r = seen
    assert t.dtype == torch.float64
    high, low = 80 ** (1 / 7), 0.002 ** (1 / 7)
    grid = (low + np.arange(5) / 4 * (high - low)) ** 7
    place_t = np.abs(np.log(t.numpy()[:, None] / grid)).argmin(1)
    np.testing.assert_allclose(t, grid[place_t], rtol=1e-9)
    np.testing.assert_allclose(r, grid[place_t - 1], rtol=1e-9)


# faults


def test_a_loss_that_is_not_finite_names_step_and_level_and_changes_nothing() -> None:
    trainer = make_trainer(objective=replace(OBJECTIVE, optimal_transport=False))
    list(training_steps(trainer, read_batch, 3))
    before = {name: t.clone() for name, t in trainer.state_tensors().items()}
    levels: list[Tensor] = []
    trainer.model.register_forward_pre_hook(lambda _, given: levels.append(given[1]))
    x = read_batch(3)
    x[5, 0, 1, 1] = float("nan")
    with pytest.raises(NonFiniteLossError) as caught:
        trainer.train_step(x)
    level = levels[0][5].item()
    assert caught.value.step == 3 == trainer.step
    assert caught.value.level == pytest.approx(level)
    assert "step 3" in str(caught.value)
    assert f"t = {level:.4g}" in str(caught.value)
    after = trainer.state_tensors()
    assert all(torch.equal(after[name], before[name]) for name in before)
    trainer.train_step(read_batch(3))  # and the run can go on


def test_weights_that_overflow_stop_the_run() -> None:
    trainer = make_trainer()
    with torch.no_grad():
        trainer.model.network.output.bias.fill_(float("inf"))
    with pytest.raises(NonFiniteLossError):
        trainer.train_step(read_batch(0))


# what training is for


def test_training_on_one_latent_brings_one_step_samples_to_it() -> None:
    point = torch.tensor([[[0.5, -0.5], [0.3, 0.9]]])
    schedule = replace(SCHEDULE, num_steps=300)
    trainer = make_trainer(make_model(dropout=0.0), schedule=schedule)
    eps = torch.randn(64, *SHAPE, generator=torch.Generator().manual_seed(9))

    def error() -> float:
        x = sample_multistep(trainer.model, [eps], [80.0], sigma_min=0.002)
        return (x - point).square().mean().item()

    before = error()
    list(training_steps(trainer, lambda step: point.expand(16, *SHAPE), 300))
    assert error() < 0.2 * before


# the order of the items


@pytest.mark.parametrize(("num_items", "batch_size"), [(7, 3), (8, 4), (7, 20), (1, 5)])
def test_every_item_is_seen_once_per_epoch(num_items: int, batch_size: int) -> None:
    order = EpochOrder(num_items, batch_size, seed=0)
    batches = [order.batch(step) for step in range(num_items * 3)]
    assert all(batch.shape == (batch_size,) for batch in batches)
    items = np.concatenate(batches)
    epochs = items.reshape(-1, num_items)
    assert (np.sort(epochs, axis=1) == np.arange(num_items)).all()


def test_each_epoch_has_an_order_of_its_own() -> None:
    order = EpochOrder(20, 20, seed=0)
    epochs = {tuple(order.batch(step)) for step in range(10)}
    assert len(epochs) == 10
    assert tuple(EpochOrder(20, 20, seed=1).batch(0)) not in epochs


def test_a_step_sees_the_same_items_whatever_was_read_before() -> None:
    order = EpochOrder(11, 4, seed=2)
    in_turn = [order.batch(step) for step in range(12)]
    for step in (9, 0, 5, 11):
        assert np.array_equal(EpochOrder(11, 4, seed=2).batch(step), in_turn[step])
        assert np.array_equal(order.batch(step), in_turn[step])
