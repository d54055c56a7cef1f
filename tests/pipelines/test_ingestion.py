from __future__ import annotations

import gc
import re
import weakref
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from kedro.io import DatasetError
from made_sources import (
    ingest,
    ingestion,
    noise_png,
    opened,
    runtime,
    write_folder,
    write_tar,
    write_zip,
)
from PIL import Image

from lct_pipeline.datasets.shards import ShardsDataset, ShardStore
from lct_pipeline.datasets.sources import ImageSource, RawImage
from lct_pipeline.datasets.splits import indices_of
from lct_pipeline.errors import DataError, user_error_in
from lct_pipeline.parameters.data import Ingestion, Splits
from lct_pipeline.pipelines.ingestion.images import images_a_shard, split_of
from lct_pipeline.pipelines.ingestion.manifest import record_of
from lct_pipeline.pipelines.ingestion.nodes import ingest_images

IN_SHARDS = {"image_size": 224, "shard_mib": 1}  # six images each


@pytest.fixture
def photos(tmp_path: Path) -> Path:
    files = {f"{number:02d}.png": noise_png(number) for number in range(30)}
    return write_folder(tmp_path / "photos", files)


def shards(source: ImageSource, previous: ShardStore, parameters: Ingestion) -> object:
    return ingest_images(source, previous, parameters, runtime())


def test_manifest_index_is_the_place_in_the_shards(
    photos: Path, tmp_path: Path
) -> None:
    (photos / "05b.png").write_bytes(b"not an image")
    manifest, store = ingest(photos, tmp_path / "images", ingestion())
    assert len(manifest) == 31 and len(store) == 30
    usable = manifest.dropna(subset="index")
    assert usable["index"].tolist() == list(range(30))
    row = manifest[manifest["source"] == "11.png"].iloc[0]
    with Image.open(photos / "11.png") as image:
        expected = image.resize((8, 8), Image.Resampling.BICUBIC, box=(2, 0, 14, 12))
    stored = store.gather("images", np.array([row["index"]]))[0]
    assert np.array_equal(stored.numpy().transpose(1, 2, 0), np.asarray(expected))
    assert (row["width"], row["height"]) == (16, 12)


def test_what_cannot_be_used_is_a_row_with_its_reason_and_in_no_split(
    photos: Path, tmp_path: Path
) -> None:
    (photos / "text.jpg").write_text("hello")
    (photos / "outside.png").symlink_to("/etc/passwd")
    (photos / "tiny.png").write_bytes(noise_png(0, 7, 20))
    manifest, _ = ingest(photos, tmp_path / "images", ingestion())
    rows = manifest.dropna(subset="problem").set_index("source")
    assert set(rows.index) == {"text.jpg", "outside.png", "tiny.png"}
    assert "not an image" in rows.loc["text.jpg", "problem"]
    assert "leads out" in rows.loc["outside.png", "problem"]
    assert "7 x 20 pixels" in rows.loc["tiny.png", "problem"]
    columns = ["index", "split", "width", "height", "duplicate_of"]
    assert rows[columns].isna().all(axis=None)
    assert rows["digest"].isna().tolist() == [True, False, False]  # only what was read


@pytest.mark.parametrize("num_workers", [2, 5])
def test_threads_change_nothing(tmp_path: Path, num_workers: int) -> None:
    files = {  # some above, some below what threads are worth
        f"{n:02d}.png": noise_png(n, 10 + 5 * n, 60) if n % 7 else b"no image"
        for n in range(40)
    }
    photos, parameters = (
        write_folder(tmp_path / "photos", files),
        ingestion(**IN_SHARDS),
    )
    ingest(photos, tmp_path / "one", parameters)
    ingest(photos, tmp_path / "many", parameters, num_workers)
    assert_same_files(tmp_path / "one", tmp_path / "many")


def assert_same_files(one: Path, other: Path) -> None:
    names = sorted(path.name for path in one.iterdir())
    assert names == sorted(path.name for path in other.iterdir())
    assert len(names) > 2
    for name in names:
        assert (one / name).read_bytes() == (other / name).read_bytes()


class DiesAt(ImageSource):
    """A source whose images from one on cannot be read, as when a process is killed."""

    def __init__(self, source: ImageSource, limit: int) -> None:
        self._source, self._limit = source, limit
        self.fingerprint = source.fingerprint

    def fingerprint_of(self, start: int, stop: int) -> str:
        return self._source.fingerprint_of(start, stop)

    def __len__(self) -> int:
        return len(self._source)

    def read(self, start: int, stop: int) -> Iterator[RawImage]:
        yield from self._source.read(start, min(stop, self._limit))
        raise KeyboardInterrupt


