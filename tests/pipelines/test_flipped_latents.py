"""Latents of mirror images beside those of the images."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
import torch
from configuration import recipe
from small_encoding import SIZES, encoding, kl, runtime

from lct_pipeline.datasets.autoencoder import StoredAutoencoder
from lct_pipeline.datasets.shards import Shard, ShardsDataset, ShardStore, ShardStream
from lct_pipeline.models.autoencoder import encode
from lct_pipeline.parameters import Encoding
from lct_pipeline.pipelines.encoding.nodes import encode_images
from lct_pipeline.pipelines.encoding.steps import measure_normalisation

TRAINING = np.array([0, 2, 3, 5, 6, 7, 9])
MakeStream = Callable[[ShardsDataset, bool], ShardStream]


def parameters(flips: bool) -> Encoding:
    return encoding(horizontal_flips=flips)


@pytest.fixture(scope="module")
def autoencoder() -> StoredAutoencoder:
    return kl()


@pytest.fixture
def images(tmp_path: Path) -> ShardStore:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (sum(SIZES), 3, 16, 16), generator=generator)
    shards = [Shard({"images": part}) for part in pixels.byte().split(SIZES)]
    dataset = ShardsDataset(path=str(tmp_path / "images"))
    dataset.save(ShardStream("images", shards))
    return dataset.load()


@pytest.fixture
def stream(images: ShardStore, autoencoder: StoredAutoencoder) -> MakeStream:
    return lambda dataset, flips: encode_images(
        images, autoencoder, dataset.load(), parameters(flips), runtime()
    )


@pytest.fixture
def plain(stream: MakeStream, tmp_path: Path) -> ShardsDataset:
    dataset = ShardsDataset(path=str(tmp_path / "plain"))
    dataset.save(stream(dataset, False))
    return dataset


@pytest.fixture
def latents(stream: MakeStream, tmp_path: Path) -> ShardStore:
    dataset = ShardsDataset(path=str(tmp_path / "latents"))
    dataset.save(stream(dataset, True))
    return dataset.load()


def test_flipped_latents_are_the_posterior_of_the_mirrored_pixels(
    images: ShardStore, latents: ShardStore, autoencoder: StoredAutoencoder
) -> None:
    for source, encoded in zip(images.shards, latents.shards, strict=True):
        pixels = torch.from_numpy(source.arrays["images"][..., ::-1].copy())
        parts = [encode(autoencoder.model, batch) for batch in pixels.split(3)]
        for name, expected in zip(
            ("mean", "std"), zip(*parts, strict=True), strict=True
        ):
            found = encoded.arrays[f"{name}_flipped"]
            np.testing.assert_array_equal(found, torch.cat(expected))


def test_flips_change_nothing_about_the_images_themselves(
    plain: ShardsDataset, latents: ShardStore
) -> None:
    assert set(plain.load().shards[0].arrays) == {"mean", "std"}
    every = np.arange(sum(SIZES))
    for name in ("mean", "std"):
        found = latents.gather(name, every)
        assert torch.equal(found, plain.load().gather(name, every))


def test_shards_without_flips_are_not_continued_with_them(
    plain: ShardsDataset, stream: MakeStream
) -> None:
    assert stream(plain, False).first_shard == 3
    assert stream(plain, True).first_shard == 0


@pytest.mark.parametrize("flips", [False, True])
def test_normalisation_is_that_of_images_and_mirror_images(
    latents: ShardStore, flips: bool
) -> None:
    def both(name: str) -> np.ndarray:
        names = [name, f"{name}_flipped"] if flips else [name]
        parts = [latents.gather(n, TRAINING).double().numpy() for n in names]
        return np.concatenate(parts)

    split = ["train" if i in TRAINING else "test" for i in range(sum(SIZES))]
    manifest = pd.DataFrame({"index": range(sum(SIZES)), "split": split})
    noise = recipe("base").training.noise
    stored = measure_normalisation(latents, manifest, parameters(flips), noise)
    mean, std = both("mean"), both("std")
    deviation = np.sqrt(mean.var(0, ddof=1) + (std**2).mean(0))
    np.testing.assert_allclose(stored.tensors["mean"], mean.mean(0), rtol=1e-6)
    np.testing.assert_allclose(stored.tensors["std"], deviation, rtol=1e-6)
    assert stored.metadata["num_images"] == len(TRAINING) * (1 + flips)
