"""Which latents a training step sees: sides, posterior noise, classes, and where they are kept."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import pytest
import torch
from torch import Tensor

from conftest import SmokeResults
from lct_pipeline.datasets.shards import Shard, ShardsDataset, ShardStore, ShardStream
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.training.latents import (
    LatentReader,
    fits_beside_the_model,
    has_flips,
)

SHAPE = (2, 3, 3)
NUM_IMAGES = 14
UNREADABLE = 4  # has a row and no place in the shards
TEST_IMAGE = 9
COUNTS = {"cat": 6, "dog": 6}
CPU = torch.device("cpu")
NORMALISATION = TensorFile(
    {"mean": torch.full(SHAPE, 0.25), "std": torch.full(SHAPE, 2.0)},
    {"sigma_data": 0.5},
)
MakeReader = Callable[..., LatentReader]


@pytest.fixture
def manifest() -> pd.DataFrame:
    """Return rows of cats and dogs in turn; one is not readable, one is of the test split."""
    places = [float(i) for i in range(NUM_IMAGES - 1)]
    places.insert(UNREADABLE, float("nan"))
    return pd.DataFrame(
        {
            "index": places,
            "split": [
                "test" if i == TEST_IMAGE else "train" for i in range(NUM_IMAGES)
            ],
            "label": ["cat" if i % 2 else "dog" for i in range(NUM_IMAGES)],
        }
    )


def write(folder: Path, mean: Tensor, std: Tensor) -> ShardStore:
    """Store the posteriors of images, and of their mirror images with 100 more, in two shards."""
    whole = {
        "mean": mean,
        "std": std,
        "mean_flipped": mean + 100,
        "std_flipped": 2 * std,
    }
    parts = [
        {name: tensor[at] for name, tensor in whole.items()}
        for at in (slice(5), slice(5, None))
    ]
    dataset = ShardsDataset(path=str(folder))
    dataset.save(ShardStream("source-autoencoder", [Shard(part) for part in parts]))
    return dataset.load()


def numbered(num: int) -> Tensor:
    """Return means that are the number of their place in the shards everywhere."""
    return torch.arange(float(num)).reshape(-1, 1, 1, 1).expand(num, *SHAPE)


@pytest.fixture
def latents(tmp_path: Path) -> ShardStore:
    """Return posteriors of no width, so that what is read shows which item it was."""
    num = NUM_IMAGES - 1
    return write(tmp_path / "numbered", numbered(num), torch.zeros(num, *SHAPE))


@pytest.fixture
def wide_latents(tmp_path: Path) -> ShardStore:
    """Return posteriors with mean 0 and width 1."""
    num = NUM_IMAGES - 1
    return write(tmp_path / "wide", torch.zeros(num, *SHAPE), torch.ones(num, *SHAPE))


@pytest.fixture
def reader(results: SmokeResults, manifest: pd.DataFrame) -> MakeReader:
    def make(
        latents: ShardStore,
        changes: dict[str, Any] | None = None,
        *,
        rows: pd.DataFrame = manifest,
        counts: dict[str, int] | None = None,
        on_device: bool = False,
    ) -> LatentReader:
        parameters = results.training({"batch_size": 6, **(changes or {})})
        return LatentReader(
            latents,
            rows,
            NORMALISATION,
            counts or {},
            parameters,
            CPU,
            on_device=on_device,
        )

    return make


def raw(x: Tensor) -> Tensor:
    """Undo the normalisation."""
    return x * 2.0 / 0.5 + 0.25


def items(x: Tensor) -> list[int]:
    """Return place + 100 * is mirrored of each latent."""
    return raw(x)[:, 0, 0, 0].round().int().tolist()


EVERY = {place for place in range(NUM_IMAGES - 1) if place != TEST_IMAGE - 1}


def test_items_are_the_training_images_and_their_mirror_images_equally_often(
    reader: MakeReader, latents: ShardStore
) -> None:
    read = reader(latents)
    seen = Counter(n for step in range(8) for n in items(read(step)[0]))  # two epochs
    assert has_flips(latents)
    x, labels = read(0)
    assert x.shape == (6, *SHAPE) and labels is None
    assert seen == {n + side: 2 for n in EVERY for side in (0, 100)}


@pytest.mark.parametrize("resample", [True, False])
def test_a_step_is_the_same_whenever_it_is_read(
    reader: MakeReader, wide_latents: ShardStore, resample: bool
) -> None:
    changes = {"resample_posterior": resample}
    first, second = (reader(wide_latents, changes) for _ in range(2))
    later = [second(step)[0] for step in (7, 3, 0)]
    for step, x in zip((7, 3, 0), later, strict=True):
        assert torch.equal(first(step)[0], x)


def noises(
    read: LatentReader, order: LatentReader, steps: range
) -> dict[int, list[Tensor]]:
    """Return what each item was drawn as, by its number, which another reader tells."""
    drawn: dict[int, list[Tensor]] = {}
    for step in steps:
        for item, x in zip(items(order(step)[0]), raw(read(step)[0]), strict=True):
            drawn.setdefault(item, []).append(x - 100 * (item >= 100))
    return drawn


def test_a_fixed_posterior_sample_is_the_same_each_time_and_a_resampled_one_is_new(
    reader: MakeReader, wide_latents: ShardStore, latents: ShardStore
) -> None:
    fixed = reader(wide_latents, {"resample_posterior": False})
    drawn = noises(fixed, reader(latents), range(12))  # three epochs
    assert all(torch.equal(one[0], other) for one in drawn.values() for other in one)
    assert all(len(one) == 3 for one in drawn.values())
    new = noises(reader(wide_latents), reader(latents), range(12))
    assert not any(torch.equal(one[0], one[1]) for one in new.values())
    firsts = torch.stack([one[0].flatten() for one in drawn.values()])
    assert torch.cdist(firsts, firsts).fill_diagonal_(9).min() > 0.1
    images = firsts[[n < 100 for n in drawn]]
    mirrored = firsts[[n >= 100 for n in drawn]]
    assert images.std().item() == pytest.approx(1, rel=0.2)
    assert mirrored.std().item() == pytest.approx(2, rel=0.2)  # std_flipped


@pytest.mark.parametrize("resample", [True, False])
def test_resident_latents_are_those_that_are_read_bit_for_bit(
    reader: MakeReader, tmp_path: Path, resample: bool
) -> None:
    random = torch.Generator().manual_seed(0)
    mean, std = torch.rand(2, NUM_IMAGES - 1, *SHAPE, generator=random)
    store, changes = (
        write(tmp_path / "any", mean, std),
        {"resample_posterior": resample},
    )
    resident = reader(store, changes, on_device=True)
    for step in range(5):
        assert torch.equal(resident(step)[0], reader(store, changes)(step)[0])


def test_classes_are_those_of_the_images_and_of_their_mirror_images(
    reader: MakeReader, latents: ShardStore, manifest: pd.DataFrame
) -> None:
    read = reader(latents, {"network.label_dropout": 0.0}, counts=COUNTS)
    names = manifest.dropna(subset="index").set_index("index")["label"]
    for step in range(4):
        x, labels = read(step)
        assert labels is not None and labels.dtype == torch.int64
        found = [list(COUNTS)[label] for label in labels]
        assert found == [names[float(item % 100)] for item in items(x)]


def test_a_share_of_the_classes_is_hidden_behind_the_null_class(
    reader: MakeReader, latents: ShardStore
) -> None:
    hiding = reader(latents, {"network.label_dropout": 0.3}, counts=COUNTS)
    telling = reader(latents, {"network.label_dropout": 0.0}, counts=COUNTS)
    pairs = [(hiding(step)[1], telling(step)[1]) for step in range(200)]
    found, true = (
        torch.cat([t for t in part if t is not None])
        for part in zip(*pairs, strict=True)
    )
    hidden = found == len(COUNTS)
    assert torch.equal(found[~hidden], true[~hidden])
    deviation = np.sqrt(0.3 * 0.7 / len(found))
    assert hidden.double().mean().item() == pytest.approx(0.3, abs=4 * deviation)


def test_a_cpu_keeps_less_than_a_gibibyte_in_memory(latents: ShardStore) -> None:
    num_images = 2**30 // latents.shards[0].record_bytes
    assert fits_beside_the_model(latents, num_images - 1, CPU)
    assert not fits_beside_the_model(latents, num_images + 1, CPU)
