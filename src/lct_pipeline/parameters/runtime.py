"""Parameters of where work runs, and of models that come from elsewhere or go there."""

from __future__ import annotations

from typing import Literal

from pydantic import NonNegativeInt, PositiveInt

from lct_pipeline.parameters.types import (
    FilePath,
    Group,
    GroupExpression,
    RegularExpression,
    Text,
)


class Runtime(Group):
    """Where and how the work runs; no result depends on it, up to rounding."""

    device: Literal["auto", "cpu", "cuda", "mps"]
    """Where networks compute; auto: cuda, else mps, else cpu."""
    num_threads: NonNegativeInt
    """CPU threads; 0: one for each core. Give fewer when something else is running."""
    num_workers: NonNegativeInt
    """Threads that read and decode images; 0: as many as cores, at most 16."""
    num_processes: PositiveInt
    """Processes that share training, encoding and searches, one per GPU."""
    gradient_accumulation: PositiveInt
    """Parts in which a batch is computed, one after the other: less memory."""
    compile: bool
    """torch.compile of the network: worth its minute on a GPU."""
    latents_on_device: bool
    """Keep the training latents on a GPU where they take less than half of it; on a CPU in memory,
    below 1 GiB."""
    wait_minutes: NonNegativeInt = 60  # runs of earlier versions have none
    """Minutes to wait for another process that works on the same run; then the command ends."""
    mlflow: bool
    """Log each run to MLflow when it ends (pip install lct_pipeline[mlflow]); where to is said by
    MLFLOW_TRACKING_URI."""


class Cataloging(Group):
    """Checkpoints of another trainer, and how their files are read."""

    source: FilePath | None
    """Folder of the checkpoints of one training run; with it give run_id."""
    pattern: Text | None
    """Glob of their files below it, such as "run-*/model.pt"; null: the layouts of
    docs/other_checkpoints.md."""
    step: GroupExpression | None
    """Regular expression found in a file's path below the source, whose first group is the step;
    null: the layout's, or told from all names (docs/other_checkpoints.md)."""
    entry: Text | None
    """Dotted way to the state dict inside a torch file, such as model or ema.0, where a number is
    a place in a list; null: the file itself is one."""
    names: RegularExpression | None
    """Regular expression found in the names of the tensors to take; null: all."""
    strip_prefix: Text | None
    """Start of names that is removed: "module." of DataParallel, "_orig_mod."."""
    kind: Literal["raw", "ema"]
    """Weights to take. raw: what training wrote; ema: the averages of diffusers' *_ema folders."""


class Export(Group):
    """Which model is exported, and what is written beside it."""

    model: Text
    """Model. best: the combination where it was selected, else the best baseline; or combined,
    best_ema, last, or the name of a checkpoint."""
    license: Text | None
    """Licence of the weights, for the model card, such as apache-2.0; null: it says that one is
    missing, since the images have a say in it."""
    onnx: bool
    """Whether to write generator.onnx too, one step from noise to image (extra onnx)."""
