"""The work of training: from a task to what each interval yields, in one process or in several.

Several share each batch, one per GPU. The first of them hands over what the catalog saves, and
waits until it is saved: what is on disk is in step with what was trained, as with one process.
"""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from functools import partial
from typing import Any

from pandas import DataFrame

from lct_pipeline.core.batches import BatchPreparation, Ranks
from lct_pipeline.core.training_loop import (
    NonFiniteLossError,
    StepMetrics,
    Trainer,
    training_steps,
)
from lct_pipeline.datasets.parts import Last
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import ParameterError, TrainingError
from lct_pipeline.models.device import choose_device
from lct_pipeline.processes.joint import run_together
from lct_pipeline.progress import gibibytes, track
from lct_pipeline.training.checkpoints import CheckpointPlan, MetricsRecorder
from lct_pipeline.training.latents import LatentReader
from lct_pipeline.training.task import TrainingTask
from lct_pipeline.training.trainer import build_trainer, frozen_model, level_schedule

logger = logging.getLogger(__name__)

Output = tuple[dict[str, TensorFile], DataFrame, TensorFile]


def train(task: TrainingTask) -> Iterator[tuple[Any, Any, Any]]:
    """Train, or go on; yield checkpoints, metrics and state at each interval, then the Last.

    The state is saved last: a run that is killed between two of them repeats the steps since the
    last one and writes the same checkpoints again.

    Raises:
        ParameterError: The state is of other parameters, or something does not fit together.
        TrainingError: The loss is not finite.
        UserError: A process was killed.
    """
    task.check_previous_state()
    num_steps, runtime = task.parameters.num_steps, task.runtime
    if task.first_step >= num_steps:
        logger.info("All %d training steps are already done.", num_steps)
        yield Last({}), Last(DataFrame()), Last(task.previous_state)
        return
    if runtime.num_processes > task.parameters.batch_size:
        raise ParameterError(
            f"runtime.num_processes={runtime.num_processes}: more than training.batch_size="
            f"{task.parameters.batch_size} samples to share."
        )
    outputs = run_together(
        partial(run_training, task),
        "training",
        runtime.num_processes,
        choose_device(runtime.device),
    )
    for files, rows, state in outputs:
        if state.metadata["step"] < num_steps:
            yield files, rows, state
        else:
            yield Last(files), Last(rows), Last(state)


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
            files = plan.files(metrics, task.description, task.trained_on)
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
