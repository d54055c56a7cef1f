"""Is it right on this GPU, and how fast? Prints figures and keeps them in a file.

    python -m benchmarks.gpu.check --out=FOLDER [--source=IMAGES] [--only=NAMES] [--seconds=265]
    python -m benchmarks.gpu.check --tiny --out=FOLDER    tries the same code on a CPU

What each figure means, and what it should be: README.md beside this file. FOLDER gets results.json,
written anew after each measurement, and profile.txt. A measurement that fails is recorded with its
error, one for which no time is left as skipped; the others go on.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import sys
import time
import traceback
from collections.abc import Callable
from functools import partial
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import torch

from benchmarks.gpu import exactness, speed, stages
from benchmarks.gpu.setting import Figures, Setting


class Measurement(NamedTuple):
    """What is measured under a name, and the seconds it may take on an H100."""

    name: str
    function: Callable[[Setting], Figures]
    seconds: int


def main() -> int:
    """Measure what there is time for; return 1 if anything failed."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--out", type=Path, required=True, help="folder of the results")
    parser.add_argument("--source", help="images, or a .npz of latents; default: noise")
    parser.add_argument("--tiny", action="store_true", help="tiny sizes, on the CPU")
    parser.add_argument("--only", default="", help="beginnings of names, with commas")
    parser.add_argument("--seconds", type=float, default=265, help="time for all")
    arguments = parser.parse_args()
    if not arguments.tiny and not torch.cuda.is_available():
        parser.error("there is no CUDA device; --tiny tries the code on the CPU")
    arguments.out.mkdir(parents=True, exist_ok=True)
    device = torch.device("cpu") if arguments.tiny else torch.device("cuda", 0)
    setting = Setting(device, arguments.tiny, arguments.source, arguments.out)
    results: dict[str, Figures] = {}
    started = time.perf_counter()
    for measurement in MEASUREMENTS:
        if not measurement.name.startswith(tuple(arguments.only.split(","))):
            continue
        left = started + arguments.seconds - time.perf_counter()
        is_late = left < (0 if arguments.tiny else measurement.seconds)
        figures = {"skipped": "no time"} if is_late else measured(measurement, setting)
        results[measurement.name] = figures
        print(f"[{time.perf_counter() - started:4.0f} s] {measurement.name}")
        show(figures)
        text = json.dumps(results, indent=1)
        (arguments.out / "results.json").write_text(text + "\n")
    return int(any("failed" in figures for figures in results.values()))


def measured(measurement: Measurement, setting: Setting) -> Figures:
    """Return the figures of a measurement and the seconds it took, or its error."""
    start = time.perf_counter()
    try:
        figures = measurement.function(setting)
    except Exception as error:
        traceback.print_exc()
        figures = {"failed": f"{type(error).__name__}: {error}"}
    if setting.device.type == "cuda":
        torch.cuda.empty_cache()
    return {**figures, "measured in, s": time.perf_counter() - start}


def show(figures: Figures) -> None:
    """Print the figures of a measurement."""
    for figure, value in figures.items():
        text = f"{value:.4g}" if isinstance(value, float) else value
        print(f"    {figure:55s} {text}", flush=True)


def machine(setting: Setting) -> Figures:
    """Return what this is measured on."""
    on_gpu = setting.device.type == "cuda"
    name = torch.cuda.get_device_name(setting.device) if on_gpu else "none"
    return {
        "GPU": name,
        "cores": os.cpu_count(),
        "Python": platform.python_version(),
        "torch": torch.__version__,
        "diffusers": version("diffusers"),
        "TF32 convolutions by default": torch.backends.cudnn.allow_tf32,
        "TF32 products by default": torch.backends.cuda.matmul.allow_tf32,
    }


def step(changes: dict[str, Any], **how: Any) -> Callable[[Setting], Figures]:
    """Return the measurement of a training step."""
    return partial(speed.training_step, changes=changes, **how)


HALF = torch.float16  # without scaling of the loss: for the time alone

MEASUREMENTS = (
    Measurement("machine", machine, 5),
    Measurement("ceilings", speed.ceilings, 10),
    Measurement("against the CPU", exactness.against_the_cpu, 30),
    Measurement("dropout masks", exactness.dropout_masks, 5),
    Measurement("norms", exactness.norms, 10),
    Measurement("rounding", exactness.rounding, 30),
    Measurement("step, float32", step({}), 25),
    Measurement("step, bfloat16", step(speed.BF16), 25),
    Measurement("step, bfloat16, uncoupled", step(speed.UNCOUPLED), 20),
    Measurement("step, bfloat16, one average, AdamW", step(speed.ONE_AVERAGE), 20),
    Measurement("step, written plainly", speed.plain_step, 30),
    Measurement("where time goes", speed.where_time_goes, 25),
    Measurement("step, bfloat16, compiled", step(speed.BF16, compiled=True), 150),
    Measurement("step, float16, compiled", step({}, compiled=True, autocast=HALF), 100),
    Measurement("images and latents", stages.images_and_latents, 40),
    Measurement("combination", stages.combination, 60),
    Measurement("state to disk", stages.state_to_disk, 45),
)


if __name__ == "__main__":
    sys.exit(main())
