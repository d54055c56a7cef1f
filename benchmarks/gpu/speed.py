"""How fast is a training step, beside what the device can do and what one would write plainly?"""

from __future__ import annotations

import time
from copy import deepcopy
from functools import partial
from statistics import mean, median
from typing import Any

import numpy as np
import ot
import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.profiler import ProfilerActivity, profile
from torch.utils.flop_counter import FlopCounterMode

from benchmarks.gpu.setting import Figures, Setting, tf32
from lct_pipeline.core.training_loop import training_steps

BF16: dict[str, Any] = {"precision": "bfloat16"}
UNCOUPLED = {**BF16, "objective.coupling": "independent"}
ONE_AVERAGE = {
    **BF16,
    "ema.rates": [0.9999],
    "ema.sigma_rels": [],
    "optimizer.name": "adamw",
}
PASSES = (
    4  # of a step, in forward passes: the student's with its gradient 3, the target's 1
)


def ceilings(setting: Setting) -> Figures:
    """Return what the device does at best: products, copies, convolutions, norms."""
    n, numel = (256, 1 << 18) if setting.tiny else (8192, 1 << 30)
    x = torch.randn(n, n, device=setting.device, dtype=torch.bfloat16)
    seconds = setting.seconds(lambda: x @ x)
    figures: Figures = {"bfloat16 matrix product, TFLOP/s": 2 * n**3 / seconds / 1e12}
    values = torch.zeros(numel, device=setting.device)
    seconds = setting.seconds(values.clone, repeats=5)
    figures["copy, read and written, TB/s"] = 8 * numel / seconds / 1e12
    del values
    return figures | convolutions(setting) | layer_norms(setting)


def convolutions(setting: Setting) -> Figures:
    """Return the rate of a 3x3 convolution in both orders of memory."""
    batch, channels, side = (8, 32, 8) if setting.tiny else (128, 256, 16)
    x = torch.randn(batch, channels, side, side)
    weight = torch.randn(channels, channels, 3, 3)
    flops = 2 * 9 * batch * side**2 * channels**2
    figures: Figures = {}
    for name, order in (
        ("NCHW", torch.contiguous_format),
        ("NHWC", torch.channels_last),
    ):
        a, b = (
            values.to(setting.device, torch.bfloat16, memory_format=order)
            for values in (x, weight)
        )
        seconds = setting.seconds(partial(F.conv2d, a, b, padding=1))
        figures[f"bfloat16 convolution {name}, TFLOP/s"] = flops / seconds / 1e12
    return figures


def layer_norms(setting: Setting) -> Figures:
    """Return the memory traffic of the norm over (C, H, W), forward and backward."""
    whole = ((128, 32, 32), (256, 16, 16), (384, 8, 8))
    figures: Figures = {}
    for shape in ((32, 8, 8),) if setting.tiny else whole:
        size = (setting.training().batch_size, *shape)
        x = torch.randn(size, device=setting.device, requires_grad=True)
        bias = torch.zeros(shape, device=setting.device, requires_grad=True)
        forward = partial(F.layer_norm, x, shape, bias=bias)
        y, gradient = forward(), torch.randn_like(x)
        backward = partial(
            torch.autograd.grad, y, (x, bias), gradient, retain_graph=True
        )
        for name, function, num in (("forward", forward, 2), ("backward", backward, 3)):
            rate = num * 4 * x.numel() / setting.seconds(function) / 1e9
            figures[f"layer norm over {shape}, {name}, GB/s"] = rate
    return figures


def training_step(
    setting: Setting,
    changes: dict[str, Any],
    *,
    compiled: bool = False,
    autocast: torch.dtype | None = None,
) -> Figures:
    """Return the time of the project's step, batches prepared ahead as in training.

    Args:
        setting: Where.
        changes: Values of training that differ from the recipe's, by dotted name.
        compiled: Compile the network.
        autocast: Type of matrix products that ``training.precision`` does not have.
    """
    if setting.device.type == "cuda":
        torch.cuda.reset_peak_memory_stats(setting.device)
    trainer = setting.trainer(compiled=compiled, **changes)
    trainer.model.autocast = autocast or trainer.model.autocast
    prepare = setting.batches(**changes)
    warm_ups, counted = (1, 3) if setting.tiny else (6, 20)
    times, steps = [time.perf_counter()], []
    for metrics in training_steps(trainer, prepare, warm_ups + counted):
        times.append(time.perf_counter())
        steps.append(metrics)
    seconds = median(np.diff(times)[warm_ups:].tolist())
    batch_size = setting.training(**changes).batch_size
    of_steps = steps[warm_ups:]
    figures: Figures = {
        "step, ms": 1e3 * seconds,
        "images/s": batch_size / seconds,
        "TFLOP/s": step_flops(setting) / seconds / 1e12,
        "first step, s": times[1] - times[0],
        "waited for the batch, ms": 1e3 * mean(s.wait_seconds for s in of_steps),
        "coupling beside it, ms": 1e3 * mean(s.coupling_seconds for s in of_steps),
        "loss": steps[-1].loss,
    }
    if setting.device.type == "cuda":
        peak = torch.cuda.max_memory_allocated(setting.device)
        figures["memory at most, GiB"] = peak / 2**30
    return figures


