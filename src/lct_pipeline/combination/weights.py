"""What is searched through: the checkpoints of a window, averages of them, and weighted sums."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
import torch
from pandas import DataFrame
from torch import Tensor

from lct_pipeline.commands import command
from lct_pipeline.core.ema import Profile, posthoc_coefficients, raw_basis
from lct_pipeline.core.linear_combination import (
    WeightLayout,
    WeightMatrix,
    combine,
    project,
)
from lct_pipeline.datasets.checkpoints import (
    CheckpointStore,
    check_same_tensors,
    tensor_types,
)
from lct_pipeline.datasets.tensors import read_header
from lct_pipeline.errors import DataError, ParameterError
from lct_pipeline.progress import track

BLOCK_BYTES = 32 * 2**20  # of all checkpoints that are read at a time, twice


@dataclass(frozen=True)
class Members:
    """The checkpoints that coefficients run over: the K raw ones of the window, then averages.

    Only the window is searched. The averages are what training kept beside it: as baselines they
    are one-hot, or combined into averages of other widths.
    """

    rows: DataFrame
    window_size: int

    @property
    def window(self) -> DataFrame:
        """Rows of the window, by step."""
        return self.rows.iloc[: self.window_size]

    def padded(self, alphas: np.ndarray) -> np.ndarray:
        """Return coefficients of the window, ``(..., K)``, as coefficients of all members."""
        wider = np.zeros((*alphas.shape[:-1], len(self.rows)))
        wider[..., : self.window_size] = alphas
        return wider


def members_of(checkpoint_index: DataFrame, window: float) -> Members:
    """Return the raw checkpoints of the last share ``window`` of the steps, and all averages."""
    is_raw = checkpoint_index["kind"] == "raw"
    raw = checkpoint_index[is_raw].sort_values("step")
    chosen = raw[raw["step"] > raw["step"].max() * (1 - window)]
    averages = checkpoint_index[~is_raw].sort_values(["step", "name"])
    return Members(pd.concat([chosen, averages], ignore_index=True), len(chosen))


def check_window(members: Members) -> None:
    """Refuse to search where there is nothing to combine.

    Raises:
        DataError: There are fewer than two raw checkpoints.
    """
    if members.window_size < 2:
        raise DataError(
            f"a combination needs at least 2 raw checkpoints, and the window has "
            f"{members.window_size}: raise combination.window or lower "
            "training.checkpoint_interval."
        )


def initial_alphas(
    steps: Sequence[int], ema_rates: Iterable[float], sigma_rels: Iterable[float]
) -> dict[str, np.ndarray]:
    """Return the names and coefficients, ``(K,)``, that every search starts from.

    Args:
        steps: Training steps of the K checkpoints, increasing.
        ema_rates: Rates of the EMA profiles among them.
        sigma_rels: Relative widths (EDM2) of the power-function profiles.
    """
    basis, end, num = raw_basis(steps), steps[-1], len(steps)
    targets = {f"EMA {rate}": Profile.rate(end, rate) for rate in ema_rates}
    targets |= {f"power {width}": Profile.power(end, width) for width in sigma_rels}
    profiles = {name: posthoc_coefficients(basis, p) for name, p in targets.items()}
    return {**profiles, "uniform": np.full(num, 1 / num), "last": np.eye(num)[-1]}


class Ema(NamedTuple):
    """An average of the weights as a combination of checkpoints."""

    name: str
    kind: str  # ema or power, kept in training; posthoc, of these; window, of raw checkpoints
    alpha: np.ndarray  # over all members


def candidate_emas(
    members: Members, initial: dict[str, np.ndarray], widths: tuple[float, ...]
) -> list[Ema]:
    """Return all averages of a run, among which one is the best EMA.

    Those that training kept at its last step; power-function averages of other widths, made of
    those of all steps; and raw checkpoints of the window with the profiles that searches start
    from, down to the uniform average, which is an EMA of rate 1 cut off at the window.

    Args:
        members: What is combined.
        initial: What searches start from, see :func:`initial_alphas`.
        widths: Relative widths sigma_rel (EDM2) of averages made afterwards, where training kept
            two power-function averages or more.
    """
    rows, one_hot = members.rows, np.eye(len(members.rows))
    at_end = (rows["kind"] != "raw") & (rows["step"] == rows["step"].max())
    places = np.flatnonzero(at_end)
    emas = [Ema(rows["name"][n], rows["kind"][n], one_hot[n]) for n in places]
    is_power = (rows["kind"] == "power").to_numpy()
    for width in widths if is_power.sum() > 1 else ():
        alpha = np.zeros(len(rows))
        alpha[is_power] = posthoc_alpha(rows[is_power], width)
        emas.append(Ema(f"post-hoc-{width}", "posthoc", alpha))
    profiles = {name: alpha for name, alpha in initial.items() if name != "last"}
    return emas + [Ema(n, "window", members.padded(a)) for n, a in profiles.items()]


def posthoc_alpha(snapshots: DataFrame, width: float) -> np.ndarray:
    """Return the coefficients that make the average of relative ``width`` at the last snapshot.

    Args:
        snapshots: Rows of the checkpoint index, power-function averages at several steps.
        width: Relative width sigma_rel of EDM2, below 0.28.
    """
    steps = [int(step) for step in snapshots["step"]]
    basis = list(map(Profile.power, steps, map(float, snapshots["ema_width"])))
    return posthoc_coefficients(basis, Profile.power(max(steps), width))


class CombinedWeights:
    """Combinations of K checkpoints, which stay on disk.

    Args:
        rows: Rows of the checkpoint index, K of them.
        checkpoints: The checkpoints; they are verified here, once.
        memory_mib: Bounds the combinations that are made together, and the blocks they are read in;
            None makes one at a time.

    Raises:
        DataError: A checkpoint is damaged, has other tensors than the first, another type than
            float32, or values that are not finite; names the file and the tensor.
        ParameterError: Not even one combination fits.
    """

    def __init__(
        self,
        rows: DataFrame,
        checkpoints: CheckpointStore,
        memory_mib: int | None = None,
    ) -> None:
        self.matrix, self.layout = checkpoint_matrix(rows, checkpoints)
        self.num_weights = self.layout.num_weights
        self.block_size = max(1, BLOCK_BYTES // (4 * len(rows)))
        self.group_size = 1 if memory_mib is None else self._fitting(memory_mib)

    def _fitting(self, memory_mib: int) -> int:
        """Return how many combinations fit beside the blocks."""
        size = (memory_mib * 2**20 - 2 * BLOCK_BYTES) // (4 * self.num_weights)
        if size < 1:
            need = (4 * self.num_weights + 2 * BLOCK_BYTES) // 2**20 + 1
            raise ParameterError(
                f"combination.memory_mib={memory_mib} does not hold one combination: give {need} "
                "or more."
            )
        return int(size)

    def combine(self, alphas: np.ndarray, out: np.ndarray | None = None) -> np.ndarray:
        """Return combinations, ``(P, N)`` for alphas ``(P, K)``; P is ``group_size`` at most.

        Checkpoints that no alpha uses are not read.
        """
        used = np.flatnonzero(alphas.any(0))
        return combine(
            self.matrix.rows(used), alphas[:, used], block_size=self.block_size, out=out
        )

    def state_dict(self, alpha: np.ndarray) -> dict[str, Tensor]:
        """Return one combination, alpha ``(K,)``, as a state dict."""
        return self.layout.unflatten(self.combine(alpha[None])[0])

    def gradient_by_alpha(self, gradients: dict[str, Any], num: int) -> np.ndarray:
        """Return the derivative by the first ``num`` coefficients, from that by each weight."""
        by_weight = self.layout.flatten(gradients)
        first = self.matrix.rows(range(num))
        return project(first, by_weight, block_size=self.block_size)


def checkpoint_matrix(
    rows: DataFrame, store: CheckpointStore
) -> tuple[WeightMatrix, WeightLayout]:
    """Return the flat weights of the checkpoints of some rows, and how tensors lie in them.

    The floating-point data of a checkpoint file are one flat vector: each row is a file, of which
    blocks are read, and memory does not grow with K.
    """
    paths = [store.path(name) for name in rows["name"]]
    constants = _constants(rows, store)
    entries = read_header(paths[0])[1].items()
    in_file = sorted(entries, key=lambda item: item[1]["data_offsets"])
    shapes = {n: tuple(e["shape"]) for n, e in in_file if e["dtype"] == "F32"}
    matrix = WeightMatrix([_flat(path) for path in paths])
    return matrix, WeightLayout(shapes, constants)


def _constants(rows: DataFrame, store: CheckpointStore) -> dict[str, Tensor]:
    """Verify all checkpoints, one at a time; return the tensors that are not combined.

    These are integer buffers, as the last checkpoint has them, and what is the same in all.
    """
    first: dict[str, Tensor] = {}
    same: set[str] = set()
    checkpoints = list(zip(rows["name"], rows["digest"], strict=True))
    for name, digest in track(checkpoints, "verify checkpoints", "checkpoint"):
        tensors = store.read(name, digest).tensors
        if not first:
            first, same = tensors, set(tensors)
        _check_floats(store.path(name), tensors)
        check_same_tensors(store.path(name), tensors, tensor_types(first))
        same = {name for name in same if torch.equal(tensors[name], first[name])}
    return {
        name: tensor.clone()
        for name, tensor in tensors.items()
        if name in same or not tensor.is_floating_point()
    }


def _check_floats(path: Path, tensors: Mapping[str, Tensor]) -> None:
    """Refuse what cannot be combined."""
    floating = {n: t for n, t in tensors.items() if t.is_floating_point()}
    if not floating:
        raise DataError(
            f"{path} has no floating-point tensor: nothing can be combined."
        )
    for name, tensor in floating.items():
        if tensor.dtype != torch.float32:
            raise DataError(
                f"{path}: tensor {name!r} is {tensor.dtype}; only float32 can be combined: "
                f"rounding is multiplied by the sum of |alpha|. {command('catalog')} converts."
            )
        if not tensor.isfinite().all():
            raise DataError(
                f"{path}: tensor {name!r} has values that are not finite, and a combination with "
                "them would have nothing else. Remove the file and catalog again: training had "
                "diverged there."
            )


@dataclass(frozen=True)
class FlatFile:
    """The float32 data of a file, which lie together: a vector whose parts are read when asked for.

    Not a memory map, whose pages would count as this process's memory, for all checkpoints.
    """

    path: Path
    offset: int
    size: int

    def __len__(self) -> int:
        return self.size

    def __getitem__(self, part: slice) -> np.ndarray:
        start, stop, _ = part.indices(self.size)
        place = self.offset + 4 * start
        return np.fromfile(self.path, np.float32, stop - start, offset=place)


def _flat(path: Path) -> FlatFile:
    _, entries, offset = read_header(path)
    spans = [e["data_offsets"] for e in entries.values() if e["dtype"] == "F32"]
    start, end = min(s[0] for s in spans), max(s[1] for s in spans)
    assert end - start == sum(s[1] - s[0] for s in spans)  # safetensors sorts by type
    return FlatFile(path, offset + start, (end - start) // 4)
