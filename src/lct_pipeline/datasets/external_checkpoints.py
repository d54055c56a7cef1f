"""Checkpoints that other trainers wrote: found in a folder, read one at a time."""

from __future__ import annotations

import logging
import re
import time
from collections.abc import Mapping
from dataclasses import dataclass
from functools import cached_property
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal, NamedTuple

from kedro.io import AbstractDataset
from torch import Tensor

from lct_pipeline.datasets.checkpoint_names import (
    NO_WEIGHTS,
    series_without_step,
    steps_of,
)
from lct_pipeline.datasets.checkpoints import check_same_tensors, tensor_types
from lct_pipeline.datasets.weight_files import (
    WeightSelection,
    open_weights,
    weight_paths,
)
from lct_pipeline.datasets.weight_metadata import difference_of_meaning, said_by
from lct_pipeline.errors import DataError

Kind = Literal["raw", "ema"]

_STEP, _FORMAT = r"checkpoint[-_](\d+)/", r"\.(safetensors|bin)(\.index\.json)?"
_DIFFUSERS = "/diffusion_pytorch_model" + _FORMAT
_FLAT = r"[^/]+\.(safetensors|pt|pth|ckpt|bin)"
# path relative to the folder, whose first group is the step, by what is said in messages; of
# those of a kind the first is taken of which there is a file
LAYOUTS: dict[str, dict[str, str]] = {
    "raw": {
        "checkpoint-<step>/{unet,transformer,prior}/diffusion_pytorch_model.*": (
            _STEP + "(unet|transformer|prior)" + _DIFFUSERS
        ),
        "checkpoint-<step>/pytorch_lora_weights.*": (
            _STEP + r"pytorch_lora_weights\.(safetensors|bin)"
        ),
        "checkpoint-<step>/adapter_model.*": (
            _STEP + r"([^/]+/)?adapter_model\.(safetensors|bin)"
        ),
        "checkpoint-<step>/{model,pytorch_model}.*": (
            "(?:checkpoints/)?" + _STEP + "(pytorch_)?model" + _FORMAT
        ),
        "*.safetensors, *.pt, *.pth, *.ckpt, *.bin with a number in the name": _FLAT,
    },
    "ema": {
        "checkpoint-<step>/{unet,transformer,prior}_ema/diffusion_pytorch_model.*": (
            _STEP + "(unet|transformer|prior)_ema" + _DIFFUSERS
        ),
    },
}
SECONDS = 1.0  # by which times of files may differ from the order of their steps

logger = logging.getLogger(__name__)


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

    @property
    def modified(self) -> int:
        """Time at which the latest of its files was written, in ns."""
        return max(path.stat().st_mtime_ns for path in self.paths)

    @property
    def age(self) -> float:
        """Seconds since the latest of its files was written."""
        return time.time() - self.modified / 1e9


def find_checkpoints(
    folder: Path, pattern: str | None, step: str | None, kind: Kind
) -> tuple[ExternalCheckpoint, ...]:
    """Return the checkpoints below a folder, sorted by step.

    With a known layout, files without a step, such as ``last.ckpt``, are left out, which the log
    says; a pattern means every file that it matches.

    Raises:
        DataError: There is no such folder, it holds fewer than two checkpoints, or a step is
            unreadable, not unique, or may be several numbers.
    """
    if not folder.is_dir():
        raise DataError(
            f"cataloging.source={str(folder)!r} is not a folder. Give the folder that holds the "
            "checkpoints of one training run."
        )
    if pattern is None:
        steps = _of_known_layout(folder, kind, step)
    else:
        names = _matches(folder, pattern)
        steps = _steps(names, step)
        _refuse_without(step, [name for name in names if name not in steps], names)
    found = [
        ExternalCheckpoint(name, number, kind, weight_paths(folder / name))
        for name, number in sorted(steps.items(), key=lambda item: item[1])
    ]
    _check_steps(found, folder)
    return tuple(found)


def _of_known_layout(folder: Path, kind: Kind, step: str | None) -> dict[str, int]:
    """Return the steps of the files, by their relative paths."""
    visible = [
        name for depth in ("*", "*/*", "*/*/*") for name in _files(folder, depth)
    ]
    for expression in LAYOUTS[kind].values():
        names = [name for name in visible if re.fullmatch(expression, name)]
        if expression is not _FLAT:
            steps = _steps(names, step or expression)
        else:
            names = [name for name in names if not NO_WEIGHTS.search(name)]
            steps = _steps(names, step)
            of_series = series_without_step(names, steps)
            without = [name for name in names if name not in steps]
            _refuse_without(step, without if step else of_series, names)
        if steps:
            return steps
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


def _steps(names: list[str], expression: str | None) -> dict[str, int]:
    """Return steps by the first group of an expression, or else by all names together."""
    if expression is None:
        return steps_of(names)
    found = {name: re.search(expression, name) for name in names}
    numbers = {name: match[1] for name, match in found.items() if match}
    return {n: int(d) for n, d in numbers.items() if d is not None and d.isdecimal()}


