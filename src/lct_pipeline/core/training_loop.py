"""Training of a latent consistency model: one step, and the generator that repeats it.

What step k does is a function of the weights, the optimiser and (seed, k) alone: batches, noise,
levels and dropout come from generators made for that step. A continued run therefore needs no
saved generator to end with the same weights as an uninterrupted one.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from lct_pipeline.core.consistency import ConsistencyLoss, consistency_training_loss
from lct_pipeline.core.coupling import optimal_transport_coupling
from lct_pipeline.core.ema import EMATracks
from lct_pipeline.core.losses import LossName, adaptive_c, constant_c
from lct_pipeline.core.preconditioning import Denoiser
from lct_pipeline.core.randomness import derived_generator, derived_seed
from lct_pipeline.core.schedules import (
    curriculum,
    karras_sigmas,
    level_probabilities,
    sample_levels,
    small_noise_pairs,
)


class NonFiniteLossError(ArithmeticError):
    """The loss of a step is NaN or infinite; names the step and the noise level."""

    def __init__(self, step: int, level: float) -> None:
        super().__init__(
            f"the loss is not finite at step {step}, at noise level t = {level:.4g}"
        )
        self.step = step
        self.level = level


@dataclass(frozen=True)
class NoiseSchedule:
    """The levels, the curriculum and the distribution of levels; see ``schedules``."""

    sigma_min: float
    sigma_max: float
    rho: float
    s0: int
    s1: int
    P_mean: float
    P_std: float
    num_steps: int

    def num_levels(self, step: int) -> int:
        """Return N(k)."""
        return curriculum(step, num_steps=self.num_steps, s0=self.s0, s1=self.s1)

    def grid(self, num_levels: int) -> tuple[Tensor, Tensor]:
        """Return the increasing levels, ``(N + 1,)``, and the pairs' probabilities, ``(N,)``."""
        sigmas = karras_sigmas(
            num_levels, sigma_min=self.sigma_min, sigma_max=self.sigma_max, rho=self.rho
        )
        return sigmas, level_probabilities(sigmas, P_mean=self.P_mean, P_std=self.P_std)


@dataclass(frozen=True)
class Objective:
    """The techniques of sLCT that act on the loss, each with its switch."""

    loss: LossName
    adaptive_c: bool
    diffusion_weight: float
    diffusion_threshold: float
    optimal_transport: bool
    sigma_data: float

    def c(self, num_levels: int, *, s0: int, dimension: int) -> float:
        """Return the scale of the robust loss at N(k) = ``num_levels``."""
        if self.adaptive_c:
            return adaptive_c(num_levels, s0=s0, dimension=dimension)
        return constant_c(dimension)


@dataclass(frozen=True)
class StepMetrics:
    """What one step reports."""

    step: int
    loss: float
    consistency_loss: float
    diffusion_loss: float
    num_levels: int
    c: float


