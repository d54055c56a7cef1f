"""What is measured on: the paper's network and batch, its latents, an autoencoder, a device.

Sizes are those of recipe celebahq256, on latents ``(4, 32, 32)`` of images of 256 pixels; tiny ones
try the same code on a CPU.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from copy import deepcopy
from dataclasses import dataclass
from functools import cache, cached_property
from itertools import cycle, islice
from pathlib import Path
from statistics import median
from typing import Any

import numpy as np
import torch
from diffusers import AutoencoderKL
from torch import Tensor, nn

from lct_pipeline.config_loader import LctConfigLoader
from lct_pipeline.core.batches import BatchPreparation, EpochOrder, Ranks
from lct_pipeline.core.preconditioning import Denoiser
from lct_pipeline.core.training_loop import Trainer
from lct_pipeline.datasets.decoding import decode_image
from lct_pipeline.datasets.sources.base import SourceOptions
from lct_pipeline.datasets.sources.opening import open_source
from lct_pipeline.models.autoencoder import (
    automatic_precision,
    copy_for_encoding,
    encode,
)
from lct_pipeline.models.denoiser import build_model
from lct_pipeline.parameters.training import Training
from lct_pipeline.settings import CONFIG_LOADER_ARGS
from lct_pipeline.training.task import describe_model
from lct_pipeline.training.trainer import build_trainer, compile_network, level_schedule

CONF = Path(__file__).parents[2] / "conf"
RECIPE = "celebahq256"
TINY = {
    "network.unet.width": 32,
    "network.unet.multipliers": [1, 2],
    "network.unet.num_blocks": 1,
    "network.unet.attention_sizes": [8],
    "network.unet.head_width": 16,
    "batch_size": 8,
}
OPTIONS = SourceOptions("none", None, "label", "train", 256)
ENCODED_TOGETHER = 64

Figures = dict[str, Any]  # numbers and short texts by name, the unit in the name


@dataclass(frozen=True)
class Setting:
    """Where and at which size everything is measured.

    Attributes:
        device: Where.
        tiny: Sizes for a CPU.
        source: Images, as ``ingestion.source`` takes them, or a .npz file of latents; None makes
            up both.
        out: Folder for files beside the figures.
    """

    device: torch.device
    tiny: bool
    source: str | None
    out: Path

    def training(self, **changes: Any) -> Training:
        """Return the recipe's parameters of training.

        Args:
            changes: Other values, by dotted name.
        """
        values = deepcopy(recipe_values())
        for name, value in {**(TINY if self.tiny else {}), **changes}.items():
            *groups, last = name.split(".")
            group = values
            for key in groups:
                group = group[key]
            group[last] = value
        return Training.model_validate(values)

    @property
    def sample_shape(self) -> list[int]:
        """Shape of a latent."""
        return [4, 8, 8] if self.tiny else [4, 32, 32]

    @property
    def image_side(self) -> int:
        """Side of the images that latents are made of, pixels."""
        return 8 * self.sample_shape[-1]

    def model(self, **changes: Any) -> Denoiser:
        """Return a denoiser of fresh weights on the CPU."""
        return build_model(
            describe_model(self.training(**changes), self.sample_shape, {})
        )

    def trainer(self, *, compiled: bool = False, **changes: Any) -> Trainer:
        """Return a trainer at its first step."""
        training = self.training(**changes)
        trainer = build_trainer(
            describe_model(training, self.sample_shape, {}),
            training,
            None,
            Ranks(0, 1, self.device),
            gradient_accumulation=1,
            compiled=False,
        )
        if compiled:
            self.compile(trainer.model.network)
        return trainer

    def compile(self, network: nn.Module) -> None:
        """Compile as training does; at tiny size without making machine code, which takes long."""
        if self.tiny:
            network.compile(backend="eager")
        else:
            compile_network(network, dropout=0.0)

    def batches(self, **changes: Any) -> BatchPreparation:
        """Return what makes the batch of a training step, from latents on the device."""
        training = self.training(**changes)
        latents = self.latents.to(self.device)
        order = EpochOrder(len(latents), training.batch_size, seed=0)

        def read(step: int) -> tuple[Tensor, None]:
            return latents[torch.from_numpy(order.batch(step)).to(self.device)], None

        return BatchPreparation(
            read=read,
            schedule=level_schedule(training),
            coupling=training.objective.coupling,
            seed=0,
            ranks=Ranks(0, 1, self.device),
        )

    @cached_property
    def latents(self) -> Tensor:
        """Latents ``(N, C, H, W)`` of the standard deviation that training expects, float32."""
        num, sigma_data = 64 if self.tiny else 2048, self.training().noise.sigma_data
        if self.source is None:
            generator = torch.Generator().manual_seed(0)
            x = torch.randn(num, *self.sample_shape, generator=generator)
        elif (stored := stored_latents(self.source)) is not None:
            x = stored
        else:
            x = self._encoded(self.images(num))
        return sigma_data * (x - x.mean()) / x.std()

    def _encoded(self, images: Tensor) -> Tensor:
        precision = automatic_precision(self.device)
        model = copy_for_encoding(
            self.autoencoder, self.device, precision, compiled=False
        )
        parts = images.split(ENCODED_TOGETHER)
        return torch.cat([encode(model, part)[0].cpu() for part in parts])

    def images(self, num: int) -> Tensor:
        """Return uint8 images ``(num, 3, H, W)``; the source's again where it has fewer."""
        side = self.image_side
        if self.source is None or stored_latents(self.source) is not None:
            generator = torch.Generator().manual_seed(1)
            shape = (num, 3, side, side)
            return torch.randint(256, shape, generator=generator, dtype=torch.uint8)
        found = list(read_images(self.source, num, side))
        return torch.from_numpy(np.stack(list(islice(cycle(found), num))))

    @cached_property
    def autoencoder(self) -> AutoencoderKL:
        """An autoencoder of Stable Diffusion's size, of random weights."""
        channels = (8, 8, 8, 8) if self.tiny else (128, 256, 512, 512)
        with torch.random.fork_rng(devices=[]):
            torch.manual_seed(0)
            return AutoencoderKL(
                block_out_channels=channels,
                down_block_types=("DownEncoderBlock2D",) * 4,
                up_block_types=("UpDecoderBlock2D",) * 4,
                layers_per_block=2,
                latent_channels=4,
                norm_num_groups=min(32, channels[0]),
            ).eval()

    def synchronize(self) -> None:
        """Wait until the device has done what it was given."""
        if self.device.type == "cuda":
            torch.cuda.synchronize(self.device)

    def seconds(
        self, function: Callable[[], Any], repeats: int = 20, warm_ups: int = 5
    ) -> float:
        """Return the median time of a call, after some that do not count."""
        if self.tiny:
            repeats, warm_ups = min(repeats, 3), 1
        for _ in range(warm_ups):
            function()
        self.synchronize()
        found = []
        for _ in range(repeats):
            start = time.perf_counter()
            function()
            self.synchronize()
            found.append(time.perf_counter() - start)
        return median(found)


