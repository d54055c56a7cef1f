"""How fast a population of combinations is made of checkpoints on disk.

    python benchmarks/combination_speed.py [--checkpoints 100] [--weights 10_000_000]

Checkpoints of random weights are written to a temporary folder, through the project's own store.
Then, in this one run: the bytes are read once; a population of combinations is made, as a search
makes it; and what a user would do otherwise, a loop over state dicts, is run for a few
checkpoints and one candidate and scaled up. Each is measured with the files in the system's cache
and, where the system lets one drop them from it, from the disk. Memory is the growth of what the
process holds by itself, without the pages that it maps and the system may take back.
"""

from __future__ import annotations

import argparse
import mmap
import os
import tempfile
import time
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import torch
from safetensors.torch import load_file

from lct_pipeline.combination.weights import CombinedWeights
from lct_pipeline.datasets.checkpoints import CheckpointStore
from lct_pipeline.datasets.tensors import write_tensors

LOOP_CHECKPOINTS = 10  # of the loop over state dicts, which is scaled up from them


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--checkpoints", type=int, default=100)
    parser.add_argument("--weights", type=int, default=10_000_000)
    parser.add_argument("--population", type=int, default=24)
    parser.add_argument("--memory-mib", type=int, default=1024)
    parser.add_argument(
        "--folder", type=Path, help="where to write; default: temporary"
    )
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory(dir=arguments.folder) as folder:
        store = CheckpointStore(Path(folder))
        write_checkpoints(store, arguments.checkpoints, arguments.weights)
        os.sync()  # what is not on the disk yet cannot be dropped from the cache
        rows = pd.DataFrame(
            {"name": n, "digest": store.digest(n)} for n in store.names()
        )
        weights = CombinedWeights(rows, store, arguments.memory_mib)
        table = measure(store, weights, arguments.population)
    size = 4 * arguments.checkpoints * arguments.weights / 1e9
    print(
        f"{arguments.checkpoints} checkpoints of {arguments.weights:,} weights, {size:.1f} GB;"
    )
    print(
        f"{arguments.population} combinations, in groups of {weights.group_size}; one thread\n"
    )
    print(table.to_string(index=False, float_format="{:.2f}".format))


def write_checkpoints(store: CheckpointStore, num: int, num_weights: int) -> None:
    """Write checkpoints of three tensors each, the third a large matrix."""
    generator = torch.Generator().manual_seed(0)
    width = int((num_weights / 2) ** 0.5)
    sizes = {"bias": (num_weights - 2 * width * width,), "weight": (2 * width, width)}
    base = {n: torch.randn(size, generator=generator) for n, size in sizes.items()}
    for number in range(num):
        tensors = {n: t + 0.01 * number for n, t in base.items()}
        write_tensors(store.path(f"step-{number:05d}"), tensors, {"step": number})


def measure(
    store: CheckpointStore, weights: CombinedWeights, population: int
) -> pd.DataFrame:
    """Return seconds and memory of each way."""
    paths = [store.path(name) for name in store.names()]
    alphas = np.random.default_rng(0).normal(size=(population, len(paths)))
    group = min(population, weights.group_size)
    out = np.full((group, weights.num_weights), 1.0, np.float32)
    scale = len(paths) * population / LOOP_CHECKPOINTS

    def combine_population() -> None:
        for start in range(0, population, group):
            part = alphas[start : start + group]
            weights.combine(part, out[: len(part)])

    def loop_over_state_dicts() -> None:
        total: dict[str, torch.Tensor] = {}
        for path, alpha in zip(paths[:LOOP_CHECKPOINTS], alphas[0], strict=False):
            for name, tensor in load_file(path).items():
                total[name] = total.get(name, 0) + float(alpha) * tensor

    ways: list[tuple[str, Callable[[], None], float]] = [
        ("read the bytes once", lambda: read_all(paths), 1.0),
        ("this project", combine_population, 1.0),
        ("loop over state dicts", loop_over_state_dicts, scale),
    ]
    rows = []
    for state in ("cached", "from disk"):
        floor = 0.0
        for what, function, factor in ways:
            drop = (
                (lambda: drop_cache(weights, paths)) if state == "from disk" else None
            )
            seconds, mebibytes = timed(function, drop)
            seconds *= factor
            floor = floor or seconds
            rows.append(
                {
                    "files": state,
                    "what": what if factor == 1 else f"{what} (scaled up)",
                    "seconds": seconds,
                    "over reading": seconds / floor,
                    "memory beside the result, MiB": mebibytes,
                }
            )
    return pd.DataFrame(rows)


def read_all(paths: list[Path]) -> None:
    """Read files into one small buffer."""
    buffer = bytearray(1 << 20)
    for path in paths:
        with path.open("rb", buffering=0) as file:
            while file.readinto(buffer):
                pass


def drop_cache(weights: CombinedWeights, paths: list[Path]) -> None:
    """Have the system forget the files: first the pages that are mapped, then the rest (Linux)."""
    for row in weights.matrix.rows(range(len(paths))).vectors:
        row._mmap.madvise(mmap.MADV_DONTNEED)
    for path in paths:
        with path.open("rb") as file:
            os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)


def timed(
    function: Callable[[], None], drop: Callable[[], None] | None
) -> tuple[float, int]:
    """Return the best of three times, and the growth of the process's own memory in MiB."""
    seconds, before = [], own_memory()
    for _ in range(3):
        if drop is not None:
            drop()
        start = time.perf_counter()
        function()
        seconds.append(time.perf_counter() - start)
    return min(seconds), max(0, own_memory() - before) >> 20


def own_memory() -> int:
    """Return the bytes that the process holds without files it maps (Linux)."""
    for line in Path("/proc/self/status").read_text().splitlines():
        if line.startswith("RssAnon"):
            return int(line.split()[1]) * 1024
    return 0


if __name__ == "__main__":
    main()
