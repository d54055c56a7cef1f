"""What training leaves behind: rows of metrics, and checkpoints."""

from __future__ import annotations

import time
from dataclasses import asdict, dataclass, replace
from typing import Any

import pandas as pd
from pandas import DataFrame

from lct_pipeline.core.ema import Track
from lct_pipeline.core.training_loop import StepMetrics, Trainer
from lct_pipeline.datasets.checkpoints import CheckpointHeader
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.models.denoiser import ModelDescription
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


@dataclass(frozen=True)
class CheckpointPlan:
    """Which checkpoints a training keeps, and when."""

    trainer: Trainer
    parameters: Training

    def ends_stage(self, step: int) -> bool:
        """Return whether a stage of the curriculum, or the run, ends with a step."""
        num_levels = self.trainer.num_levels
        is_last = step == self.parameters.num_steps
        return is_last or num_levels(step) != num_levels(step - 1)

    def is_due(self, step: int) -> bool:
        """Return whether the state, and what is due with it, is written after a step."""
        return (
            step % self.parameters.checkpoint_interval == 0
            or step % self.parameters.ema.snapshot_interval == 0
            or self.ends_stage(step)
        )

    def due(self, step: int) -> list[Track | None]:
        """Return the averages that are kept after a step; None stands for the raw weights.

        All are where a stage ends. Else raw weights are kept at each checkpoint interval of the
        checkpoint window, and power-function averages at each snapshot interval.
        """
        tracks, parameters = self.trainer.ema.tracks, self.parameters
        if self.ends_stage(step):
            return [None, *tracks]
        in_window = step > parameters.num_steps * (1 - parameters.checkpoint_window)
        keeps_raw = in_window and step % parameters.checkpoint_interval == 0
        snapshot = step % parameters.ema.snapshot_interval == 0
        averages = [track for track in tracks if snapshot and track.kind == "power"]
        return [None, *averages] if keeps_raw else [*averages]

    def num_files(self) -> int:
        """Return how many checkpoints a whole run keeps."""
        return sum(len(self.due(k + 1)) for k in range(self.parameters.num_steps))

    def files(
        self,
        metrics: StepMetrics,
        network: ModelDescription,
        trained_on: dict[str, str],
    ) -> dict[str, TensorFile]:
        """Return what is due after the step of the metrics, by name."""
        step, module = metrics.step, self.trainer.model.network
        about = CheckpointHeader(
            step=step,
            num_images=step * self.parameters.batch_size,
            num_levels=metrics.num_levels,
            ends_stage=self.ends_stage(step),
            loss=metrics.loss,
            network=network,
            parameters_digest=parameters_digest(
                self.parameters.model_dump(mode="json")
            ),
            trained_on=trained_on,
        )
        files: dict[str, TensorFile] = {}
        for track in self.due(step):
            name, tensors, header = "raw", module.state_dict(), about
            if track is not None:
                name, tensors = track.name, self.trainer.ema.state_dict(track, module)
                header = _header(about, track)
            metadata = header.as_metadata()
            files[f"step-{step:07d}-{name}"] = TensorFile(tensors, metadata)
        return files


def _header(about: CheckpointHeader, track: Track) -> CheckpointHeader:
    if track.kind == "rate":
        return replace(about, kind="ema", ema_rate=track.value)
    return replace(about, kind="power", ema_width=track.value)
