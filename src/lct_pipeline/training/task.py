"""The work of one training process, from a task to what it yields at each checkpoint."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from pandas import DataFrame

from lct_pipeline.core.batches import BatchPreparation
from lct_pipeline.core.ranks import Ranks
from lct_pipeline.core.training_loop import (
    NonFiniteLossError,
    StepMetrics,
    Trainer,
    training_steps,
)
from lct_pipeline.datasets.checkpoints import CheckpointStore
from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.datasets.splits import indices_of
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import ParameterError, TrainingError
from lct_pipeline.parameters import Runtime, Training, first_difference
from lct_pipeline.progress import gibibytes, track
from lct_pipeline.training.assembly import build_trainer, level_schedule
from lct_pipeline.training.checkpoints import (
    MetricsRecorder,
    checkpoints,
    due_files,
    is_checkpoint,
    num_files,
)
from lct_pipeline.training.description import class_counts, describe_model
from lct_pipeline.training.first_stage import (
    check_first_stage,
    first_stage_weights,
    frozen_model,
)
from lct_pipeline.training.latents import LatentReader, fits_beside_the_model

logger = logging.getLogger(__name__)

Output = tuple[dict[str, TensorFile], DataFrame, TensorFile]


@dataclass(frozen=True)
class TrainingTask:
    """All that a process needs to train; can be sent to another one."""

    latents: ShardStore
    latent_manifest: DataFrame
    latent_normalisation: TensorFile
    first_stage: TensorFile | None
    previous_state: TensorFile | None
    description: dict[str, Any]
    origin: dict[str, Any]
    parameters: Training
    runtime: Runtime


def run_training(task: TrainingTask, ranks: Ranks) -> Iterator[Output | None]:
    """Train; yield checkpoints, rows of metrics and the state at each checkpoint interval.

    Processes after the first have the same weights, and yield None.
    """
    parameters = task.parameters
    trainer = _trainer(task, ranks)
    recorder = MetricsRecorder(parameters.batch_size)
    for metrics in _steps(task, trainer, recorder, ranks):
        if not is_checkpoint(trainer, parameters):
            continue
        if ranks.rank > 0:
            yield None
        else:
            metadata = {"step": metrics.step, **task.origin}
            state = TensorFile(trainer.state_tensors(), metadata)
            files = checkpoints(trainer, metrics, task.description, parameters)
            yield files, recorder.take_rows(), state


def _trainer(task: TrainingTask, ranks: Ranks) -> Trainer:
    """Return a trainer at the step where the task goes on."""
    first_stage = (
        None
        if task.first_stage is None
        else frozen_model(task.first_stage, ranks.device)
    )
    trainer = build_trainer(
        task.description,
        task.parameters,
        first_stage,
        ranks,
        gradient_accumulation=task.runtime.gradient_accumulation,
        compiled=task.runtime.compile,
    )
    if task.previous_state is not None:
        trainer.load_state(
            task.previous_state.tensors, task.previous_state.metadata["step"]
        )
    return trainer


def _steps(
    task: TrainingTask, trainer: Trainer, recorder: MetricsRecorder, ranks: Ranks
) -> Iterator[StepMetrics]:
    """Yield the steps behind a progress bar, recording their metrics."""
    parameters = task.parameters
    prepare = _preparation(task, ranks)
    if ranks.rank == 0:
        _announce(task, trainer, ranks)
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
        raise TrainingError(_explain(error, trainer, parameters)) from error


def _announce(task: TrainingTask, trainer: Trainer, ranks: Ranks) -> None:
    """Log what is trained, and how much disk its checkpoints take in all."""
    state = trainer.model.network.state_dict().values()
    num_bytes = sum(tensor.numel() * tensor.element_size() for tensor in state)
    files = num_files(trainer.num_levels, trainer.ema.tracks, task.parameters)
    logger.info(
        "Training %.2f M weights on %s. Its %d checkpoints take %s of disk.",
        sum(p.numel() for p in trainer.model.parameters()) / 1e6,
        ranks.device,
        files,
        gibibytes(files * num_bytes),
    )
    free = shutil.disk_usage(task.latents.folder).free
    if free < files * num_bytes:
        logger.warning(
            "Only %s are free there: raise training.checkpoint_interval, or lower "
            "training.checkpoint_window.",
            gibibytes(free),
        )


def _preparation(task: TrainingTask, ranks: Ranks) -> Any:
    """Return the function from a step to its batch."""
    num_items = len(indices_of(task.latent_manifest, "train"))
    on_device = task.runtime.latents_on_device and fits_beside_the_model(
        task.latents, num_items, ranks.device
    )
    read = LatentReader(
        task.latents,
        task.latent_manifest,
        task.latent_normalisation,
        task.description["class_counts"],
        task.parameters,
        ranks.device,
        on_device=on_device,
    )
    return BatchPreparation(
        read=read,
        schedule=level_schedule(task.parameters),
        coupling=task.parameters.objective.coupling,
        seed=task.parameters.seed,
        ranks=ranks,
    )


def origin_of(latents: ShardStore, parameters: Training) -> dict[str, Any]:
    """Return what a state was trained with and on."""
    return {
        "parameters": parameters.model_dump(mode="json"),
        "latents": latents.fingerprint,
    }


def check_state(state: TensorFile, origin: dict[str, Any]) -> None:
    """Refuse a state of other parameters or another autoencoder.

    Raises:
        ParameterError: It is; names the first difference and how to go on.
    """
    difference = first_difference(
        state.metadata["parameters"], origin["parameters"], "training"
    )
    if difference:
        raise ParameterError(
            f"this run was started with other parameters ({difference}). Give the old value to "
            "continue it, or another name: --params=run_id=<name>."
        )
    old_images, old_autoencoder = state.metadata["latents"].rsplit("-", 1)
    new_images, new_autoencoder = origin["latents"].rsplit("-", 1)
    if old_autoencoder != new_autoencoder:
        raise ParameterError(
            "this run was started on latents of another autoencoder. Give the run another name: "
            "--params=run_id=<name>."
        )
    step = state.metadata["step"]
    if old_images != new_images:
        logger.warning("The images changed since step %d; training goes on.", step)
    logger.info("Continuing after step %d.", step)


def _explain(error: NonFiniteLossError, trainer: Trainer, parameters: Training) -> str:
    steps = range(error.step, 0, -1)
    kept = (s for s in steps if due_files(trainer.num_levels, (), s, parameters)[0])
    last = next(kept, None)
    good = "none was written yet" if last is None else f"step-{last:07d}-raw"
    return (
        f"training stopped: {error}. Last good checkpoint: {good}. A lower "
        "training.optimizer.learning_rate usually helps; nothing that was saved is lost."
    )


def training_task(
    latents: ShardStore,
    latent_manifest: DataFrame,
    latent_normalisation: TensorFile,
    first_stage_checkpoints: CheckpointStore,
    previous_state: TensorFile | None,
    parameters: Training,
    runtime: Runtime,
) -> TrainingTask:
    """Return what is to be trained, or gone on with, its first stage checked.

    Raises:
        ParameterError: That does not fit the parameters.
    """
    shape = list(latent_normalisation.tensors["mean"].shape)
    counts = class_counts(latent_manifest, parameters)
    description = describe_model(parameters, shape, counts)
    first_stage = first_stage_weights(first_stage_checkpoints, parameters)
    if first_stage is not None:
        check_first_stage(first_stage, description, parameters)
    return TrainingTask(
        latents=latents,
        latent_manifest=latent_manifest,
        latent_normalisation=latent_normalisation,
        first_stage=first_stage,
        previous_state=previous_state,
        description=description,
        origin=origin_of(latents, parameters),
        parameters=parameters,
        runtime=runtime,
    )
