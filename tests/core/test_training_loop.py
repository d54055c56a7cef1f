from __future__ import annotations

import copy
import math
from collections.abc import Mapping
from dataclasses import replace
from functools import partial
from typing import Any

import describing
import numpy as np
import pytest
import torch
from describing import random_mlp
from torch import Tensor, nn

from lct_pipeline.core.batches import BatchPreparation, PreparedBatch, Ranks
from lct_pipeline.core.ema import EMABank, Track
from lct_pipeline.core.flat_weights import FlatWeights
from lct_pipeline.core.levels import (
    DiffusionSchedule,
    LevelSchedule,
    TruncatedSchedule,
)
from lct_pipeline.core.losses import paper_c
from lct_pipeline.core.objectives import (
    ConsistencyDistillation,
    ConsistencyTraining,
    DiffusionTraining,
    LossParts,
    Objective,
    RobustLoss,
    TruncatedTraining,
)
from lct_pipeline.core.optimizer import OptimizerSettings
from lct_pipeline.core.preconditioning import Denoiser
from lct_pipeline.core.randomness import derived_generator
from lct_pipeline.core.samplers import sample_multistep
from lct_pipeline.core.training_loop import (
    NonFiniteLossError,
    StepMetrics,
    Trainer,
    training_steps,
)

ONE_PROCESS = Ranks(0, 1, torch.device("cpu"))


SHAPE = (1, 2, 2)


DIMENSION = 4


SIZE = 8


NUM_STEPS = 12


INDEX = replace(describing.INDEX, s0=4, s1=16, num_steps=NUM_STEPS)


ECT = replace(describing.ECT, s0=4, num_stages=3, num_steps=NUM_STEPS)


SCHEDULES: dict[str, LevelSchedule] = {
    "consistency": INDEX,
    "continuous": ECT,
    "truncated": TruncatedSchedule(INDEX, truncation=1.0, boundary_share=0.25),
    "distillation": INDEX,
    "diffusion": DiffusionSchedule(P_mean=-1.2, P_std=1.2),
}


KINDS = list(SCHEDULES)


every_kind = pytest.mark.parametrize("kind", KINDS)


RADAM = OptimizerSettings(
    name="radam",
    learning_rate=1e-2,
    weight_decay=1e-4,
    warmup_steps=0,
    clip_norm=None,
)


ADAMW = replace(RADAM, name="adamw", eps=1e-4, weight_decay=0.01)


class WideNetwork(nn.Module):
    """Two layers in float64, for comparisons to the last digits."""

    def __init__(self) -> None:
        super().__init__()
        torch.manual_seed(0)
        self.input = nn.Linear(DIMENSION + 1, 16)
        self.output = nn.Linear(16, DIMENSION)
        self.double()

    def forward(
        self, x: Tensor, c_noise: Tensor, labels: Tensor | None = None
    ) -> Tensor:
        h = torch.cat([x.flatten(1), c_noise[:, None] / 500], dim=1)
        return self.output(torch.tanh(self.input(h))).reshape(x.shape)


def denoiser(network: nn.Module) -> Denoiser:
    return Denoiser(network, sigma_data=0.5, sigma_min=0.002)


def mlp(dropout: float = 0.2, seed: int = 0) -> Denoiser:
    return random_mlp(SHAPE, dropout=dropout, seed=seed)


def objective(kind: str = "consistency", *, wide: bool = False) -> Objective:
    """Return an objective; its frozen model is the teacher or the first stage."""
    frozen = denoiser(WideNetwork()) if wide else mlp(seed=7)
    frozen, robust = frozen.eval().requires_grad_(False), RobustLoss("cauchy", "mean")
    found: dict[str, Objective] = {
        "consistency": ConsistencyTraining(robust, 0.5),
        "continuous": ConsistencyTraining(robust, 0.5),
        "truncated": TruncatedTraining(robust, 0.5, frozen, 1.0, 0.1, 0.25),
        "distillation": ConsistencyDistillation(robust, 0.5, frozen, "heun"),
        "diffusion": DiffusionTraining(0.5),
    }
    return found[kind]


def trainer_of(
    model: Denoiser | None = None, kind: str = "consistency", **changes: Any
) -> Trainer:
    model = model or mlp()
    arguments: dict[str, Any] = {
        "objective": objective(kind),
        "diffusion_weight": 5.0,
        "scale": "paper",
        "s0": 4,
        "num_levels": SCHEDULES[kind].num_levels,
        "settings": RADAM,
        "ema": EMABank(FlatWeights(model.network), rates=(0.9,), widths=(0.1,)),
        "gradient_accumulation": 1,
        "seed": 3,
        "ranks": ONE_PROCESS,
    }
    return Trainer(model, **(arguments | changes))


def read(step: int, dtype: torch.dtype = torch.float32) -> tuple[Tensor, None]:
    generator = torch.Generator().manual_seed(1000 + step)
    return 0.5 * torch.randn(SIZE, *SHAPE, generator=generator).to(dtype), None


