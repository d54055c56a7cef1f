"""From shards of images to shards of latents: classes, precisions, mirror images, processes."""

from __future__ import annotations

import multiprocessing
import shutil
from collections.abc import Callable
from dataclasses import asdict
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from configuration import recipe
from kedro.io import DatasetError
from small_encoding import (
    MAKERS,
    SIZES,
    AutoencoderDC,
    encode_into,
    encoding,
    kl,
    manifest_of,
    measured,
    runtime,
    store_images,
    stored,
)
from small_encoding import images as smooth_images

from lct_pipeline.core.outliers import outlier_statistics
from lct_pipeline.datasets.decoder import Decoder
from lct_pipeline.datasets.shards import Shard, ShardsDataset, ShardStore, ShardStream
from lct_pipeline.errors import ParameterError
from lct_pipeline.models.autoencoder import encode
from lct_pipeline.pipelines.encoding.latent_shards import measure_normalisation
from lct_pipeline.pipelines.encoding.nodes import encode_images
from lct_pipeline.pipelines.statistics.nodes import measure_latents

EVERY = np.arange(sum(SIZES))
NOISE = recipe("base").training.noise


@pytest.fixture
def images(tmp_path: Path) -> ShardStore:
    return store_images(tmp_path / "images")


@pytest.mark.parametrize("make", MAKERS)
def test_every_class_goes_from_images_to_normalised_latents_and_back(
    images: ShardStore, tmp_path: Path, make: Callable[[], Any]
) -> None:
    autoencoder, parameters = stored(make()), encoding(warn_below_psnr=0)
    latents = encode_into(tmp_path / "latents", images, autoencoder, parameters)
    x = smooth_images(len(EVERY), 16).float() / 127.5 - 1
    with torch.no_grad():
        (output,) = autoencoder.model.encode(x, return_dict=False)
        mean = output.mean if make is MAKERS[0] else output
        std = output.std if make is MAKERS[0] else torch.zeros_like(mean)
        decoded = autoencoder.model.decode(mean).sample
    for name, expected in (("mean", mean), ("std", std)):
        found = latents.gather(name, EVERY)
        assert found.dtype == torch.float32
        torch.testing.assert_close(found, expected, atol=1e-5, rtol=1e-4)
    rows = manifest_of(images)
    normalisation = measure_normalisation(latents, rows, parameters, NOISE)
    decoder = Decoder(autoencoder, normalisation)
    assert normalisation.tensors["mean"].shape == mean.shape[1:]
    quality = measured(images, latents, decoder, parameters)
    rounded = ((decoded.clamp(-1, 1) + 1) * 127.5).round()
    original = smooth_images(len(EVERY), 16).float()
    mse = (rounded - original).square().mean().item()
    psnr = None if mse == 0 else 10 * np.log10(255**2 / mse)
    assert quality["psnr_db"] == pytest.approx(psnr, abs=0.01)
    assert quality["exact"] == (make is MAKERS[-1])
    assert quality["lpips"] is None and quality["num_images"] == len(EVERY)


def test_latents_in_half_precision_are_the_rounded_ones_and_measured_as_they_are(
    images: ShardStore, tmp_path: Path
) -> None:
    autoencoder, rows = kl(), manifest_of(images)
    full = encode_into(tmp_path / "full", images, autoencoder, encoding())
    parameters = encoding(stored_as="float16", batch_size=0, warn_below_psnr=0)
    half = encode_into(tmp_path / "half", images, autoencoder, parameters)
    for name in ("mean", "std"):
        found = half.gather(name, EVERY)
        assert found.dtype == torch.float16
        torch.testing.assert_close(found, full.gather(name, EVERY).half())
    assert 2 * half.shards[0].record_bytes == full.shards[0].record_bytes
    mean, std = (half.gather(n, EVERY).double() for n in ("mean", "std"))
    normalisation = measure_normalisation(half, rows, parameters, NOISE)
    of_all = (mean.var(0) + std.square().mean(0)).sqrt()
    torch.testing.assert_close(normalisation.tensors["mean"], mean.mean(0).float())
    torch.testing.assert_close(normalisation.tensors["std"], of_all.float())
    statistics = measure_latents(half, rows, parameters)
    expected = [asdict(row) for row in outlier_statistics(lambda: iter([mean]))]
    for row, (_, other) in zip(expected, statistics.iterrows(), strict=True):
        assert other["std"] == pytest.approx(row["std"])
        assert other["median"] == row["median"]
    measured(images, half, Decoder(autoencoder, normalisation), parameters)


