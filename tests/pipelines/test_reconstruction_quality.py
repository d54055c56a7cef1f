"""The autoencoder that is taken, and how well it gives images back, by PSNR and LPIPS."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import torch
from configuration import recipe
from small_encoding import (
    encode_into,
    encoding,
    kl,
    manifest_of,
    measured,
    runtime,
    store_images,
)
from small_encoding import images as smooth_images
from stand_ins import as_published

from conftest import SmokeResults, changed
from lct_pipeline.datasets.autoencoder import StoredAutoencoder
from lct_pipeline.datasets.decoder import Decoder
from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import DataError, MeasureError, ParameterError
from lct_pipeline.models.autoencoder import decode, encode, to_uint8
from lct_pipeline.models.published_weights import ALEXNET_FILE
from lct_pipeline.models.reconstruction import lpips_distance
from lct_pipeline.pipelines.encoding.nodes import prepare_autoencoder
from lct_pipeline.pipelines.encoding.quality import reconstruction_quality

CPU = torch.device("cpu")
SIDE = 64


@pytest.fixture(scope="module")
def weights(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Random weights of torchvision's AlexNet."""
    from torchvision.models import AlexNet

    torch.manual_seed(0)
    features = AlexNet().features
    folder = tmp_path_factory.mktemp("weights")
    named = {f"features.{name}": p for name, p in features.state_dict().items()}
    torch.save(named, folder / ALEXNET_FILE)
    with pytest.MonkeyPatch.context() as patch:
        yield as_published(folder / ALEXNET_FILE, ALEXNET_FILE, patch)


@pytest.fixture(scope="module")
def autoencoder() -> StoredAutoencoder:
    return kl(block_channels=(4, 4))


@pytest.fixture(scope="module")
def images(tmp_path_factory: pytest.TempPathFactory) -> ShardStore:
    return store_images(tmp_path_factory.mktemp("images"), [3, 2], SIDE)


@pytest.fixture(scope="module")
def latents(
    images: ShardStore,
    autoencoder: StoredAutoencoder,
    tmp_path_factory: pytest.TempPathFactory,
) -> ShardStore:
    folder = tmp_path_factory.mktemp("latents")
    return encode_into(folder, images, autoencoder, encoding())


@pytest.fixture
def measure(
    images: ShardStore, latents: ShardStore, autoencoder: StoredAutoencoder
) -> Any:
    decoder = Decoder(autoencoder, TensorFile({}))  # raw latents are decoded
    return lambda **changes: measured(
        images, latents, decoder, encoding(**{"warn_below_psnr": 0, **changes})
    )


def test_a_blurring_autoencoder_is_told_with_what_helps(
    measure: Any, caplog: pytest.LogCaptureFixture
) -> None:
    for limit in (0, 99):
        quality = measure(warn_below_psnr=limit)
        assert 0 < quality["psnr_db"] < 99 and quality["exact"] is False
        assert ("encoding.trained.num_steps" in caplog.text) == bool(limit)


def test_a_decoder_that_gives_nan_is_refused_by_its_name(
    measure: Any, autoencoder: StoredAutoencoder
) -> None:
    bias = autoencoder.model.decoder.conv_out.bias.data
    kept = bias.clone()
    bias[1] = torch.nan
    with pytest.raises(MeasureError, match=r"AutoencoderKL of torch\.float32 weights"):
        measure()
    bias.copy_(kept)


def test_lpips_is_the_mean_distance_of_images_and_reconstructions(
    measure: Any, weights: Path, autoencoder: StoredAutoencoder
) -> None:
    given = smooth_images(5, SIDE)
    mean, _ = encode(autoencoder.model, given)
    reconstruction = to_uint8(decode(autoencoder.model, mean))
    expected = lpips_distance(weights, CPU)(given, reconstruction).mean().item()
    for batch_size in (0, 2):
        found = measure(lpips_path=str(weights), batch_size=batch_size)
        assert found["lpips"] == pytest.approx(expected, rel=1e-4)
        assert found["split"] == "validation" and found["num_images"] == 5


