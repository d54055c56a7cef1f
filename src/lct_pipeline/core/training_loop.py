"""Training of a denoiser: one step, and the generator that repeats it.

What step k does is a function of the weights, the optimiser and (seed, k) alone: batches, noise,
levels and dropout come from generators made for that step. A continued run therefore needs no
saved generator to end with the same weights as an uninterrupted one.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import nullcontext
from dataclasses import dataclass, field
from typing import Any, Literal

import torch
from torch import Tensor
from torch.nn.parallel import DistributedDataParallel

from lct_pipeline.core.batches import (
    PreparedBatch,
    Ranks,
    prepared_ahead,
    prepared_in_turn,
)
from lct_pipeline.core.ema import EMABank
from lct_pipeline.core.losses import FittedC, constant_c, paper_c
from lct_pipeline.core.objectives import (
    Batch,
    Levels,
    LossParts,
    Objective,
    batch_loss,
)
from lct_pipeline.core.optimizer import Optimizer, OptimizerSettings
from lct_pipeline.core.preconditioning import Denoiser
from lct_pipeline.core.randomness import derived_generator, draw_seed


class NonFiniteLossError(ArithmeticError):
    """The loss of a step, or its gradient, is NaN or infinite.

    ``level`` is the noise level of the first such sample; NaN where the loss alone is finite.
    """

    def __init__(self, step: int, level: float) -> None:
        super().__init__(
            f"the gradient is not finite at step {step}"
            if math.isnan(level)
            else f"the loss is not finite at step {step}, at noise level t = {level:.4g}"
        )
        self.step = step
        self.level = level


@dataclass(frozen=True)
class StepMetrics:
    """What one step reports.

    ``td_rms`` is the root mean square of the temporal difference; ``coupling_seconds`` is what
    optimal transport took, and ``wait_seconds`` how long the step waited for its batch: transport
    is hidden behind the step before where the second is near 0.
    """

    step: int
    loss: float
    consistency_loss: float
    diffusion_loss: float
    num_levels: int
    c: float
    td_rms: float
    gradient_norm: float
    coupling_seconds: float
    wait_seconds: float


@dataclass(eq=False)
class Trainer:
    """A model in training: its network, optimiser and averages.

    Args:
        model: The denoiser; changed in place.
        objective: Its loss.
        diffusion_weight: Weight of the loss's diffusion part.
        scale: ``paper``, ``fitted`` or ``constant``: the law of c.
        s0: N(k) of the first stage; 0 where an earlier run was that.
        num_levels: Returns N(k) of a step.
        settings: How weights follow gradients.
        ema: The averages of the model's network to keep.
        gradient_accumulation: Parts in which a batch is computed.
        seed: Seed of dropout.
        ranks: This process among those that share the batch.
    """

    model: Denoiser
    objective: Objective
    diffusion_weight: float
    scale: Literal["paper", "fitted", "constant"]
    s0: int
    num_levels: Callable[[int], int]
    settings: OptimizerSettings
    ema: EMABank
    gradient_accumulation: int
    seed: int
    ranks: Ranks
    fitted_c: FittedC = field(default_factory=FittedC, init=False)
    step: int = field(default=0, init=False)  # steps done

    def __post_init__(self) -> None:
        self._gradient = self.ema.weights.gradient
        self.optimizer = Optimizer(self.settings, self.ema.weights)
        self._shared = _shared_model(self.model, self.ranks)

    def c(self, step: int, dimension: int) -> float:
        """Return the scale of the robust loss for latents of ``dimension`` values."""
        num_levels = self.num_levels(step)
        if self.scale == "constant":
            return constant_c(dimension)
        if self.scale == "fitted":
            return self.fitted_c(num_levels)
        return paper_c(num_levels, s0=self.s0, dimension=dimension)

    def train_step(self, prepared: PreparedBatch, wait_seconds: float) -> StepMetrics:
        """Do one step.

        Raises:
            NonFiniteLossError: The loss is NaN or infinite; the weights are as before.
        """
        num_levels = self.num_levels(self.step)
        c = self.c(self.step, prepared.batch.x[0].numel())
        self._gradient.zero_()
        totals = self._backward(prepared, c)
        values = torch.cat([totals, torch.linalg.vector_norm(self._gradient)[None]])
        # the one time that a step waits for the device
        consistency, diffusion, squares, num_pairs, norm = values.tolist()
        consistency /= prepared.batch_size
        diffusion /= max(prepared.num_small_noise, 1)
        loss = consistency + self.diffusion_weight * diffusion
        if not math.isfinite(loss + norm):
            raise NonFiniteLossError(self.step, self._worst_level(prepared, c))
        self.optimizer.step(self.step, norm)
        self.step += 1
        self.ema.update(self.step)
        self.fitted_c.add(num_levels, squares, int(num_pairs))
        return StepMetrics(
            step=self.step,
            loss=loss,
            consistency_loss=consistency,
            diffusion_loss=diffusion,
            num_levels=num_levels,
            c=c,
            td_rms=math.sqrt(squares / max(num_pairs, 1)),
            gradient_norm=norm,
            coupling_seconds=prepared.coupling_seconds,
            wait_seconds=wait_seconds,
        )

    def _backward(self, prepared: PreparedBatch, c: float) -> Tensor:
        """Add up the gradient, part by part.

        Returns the whole batch's sums, ``(4,)``: of the consistency loss, of the diffusion loss, of
        the mean squares of temporal differences, and their number: where r = 0 there is none.
        """
        totals = torch.zeros(4, device=self.ranks.device)
        parts = list(prepared.split(self.gradient_accumulation))
        for number, (batch, levels) in enumerate(parts):
            is_last = number == len(parts) - 1
            with self._gradients_exchanged(is_last):
                losses = self._losses(batch, levels, c, number)
                share = batch_loss(
                    losses,
                    diffusion_weight=self.diffusion_weight,
                    batch_size=prepared.batch_size,
                    num_small_noise=prepared.num_small_noise,
                )
                # the exchange takes the mean over processes, and the loss is a sum over them
                (share * self.ranks.num_processes).backward()
            totals += _sums(losses, levels)
        return self.ranks.sum(totals)

    def _losses(self, batch: Batch, levels: Levels, c: float, part: int) -> LossParts:
        generator = derived_generator(
            self.seed, "dropout", self.step, self.ranks.rank, part
        )
        seed = draw_seed(generator)
        return self.objective(self._shared, batch, levels, seed, c)

    def _gradients_exchanged(self, is_last: bool) -> Any:
        """Return a context in which processes exchange gradients, for the last part alone."""
        network = self._shared.network
        if isinstance(network, DistributedDataParallel) and not is_last:
            return network.no_sync()
        return nullcontext()

    @torch.no_grad()
    def _worst_level(self, prepared: PreparedBatch, c: float) -> float:
        """Return the level of a sample whose loss is not finite; NaN if there is none."""
        worst = prepared.levels.t.new_zeros(())
        for number, (batch, levels) in enumerate(
            prepared.split(self.gradient_accumulation)
        ):
            losses = self._losses(batch, levels, c, number)
            bad = ~torch.isfinite(losses.consistency + losses.diffusion)
            worst = torch.maximum(worst, torch.where(bad, levels.t, 0).max())
        return self.ranks.maximum(worst).item() or math.nan

    def state_tensors(self) -> dict[str, Tensor]:
        """Return all that a continued run needs, under flat names."""
        tensors = _prefixed("network.", self.model.network.state_dict())
        for track, average in self.ema.tracks.items():
            tensors |= _prefixed(f"average/{track.name}/", average)
        tensors |= _prefixed("optimizer.", self.optimizer.state_tensors())
        rows = [[n, total, count] for n, (total, count) in self.fitted_c.sums.items()]
        tensors["fitted_c"] = torch.tensor(rows, dtype=torch.float64).reshape(-1, 3)
        return tensors

    def load_state(self, tensors: Mapping[str, Tensor], step: int) -> None:
        """Continue from :meth:`state_tensors` after ``step`` steps."""
        self.model.network.load_state_dict(_below("network.", tensors))
        for track in self.ema.tracks:
            self.ema.load(track, _below(f"average/{track.name}/", tensors))
        self.optimizer.load_state(_below("optimizer.", tensors))
        rows = tensors["fitted_c"].tolist()
        self.fitted_c.sums = {int(n): (total, int(count)) for n, total, count in rows}
        self.step = step


def training_steps(
    trainer: Trainer, prepare: Callable[[int], PreparedBatch], num_steps: int
) -> Iterator[StepMetrics]:
    """Train until ``num_steps`` steps are done, yielding after each.

    Args:
        trainer: New, or continued from a state.
        prepare: Returns the batch of a step; called ahead, in a thread, unless a CPU trains.
        num_steps: Total number of steps, those before a continuation included.
    """
    on_cpu = trainer.ranks.device.type == "cpu"
    batches = prepared_in_turn if on_cpu else prepared_ahead
    for prepared, waited in batches(prepare, trainer.step, num_steps):
        yield trainer.train_step(prepared, waited)


def _shared_model(model: Denoiser, ranks: Ranks) -> Denoiser:
    """Return the model whose gradients all processes exchange; with one process, the model."""
    if ranks.num_processes == 1:
        return model
    devices = [ranks.device] if ranks.device.type == "cuda" else None
    network = DistributedDataParallel(model.network, device_ids=devices)
    return Denoiser(
        network,
        sigma_data=model.sigma_data,
        sigma_min=model.sigma_min,
        autocast=model.autocast,
    )


def _sums(losses: LossParts, levels: Levels) -> Tensor:
    """Return the sums of the losses, of the temporal differences, and the number of these."""
    is_pair = levels.r > 0
    squares = losses.squared_difference.masked_fill(~is_pair, 0)
    sums = [losses.consistency, losses.diffusion, squares, is_pair.to(squares.dtype)]
    return torch.stack([values.detach().sum() for values in sums])


def _prefixed(start: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    return {start + name: tensor for name, tensor in tensors.items()}


def _below(start: str, tensors: Mapping[str, Tensor]) -> dict[str, Tensor]:
    """Return the tensors whose names begin with ``start``, without it."""
    return {
        name[len(start) :]: t for name, t in tensors.items() if name.startswith(start)
    }
