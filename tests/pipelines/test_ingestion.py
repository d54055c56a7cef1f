from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kedro.io import DataCatalog, DatasetError, MemoryDataset
from kedro.runner import SequentialRunner
from PIL import Image

from conftest import SmokeResults
from lct_pipeline.cli import user_error_in
from lct_pipeline.data_parameters import Ingestion, Splits
from lct_pipeline.datasets.image_source import FolderSource, RawImage, open_source
from lct_pipeline.datasets.shards import ShardsDataset, ShardStore
from lct_pipeline.errors import DataError
from lct_pipeline.pipelines.ingestion import create_pipeline
from lct_pipeline.pipelines.ingestion.nodes import ingest_images, split_of


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    folder = tmp_path / "photos"
    folder.mkdir()
    rng = np.random.default_rng(0)
    for number in range(30):
        pixels = rng.integers(0, 255, (12, 16, 3), dtype=np.uint8)
        Image.fromarray(pixels).save(folder / f"{number:02d}.png")
    return folder


@pytest.fixture
def parameters(results: SmokeResults) -> Ingestion:
    changes = {"image_size": 8}
    return results.parameters.ingestion.model_copy(update=changes)


def _run(source: FolderSource, folder: Path, parameters: Ingestion) -> pd.DataFrame:
    manifest = MemoryDataset()
    catalog = DataCatalog(
        {
            "image_source": MemoryDataset(source, copy_mode="assign"),
            "previous_images": ShardsDataset(path=str(folder)),
            "images": ShardsDataset(path=str(folder)),
            "image_manifest": manifest,
            "params:ingestion": MemoryDataset(parameters),
        }
    )
    SequentialRunner().run(create_pipeline(), catalog)
    return manifest.load()


def test_manifest_index_is_the_place_in_the_shards(
    photos: Path, tmp_path: Path, parameters: Ingestion
) -> None:
    (photos / "05b.png").write_bytes(b"not an image")
    manifest = _run(FolderSource(photos), tmp_path / "images", parameters)
    store = ShardStore(tmp_path / "images")
    assert len(manifest) == 31 and len(store) == 30
    usable = manifest.dropna(subset="index")
    assert usable["index"].tolist() == list(range(30))
    row = manifest[manifest["source"] == "11.png"].iloc[0]
    with Image.open(photos / "11.png") as image:
        expected = image.resize((8, 8), Image.Resampling.BICUBIC, box=(2, 0, 14, 12))
    stored = store.gather("images", np.array([row["index"]]))[0]
    assert np.array_equal(stored.numpy().transpose(1, 2, 0), np.asarray(expected))


def test_bad_files_are_rows_with_their_reason(
    photos: Path, tmp_path: Path, parameters: Ingestion
) -> None:
    (photos / "text.jpg").write_text("hello")
    manifest = _run(FolderSource(photos), tmp_path / "images", parameters)
    (reason,) = manifest["problem"].dropna()
    assert "not an image" in reason


class _DiesAt(FolderSource):
    """A source whose files from one on cannot be read, as when a process is killed."""

    limit = 16

    def read(self, start: int, stop: int) -> Iterator[RawImage]:
        for number, raw in enumerate(super().read(start, stop), start=start):
            if number >= self.limit:
                raise KeyboardInterrupt
            yield raw


def test_an_interrupted_ingestion_continues_after_the_last_whole_shard(
    photos: Path, tmp_path: Path, parameters: Ingestion
) -> None:
    dataset = ShardsDataset(path=str(tmp_path / "images"))
    with pytest.raises(KeyboardInterrupt):
        dataset.save(ingest_images(_DiesAt(photos), dataset.load(), parameters))
    assert not dataset.load().complete
    before = {p: p.stat().st_mtime_ns for p in (tmp_path / "images").glob("shard-*")}
    assert len(before) == 2
    stream = ingest_images(FolderSource(photos), dataset.load(), parameters)
    assert stream.first_shard == 2
    dataset.save(stream)
    assert {p: p.stat().st_mtime_ns for p in before} == before
    other = ShardsDataset(path=str(tmp_path / "other"))
    other.save(ingest_images(FolderSource(photos), other.load(), parameters))
    for path in sorted((tmp_path / "other").iterdir()):
        assert path.read_bytes() == (tmp_path / "images" / path.name).read_bytes()


def test_too_many_bad_files_stop_it_with_the_last_one_named(
    tmp_path: Path, parameters: Ingestion
) -> None:
    for number in range(10):
        (tmp_path / f"{number}.jpg").write_text("hello")
    dataset = ShardsDataset(path=str(tmp_path / "images"))
    source = open_source(str(tmp_path))
    with pytest.raises(DatasetError) as caught:
        dataset.save(ingest_images(source, dataset.load(), parameters))
    message = str(user_error_in(caught.value))
    assert re.search(r"max_problem_share.*\d\.jpg: not an image", message)


def test_splits_have_their_shares_and_follow_from_content_alone() -> None:
    splits = Splits(validation=0.2, test=0.1)
    rng = np.random.default_rng(0)
    digests = [rng.bytes(32).hex() for _ in range(4000)]
    counts = pd.Series([split_of(d, splits) for d in digests]).value_counts() / 4000
    assert counts["test"] == pytest.approx(0.1, abs=0.02)
    assert counts["validation"] == pytest.approx(0.2, abs=0.02)
    assert split_of(digests[0], splits) == split_of(digests[0], splits)


def test_too_few_images_for_the_splits_are_refused_by_name(
    tmp_path: Path, parameters: Ingestion
) -> None:
    Image.new("RGB", (8, 8)).save(tmp_path / "one.png")
    with pytest.raises(DataError, match="split has 0 of 1 images"):
        _run(FolderSource(tmp_path), tmp_path / "images", parameters)