def preparation(kind: str = "consistency", **changes: Any) -> BatchPreparation:
    arguments: dict[str, Any] = {
        "read": read,
        "schedule": SCHEDULES[kind],
        "coupling": "independent",
        "seed": 3,
        "ranks": ONE_PROCESS,
    }
    return BatchPreparation(**(arguments | changes))


WIDE = partial(read, dtype=torch.float64)


def train(
    trainer: Trainer, kind: str = "consistency", num_steps: int = NUM_STEPS
) -> list[StepMetrics]:
    return list(training_steps(trainer, preparation(kind), num_steps))


def assert_same_state(
    first: Mapping[str, Tensor], second: Mapping[str, Tensor]
) -> None:
    assert first.keys() == second.keys()
    different = [name for name in first if not torch.equal(first[name], second[name])]
    assert different == []


@pytest.mark.parametrize(
    "optimizer", [replace(RADAM, clip_norm=0.1), ADAMW], ids=["radam", "adamw"]
)
@pytest.mark.parametrize("num_parts", [2, 3, 20])
@every_kind
def test_a_batch_computed_in_parts_trains_as_the_whole_in_float64(
    kind: str, num_parts: int, optimizer: OptimizerSettings
) -> None:
    prepare = preparation(kind, read=WIDE)
    states, losses = [], []
    for parts in (1, num_parts):
        trainer = trainer_of(
            denoiser(WideNetwork()),
            kind,
            objective=objective(kind, wide=True),
            scale="fitted",
            settings=optimizer,
            gradient_accumulation=parts,
        )
        metrics = list(training_steps(trainer, prepare, 8))
        losses.append([(m.loss, m.consistency_loss, m.diffusion_loss) for m in metrics])
        states.append(trainer.state_tensors())
    np.testing.assert_allclose(losses[0], losses[1], rtol=1e-6)
    for name, whole in states[0].items():
        np.testing.assert_allclose(
            states[1][name], whole, rtol=1e-6, atol=1e-9, err_msg=name
        )


def seeds_of_dropout(num_parts: int, **changes: Any) -> list[int]:
    plain, seeds = objective(), []

    def recording(*given: Any) -> LossParts:
        seeds.append(given[3])
        return plain(*given)

    parts = {"gradient_accumulation": num_parts, **changes}
    train(trainer_of(objective=recording, **parts), num_steps=3)
    return seeds


def test_every_part_of_every_step_has_a_dropout_mask_of_its_own() -> None:
    seeds = seeds_of_dropout(2)
    assert len(set(seeds)) == len(seeds) == 6
    assert seeds_of_dropout(2) == seeds
    assert not set(seeds_of_dropout(2, seed=4)) & set(seeds)


@pytest.mark.parametrize("clip_norm", [None, 0.05])
@pytest.mark.parametrize("warmup_steps", [0, 5])
@pytest.mark.parametrize("optimizer", [RADAM, ADAMW], ids=["radam", "adamw"])
def test_the_weights_move_as_torchs_own_optimiser_moves_them(
    optimizer: OptimizerSettings, warmup_steps: int, clip_norm: float | None
) -> None:
    settings = replace(optimizer, warmup_steps=warmup_steps, clip_norm=clip_norm)
    model = denoiser(WideNetwork())
    plain = copy.deepcopy(model)
    kinds = {"radam": torch.optim.RAdam, "adamw": torch.optim.AdamW}
    by_hand = kinds[optimizer.name](
        plain.parameters(),
        weight_decay=optimizer.weight_decay,
        eps=optimizer.eps,
        foreach=False,
    )
    trainer = trainer_of(model, objective=objective(wide=True), settings=settings)
    prepare = preparation(read=WIDE)
    for step in range(8):  # beyond the sixth, where RAdam's rectification sets in
        item = prepare(step)
        c = paper_c(INDEX.num_levels(step), s0=4, dimension=DIMENSION)
        parts = objective(wide=True)(plain, item.batch, item.levels, 0, c)
        selected = parts.diffusion[item.levels.small_noise]
        loss = parts.consistency.mean() + 5 * selected.sum() / max(len(selected), 1)
        by_hand.zero_grad()
        loss.backward()
        gradients = [p.grad for p in plain.parameters() if p.grad is not None]
        norm = torch.cat([g.flatten() for g in gradients]).norm().item()
        if clip_norm is not None and norm > clip_norm:
            for g in gradients:
                g.mul_(clip_norm / norm)
        by_hand.param_groups[0]["lr"] = 1e-2 * min(1, (step + 1) / (warmup_steps or 1))
        by_hand.step()
        metrics = trainer.train_step(item, 0.0)
        assert metrics.loss == pytest.approx(loss.item(), rel=1e-6)
    for ours, theirs in zip(model.parameters(), plain.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs, rtol=1e-5, atol=1e-7)


