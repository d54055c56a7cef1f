"""Latents of mirror images beside those of the images."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
import yaml
from torch import Tensor

from lct_pipeline.datasets.autoencoder import StoredAutoencoder
from lct_pipeline.datasets.shards import Shard, ShardsDataset, ShardStore, ShardStream
from lct_pipeline.models.autoencoder.coding import encode
from lct_pipeline.models.autoencoder.fitting import build_autoencoder
from lct_pipeline.parameters import Encoding, Runtime
from lct_pipeline.parameters.training import Noise
from lct_pipeline.pipelines.encoding.nodes import encode_images
from lct_pipeline.pipelines.encoding.steps import measure_normalisation

BASE = Path(__file__).parents[2] / "conf" / "base"
SIZES = [4, 4, 3]
TRAINING = np.array([0, 2, 3, 5, 6, 7, 9])


def base(stage: str) -> dict[str, Any]:
    found = yaml.safe_load((BASE / f"parameters_{stage}.yml").read_text())
    return found[stage]


def parameters(**changes: Any) -> Encoding:
    return Encoding.model_validate(base("encoding") | {"batch_size": 3} | changes)


@pytest.fixture(scope="module")
def autoencoder() -> StoredAutoencoder:
    torch.manual_seed(0)
    model = build_autoencoder(block_channels=(8, 8), latent_channels=2).eval()
    return StoredAutoencoder(model, "digest")


@pytest.fixture
def images(tmp_path: Path) -> ShardStore:
    generator = torch.Generator().manual_seed(0)
    pixels = torch.randint(256, (sum(SIZES), 3, 16, 16), generator=generator)
    shards = [Shard({"images": part}) for part in pixels.byte().split(SIZES)]
    dataset = ShardsDataset(path=str(tmp_path / "images"))
    dataset.save(ShardStream("images", shards))
    return dataset.load()


@pytest.fixture
def manifest() -> pd.DataFrame:
    split = ["train" if i in TRAINING else "test" for i in range(sum(SIZES))]
    return pd.DataFrame({"index": range(sum(SIZES)), "split": split})


@pytest.fixture
def latents_dataset(tmp_path: Path) -> ShardsDataset:
    return ShardsDataset(path=str(tmp_path / "latents"))


def stream(
    images: ShardStore,
    autoencoder: StoredAutoencoder,
    dataset: ShardsDataset,
    *,
    flips: bool = True,
) -> ShardStream:
    runtime = Runtime.model_validate(base("runtime") | {"device": "cpu"})
    return encode_images(
        images,
        autoencoder,
        dataset.load(),
        parameters(horizontal_flips=flips),
        runtime,
    )


@pytest.fixture
def latents(
    images: ShardStore, autoencoder: StoredAutoencoder, latents_dataset: ShardsDataset
) -> ShardStore:
    latents_dataset.save(stream(images, autoencoder, latents_dataset))
    return latents_dataset.load()


def test_flipped_latents_are_the_posterior_of_the_mirrored_pixels(
    images: ShardStore, latents: ShardStore, autoencoder: StoredAutoencoder
) -> None:
    for source, encoded in zip(images.shards, latents.shards, strict=True):
        assert set(encoded.arrays) == {"mean", "std", "mean_flipped", "std_flipped"}
        pixels = source.arrays["images"][..., ::-1].copy()
        batches = torch.from_numpy(pixels).split(3)
        for name, parts in zip(
            ("mean_flipped", "std_flipped"),
            zip(*(encode(autoencoder.model, b) for b in batches), strict=True),
            strict=True,
        ):
            np.testing.assert_array_equal(encoded.arrays[name], torch.cat(parts))


def test_a_mirrored_latent_would_be_another(latents: ShardStore) -> None:
    arrays = latents.shards[0].arrays
    assert np.abs(arrays["mean"][..., ::-1] - arrays["mean_flipped"]).max() > 1e-3


def test_flips_change_nothing_about_the_images_themselves(
    images: ShardStore,
    latents: ShardStore,
    autoencoder: StoredAutoencoder,
    tmp_path: Path,
) -> None:
    dataset = ShardsDataset(path=str(tmp_path / "plain"))
    dataset.save(stream(images, autoencoder, dataset, flips=False))
    every = np.arange(sum(SIZES))
    assert set(dataset.load().shards[0].arrays) == {"mean", "std"}
    for name in ("mean", "std"):
        plain = dataset.load().gather(name, every)
        assert torch.equal(plain, latents.gather(name, every))


@pytest.mark.parametrize("flips", [False, True])
def test_normalisation_is_that_of_images_and_mirror_images(
    latents: ShardStore, manifest: pd.DataFrame, flips: bool
) -> None:
    def both(name: str) -> np.ndarray:
        names = [name, f"{name}_flipped"] if flips else [name]
        parts = [latents.gather(n, TRAINING).double().numpy() for n in names]
        return np.concatenate(parts)

    noise = Noise.model_validate(base("training")["noise"])
    given = parameters(horizontal_flips=flips)
    stored = measure_normalisation(latents, manifest, given, noise)
    mean, std = both("mean"), both("std")
    spread = np.sqrt(mean.var(0, ddof=1) + (std**2).mean(0))
    np.testing.assert_allclose(stored.tensors["mean"], mean.mean(0), rtol=1e-6)
    np.testing.assert_allclose(stored.tensors["std"], spread, rtol=1e-6)
    assert stored.metadata["num_images"] == len(TRAINING) * (1 + flips)


def test_interrupted_encoding_goes_on_after_the_last_whole_shard(
    images: ShardStore,
    latents: ShardStore,
    autoencoder: StoredAutoencoder,
    tmp_path: Path,
) -> None:
    dataset = ShardsDataset(path=str(tmp_path / "interrupted"))
    whole = stream(images, autoencoder, dataset)
    parts = iter(whole.shards)

    def killed() -> Any:
        yield next(parts)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        dataset.save(ShardStream(whole.fingerprint, killed()))
    assert not dataset.load().complete
    rest = stream(images, autoencoder, dataset)
    assert rest.first_shard == 1
    dataset.save(rest)
    for old, new in zip(latents.shards, dataset.load().shards, strict=True):
        assert old.path.read_bytes() == new.path.read_bytes()


def test_shards_without_flips_are_not_continued_with_them(
    images: ShardStore, latents_dataset: ShardsDataset, autoencoder: StoredAutoencoder
) -> None:
    latents_dataset.save(stream(images, autoencoder, latents_dataset, flips=False))
    assert stream(images, autoencoder, latents_dataset, flips=False).first_shard == 3
    assert stream(images, autoencoder, latents_dataset).first_shard == 0


def test_flipped_latents_are_read_like_the_others(latents: ShardStore) -> None:
    chosen = np.array([10, 0, 5])
    found: Tensor = latents.gather("mean_flipped", chosen)
    expected = [
        latents.shards[s].arrays["mean_flipped"][i] for s, i in ((2, 2), (0, 0), (1, 1))
    ]
    np.testing.assert_array_equal(found, np.stack(expected))