def test_latents_that_do_not_fit_into_half_precision_are_refused(
    images: ShardStore, tmp_path: Path
) -> None:
    autoencoder = kl()
    torch.nn.init.constant_(autoencoder.model.quant_conv.bias, 1e5)
    with pytest.raises(DatasetError, match=r"not finite.*stored as float16") as caught:
        parameters = encoding(stored_as="float16")
        encode_into(tmp_path / "half", images, autoencoder, parameters)
    assert isinstance(caught.value.__cause__, ParameterError)
    assert not (tmp_path / "half").exists()


def test_a_shard_without_an_image_becomes_one_without_a_latent(tmp_path: Path) -> None:
    images = store_images(tmp_path / "images", [2, 0, 1])
    parameters = encoding(horizontal_flips=True)
    latents = encode_into(tmp_path / "latents", images, kl(), parameters)
    assert [shard.num_items for shard in latents.shards] == [2, 0, 1]
    assert latents.shards[1].arrays["std_flipped"].shape == (0, 2, 8, 8)
    assert latents.gather("mean", np.arange(3)).shape == (3, 2, 8, 8)


def test_latents_of_another_precision_or_format_have_another_fingerprint(
    images: ShardStore, tmp_path: Path
) -> None:
    autoencoder = kl()

    def fingerprint(**changes: str) -> str:
        empty = ShardsDataset(path=str(tmp_path)).load()
        parameters = encoding(**changes)
        stream = encode_images(images, autoencoder, empty, parameters, runtime())
        return stream.fingerprint.removesuffix(f"-{autoencoder.digest}")

    assert fingerprint() == fingerprint(precision="float32") == "images"
    assert fingerprint(precision="bfloat16") == "images_bfloat16"
    assert fingerprint(stored_as="float16") == "images_float16"
    both = {"precision": "bfloat16", "stored_as": "float16"}
    assert fingerprint(**both) == "images_bfloat16_float16"


@pytest.mark.parametrize(("sizes", "kept"), [([4, 4, 3, 2], 3), ([4, 4, 1], 2)])
def test_latents_of_image_shards_that_did_not_change_are_kept(
    tmp_path: Path, sizes: list[int], kept: int
) -> None:
    autoencoder, folder = kl(), tmp_path / "latents"
    encode_into(folder, store_images(tmp_path / "old"), autoencoder, encoding())
    written = {p.name: p.stat().st_mtime_ns for p in folder.glob("shard-*")}
    images = store_like(store_images(tmp_path / "new"), tmp_path / "grown", sizes)
    latents = encode_into(folder, images, autoencoder, encoding())
    again = {p.name: p.stat().st_mtime_ns for p in folder.glob("shard-*")}
    assert [name for name in sorted(again) if again[name] == written.get(name)] == (
        sorted(written)[:kept]
    )
    other = encode_into(tmp_path / "other", images, autoencoder, encoding())
    assert [s.digest for s in latents.shards] == [s.digest for s in other.shards]


def store_like(images: ShardStore, folder: Path, sizes: list[int]) -> ShardStore:
    """Return images that begin as these do, in shards of other sizes and under another name."""
    num_left = sum(sizes) - len(images)
    first = images.gather("images", np.arange(min(len(images), sum(sizes))))
    new = torch.full((max(0, num_left), *first.shape[1:]), 7, dtype=torch.uint8)
    parts = torch.cat([first, new]).split(sizes)
    shards = [Shard({"images": part}, None, "images") for part in parts]
    dataset = ShardsDataset(path=str(folder))
    dataset.save(ShardStream("grown", shards))
    return dataset.load()


