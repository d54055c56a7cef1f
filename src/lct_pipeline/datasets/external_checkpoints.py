"""Checkpoints that other trainers wrote: found in a folder, read one at a time."""

from __future__ import annotations

import re
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

from kedro.io import AbstractDataset
from torch import Tensor

from lct_pipeline.datasets.checkpoints import check_same_tensors, tensor_types
from lct_pipeline.datasets.weight_files import (
    WeightSelection,
    open_weights,
    weight_paths,
)
from lct_pipeline.errors import DataError

Kind = Literal["raw", "ema"]

_DIFFUSERS = r"/diffusion_pytorch_model\.(safetensors|bin)(\.index\.json)?"
# path relative to the folder, whose first group is the step, by what is said in messages; of
# those of a kind the first is taken of which there is a file
LAYOUTS: dict[str, dict[str, str]] = {
    "raw": {
        "checkpoint-<step>/{unet,transformer,prior}/diffusion_pytorch_model.*": (
            r"checkpoint-(\d+)/(unet|transformer|prior)" + _DIFFUSERS
        ),
        "checkpoint-<step>/pytorch_lora_weights.*": (
            r"checkpoint-(\d+)/pytorch_lora_weights\.(safetensors|bin)"
        ),
        "*.safetensors, *.pt, *.pth, *.ckpt, *.bin with a number in the name": (
            r"[^/]*?(\d+)[^/\d]*\.(safetensors|pt|pth|ckpt|bin)"
        ),
    },
    "ema": {
        "checkpoint-<step>/{unet,transformer,prior}_ema/diffusion_pytorch_model.*": (
            r"checkpoint-(\d+)/(unet|transformer|prior)_ema" + _DIFFUSERS
        ),
    },
}
_LAST_INTEGER = r"(\d+)\D*$"


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
    if pattern is None:
        names, expression = _of_known_layout(folder, kind)
    else:
        names, expression = _matches(folder, pattern), _LAST_INTEGER
    found = []
    for name in names:
        number = _step(name, step or expression)
        paths = weight_paths(folder / name)
        found.append(ExternalCheckpoint(name, number, kind, paths))
    found.sort(key=lambda checkpoint: checkpoint.step)
    _check_steps(found, folder)
    return tuple(found)


def _of_known_layout(folder: Path, kind: Kind) -> tuple[list[str], str]:
    """Return the files' relative paths, and the regular expression of their step."""
    visible = [
        name for depth in ("*", "*/*", "*/*/*") for name in _files(folder, depth)
    ]
    for expression in LAYOUTS[kind].values():
        if names := [name for name in visible if re.fullmatch(expression, name)]:
            return names, expression
    raise DataError(
        f"cataloging.source={str(folder)!r} holds no checkpoint of a known layout. Looked for, "
        f"with cataloging.kind={kind}: {'; '.join(LAYOUTS[kind])}. For another layout give "
        "cataloging.pattern."
    )


def _matches(folder: Path, pattern: str) -> list[str]:
    """Return the files that a user's glob matches, at least one."""
    try:
        names = _files(folder, pattern)
    except (ValueError, NotImplementedError) as error:
        raise DataError(f"cataloging.pattern={pattern!r}: {error}.") from error
    if not names:
        raise DataError(
            f"cataloging.pattern={pattern!r} matches no file in {folder}. It is a glob relative to "
            "cataloging.source, such as run-*/model.pt."
        )
    return names


def _files(folder: Path, pattern: str) -> list[str]:
    """Return the relative paths of what is visible and no folder and a glob matches, sorted."""
    found = (path for path in folder.glob(pattern) if not path.is_dir())
    paths = [path.relative_to(folder) for path in found]
    visible = [p for p in paths if not any(part.startswith(".") for part in p.parts)]
    return sorted(path.as_posix() for path in visible)


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


@dataclass(frozen=True)
class ExternalCheckpoints:
    """At least two checkpoints of one training run, by step; tensors are read when asked for."""

    checkpoints: tuple[ExternalCheckpoint, ...]
    selection: WeightSelection

    def read(self, checkpoint: ExternalCheckpoint) -> dict[str, Tensor]:
        """Return the tensors of a checkpoint, floating ones as float32.

        Raises:
            DataError: It is damaged, of another network than the first, or not finite.
        """
        tensors = open_weights(checkpoint.paths, self.selection)
        check_same_tensors(checkpoint.paths[0], tensors, self._first[0])
        return tensors

    def origin(self, checkpoint: ExternalCheckpoint) -> dict[str, Any]:
        """Return what a copy of a checkpoint came from: the file as it is now, and the selection.

        ``bytes`` is the size of all its files and ``modified`` the time of the latest, in ns.
        """
        stats = [path.stat() for path in checkpoint.paths]
        return {
            "file": checkpoint.name,
            "bytes": sum(stat.st_size for stat in stats),
            "modified": max(stat.st_mtime_ns for stat in stats),
            "kind": checkpoint.kind,
            **vars(self.selection),
        }

    @property
    def num_bytes(self) -> int:
        """Bytes of the tensors of one checkpoint as :meth:`read` gives them."""
        return self._first[1]

    @cached_property
    def _first(self) -> tuple[dict[str, str], int]:
        """Types of the tensors of the first checkpoint, which all have to have, and their bytes."""
        tensors = open_weights(self.checkpoints[0].paths, self.selection)
        return tensor_types(tensors), sum(tensor.nbytes for tensor in tensors.values())


class ExternalCheckpointsDataset(AbstractDataset[None, ExternalCheckpoints | None]):
    """``ExternalCheckpointsDataset`` finds checkpoints that another trainer wrote.

    Args:
        source: The folder; a relative one is relative to the current folder. None loads as None.
            Not called ``path``, which Kedro would prefix with the project's folder.
        pattern: Glob of the files, relative to the source; None: one of ``LAYOUTS``.
        step: Regular expression found in a file's relative path, with ``/``, whose first group is
            the step; None: the layout's, or the last integer of the path.
        entry: Dotted way to the state dict inside a torch file; None: the file is flat.
        names: Regular expression found in the names of the tensors that are taken; None: all.
        strip_prefix: Removed from the names that begin with it.
        kind: raw: what training wrote; ema: the averages that diffusers keeps beside it.
        metadata: Anything, for plugins such as kedro-viz.
    """

    def __init__(
        self,
        *,
        source: str | None,
        pattern: str | None,
        step: str | None,
        entry: str | None,
        names: str | None,
        strip_prefix: str | None,
        kind: Kind,
        metadata: dict[str, Any] | None = None,
    ) -> None:
        self._source = source
        self._pattern, self._step, self._kind = pattern, step, kind
        self._selection = WeightSelection(entry, names, strip_prefix)
        self.metadata = metadata

    def load(self) -> ExternalCheckpoints | None:
        """Return the checkpoints, sorted by step; their tensors are not read.

        Raises:
            DataError: There is no such folder, it holds fewer than two checkpoints, or a step is
                unreadable or not unique.
        """
        if self._source is None:
            return None
        folder = Path(self._source).expanduser()
        found = find_checkpoints(folder, self._pattern, self._step, self._kind)
        return ExternalCheckpoints(found, self._selection)

    def save(self, data: None) -> None:
        """What others wrote is only read."""
        raise DataError("checkpoints of other trainers cannot be written.")

    def _describe(self) -> dict[str, Any]:
        return {"source": self._source, "pattern": self._pattern, "kind": self._kind}
