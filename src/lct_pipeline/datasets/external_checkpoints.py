"""Checkpoints that other trainers wrote: found in a folder, read one at a time."""

from __future__ import annotations

from dataclasses import dataclass
from functools import cached_property
from math import prod
from pathlib import Path
from typing import Any

from kedro.io import AbstractDataset
from torch import Tensor

from lct_pipeline.datasets.checkpoint_layouts import (
    ExternalCheckpoint,
    Kind,
    find_checkpoints,
)
from lct_pipeline.datasets.weight_files import (
    WeightSelection,
    as_float32,
    kept_dtype,
    open_weights,
)
from lct_pipeline.errors import DataError


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
        self._check_layout(checkpoint, _layout(tensors))
        return as_float32(tensors, checkpoint.paths[0])

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
            "entry": self.selection.entry,
            "names": self.selection.names,
            "strip_prefix": self.selection.strip_prefix,
        }

    @property
    def num_bytes(self) -> int:
        """Bytes of the tensors of one checkpoint as :meth:`read` gives them."""
        return sum(
            prod(shape) * dtype.itemsize for dtype, shape in self._first.values()
        )

    @cached_property
    def _first(self) -> dict[str, tuple[Any, tuple[int, ...]]]:
        """The layout of the first checkpoint, which all others must have."""
        return _layout(open_weights(self.checkpoints[0].paths, self.selection))

    def _check_layout(
        self,
        checkpoint: ExternalCheckpoint,
        found: dict[str, tuple[Any, tuple[int, ...]]],
    ) -> None:
        """Refuse a checkpoint of another network, naming the first tensor that differs."""
        for name in [*self._first, *found]:
            if self._first.get(name) != found.get(name):
                raise DataError(
                    f"{checkpoint.paths[0]} is of another network than "
                    f"{self.checkpoints[0].name}: tensor {name!r} is "
                    f"{_described(found.get(name))} and not {_described(self._first.get(name))}. "
                    "Give checkpoints of one training run by cataloging.pattern, or the tensors "
                    "that all of them have by cataloging.names."
                )


def _layout(tensors: dict[str, Tensor]) -> dict[str, tuple[Any, tuple[int, ...]]]:
    """Return dtype, as it is kept, and shape of each tensor."""
    return {name: (kept_dtype(t), tuple(t.shape)) for name, t in tensors.items()}


def _described(entry: tuple[Any, tuple[int, ...]] | None) -> str:
    if entry is None:
        return "missing"
    dtype, shape = entry
    return f"{str(dtype).removeprefix('torch.')} {shape}"


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
        found = find_checkpoints(
            Path(self._source).expanduser(), self._pattern, self._step, self._kind
        )
        return ExternalCheckpoints(found, self._selection)

    def save(self, data: None) -> None:
        """What others wrote is only read."""
        raise DataError("checkpoints of other trainers cannot be written.")

    def _describe(self) -> dict[str, Any]:
        return {"source": self._source, "pattern": self._pattern, "kind": self._kind}
