"""How fast is what surrounds a step: autoencoder, generation, combination, saving?"""

from __future__ import annotations

import shutil
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from functools import partial
from pathlib import Path

import numpy as np
import torch

from benchmarks.gpu.setting import Figures, Setting
from benchmarks.gpu.speed import BF16
from lct_pipeline.combination.weights import BLOCK_BYTES
from lct_pipeline.core.linear_combination import WeightMatrix, combine
from lct_pipeline.core.training_loop import training_steps
from lct_pipeline.datasets.tensors import TensorFile, TensorFileDataset
from lct_pipeline.models.autoencoder import (
    copy_for_encoding,
    decode,
    encode,
    place,
    to_uint8,
)

NUM_CANDIDATES = 4


@torch.no_grad()
def images_and_latents(setting: Setting) -> Figures:
    """Return rates of encoding, of the network's one step and of decoding."""
    num = 4 if setting.tiny else 64
    device, images = setting.device, setting.images(num)
    z = setting.latents[:num].to(device)
    figures: Figures = {}

    def add(name: str, seconds: float) -> None:
        figures[f"{name}, images/s"] = num / seconds

    for precision in ("float32", "bfloat16"):
        model = copy_for_encoding(
            setting.autoencoder, device, precision, compiled=False
        )
        add(
            f"encode, {precision}",
            setting.seconds(partial(encode, model, images), 5, 2),
        )
    decoder = place(setting.autoencoder, device)
    denoiser = setting.model().to(device).eval()
    t = torch.full((num,), setting.training().noise.sigma_max, device=device)
    for name, dtype in (("float32", None), ("bfloat16", torch.bfloat16)):
        with torch.autocast(device.type, dtype, enabled=dtype is not None):
            seconds = setting.seconds(lambda: to_uint8(decode(decoder, z)), 5, 2)
        add(f"decode, {name}", seconds)
        denoiser.autocast = dtype
        add(f"network, {name}", setting.seconds(lambda: denoiser(z, t), 10, 3))
    return figures


def combination(setting: Setting) -> Figures:
    """Return the time of a combination: product on the CPU from mapped files, and on the device.

    The files lie in memory where there is room, as they do in the system's cache once read.
    """
    K = 5 if setting.tiny else 50
    num_weights = sum(p.numel() for p in setting.model().parameters())
    with checkpoint_rows(K, num_weights) as rows:
        rng = np.random.default_rng(1)
        alphas = rng.standard_normal((NUM_CANDIDATES, K))
        figures: Figures = {"weights": num_weights}
        for number in (1, NUM_CANDIDATES):
            start = time.perf_counter()
            found = combine(rows, alphas[:number], block_size=BLOCK_BYTES // (4 * K))
            seconds = (time.perf_counter() - start) / number
            figures[f"product, {number} at a time, s a candidate"] = seconds
        return figures | on_device(setting, rows, alphas[:1], found[0])


def on_device(
    setting: Setting, rows: WeightMatrix, alpha: np.ndarray, expected: np.ndarray
) -> Figures:
    """Return the time of the same with all checkpoints kept on the device."""
    K, num_weights = rows.shape
    start = time.perf_counter()
    weights = torch.empty(K, num_weights, device=setting.device)
    for row, values in zip(weights, rows.vectors, strict=True):
        row.copy_(torch.from_numpy(np.array(values)))
    setting.synchronize()
    copied = time.perf_counter() - start
    coefficients = torch.from_numpy(alpha).float().to(setting.device)
    seconds = setting.seconds(lambda: coefficients @ weights, 5, 1)
    found = (coefficients @ weights)[0].cpu().numpy()
    return {
        "to the device, once, s": copied,
        "kept on the device, ms a candidate": 1e3 * seconds,
        "largest difference from the product": float(np.abs(found - expected).max()),
    }


@contextmanager
def checkpoint_rows(num: int, num_weights: int) -> Iterator[WeightMatrix]:
    """Yield maps of files of random weights."""
    values = np.random.default_rng(0).standard_normal(num_weights, dtype=np.float32)
    memory = Path("/dev/shm")
    need = 4 * num * num_weights
    has_room = memory.is_dir() and shutil.disk_usage(memory).free > need
    with tempfile.TemporaryDirectory(dir=memory if has_room else None) as folder:
        paths = [Path(folder) / f"{number}" for number in range(num)]
        for number, path in enumerate(paths):
            (values * np.float32(1 + number / 100)).tofile(path)
        yield WeightMatrix([np.memmap(path, np.float32, "r") for path in paths])


def state_to_disk(setting: Setting) -> Figures:
    """Return the time that training stands while its state is written, at each checkpoint."""
    trainer = setting.trainer(**BF16)
    for _ in training_steps(trainer, setting.batches(**BF16), 1):
        pass
    tensors = trainer.state_tensors()
    size = sum(t.numel() * t.element_size() for t in tensors.values()) / 1e9
    with tempfile.TemporaryDirectory() as folder:
        dataset = TensorFileDataset(filepath=f"{folder}/state.safetensors")
        start = time.perf_counter()
        dataset.save(TensorFile(tensors, {"step": trainer.step}))
        seconds = time.perf_counter() - start
    return {"GB": size, "s": seconds, "GB/s": size / seconds}
