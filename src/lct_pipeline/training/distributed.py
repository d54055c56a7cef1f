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

from lct_pipeline.datasets.parts import Last
from lct_pipeline.errors import ParameterError
from lct_pipeline.models.device import choose_device
from lct_pipeline.processes.joint import run_together
from lct_pipeline.training.loop import run_training
from lct_pipeline.training.task import TrainingTask

__all__ = ["TrainingTask", "train"]

logger = logging.getLogger(__name__)


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
