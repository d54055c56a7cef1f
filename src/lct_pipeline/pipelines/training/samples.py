"""Samples from the same noise: at the end of each stage, and while training goes on."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import torch
from matplotlib.figure import Figure
from torch import Tensor

from lct_pipeline.core.ema import Track
from lct_pipeline.datasets.checkpoints import CheckpointStore
from lct_pipeline.datasets.decoder import Decoder
from lct_pipeline.datasets.parts import Last
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import DataError
from lct_pipeline.evaluation.generator import build_generator
from lct_pipeline.evaluation.plans import first_plan
from lct_pipeline.parameters import Sampling
from lct_pipeline.parameters.training import EMA
from lct_pipeline.reporting.pictures import draw_panels
from lct_pipeline.training.loop import train
from lct_pipeline.training.task import TrainingTask

__all__ = ["TrainingTask", "train_and_show"]

logger = logging.getLogger(__name__)

NUM_PICTURES = 8  # at most, while training goes on
MOST_TIME = 0.01  # of the training, that they take at most
GUESS = 0.05  # seconds that the first will take: it comes after 5 s of training at the earliest

Drawing = Callable[[], Figure | None]


def train_and_show(
    task: TrainingTask,
    checkpoints: CheckpointStore,
    decoder: Decoder | None,
    sampling: Sampling,
) -> Iterator[tuple[Any, Any, Any, Drawing]]:
    """Yield what training yields, and what draws samples when all that is saved.

    Raises:
        DataError: At the end, there is no decoder; so far nothing fails that only draws.
    """
    draw = partial(stage_samples, task, checkpoints, decoder, sampling)
    pictures = Pictures(task, draw)
    for files, rows, state in train(task):
        if isinstance(state, Last):
            yield files, rows, state, draw
        else:
            yield files, rows, state, partial(pictures.drawn_if_due, state)


def stage_samples(
    task: TrainingTask,
    checkpoints: CheckpointStore,
    decoder: Decoder | None,
    sampling: Sampling,
    others: Mapping[str, Mapping[str, Tensor]] | None = None,
) -> Figure:
    """Draw one-step samples at the end of each stage of the curriculum.

    Args:
        task: What is trained.
        checkpoints: What is saved of it.
        decoder: From latents to images.
        sampling: How to generate.
        others: Weights that are drawn too, by title: those that training has come to.
    """
    network = task.description
    generator = build_generator(network, decoder, sampling, task.runtime)
    weights = {
        f"N = {header.num_levels}, step {header.step}": checkpoints.read(name).tensors
        for name, header in checkpoints.headers().items()
        if header.kind == "raw" and header.ends_stage
    }
    panels = {
        title: generator.grid(tensors, first_plan(network, sampling), seed=0)
        for title, tensors in (weights | dict(others or {})).items()
    }
    title = (
        "Samples from the same noise, so far"
        if others
        else "Samples at the end of each stage, from the same noise"
    )
    return draw_panels(panels, title)


@dataclass
class Pictures:
    """Draws what training has come to, now and then: rarely enough to cost no time.

    Attributes:
        task: What is trained.
        draw: Draws the ends of stages, and of the weights that it is given by title.
    """

    task: TrainingTask
    draw: Callable[[Mapping[str, Mapping[str, Tensor]]], Figure]

    def __post_init__(self) -> None:
        self._last, self._last_step = time.perf_counter(), 0
        self._seconds = GUESS  # that the last one took

    def drawn_if_due(self, state: TensorFile) -> Figure | None:
        """Return a picture, with samples of an average of the weights of this state."""
        step, now = state.metadata["step"], time.perf_counter()
        share = (step - self._last_step) / self.task.parameters.num_steps
        is_early = (now - self._last) * MOST_TIME < self._seconds
        if share < 1 / NUM_PICTURES or is_early:
            return None
        track = shortest(self.task.parameters.ema)
        title = f"step {step}, average {track.name}"
        try:
            return self.draw({title: average_of(state.tensors, track)})
        except (DataError, torch.OutOfMemoryError) as error:
            logger.warning("There is no picture of samples yet: %s", error)
            return None
        finally:
            torch.cuda.empty_cache()  # what was drawn with is training's again
            self._last_step, self._last = step, time.perf_counter()
            self._seconds = self._last - now


def shortest(ema: EMA) -> Track:
    """Return the shortest average that training keeps: it has forgotten the start."""
    if ema.sigma_rels:
        return Track("power", min(ema.sigma_rels))
    return Track("rate", min(ema.rates))


def average_of(state: Mapping[str, Tensor], track: Track) -> dict[str, Tensor]:
    """Return the network of a training's state, its weights those of an average."""
    return {
        name.removeprefix(start): tensor
        for start in ("network.", f"average/{track.name}/")
        for name, tensor in state.items()
        if name.startswith(start)
    }