def step_flops(setting: Setting) -> float:
    """Return the operations of a step, from those of a forward pass of one sample."""
    with torch.device("meta"):
        network, x = setting.model().network, torch.empty(1, *setting.sample_shape)
        level = torch.empty(1)
    with torch.no_grad(), FlopCounterMode(display=False) as counter:
        network(x, level, None)
    return PASSES * setting.training().batch_size * counter.get_total_flops()


def plain_step(setting: Setting) -> Figures:
    """Return the time of a step as the authors' code has it, written plainly.

    Float32 with TF32 products; its averages are seven.
    """
    plain = PlainStep(setting.model().to(setting.device).train(), num_averages=7)
    latents = setting.latents[: setting.training().batch_size]
    t = 0.1 + torch.rand(len(latents), dtype=torch.float64, device=setting.device)
    with tf32(convolutions=True, products=True):
        seconds = setting.seconds(
            lambda: plain(latents.to(setting.device), t, 0.9 * t),
            repeats=12,
            warm_ups=4,
        )
    return {"step, ms": 1e3 * seconds, "images/s": len(latents) / seconds}


class PlainStep:
    """A step as the authors' code does it, written plainly.

    Coupling in turn, a copy of the network as target, averages updated weight by weight, and four
    waits for the device.
    """

    def __init__(self, model: nn.Module, num_averages: int) -> None:
        self.model = model
        self.target, *self.averages = (
            deepcopy(model).requires_grad_(False) for _ in range(num_averages + 1)
        )
        self.optimizer = torch.optim.RAdam(
            model.parameters(), lr=1e-4, weight_decay=1e-4
        )

    def __call__(self, x: Tensor, t: Tensor, r: Tensor) -> None:
        """Train on latents ``(B, C, H, W)`` at levels t > r, ``(B,)``."""
        eps = plainly_coupled(x, torch.randn_like(x))
        consistency, diffusion = plain_losses(self.model, self.target, x, eps, t, r)
        loss = consistency + 5 * diffusion
        if not torch.isnan(loss):
            self.optimizer.zero_grad()
            loss.backward()
            self.optimizer.step()
            loss.item(), consistency.item(), diffusion.item()
        follow(self.target, self.model, rate=0.0)
        for average in self.averages:
            follow(average, self.model, rate=0.9999)


def plainly_coupled(x: Tensor, eps: Tensor) -> Tensor:
    """Return the noise in the order of an optimal-transport plan."""
    cost = torch.cdist(x.flatten(1), eps.flatten(1)).square()
    uniform = ot.unif(len(x))
    plan = ot.emd(uniform, uniform, (cost / cost.max()).double().cpu().numpy())
    return eps[torch.from_numpy(plan.argmax(1)).to(eps.device)]


def plain_losses(
    model: nn.Module, target: nn.Module, x: Tensor, eps: Tensor, t: Tensor, r: Tensor
) -> tuple[Tensor, Tensor]:
    """Return consistency and diffusion loss; student and target have the same dropout."""
    is_cuda = x.device.type == "cuda"
    state = torch.cuda.get_rng_state(x.device) if is_cuda else torch.get_rng_state()
    D_xt = model(x + t.float()[:, None, None, None] * eps, t)
    with torch.no_grad():
        restore = torch.cuda.set_rng_state if is_cuda else torch.set_rng_state
        restore(state)
        D_xr = target(x + r.float()[:, None, None, None] * eps, r)
    squares = (D_xt - D_xr).square().mean((1, 2, 3))
    consistency = (torch.log1p(squares / (2 * 0.03**2)) / (t - r)).mean()
    return consistency, (D_xt - x).square().mean()


@torch.no_grad()
def follow(average: nn.Module, model: nn.Module, *, rate: float) -> None:
    """Update an average weight by weight."""
    for mean_weight, weight in zip(
        average.parameters(), model.parameters(), strict=True
    ):
        mean_weight.mul_(rate).add_(weight, alpha=1 - rate)


def where_time_goes(setting: Setting) -> Figures:
    """Profile two steps; the 25 operations that take longest go to ``profile.txt``."""
    trainer = setting.trainer(**BF16)
    warm_ups = 1 if setting.tiny else 6
    steps = training_steps(trainer, setting.batches(**BF16), warm_ups + 2)
    for _ in range(warm_ups):
        next(steps)
    on_gpu = setting.device.type == "cuda"
    activities = [ProfilerActivity.CPU] + [ProfilerActivity.CUDA] * on_gpu
    with profile(activities=activities) as profiler:
        start = time.perf_counter()
        next(steps)
        next(steps)
        setting.synchronize()
        seconds = time.perf_counter() - start
    steps.close()
    key = "self_device_time_total" if on_gpu else "self_cpu_time_total"
    events = sorted(profiler.key_averages(), key=lambda event: -getattr(event, key))
    lines = [
        f"{getattr(event, key) / 2e3:9.3f} ms/step {event.count // 2:6d} {event.key[:110]}"
        for event in events[:25]
    ]
    (setting.out / "profile.txt").write_text("\n".join(lines) + "\n")
    kernels = [e for e in events if not on_gpu or e.device_type.name == "CUDA"]
    busy = sum(getattr(event, key) for event in kernels) / 2e3
    return {"step, ms": 500 * seconds, "device busy, ms": busy}
