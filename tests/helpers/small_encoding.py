"""Small images and autoencoders for tests of encoding."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any, ClassVar

import pandas as pd
import torch
import yaml
from small_autoencoders import autoencoder
from small_autoencoders import images as smooth_images
from torch import Tensor, nn

from lct_pipeline.datasets.autoencoder import StoredAutoencoder
from lct_pipeline.datasets.decoder import Decoder
from lct_pipeline.datasets.shards import Shard, ShardsDataset, ShardStore, ShardStream
from lct_pipeline.models.digests import tensors_digest
from lct_pipeline.parameters import Encoding, Runtime
from lct_pipeline.pipelines.encoding.nodes import encode_images, measure_reconstruction

BASE = Path(__file__).parents[2] / "conf" / "base"
SIZES = [4, 4, 3]


def base(stage: str) -> dict[str, Any]:
    found = yaml.safe_load((BASE / f"parameters_{stage}.yml").read_text())
    return found[stage]


def encoding(**changes: Any) -> Encoding:
    return Encoding.model_validate(base("encoding") | {"batch_size": 3} | changes)


def runtime(**changes: Any) -> Runtime:
    return Runtime.model_validate(base("runtime") | {"device": "cpu"} | changes)


def store_images(
    folder: Path, sizes: Sequence[int] = SIZES, side: int = 16
) -> ShardStore:
    parts = smooth_images(sum(sizes), side).split(list(sizes))
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