@cache
def recipe_values() -> dict[str, Any]:
    """Return the recipe's values of training."""
    loader = LctConfigLoader(conf_source=str(CONF), env=RECIPE, **CONFIG_LOADER_ARGS)
    return loader["parameters"]["training"]


def stored_latents(source: str) -> Tensor | None:
    """Return the first array of a .npz file where it is of latents: four axes, real numbers."""
    if Path(source).suffix != ".npz":
        return None
    with np.load(source) as arrays:
        array = arrays[arrays.files[0]]
    is_latents = array.ndim == 4 and np.issubdtype(array.dtype, np.floating)
    return torch.from_numpy(array).float() if is_latents else None


def read_images(source: str, num: int, side: int) -> Iterator[np.ndarray]:
    """Yield the first images of a source, ``(3, side, side)`` each."""
    images = open_source(source, OPTIONS)
    for entry in images.read(0, min(num, len(images))):
        if entry.problem is None:
            content = entry.content
            yield decode_image(content, size=side, min_side=1, max_pixels=2**28).pixels


@contextmanager
def tf32(convolutions: bool, products: bool = False) -> Iterator[None]:
    """Let float32 convolutions, and matrix products, round their factors to TF32, or not."""
    cudnn, matmul = torch.backends.cudnn, torch.backends.cuda.matmul
    before = cudnn.allow_tf32, matmul.allow_tf32
    cudnn.allow_tf32, matmul.allow_tf32 = convolutions, products
    try:
        yield
    finally:
        cudnn.allow_tf32, matmul.allow_tf32 = before