@pytest.mark.parametrize("limit", [0, 5, 16, 29])
def test_an_interrupted_ingestion_continues_after_the_last_whole_shard(
    photos: Path, tmp_path: Path, limit: int
) -> None:
    parameters = ingestion(**IN_SHARDS)
    source = opened(photos, parameters)
    dataset = ShardsDataset(path=str(tmp_path / "images"))
    with pytest.raises(KeyboardInterrupt):
        dataset.save(shards(DiesAt(source, limit), dataset.load(), parameters))
    assert not dataset.load().complete
    before = {
        p: p.stat().st_mtime_ns for p in (tmp_path / "images").glob("*.safetensors")
    }
    assert limit // 6 - 1 <= len(before) <= limit // 6
    stream = shards(source, dataset.load(), parameters)
    assert stream.first_shard == len(before)
    dataset.save(stream)
    assert {p: p.stat().st_mtime_ns for p in before} == before
    ingest(photos, tmp_path / "other", parameters)
    assert_same_files(tmp_path / "other", tmp_path / "images")


def test_what_is_there_is_not_made_again_unless_it_is_of_other_images(
    photos: Path, tmp_path: Path
) -> None:
    parameters = ingestion(**IN_SHARDS)
    _, store = ingest(photos, tmp_path / "images", parameters)
    same = shards(opened(photos, parameters), store, parameters)
    assert list(same.shards) == [] and same.first_shard == len(store.shards) == 5
    (photos / "30.png").write_bytes(noise_png(30))
    assert shards(opened(photos, parameters), store, parameters).first_shard == 5
    _, store = ingest(photos, tmp_path / "images", parameters)
    same = shards(opened(photos, parameters), store, parameters)  # the last is not full
    assert list(same.shards) == [] and same.first_shard == len(store.shards) == 6
    other = ingestion(**IN_SHARDS, min_side=9)
    assert shards(opened(photos, other), store, other).first_shard == 0


@pytest.mark.parametrize(
    ("name", "kept"), [("00.png", 0), ("13.png", 2), ("13b.png", 2), ("gone", 4)]
)
def test_of_changed_images_the_shards_before_the_first_change_are_kept(
    photos: Path, tmp_path: Path, name: str, kept: int
) -> None:
    parameters = ingestion(**IN_SHARDS)
    _, store = ingest(photos, tmp_path / "images", parameters)
    if name == "gone":
        for number in range(24, 30):
            (photos / f"{number:02d}.png").unlink()
    else:
        (photos / name).write_bytes(noise_png(99))
    stream = shards(opened(photos, parameters), store, parameters)
    assert stream.first_shard == kept
    ShardsDataset(path=str(tmp_path / "images")).save(stream)
    ingest(photos, tmp_path / "other", parameters)
    assert_same_files(tmp_path / "other", tmp_path / "images")


def test_no_shard_stays_in_memory_once_the_next_is_there(
    photos: Path, tmp_path: Path
) -> None:
    parameters = ingestion(**IN_SHARDS)
    empty = ShardsDataset(path=str(tmp_path / "none")).load()
    alive: list[weakref.ref] = []
    for shard in shards(opened(photos, parameters), empty, parameters).shards:
        alive.append(weakref.ref(shard))
        del shard
        gc.collect()
        assert sum(reference() is not None for reference in alive) <= 1
    assert len(alive) == 5


def test_a_source_that_ends_early_is_not_taken_for_whole(
    photos: Path, tmp_path: Path
) -> None:
    class EndsEarly(DiesAt):
        def read(self, start: int, stop: int) -> Iterator[RawImage]:
            yield from self._source.read(start, min(stop, self._limit))

    dataset = ShardsDataset(path=str(tmp_path / "images"))
    source = EndsEarly(opened(photos, ingestion()), 20)
    with pytest.raises(DatasetError, match="ended after 20 of 30 images"):
        dataset.save(shards(source, dataset.load(), ingestion()))
    assert not dataset.load().complete


@pytest.mark.parametrize("shard_mib", [1, 16])
def test_too_many_bad_files_stop_it_with_the_last_one_named(
    photos: Path, tmp_path: Path, shard_mib: int
) -> None:
    for number in range(10):
        (photos / f"1{number}.png").write_text("hello")
    allowed = ingestion(image_size=224, shard_mib=shard_mib, max_problem_share=0.34)
    manifest, _ = ingest(photos, tmp_path / "allowed", allowed)
    assert manifest["problem"].notna().sum() == 10
    refused = ingestion(image_size=224, shard_mib=shard_mib, max_problem_share=0.33)
    with pytest.raises(DatasetError) as caught:
        ingest(photos, tmp_path / "refused", refused)
    message = str(user_error_in(caught.value))
    assert re.search(r"10 of the 20 .*\(of 30\).*max_problem_share=0\.33", message)
    assert re.search(r"The last: 19\.png: not an image", message)


@pytest.fixture
def copies(photos: Path) -> Path:
    """Photos of which 3 is also 10 and 25, and 7 is also 8; 4 and 5 are the same text."""
    for original, copy in ((3, 10), (3, 25), (7, 8)):
        content = (photos / f"{original:02d}.png").read_bytes()
        (photos / f"{copy:02d}.png").write_bytes(content)
    for number in (4, 5):
        (photos / f"{number:02d}.png").write_text("no image")
    return photos