def test_automatic_precision_goes_on_with_what_is_there(
    images: ShardStore, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Latents that a GPU began are continued by a CPU, in their own precision."""
    autoencoder, folder = kl(), tmp_path / "latents"
    parameters = encoding(precision="bfloat16")
    whole = encode_into(folder, images, autoencoder, parameters)
    expected = {shard.path.name: shard.path.read_bytes() for shard in whole.shards}
    for name in ("shard-00002.safetensors", "index.json"):
        (folder / name).unlink()
    encode_into(folder, images, autoencoder, encoding(precision="auto"))
    for shard in ShardsDataset(path=str(folder)).load().shards:
        assert shard.path.read_bytes() == expected[shard.path.name]
    again = encode_images(
        images,
        autoencoder,
        ShardsDataset(path=str(folder)).load(),
        encoding(precision="float32"),
        runtime(),
    )
    assert again.first_shard == 0  # what is asked for is not replaced by what is there


@pytest.mark.usefixtures("forked_processes")
def test_two_processes_write_the_files_of_one(tmp_path: Path) -> None:
    autoencoder = kl()
    images = store_images(tmp_path / "images", [3, 2, 0, 2, 4])
    parameters = encoding(horizontal_flips=True, stored_as="float16")
    one, two = (
        encode_into(tmp_path / str(n), images, autoencoder, parameters, num_processes=n)
        for n in (1, 2)
    )
    assert not multiprocessing.active_children()
    names = {path.name for path in one.folder.iterdir()}
    assert {path.name for path in two.folder.iterdir()} == names
    for name in names:
        assert (two.folder / name).read_bytes() == (one.folder / name).read_bytes()


def test_compiled_the_encoder_gives_the_same(
    images: ShardStore, tmp_path: Path
) -> None:
    from torch._inductor import config

    if not any(shutil.which(name) for name in ("c++", "g++", "clang++")):
        pytest.skip("torch.compile needs a C++ compiler, and there is none")
    torch.manual_seed(0)
    autoencoder = stored(AutoencoderDC())
    plain = encode_into(tmp_path / "plain", images, autoencoder, encoding())
    with config.patch(compile_threads=1):
        compiled = encode_into(
            tmp_path / "compiled", images, autoencoder, encoding(), compile=True
        )
    for name in ("mean", "std"):
        expected = plain.gather(name, EVERY)
        torch.testing.assert_close(compiled.gather(name, EVERY), expected)
    assert compiled.fingerprint == plain.fingerprint


@pytest.fixture
def mirrored(images: ShardStore, tmp_path: Path) -> ShardStore:
    """Latents of the images and of their mirror images."""
    return encode_into(
        tmp_path / "mirrored", images, kl(), encoding(horizontal_flips=True)
    )


def test_flipped_latents_are_the_posterior_of_the_mirrored_pixels(
    images: ShardStore, mirrored: ShardStore
) -> None:
    for source, encoded in zip(images.shards, mirrored.shards, strict=True):
        pixels = torch.from_numpy(source.arrays["images"][..., ::-1].copy())
        parts = [encode(kl().model, batch) for batch in pixels.split(3)]
        for name, part in zip(("mean", "std"), zip(*parts, strict=True), strict=True):
            found = encoded.arrays[f"{name}_flipped"]
            np.testing.assert_array_equal(found, torch.cat(part))


def test_flips_change_nothing_about_the_images_themselves_nor_go_on_without(
    images: ShardStore, mirrored: ShardStore, tmp_path: Path
) -> None:
    plain = encode_into(tmp_path / "plain", images, kl(), encoding())
    assert set(plain.shards[0].names) == {"mean", "std"}
    for name in ("mean", "std"):
        assert torch.equal(mirrored.gather(name, EVERY), plain.gather(name, EVERY))
    for flips, first in ((False, 3), (True, 0)):
        parameters = encoding(horizontal_flips=flips)
        stream = encode_images(images, kl(), plain, parameters, runtime())
        assert stream.first_shard == first


@pytest.mark.parametrize("flips", [False, True])
def test_normalisation_is_that_of_images_and_mirror_images(
    mirrored: ShardStore, flips: bool
) -> None:
    def both(name: str) -> np.ndarray:
        names = [name, f"{name}_flipped"] if flips else [name]
        parts = [mirrored.gather(n, training).double().numpy() for n in names]
        return np.concatenate(parts)

    training = np.array([0, 2, 3, 5, 6, 7, 9])
    manifest = manifest_of(mirrored, "test")
    manifest.loc[training, "split"] = "train"
    parameters = encoding(horizontal_flips=flips)
    stored = measure_normalisation(mirrored, manifest, parameters, NOISE)
    mean, std = both("mean"), both("std")
    deviation = np.sqrt(mean.var(0, ddof=1) + (std**2).mean(0))
    np.testing.assert_allclose(stored.tensors["mean"], mean.mean(0), rtol=1e-6)
    np.testing.assert_allclose(stored.tensors["std"], deviation, rtol=1e-6)
    assert stored.metadata["num_images"] == len(training) * (1 + flips)
