"""Where work is done, by how many threads, and how many images or latents at a time."""

from __future__ import annotations

import math
import os
import shutil
from pathlib import Path

import torch

from lct_pipeline.errors import ParameterError


def choose_device(name: str) -> torch.device:
    """Return the device that ``runtime.device`` names; ``auto`` is cuda, then mps, then cpu.

    Raises:
        ParameterError: The named device is not there.
    """
    available = {
        "cuda": torch.cuda.is_available(),
        "mps": torch.backends.mps.is_available(),
        "cpu": True,
    }
    if name == "auto":
        return torch.device(next(kind for kind, there in available.items() if there))
    if not available[name]:
        there = ", ".join(kind for kind, is_there in available.items() if is_there)
        raise ParameterError(
            f"runtime.device={name}: not on this machine; there is: {there}"
        )
    return torch.device(name)


def describe_device(name: str) -> str:
    """Return the device that ``runtime.device`` names as text: ``cpu``, or the GPU's name."""
    device = choose_device(name)
    if device.type == "cuda":
        return f"{torch.cuda.device_count()} x {torch.cuda.get_device_name(device)}"
    return device.type


def advice_on_gpus(name: str, num_processes: int) -> str | None:
    """Return why GPUs are not used, and the remedy; None where all are, or none is there.

    Args:
        name: ``runtime.device``: one that is not for GPUs wants none.
        num_processes: ``runtime.num_processes``.
    """
    if name not in ("auto", "cuda"):
        return None
    devices = Path("/proc/driver/nvidia/gpus")
    return gpu_advice(
        num_processes,
        torch.cuda.device_count(),
        is_there=any(devices.glob("*")) or shutil.which("nvidia-smi") is not None,
        built_for=torch.version.cuda or torch.version.hip,
        visible=os.environ.get("CUDA_VISIBLE_DEVICES"),
    )


def gpu_advice(
    num_processes: int,
    num_seen: int,
    *,
    is_there: bool,
    built_for: str | None,
    visible: str | None,
) -> str | None:
    """Return what :func:`advice_on_gpus` does.

    Args:
        num_processes: ``runtime.num_processes``.
        num_seen: GPUs that torch sees.
        is_there: Whether the driver of a GPU is installed.
        built_for: Version of CUDA or ROCm that torch was built for; None: a torch for CPUs.
        visible: What ``CUDA_VISIBLE_DEVICES`` says, if anything.
    """
    if num_seen > num_processes:
        return (
            f"{num_seen} GPUs are here and {num_processes} of them will work: give "
            f"runtime.num_processes={num_seen} to share the work among all."
        )
    if num_seen or not is_there:
        return None
    if built_for is None:
        cause = (
            "this torch was built for CPUs: install one for GPUs, make run TORCH=auto"
        )
    elif visible in ("", "-1"):
        cause = f"CUDA_VISIBLE_DEVICES={visible!r} hides all: unset it"
    else:
        cause = (
            f"its driver is older than what torch needs (CUDA {built_for}), or may not be used "
            "here: see what nvidia-smi says, update it, or make run TORCH=auto"
        )
    return f"There is an NVIDIA GPU, and torch sees none, as {cause}."


def limit_threads(num_threads: int) -> None:
    """Set the number of CPU threads of torch; the linear algebra of NumPy and SciPy gets one.

    Threads of its own would wait, spinning, on the cores that torch's need, and the other way
    round: on two cores the moments of 2,000 images with 256 features took 0.6 s so, and 0.02 s with
    one thread.
    """
    import scipy.linalg  # noqa: F401  # a library that is not loaded yet cannot be limited
    from threadpoolctl import threadpool_limits

    torch.set_num_threads(num_threads)
    threadpool_limits(1, user_api="blas")


GPU_PIXELS = 2**22  # 64 images of 256 x 256: a GPU is busy
CPU_PIXELS = 2**17  # 128 of 32 x 32: beyond, activations fall out of a CPU's cache
MAXIMUM = 512


def batch_size_for(
    batch_size: int, shape: tuple[int, ...], device: torch.device | None = None
) -> int:
    """Return ``encoding.batch_size``, or for 0 as many as suit the device, 512 at most.

    Args:
        batch_size: Number of records at a time; 0 is automatic.
        shape: Of a record, ``(C, H, W)``.
        device: Where they are worked on; None is the CPU.
    """
    is_cpu = device is None or device.type == "cpu"
    automatic = (CPU_PIXELS if is_cpu else GPU_PIXELS) // math.prod(shape[1:])
    return batch_size or max(1, min(automatic, MAXIMUM))