def test_the_averages_follow_the_weights_of_every_step() -> None:
    trainer = trainer_of()
    network = trainer.model.network
    slow = {name: p.detach().double() for name, p in network.named_parameters()}
    for metrics in training_steps(trainer, preparation(), 6):
        for name, p in network.named_parameters():
            slow[name] = 0.9 * slow[name] + 0.1 * p.detach().double()
        if metrics.step == 1:  # the power function forgets the initial weights here
            for name, average in trainer.ema.tracks[Track("power", 0.1)].items():
                assert torch.equal(average, network.get_parameter(name))
    for name, average in trainer.ema.tracks[Track("rate", 0.9)].items():
        np.testing.assert_allclose(average, slow[name], rtol=1e-4, atol=1e-6)


@pytest.mark.parametrize("num_parts", [1, 3])
def test_td_rms_is_that_of_the_temporal_difference(num_parts: int) -> None:
    model, item = denoiser(WideNetwork()), preparation(read=WIDE)(0)
    t, r, _ = item.levels
    with torch.no_grad():
        d = model(item.batch.noised(t), t) - model(item.batch.noised(r), r)
    trainer = trainer_of(model, gradient_accumulation=num_parts)
    expected = d.square().mean().sqrt().item()
    assert trainer.train_step(item, 0.0).td_rms == pytest.approx(expected, rel=1e-6)
    assert trainer.step == 1 and list(training_steps(trainer, preparation(), 1)) == []


@pytest.mark.parametrize("num_parts", [1, 3])
def test_a_fitted_scale_follows_the_rms_of_the_stages_before(
    num_parts: int,
) -> None:
    trainer = trainer_of(scale="fitted", gradient_accumulation=num_parts)
    metrics = train(trainer)
    rms = {
        n: math.sqrt(np.mean([m.td_rms**2 for m in metrics if m.num_levels == n]))
        for n in (4, 8, 16)
    }
    assert trainer.fitted_c.rms() == pytest.approx(rms, rel=1e-6)
    by_stage = [{m.c for m in metrics if m.num_levels == n} for n in (4, 8, 16)]
    expected = [
        math.exp(-1.15 * math.log(4) - 0.85),
        rms[4] * 2**-1.15,
        rms[8] ** 2 / rms[4],  # the line through two points
    ]
    assert [len(scales) for scales in by_stage] == [1, 1, 1]
    assert [c.pop() for c in by_stage] == pytest.approx(expected, rel=1e-6)


def poisoned(item: PreparedBatch, sample: int = 5) -> PreparedBatch:
    x = item.batch.x.clone()
    x[sample, 0, 1, 1] = float("nan")
    return item._replace(batch=item.batch._replace(x=x))


@pytest.mark.parametrize("num_parts", [1, 3])
@every_kind
def test_a_loss_that_is_not_finite_names_step_and_level_and_changes_nothing(
    kind: str, num_parts: int
) -> None:
    trainer = trainer_of(kind=kind, scale="fitted", gradient_accumulation=num_parts)
    train(trainer, kind, 3)
    before = {name: t.clone() for name, t in trainer.state_tensors().items()}
    item = poisoned(preparation(kind)(3))
    level = item.levels.t[5].item()
    with pytest.raises(NonFiniteLossError) as caught:
        trainer.train_step(item, 0.0)
    assert caught.value.step == 3 == trainer.step
    assert caught.value.level == level
    assert "step 3" in str(caught.value)
    assert f"t = {level:.4g}" in str(caught.value)
    assert_same_state(trainer.state_tensors(), before)

    trainer.train_step(preparation(kind)(3), 0.0)  # and the run can go on
    undisturbed = trainer_of(kind=kind, scale="fitted", gradient_accumulation=num_parts)
    train(undisturbed, kind, 4)
    assert_same_state(trainer.state_tensors(), undisturbed.state_tensors())


@pytest.mark.parametrize(
    ("kind", "coupling"),
    [("consistency", "batch"), ("continuous", "independent")],
)
def test_training_on_one_latent_brings_one_step_samples_to_it(
    kind: str, coupling: str
) -> None:
    point = torch.tensor([[[0.5, -0.5], [0.3, 0.9]]])
    schedule = replace(SCHEDULES[kind], num_steps=300)  # type: ignore[type-var]
    prepare = preparation(
        read=lambda step: (point.expand(16, *SHAPE), None),
        schedule=schedule,
        coupling=coupling,
    )
    trainer = trainer_of(mlp(dropout=0.0), kind, num_levels=schedule.num_levels)
    eps = torch.randn(64, *SHAPE, generator=derived_generator(9))

    def error() -> float:
        x = sample_multistep(trainer.model, [eps], [80.0], sigma_min=0.002)
        return (x - point).square().mean().item()

    before = error()
    list(training_steps(trainer, prepare, 300))
    assert error() < 0.2 * before