@pytest.mark.parametrize("duplicates", ["keep", "drop"])
def test_exact_copies_are_listed_with_the_first_of_them(
    copies: Path, tmp_path: Path, duplicates: str, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "lct_pipeline")
    parameters = ingestion(**IN_SHARDS, duplicates=duplicates)
    manifest, store = ingest(copies, tmp_path / "images", parameters)
    found = manifest.set_index("source")["duplicate_of"].dropna().to_dict()
    assert found == {"08.png": "07.png", "10.png": "03.png", "25.png": "03.png"}
    assert manifest["index"].notna().sum() == len(store) == 28
    assert "3 images are exact copies of others" in caplog.text
    splits = manifest.set_index("source")["split"]
    if duplicates == "keep":
        assert splits["10.png"] == splits["25.png"] == splits["03.png"]
        assert splits["08.png"] == splits["07.png"]
    else:
        assert splits[list(found)].isna().all()
        assert splits[["03.png", "07.png"]].notna().all()


def test_the_record_counts_images_by_split_problems_and_copies(
    copies: Path, tmp_path: Path
) -> None:
    (copies / "03b.png").write_bytes(noise_png(0, 7, 20))
    parameters = ingestion(duplicates="drop")
    manifest, _ = ingest(copies, tmp_path / "images", parameters)
    splits = manifest["split"].value_counts().to_dict()
    assert record_of(manifest) == {
        "num_entries": 31,
        "splits": splits,
        "problems": manifest["problem"].value_counts().to_dict(),
        "num_problems": 3,
        "num_copies": 3,
    }
    used = np.concatenate([indices_of(manifest, split) for split in splits])
    copied = manifest.loc[manifest["duplicate_of"].notna(), "index"]
    assert len(used) == sum(splits.values()) == 25
    assert sorted([*used, *copied]) == list(range(28))


COLUMNS = "index source digest label split width height problem duplicate_of"


def test_labels_and_all_kinds_of_columns_come_back_from_the_file(
    tmp_path: Path,
) -> None:
    names = [f"{'cat' if n % 2 else 'dog'}/{n}.png" for n in range(30)]
    files = {name: noise_png(number) for number, name in enumerate(names)}
    path = write_zip(tmp_path / "pets.zip", files)
    manifest, _ = ingest(path, tmp_path / "images", ingestion())
    assert manifest["label"].value_counts().to_dict() == {"cat": 15, "dog": 15}
    assert list(manifest.columns) == COLUMNS.split()
    assert manifest["digest"].str.len().eq(64).all()


def test_a_shard_has_a_bounded_number_of_rows() -> None:
    assert images_a_shard(ingestion(image_size=32, shard_mib=16)) == 5461
    assert images_a_shard(ingestion(image_size=256, shard_mib=16)) == 85
    assert images_a_shard(ingestion(image_size=4096, shard_mib=1)) == 1
    assert images_a_shard(ingestion(image_size=8, shard_mib=1024)) == 8192


def test_splits_have_their_shares_and_follow_from_content_alone() -> None:
    splits = Splits(validation=0.2, test=0.1)
    rng = np.random.default_rng(0)
    digests = [rng.bytes(32).hex() for _ in range(4000)]
    counts = pd.Series([split_of(d, splits) for d in digests]).value_counts() / 4000
    assert counts["test"] == pytest.approx(0.1, abs=0.02)
    assert counts["validation"] == pytest.approx(0.2, abs=0.02)
    assert split_of(digests[0], splits) == split_of(digests[0], splits)


def test_too_few_images_for_the_splits_are_refused_by_name(tmp_path: Path) -> None:
    write_folder(tmp_path / "photos", {"one.png": noise_png(0)})
    with pytest.raises(DataError, match=r"split has [01] of 1 images"):
        ingest(tmp_path / "photos", tmp_path / "images", ingestion())


def test_the_log_says_what_is_lost(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    """Labels, metrics of few images, and images of 12 bits in files of 16."""
    caplog.set_level("INFO", "lct_pipeline")
    files = {f"{number:02d}.png": noise_png(number) for number in range(12)}
    photos = write_folder(tmp_path / "photos", {**files, "x/0.png": b""})
    values = np.random.default_rng(0).integers(0, 4096, (16, 16)).astype(np.uint16)
    Image.fromarray(values).save(photos / "x" / "0.png")
    manifest, _ = ingest(photos, tmp_path / "images", ingestion())
    assert "labels: 1 classes, 1 of 13 images." in caplog.text
    assert "1 images have no value above a sixteenth" in caplog.text
    counts = manifest["split"].value_counts()
    for split, count in counts.items():
        told = f"The {split} split has {count} images: where" in caplog.text
        assert told == (count < 6)
    assert counts.min() < 6


def test_a_column_without_a_label_is_refused(tmp_path: Path) -> None:
    files = {f"{number:02d}.png": noise_png(number) for number in range(30)}
    path = write_tar(tmp_path / "a.tar", files)
    with pytest.raises(
        DataError, match="label_column='label': labels: 0 classes, 0 of"
    ):
        ingest(path, tmp_path / "images", ingestion(labels="column"))
    with pytest.raises(ValueError, match="'x' has no effect with labels=folders"):
        ingestion(label_column="x")
