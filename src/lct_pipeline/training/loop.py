"""The work of one training process: from a task to a trainer, and to what each interval yields."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from typing import Any

import torch
from pandas import DataFrame
from torch import nn

from lct_pipeline.core.batches import BatchPreparation
from lct_pipeline.core.ema.bank import EMABank
from lct_pipeline.core.objectives import (
    ConsistencyDistillation,
    ConsistencyTraining,
    DiffusionTraining,
    Objective,
    RobustLoss,
    Solver,
    TruncatedTraining,
)
from lct_pipeline.core.preconditioning import Denoiser
from lct_pipeline.core.ranks import Ranks
from lct_pipeline.core.training_loop import (
    NonFiniteLossError,
    OptimizerSettings,
    StepMetrics,
    Trainer,
    training_steps,
)
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import ParameterError, TrainingError
from lct_pipeline.models.denoiser import ModelDescription, build_model
from lct_pipeline.parameters import Training
from lct_pipeline.progress import gibibytes, track
from lct_pipeline.training.checkpoints import CheckpointPlan, MetricsRecorder
from lct_pipeline.training.init_from import frozen_model
from lct_pipeline.training.latents import LatentReader
from lct_pipeline.training.schedule import level_schedule
from lct_pipeline.training.task import TrainingTask

logger = logging.getLogger(__name__)

SOLVER: Solver = "heun"  # a step of the teacher; better than Euler's (Song et al. 2023)
BOUNDARY_WEIGHT = 0.1  # of the loss at the boundary of truncated training, as of TCM

Output = tuple[dict[str, TensorFile], DataFrame, TensorFile]


def run_training(task: TrainingTask, ranks: Ranks) -> Iterator[Output]:
    """Train; yield checkpoints, rows of metrics and the state at each checkpoint interval.

    All processes have the same weights; the first has the seconds of its own.
    """
    trainer = _trainer(task, ranks)
    plan = CheckpointPlan(trainer, task.parameters)
    recorder = MetricsRecorder(task.parameters.batch_size)
    if ranks.rank == 0:
        _announce(task, plan)
    for metrics in _steps(task, plan, recorder, ranks):
        if plan.is_due(metrics.step):
            state = TensorFile(
                trainer.state_tensors(), {"step": metrics.step, **task.origin}
            )
            files = plan.files(metrics, task.description)
            yield files, recorder.take_rows(), state


def _trainer(task: TrainingTask, ranks: Ranks) -> Trainer:
    """Return a trainer at the step where the task goes on."""
    source, state = task.init_from, task.previous_state
    trainer = build_trainer(
        task.description,
        task.parameters,
        None if source is None else frozen_model(source, ranks.device),
        ranks,
        gradient_accumulation=task.runtime.gradient_accumulation,
        compiled=task.runtime.compile,
    )
    if state is not None:
        trainer.load_state(state.tensors, task.first_step)
    return trainer


def build_objective(parameters: Training, init_from: Denoiser | None) -> Objective:
    """Return the objective that the parameters describe.

    Args:
        parameters: The training's parameters.
        init_from: The frozen teacher of distillation or first stage of truncated training.
    """
    chosen, sigma_data = parameters.objective, parameters.noise.sigma_data
    robust = RobustLoss(chosen.loss, chosen.residual)
    if chosen.kind == "consistency":
        return ConsistencyTraining(robust, sigma_data)
    if chosen.kind == "diffusion":
        return DiffusionTraining(sigma_data)
    assert init_from is not None  # these two kinds need one, which is checked before
    if chosen.kind == "distillation":
        return ConsistencyDistillation(robust, sigma_data, init_from, SOLVER)
    level = chosen.truncation.level
    return TruncatedTraining(robust, sigma_data, init_from, level, BOUNDARY_WEIGHT)


def build_trainer(
    description: ModelDescription,
    parameters: Training,
    init_from: Denoiser | None,
    ranks: Ranks,
    *,
    gradient_accumulation: int,
    compiled: bool,
) -> Trainer:
    """Return a trainer at step 0, its network that of the first stage where there is one.

    Raises:
        ParameterError: The network does not fit the latents.
    """
    dtype = torch.bfloat16 if parameters.precision == "bfloat16" else None
    try:
        model = build_model(description, seed=parameters.seed, autocast=dtype)
    except ValueError as error:
        raise ParameterError(
            f"training.network does not fit the latents: {error}"
        ) from error
    if init_from is not None:
        model.network.load_state_dict(init_from.network.state_dict())
    model.to(ranks.device).train()
    if compiled:
        compile_network(model.network, parameters.network.dropout)
    return Trainer(
        model,
        objective=build_objective(parameters, init_from),
        diffusion_weight=parameters.objective.diffusion_weight,
        scale=parameters.objective.c_schedule,
        s0=parameters.noise.s0,
        num_levels=level_schedule(parameters).num_levels,
        settings=OptimizerSettings(**parameters.optimizer.model_dump()),
        ema=EMABank(
            model.network,
            rates=parameters.ema.rates,
            widths=parameters.ema.sigma_rels,
        ),
        gradient_accumulation=gradient_accumulation,
        seed=parameters.seed,
        ranks=ranks,
    )


def compile_network(network: nn.Module, dropout: float) -> None:
    """Compile in place: names of weights stay; dropout draws what it draws uncompiled."""
    options: dict[str, Any] = {"fallback_random": True} if dropout > 0 else {}
    network.compile(options=options)


def _steps(
    task: TrainingTask, plan: CheckpointPlan, recorder: MetricsRecorder, ranks: Ranks
) -> Iterator[StepMetrics]:
    """Yield the steps behind a progress bar, recording their metrics."""
    trainer, parameters = plan.trainer, plan.parameters
    prepare = _preparation(task, ranks)
    progress = track(
        training_steps(trainer, prepare, parameters.num_steps),
        "train",
        "step",
        total=parameters.num_steps,
        initial=trainer.step,
        silent=ranks.rank > 0,
    )
    try:
        for metrics in progress:
            recorder.add(metrics)
            is_last = metrics.step == parameters.num_steps
            if is_last or metrics.step % parameters.metrics_interval == 0:
                progress.set_postfix_str(recorder.close_row(), refresh=False)
            yield metrics
    except NonFiniteLossError as error:
        raise TrainingError(_explain(error, plan)) from error


def _announce(task: TrainingTask, plan: CheckpointPlan) -> None:
    """Log what is trained, and how much disk its checkpoints take in all."""
    network, num_files = plan.trainer.model.network, plan.num_files()
    num_bytes = num_files * sum(v.nbytes for v in network.state_dict().values())
    logger.info(
        "Training %.2f M weights on %s. Its %d checkpoints take %s of disk.",
        sum(p.numel() for p in network.parameters()) / 1e6,
        plan.trainer.ranks.device,
        num_files,
        gibibytes(num_bytes),
    )
    free = shutil.disk_usage(task.latents.folder).free
    if free < num_bytes:
        logger.warning(
            "Only %s are free there: raise training.checkpoint_interval, or lower "
            "training.checkpoint_window.",
            gibibytes(free),
        )


def _preparation(task: TrainingTask, ranks: Ranks) -> Any:
    """Return the function from a step to its batch."""
    read = LatentReader(
        task.latents,
        task.latent_manifest,
        task.latent_normalisation,
        task.description.class_counts,
        task.parameters,
        ranks.device,
        on_device=task.runtime.latents_on_device,
    )
    return BatchPreparation(
        read=read,
        schedule=level_schedule(task.parameters),
        coupling=task.parameters.objective.coupling,
        seed=task.parameters.seed,
        ranks=ranks,
    )


def _explain(error: NonFiniteLossError, plan: CheckpointPlan) -> str:
    last = next((k for k in range(error.step, 0, -1) if None in plan.due(k)), None)
    good = "none was written yet" if last is None else f"step-{last:07d}-raw"
    return (
        f"training stopped: {error}. Last good checkpoint: {good}. A lower "
        "training.optimizer.learning_rate usually helps; nothing that was saved is lost."
    )
