"""What training leaves behind: rows of metrics, and checkpoints."""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from dataclasses import asdict, replace
from typing import Any

import pandas as pd
from pandas import DataFrame

from lct_pipeline.core.ema.bank import Track
from lct_pipeline.core.training_loop import StepMetrics, Trainer
from lct_pipeline.datasets.checkpoints import CheckpointHeader
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.models.description import ModelDescription
from lct_pipeline.parameters import Training, parameters_digest

NOT_AVERAGED = ("step", "num_levels", "c")


class MetricsRecorder:
    """Means of the steps' metrics over intervals, with images per second."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._open: list[StepMetrics] = []
        self._rows: list[dict[str, Any]] = []
        self._since = time.perf_counter()

    def add(self, metrics: StepMetrics) -> None:
        """Take the metrics of a step."""
        self._open.append(metrics)

    def close_row(self) -> str:
        """End an interval and return what a progress bar shows of it."""
        now = time.perf_counter()
        rate = len(self._open) * self._batch_size / (now - self._since)
        steps = pd.DataFrame([asdict(m) for m in self._open])
        last = self._open[-1]
        averaged = steps.columns.drop([*NOT_AVERAGED])
        means = {name: float(steps[name].mean()) for name in averaged}
        self._rows.append({**asdict(last), **means, "images_per_second": rate})
        self._open, self._since = [], now
        return f"{rate:.0f} img/s, loss {means['loss']:.3g}, N {last.num_levels}, c {last.c:.2g}"

    def take_rows(self) -> DataFrame:
        """Return the rows since the last call; their columns are those of training_metrics."""
        rows, self._rows = self._rows, []
        return pd.DataFrame(rows)


def is_checkpoint(trainer: Trainer, parameters: Training) -> bool:
    """Return whether the state, and what is due with it, is written after the steps so far."""
    step = trainer.step
    return (
        step % parameters.checkpoint_interval == 0
        or step % parameters.ema.snapshot_interval == 0
        or ends_stage(trainer.num_levels, step, parameters)
    )


def ends_stage(
    num_levels: Callable[[int], int], step: int, parameters: Training
) -> bool:
    """Return whether a stage of the curriculum, or the run, ends with a step."""
    return step == parameters.num_steps or num_levels(step) != num_levels(step - 1)


def due_files(
    num_levels: Callable[[int], int],
    tracks: Collection[Track],
    step: int,
    parameters: Training,
) -> tuple[bool, list[Track]]:
    """Return whether the raw weights are kept after a step, and which averages are.

    All are where a stage ends. Else raw weights are kept at each checkpoint interval of the
    checkpoint window, and power-function averages at each snapshot interval.
    """
    if ends_stage(num_levels, step, parameters):
        return True, list(tracks)
    in_window = step > parameters.num_steps * (1 - parameters.checkpoint_window)
    raw = in_window and step % parameters.checkpoint_interval == 0
    snapshot = step % parameters.ema.snapshot_interval == 0
    return raw, [track for track in tracks if snapshot and track.kind == "power"]


def num_files(
    num_levels: Callable[[int], int], tracks: Collection[Track], parameters: Training
) -> int:
    """Return how many checkpoints a whole run keeps."""
    total = 0
    for step in range(1, parameters.num_steps + 1):
        raw, averages = due_files(num_levels, tracks, step, parameters)
        total += raw + len(averages)
    return total


def checkpoints(
    trainer: Trainer,
    metrics: StepMetrics,
    description: ModelDescription,
    parameters: Training,
) -> dict[str, TensorFile]:
    """Return the raw weights and the averages that are due; see :func:`due_files`."""
    step, network = metrics.step, trainer.model.network
    about = CheckpointHeader(
        step=step,
        num_images=step * parameters.batch_size,
        num_levels=metrics.num_levels,
        ends_stage=ends_stage(trainer.num_levels, step, parameters),
        loss=metrics.loss,
        network=description,
        parameters_digest=parameters_digest(parameters.model_dump(mode="json")),
    )
    files: dict[str, TensorFile] = {}
    keeps_raw, averages = due_files(
        trainer.num_levels, trainer.ema.tracks, step, parameters
    )
    if keeps_raw:
        raw = TensorFile(network.state_dict(), about.as_metadata())
        files[f"step-{step:07d}-raw"] = raw
    for track in averages:
        header = (
            replace(about, kind="ema", ema_rate=track.value)
            if track.kind == "rate"
            else replace(about, kind="power", ema_width=track.value)
        )
        tensors = trainer.ema.state_dict(track, network)
        files[f"step-{step:07d}-{track.name}"] = TensorFile(
            tensors, header.as_metadata()
        )
    return files