class Trainer:
    """A model in training: its network, optimiser and EMA tracks.

    Args:
        model: The consistency model; changed in place.
        schedule: Levels and curriculum.
        objective: The loss.
        learning_rate: Constant rate of RAdam.
        weight_decay: L2 decay of RAdam.
        ema_rates: Rates of the EMA tracks.
        seed: Seed of levels, noise and dropout.
    """

    def __init__(
        self,
        model: Denoiser,
        *,
        schedule: NoiseSchedule,
        objective: Objective,
        learning_rate: float,
        weight_decay: float,
        ema_rates: tuple[float, ...],
        seed: int,
    ) -> None:
        self.model = model
        self.schedule = schedule
        self.objective = objective
        self.ema = EMATracks(model.network, ema_rates)
        self.optimizer = torch.optim.RAdam(
            model.network.parameters(),
            lr=learning_rate,
            weight_decay=weight_decay,
            foreach=True,
        )
        self.seed = seed
        self.step = 0  # steps done
        self._grid = lru_cache(maxsize=2)(schedule.grid)

    def train_step(self, x: Tensor) -> StepMetrics:
        """Do one step on normalised latents ``(B, C, H, W)``.

        Raises:
            NonFiniteLossError: The loss is NaN or infinite; the weights are as before.
        """
        num_levels = self.schedule.num_levels(self.step)
        c = self.objective.c(num_levels, s0=self.schedule.s0, dimension=x[0].numel())
        loss, t = self._loss(x, num_levels, c)
        if not torch.isfinite(loss.total):
            raise NonFiniteLossError(self.step, _worst_level(loss, t))
        self.optimizer.zero_grad(set_to_none=True)
        loss.total.backward()
        self.optimizer.step()
        self.ema.update()
        self.step += 1
        means = (
            loss.total.item(),
            loss.consistency.mean().item(),
            loss.diffusion.mean().item(),
        )
        return StepMetrics(self.step, *means, num_levels=num_levels, c=c)

    def _loss(
        self, x: Tensor, num_levels: int, c: float
    ) -> tuple[ConsistencyLoss, Tensor]:
        """Draw noise and levels of this step and return the loss and the upper levels t."""
        generator = derived_generator(self.seed, "training", self.step)
        eps = torch.randn(x.shape, generator=generator).to(x.device)
        if self.objective.optimal_transport:
            eps = optimal_transport_coupling(x, eps)
        sigmas, probabilities = self._grid(num_levels)
        n = sample_levels(probabilities, len(x), generator)
        threshold = self.objective.diffusion_threshold
        mask = small_noise_pairs(n, num_levels=num_levels, threshold=threshold)
        t, r = (sigmas[i].to(device=x.device, dtype=_level_type(x)) for i in (n + 1, n))
        loss = consistency_training_loss(
            self.model,
            x,
            eps,
            t,
            r,
            loss=self.objective.loss,
            c=c,
            diffusion_mask=mask.to(x.device),
            diffusion_weight=self.objective.diffusion_weight,
            sigma_data=self.objective.sigma_data,
            dropout_seed=derived_seed(self.seed, "dropout", self.step),
        )
        return loss, t

    def state_tensors(self) -> dict[str, Tensor]:
        """Return all that a continued run needs, under flat names."""
        tensors = {
            f"network.{k}": v for k, v in self.model.network.state_dict().items()
        }
        for rate, track in self.ema.tracks.items():
            tensors |= {
                f"ema.{rate}.{name}": average for name, average in track.items()
            }
        for index, moments in self.optimizer.state_dict()["state"].items():
            tensors |= {
                f"optimizer.{index}.{name}": value for name, value in moments.items()
            }
        return tensors

    def load_state(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Continue from :meth:`state_tensors` after ``step`` steps."""
        self.model.network.load_state_dict(_below("network", tensors))
        for rate in self.ema.tracks:
            self.ema.load(rate, _below(f"ema.{rate}", tensors))
        state: dict[int, dict[str, Tensor]] = {}
        for name, value in _below("optimizer", tensors).items():
            index, key = name.split(".", 1)
            state.setdefault(int(index), {})[key] = value
        self.optimizer.load_state_dict({**self.optimizer.state_dict(), "state": state})
        self.step = step


def training_steps(
    trainer: Trainer, read_batch: Callable[[int], Tensor], num_steps: int
) -> Iterator[StepMetrics]:
    """Train until ``num_steps`` steps are done, yielding after each.

    Args:
        trainer: New, or continued from a state.
        read_batch: Returns the normalised latents ``(B, C, H, W)`` of a step.
        num_steps: Total number of steps, those before a continuation included.
    """
    while trainer.step < num_steps:
        yield trainer.train_step(read_batch(trainer.step))


class EpochOrder:
    """Which items a step sees: every item once per epoch, in an order drawn anew each epoch.

    Args:
        num_items: Number of items.
        batch_size: Items a step; may exceed ``num_items``.
        seed: Seed of the orders.
    """

    def __init__(self, num_items: int, batch_size: int, seed: int) -> None:
        self._num_items = num_items
        self._batch_size = batch_size
        self._permutation = lru_cache(maxsize=2)(
            lambda epoch: np.random.default_rng([seed, epoch]).permutation(num_items)
        )

    def batch(self, step: int) -> np.ndarray:
        """Return the item indices of a step, ``(batch_size,)``."""
        positions = np.arange(step * self._batch_size, (step + 1) * self._batch_size)
        epochs, places = np.divmod(positions, self._num_items)
        return np.concatenate(
            [self._permutation(int(e))[places[epochs == e]] for e in np.unique(epochs)]
        )


def _below(prefix: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names start with ``prefix.``, without it."""
    start = f"{prefix}."
    return {
        name[len(start) :]: t for name, t in tensors.items() if name.startswith(start)
    }


def _worst_level(loss: ConsistencyLoss, t: Tensor) -> float:
    """Return the level of the first sample whose loss is not finite."""
    finite = torch.isfinite(loss.consistency) & torch.isfinite(loss.diffusion)
    return t[(~finite).float().argmax()].item()


def _level_type(x: Tensor) -> torch.dtype:
    """Return the type of the levels: float64, where the device has it."""
    return torch.float32 if x.device.type == "mps" else torch.float64