def _refuse_without(
    expression: str | None, without: list[str], names: list[str]
) -> None:
    """Refuse files that belong to the checkpoints and have no step."""
    if without:
        others = (
            ", ".join([name for name in names if name not in without][:2]) or "none"
        )
        by = f"by cataloging.step={expression!r}" if expression else "from its name"
        raise DataError(
            f"the step of {without[0]!r} cannot be read {by}; beside it, with a step: {others}. "
            r"Rename it, give a regular expression whose first group is the number, such as "
            r"cataloging.step=step_(\d+), or leave the file out with cataloging.pattern."
        )


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


def _tell_order(folder: Path, found: tuple[ExternalCheckpoint, ...]) -> None:
    """Log which file is which step; warn where the times of the files say another order."""
    lines = [f"  {checkpoint.name} -> step {checkpoint.step}" for checkpoint in found]
    taken = {checkpoint.name for checkpoint in found}
    flat = [name for name in _files(folder, "*") if re.fullmatch(_FLAT, name)]
    lines += [f"  {name} is left out" for name in flat if name not in taken]
    logger.info("Checkpoints and their steps:\n%s", "\n".join(lines))
    for one, other in pairwise(found):
        if one.modified > other.modified + SECONDS * 1e9:
            logger.warning(
                "%s was written after %s, whose step is higher. If the files were not just copied, "
                "say where the step stands with cataloging.step.",
                *(one.name, other.name),
            )
            return


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
        check_same_tensors(checkpoint.paths[0], tensors, self._first.types)
        for name in self.differing(tensors):
            if tensors[name].ndim > 1:
                raise DataError(
                    f"{checkpoint.paths[0]}: tensor {name!r} is {tensors[name].dtype} and differs "
                    "from that of the first checkpoint: whole numbers cannot be combined. Give the "
                    "checkpoints before they were quantised, or leave such tensors out with "
                    "cataloging.names."
                )
        return tensors

    def differing(self, tensors: Mapping[str, Tensor]) -> set[str]:
        """Return the tensors of whole numbers that are not those of the first checkpoint."""
        whole = self._first.whole.items()
        return {name for name, tensor in whole if not tensor.equal(tensors[name])}

    def said(self, checkpoint: ExternalCheckpoint) -> dict[str, str]:
        """Return what a checkpoint says beside its tensors, which all have to say alike.

        Raises:
            DataError: It differs from the first in more than progress and dates.
        """
        said = said_by(checkpoint.paths)
        fault = difference_of_meaning(self._first.said, said)
        if fault:
            raise DataError(
                f"{checkpoint.paths[0]} says another thing beside its tensors than the first "
                f"checkpoint ({fault[:300]}), so the tensors do not mean the same. Combine "
                "checkpoints of one training, chosen by cataloging.pattern."
            )
        return said

    def origin(self, checkpoint: ExternalCheckpoint) -> dict[str, Any]:
        """Return what a copy of a checkpoint came from: the file as it is now, and the selection.

        ``bytes`` is the size of all its files and ``modified`` the time of the latest, in ns.
        """
        return {
            "file": checkpoint.name,
            "bytes": sum(path.stat().st_size for path in checkpoint.paths),
            "modified": checkpoint.modified,
            "kind": checkpoint.kind,
            **vars(self.selection),
        }

    @property
    def num_bytes(self) -> int:
        """Bytes of the tensors of one checkpoint as :meth:`read` gives them."""
        return self._first.num_bytes

    @cached_property
    def _first(self) -> _First:
        """What all checkpoints have to have in common with the first."""
        paths = self.checkpoints[0].paths
        tensors = open_weights(paths, self.selection)
        whole = {n: t.clone() for n, t in tensors.items() if not t.is_floating_point()}
        num_bytes = sum(tensor.nbytes for tensor in tensors.values())
        return _First(tensor_types(tensors), num_bytes, whole, said_by(paths))


class _First(NamedTuple):
    types: dict[str, str]
    num_bytes: int
    whole: dict[str, Tensor]
    said: dict[str, str]


class ExternalCheckpointsDataset(AbstractDataset[None, ExternalCheckpoints | None]):
    """``ExternalCheckpointsDataset`` finds checkpoints that another trainer wrote.

    Args:
        source: The folder; a relative one is relative to the current folder. None loads as None.
            Not called ``path``, which Kedro would prefix with the project's folder.
        pattern: Glob of the files, relative to the source; None: one of ``LAYOUTS``.
        step: Regular expression found in a file's relative path, with ``/``, whose first group is
            the step; None: the layout's, or see ``datasets/checkpoint_names.py``.
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

    def check(self) -> None:
        """Refuse a folder without checkpoints, or whose steps cannot be read."""
        if self._source is not None:
            folder = Path(self._source).expanduser()
            find_checkpoints(folder, self._pattern, self._step, self._kind)

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
        _tell_order(folder, found)
        return ExternalCheckpoints(found, self._selection)

    def save(self, data: None) -> None:
        """What others wrote is only read."""
        raise DataError("checkpoints of other trainers cannot be written.")

    def _describe(self) -> dict[str, Any]:
        return {"source": self._source, "pattern": self._pattern, "kind": self._kind}