def test_a_reduction_over_batches_is_that_of_all_together() -> None:
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randint(256, (7, 3, 8, 8), generator=generator).byte() for _ in "ab")
    whole, parts = (
        reconstruction_quality(
            zip(a.split(size), b.split(size), strict=True),
            lambda x, y: (x.float() - y.float()).abs().mean((1, 2, 3)),
        )
        for size in (7, 3)
    )
    mean = (a.float() - b.float()).abs().mean().item()
    assert parts == whole | {"lpips": pytest.approx(mean)}
    assert parts["num_images"] == 7


def test_without_weights_lpips_is_left_out_and_the_file_is_named(
    measure: Any,
    weights: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
) -> None:
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    with caplog.at_level(logging.INFO):
        assert measure()["lpips"] is None
    lines = [line for line in caplog.messages if "LPIPS" in line]
    assert len(lines) == 1 and ALEXNET_FILE in lines[0]
    assert str(tmp_path / "checkpoints") in lines[0]
    (tmp_path / "checkpoints").mkdir()
    (tmp_path / "checkpoints" / ALEXNET_FILE).symlink_to(weights)
    assert measure()["lpips"] > 0


def test_named_weights_that_are_not_there_are_an_error(
    measure: Any, tmp_path: Path
) -> None:
    with pytest.raises(DataError, match=rf"lpips_path=.*{ALEXNET_FILE} is not there"):
        measure(lpips_path=str(tmp_path))


def test_lpips_of_small_images_is_left_out_with_the_reason(
    weights: Path,
    autoencoder: StoredAutoencoder,
    tmp_path: Path,
    caplog: pytest.LogCaptureFixture,
) -> None:
    images = store_images(tmp_path / "images", [2], 32)
    parameters = encoding(lpips_path=str(weights))
    latents = encode_into(tmp_path / "latents", images, autoencoder, parameters)
    decoder = Decoder(autoencoder, TensorFile({}))
    with caplog.at_level(logging.INFO):
        quality = measured(images, latents, decoder, parameters)
    assert quality["lpips"] is None
    assert "images of 32 pixels; it needs 64" in caplog.text


def test_a_named_autoencoder_is_taken_as_it_is(results: SmokeResults) -> None:
    given, parameters = results.catalog.load("autoencoder"), results.parameters
    inputs = (results.catalog.load(name) for name in ("images", "image_manifest"))
    more = (
        given,
        None,
        parameters.encoding,
        recipe().training.network,
        parameters.runtime,
    )
    assert prepare_autoencoder(*inputs, *more) is given.model


def test_a_conditional_model_without_labels_is_refused_before_anything_is_fitted(
    tmp_path: Path,
) -> None:
    images = store_images(tmp_path / "images", side=16)
    manifest = manifest_of(images).assign(label=None)
    inputs = (images, manifest, None, None, encoding())
    network = changed(recipe().training.network, {"conditional": True})
    with pytest.raises(ParameterError, match="conditional=true needs a label"):
        prepare_autoencoder(*inputs, network, runtime())


@pytest.mark.parametrize("given", [True, False])
def test_images_whose_side_cannot_be_divided_are_refused(
    tmp_path: Path, given: bool
) -> None:
    images = store_images(tmp_path / "images", side=12)
    blocks = (4, 4, 4, 4)  # a side of 12 is divided by 8
    parameters = encoding(**{"trained.block_channels": blocks})
    autoencoder = kl(block_channels=blocks) if given else None
    with pytest.raises(
        ParameterError, match=r"image_size=12: .* divides the side by 8"
    ):
        inputs = (images, manifest_of(images), autoencoder, None, parameters)
        prepare_autoencoder(*inputs, recipe().training.network, runtime())
