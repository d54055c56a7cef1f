"""Where other trainers put their checkpoints, and how their files say the step."""

from __future__ import annotations

import re
from dataclasses import dataclass
from itertools import pairwise
from pathlib import Path
from typing import Literal

from lct_pipeline.datasets.weight_files import weight_paths
from lct_pipeline.errors import DataError

Kind = Literal["raw", "ema"]

_LAST_INTEGER = r"(\d+)\D*$"
_MODELS = [
    "diffusion_pytorch_model.safetensors",
    "diffusion_pytorch_model.safetensors.index.json",
    "diffusion_pytorch_model.bin",
    "diffusion_pytorch_model.bin.index.json",
]
_NETWORKS = ["unet", "transformer", "prior"]
_LORA = [
    "checkpoint-*/pytorch_lora_weights.safetensors",
    "checkpoint-*/pytorch_lora_weights.bin",
]
_FLAT = ["*.safetensors", "*.pt", "*.pth", "*.ckpt", "*.bin"]


@dataclass(frozen=True)
class Layout:
    """A way in which trainers name checkpoints.

    Attributes:
        title: For messages.
        patterns: Globs relative to the folder.
        step: Regular expression whose first group is the step.
    """

    title: str
    patterns: list[str]
    step: str


def _diffusers(ending: str) -> Layout:
    folders = [f"checkpoint-*/{network}{ending}" for network in _NETWORKS]
    return Layout(
        f"checkpoint-<step>/{{unet,transformer,prior}}{ending}/diffusion_pytorch_model.*",
        [f"{folder}/{model}" for folder in folders for model in _MODELS],
        r"^checkpoint-(\d+)/",
    )


LAYOUTS = {  # the first of which a folder holds anything is taken
    "raw": [
        _diffusers(""),
        Layout(
            "checkpoint-<step>/pytorch_lora_weights.*", _LORA, r"^checkpoint-(\d+)/"
        ),
        Layout(f"{', '.join(_FLAT)} with a number in the name", _FLAT, _LAST_INTEGER),
    ],
    "ema": [_diffusers("_ema")],
}


@dataclass(frozen=True)
class ExternalCheckpoint:
    """A checkpoint of another trainer.

    Attributes:
        name: Path relative to the source, with ``/``.
        step: Training step.
        kind: raw weights, or an average that the trainer kept.
        paths: Its file; or an index of shards, then the shards.
    """

    name: str
    step: int
    kind: Kind
    paths: tuple[Path, ...]


def find_checkpoints(
    folder: Path, pattern: str | None, step: str | None, kind: Kind
) -> tuple[ExternalCheckpoint, ...]:
    """Return the checkpoints below a folder, sorted by step.

    With a known layout, files without a number where the step stands, such as ``last.ckpt``, are
    left out; a pattern means every file that it matches.

    Raises:
        DataError: There is no such folder, it holds fewer than two checkpoints, or a step is
            unreadable or not unique.
    """
    if not folder.is_dir():
        raise DataError(
            f"cataloging.source={str(folder)!r} is not a folder. Give the folder that holds the "
            "checkpoints of one training run."
        )
    names, layout_step = _names(folder, pattern, kind)
    found = [
        ExternalCheckpoint(
            name, _step(name, step or layout_step), kind, weight_paths(folder / name)
        )
        for name in names
    ]
    found.sort(key=lambda checkpoint: checkpoint.step)
    _check_steps(found, folder)
    return tuple(found)


def _names(folder: Path, pattern: str | None, kind: Kind) -> tuple[list[str], str]:
    """Return the files' relative paths, and the regular expression of their step."""
    if pattern is not None:
        return _given(folder, pattern), _LAST_INTEGER
    for layout in LAYOUTS[kind]:
        matches = [name for glob in layout.patterns for name in _matches(folder, glob)]
        if names := [name for name in matches if re.search(layout.step, name)]:
            return names, layout.step
    titles = "; ".join(layout.title for layout in LAYOUTS[kind])
    raise DataError(
        f"cataloging.source={str(folder)!r} holds no checkpoint of a known layout. Looked for, "
        f"with cataloging.kind={kind}: {titles}. For another layout give cataloging.pattern."
    )


def _given(folder: Path, pattern: str) -> list[str]:
    """Return the files that a user's glob matches, at least one."""
    try:
        names = _matches(folder, pattern)
    except (ValueError, NotImplementedError) as error:
        raise DataError(f"cataloging.pattern={pattern!r}: {error}.") from error
    if not names:
        raise DataError(
            f"cataloging.pattern={pattern!r} matches no file in {folder}. It is a glob relative to "
            "cataloging.source, such as run-*/model.pt."
        )
    return names


def _matches(folder: Path, pattern: str) -> list[str]:
    """Return the relative paths of the visible files that a glob matches, sorted."""
    relative = [(path, path.relative_to(folder)) for path in folder.glob(pattern)]
    return sorted(
        name.as_posix()
        for path, name in relative
        if path.is_file() and not any(part.startswith(".") for part in name.parts)
    )


def _step(name: str, expression: str) -> int:
    found = re.search(expression, name)
    number = found[1] if found else None
    if number is None or not number.isdecimal():
        raise DataError(
            f"the step of {name!r} cannot be read: the first group of {expression!r} gives "
            f"{number!r}. Give a regular expression whose first group is the number, such as "
            r"cataloging.step=step_(\d+), or leave the file out with cataloging.pattern."
        )
    return int(number)


def _check_steps(found: list[ExternalCheckpoint], folder: Path) -> None:
    """Refuse two checkpoints of one step, and one checkpoint alone."""
    for one, other in pairwise(found):
        if one.step == other.step:
            raise DataError(
                f"{one.name} and {other.name} in {folder} both have step {one.step}. Choose one "
                "kind of file with cataloging.pattern, or say where the step stands with "
                "cataloging.step."
            )
    if len(found) < 2:
        raise DataError(
            f"{folder} holds only one checkpoint ({found[0].name}): a combination needs at least "
            "two. Have the trainer keep more of them."
        )
