"""Training in one process, or in several that share each batch, one per GPU.

The first of several hands over what the catalog saves, and waits until it is saved: what is on disk
is in step with what was trained, as with one process.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator
from functools import partial
from typing import Any

from pandas import DataFrame

from lct_pipeline.core.ranks import Ranks
from lct_pipeline.datasets.checkpoints import CheckpointStore
from lct_pipeline.datasets.parts import Last
from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import ParameterError
from lct_pipeline.models.device import choose_device
from lct_pipeline.parameters import Runtime, Training
from lct_pipeline.processes.children import check_devices
from lct_pipeline.processes.joint import run_together
from lct_pipeline.training.loop import Output, run_training
from lct_pipeline.training.task import (
    TrainingTask,
    check_state,
    origin_of,
    training_task,
)

logger = logging.getLogger(__name__)


def train(
    latents: ShardStore,
    latent_manifest: DataFrame,
    latent_normalisation: TensorFile,
    init_from_checkpoints: CheckpointStore,
    previous_state: TensorFile | None,
    parameters: Training,
    runtime: Runtime,
) -> Iterator[tuple[Any, Any, Any]]:
    """Train, or go on; yield checkpoints, metrics and state at each interval, then the Last.

    The state is saved last: a run that is killed between two of them repeats the steps since the
    last one and writes the same checkpoints again.

    Raises:
        ParameterError: The state is of other parameters, or something does not fit together.
    """
    origin = origin_of(latents, parameters)
    if previous_state is not None:
        check_state(previous_state, origin)
        if previous_state.metadata["step"] >= parameters.num_steps:
            logger.info("All %d training steps are already done.", parameters.num_steps)
            yield Last({}), Last(DataFrame()), Last(previous_state)
            return
    task = training_task(
        latents,
        latent_manifest,
        latent_normalisation,
        init_from_checkpoints,
        previous_state,
        parameters,
        runtime,
    )
    for files, rows, state in train_in_processes(task):
        if state.metadata["step"] < parameters.num_steps:
            yield files, rows, state
        else:
            yield Last(files), Last(rows), Last(state)


def train_in_processes(task: TrainingTask) -> Iterator[Output]:
    """Yield what training yields, in ``runtime.num_processes`` processes.

    Raises:
        ParameterError: There are fewer GPUs than processes, or fewer samples in a batch.
        TrainingError: The loss is not finite.
        UserError: A process was killed.
    """
    device = choose_device(task.runtime.device)
    num_processes = task.runtime.num_processes
    if num_processes == 1:
        for output in run_training(task, Ranks(0, 1, device)):
            assert output is not None  # this is the first process
            yield output
        return
    check_devices(num_processes, device)
    if num_processes > task.parameters.batch_size:
        raise ParameterError(
            f"runtime.num_processes={num_processes}: more than training.batch_size="
            f"{task.parameters.batch_size} samples to share."
        )
    work = partial(run_training, task)
    yield from run_together(work, "training", num_processes, device)
