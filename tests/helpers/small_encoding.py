"""Small autoencoders of random weights, smooth images, and encoding with them."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pandas as pd
import torch
from configuration import recipe
from torch import Tensor, nn

from conftest import changed
from lct_pipeline.datasets.autoencoder import StoredAutoencoder
from lct_pipeline.datasets.decoder import Decoder
from lct_pipeline.datasets.shards import Shard, ShardsDataset, ShardStore, ShardStream
from lct_pipeline.models.autoencoder import (
    PixelAutoencoder,
    TrainedKind,
    build_autoencoder,
)
from lct_pipeline.models.digests import tensors_digest
from lct_pipeline.parameters import Encoding, Runtime
from lct_pipeline.pipelines.encoding.nodes import encode_images, measure_reconstruction

SIDES = ("encoder", "decoder")


def autoencoder(
    block_channels: Sequence[int] = (8, 16),
    latent_channels: int = 2,
    kind: TrainedKind = "AutoencoderKL",
) -> Any:
    torch.manual_seed(0)
    return build_autoencoder(
        kind, block_channels=block_channels, latent_channels=latent_channels
    )


def tiny(num_levels: int = 3, latent_channels: int = 3) -> Any:
    from diffusers import AutoencoderTiny

    torch.manual_seed(0)
    widths = {f"{side}_block_out_channels": (8,) * num_levels for side in SIDES}
    blocks = {f"num_{side}_blocks": (1,) * num_levels for side in SIDES}
    return AutoencoderTiny(latent_channels=latent_channels, **widths, **blocks)


def deep_compression(block_channels: Sequence[int] = (8, 16)) -> Any:
    return autoencoder(block_channels, latent_channels=4, kind="AutoencoderDC")


MAKERS = [autoencoder, tiny, deep_compression, PixelAutoencoder]


def images(num: int = 6, side: int = 16) -> Tensor:
    """Smooth coloured gradients, uint8."""
    rng = np.random.default_rng(0)
    grid = np.linspace(0, 1, side)
    slopes = rng.uniform(-120, 120, size=(num, 3, 2, 1, 1))
    values = 128 + slopes[:, :, 0] * grid[:, None] + slopes[:, :, 1] * grid / 2
    return torch.from_numpy(values.clip(0, 255).astype(np.uint8))


SIZES = [4, 4, 3]


def encoding(**changes: Any) -> Encoding:
    return changed(recipe("base").encoding, {"batch_size": 3} | changes)


def runtime(**changes: Any) -> Runtime:
    return changed(recipe("base").runtime, {"device": "cpu"} | changes)


def store_images(
    folder: Path, sizes: Sequence[int] = SIZES, side: int = 16
) -> ShardStore:
    parts = images(sum(sizes), side).split(list(sizes))
    dataset = ShardsDataset(path=str(folder))
    dataset.save(ShardStream("images", [Shard({"images": part}) for part in parts]))
    return dataset.load()


def manifest_of(images: ShardStore, split: str = "train") -> pd.DataFrame:
    return pd.DataFrame({"index": range(len(images)), "split": split})


def stored(model: Any) -> StoredAutoencoder:
    return StoredAutoencoder(model.eval(), tensors_digest(model.state_dict()))


def kl(block_channels: Sequence[int] = (8, 8)) -> StoredAutoencoder:
    return stored(autoencoder(block_channels))


class AutoencoderDC(nn.Module):
    """One convolution behind the calls of diffusers' class, whose import takes ten seconds."""

    device, dtype = torch.device("cpu"), torch.float32
    config: ClassVar = {"encoder_block_out_channels": (8, 8)}

    def __init__(self) -> None:
        super().__init__()
        self.encoder = nn.Conv2d(3, 2, 2, stride=2)

    def encode(self, x: Tensor, *, return_dict: bool) -> tuple[Tensor]:
        return (self.encoder(x),)


def encode_into(
    folder: Path,
    images: ShardStore,
    autoencoder: StoredAutoencoder,
    parameters: Encoding,
    **of_runtime: Any,
) -> ShardStore:
    """Encode as the node and the catalog do, going on with what is in the folder."""
    dataset = ShardsDataset(path=str(folder))
    dataset.save(
        encode_images(
            images, autoencoder, dataset.load(), parameters, runtime(**of_runtime)
        )
    )
    return dataset.load()


def measured(
    images: ShardStore, latents: ShardStore, decoder: Decoder, parameters: Encoding
) -> dict[str, Any]:
    """Measure the reconstruction of all images as the node does."""
    rows = manifest_of(images, "validation")
    return measure_reconstruction(images, latents, rows, decoder, parameters, runtime())
