"""Images in the rows of Parquet files."""

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_sources import labels, options, problems, read

from lct_pipeline.datasets.sources import open_source
from lct_pipeline.errors import DataError

IMAGES = [b"image %d" % number for number in range(50)]
CLASSES = ["cat", "dog", "owl"]


def write_table(path: Path, columns: dict[str, Any], group: int = 7) -> Path:
    path.parent.mkdir(exist_ok=True)
    pq.write_table(pa.table(columns), path, row_group_size=group)
    return path


@pytest.fixture
def table(tmp_path: Path) -> Path:
    number = pa.array([n % 3 for n in range(50)])
    return write_table(
        tmp_path / "train.parquet",
        {"image": IMAGES, "label": number, "note": ["x"] * 50},
    )


@pytest.mark.parametrize("group", [1, 7, 16, 100])
@pytest.mark.parametrize(("start", "stop"), [(0, 50), (0, 1), (13, 30), (49, 99)])
def test_rows_are_read_from_any_to_any(
    tmp_path: Path, group: int, start: int, stop: int
) -> None:
    path = write_table(tmp_path / "t.parquet", {"image": IMAGES}, group)
    found = read(path, start, stop)
    assert [raw.content for raw in found] == IMAGES[start:stop]
    assert found[0].name == f"t.parquet[{start}]"


def test_labels_are_those_of_the_column_that_is_named(table: Path) -> None:
    assert labels(table) == [None] * 50
    assert labels(table, labels="none") == [None] * 50
    assert labels(table, labels="column")[:4] == ["0", "1", "2", "0"]
    assert labels(table, labels="column", label_column="note")[:2] == ["x", "x"]


def test_hugging_face_s_structs_have_paths_as_names_and_names_of_classes(
    tmp_path: Path,
) -> None:
    cells = [
        {"bytes": b"a", "path": "pets/a.png"},
        {"bytes": b"b", "path": None},
        {"bytes": None, "path": "/etc/passwd"},
        None,
    ]
    features = {"label": {"names": CLASSES, "_type": "ClassLabel"}}
    about = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
    made = pa.table({"image": cells, "label": [2, -1, None, 0]})
    path = tmp_path / "train.parquet"
    pq.write_table(made.replace_schema_metadata(about), path)
    found = read(path, labels="column")
    assert [raw.label for raw in found] == ["owl", None, None, "cat"]
    names = ["pets/a.png", "train.parquet[1]", "/etc/passwd", "train.parquet[3]"]
    assert [raw.name for raw in found] == names
    assert [raw.content for raw in found] == [b"a", b"b", b"", b""]
    no_path, other = sorted(problems(path).values(), key=len)
    assert no_path == "its row holds no bytes"
    assert "names a file that is not part of the data set" in other
    assert labels(path) == ["pets", None, "etc", None]
    made = pa.table({"image": [b"a"], "label": [3]}).replace_schema_metadata(about)
    pq.write_table(made, path)
    with pytest.raises(DataError, match="3 of 3 classes"):
        read(path, labels="column")


def test_texts_of_pages_are_no_classes(tmp_path: Path) -> None:
    columns = {"image": [b"a"], "label": ["word " * 200]}
    path = write_table(tmp_path / "t.parquet", columns)
    with pytest.raises(
        DataError, match=r"texts, not classes: 'word word .*labels=none"
    ):
        read(path, labels="column")


def test_files_of_a_folder_and_of_a_pattern_follow_each_other(tmp_path: Path) -> None:
    for number in range(3):
        part = IMAGES[number * 10 : number * 10 + 10]
        write_table(tmp_path / "data" / f"train-{number}.parquet", {"image": part}, 3)
    found = read(tmp_path / "data")
    assert [raw.content for raw in found] == IMAGES[:30]
    assert found[12].name == "train-1.parquet[2]"
    for start, stop in [(9, 11), (5, 25), (20, 21), (29, 40), (0, 10)]:
        assert read(tmp_path / "data", start, stop) == found[start:stop]
    pattern = tmp_path / "data" / "train-{1..2}.parquet"
    assert [raw.content for raw in read(pattern)] == IMAGES[10:30]


def test_a_large_row_is_refused(tmp_path: Path) -> None:
    columns = {"image": [bytes(2 * 2**20), b"small"]}
    path = write_table(tmp_path / "t.parquet", columns)
    message = "2.0 MiB, more than ingestion.max_mib=1"
    assert problems(path, max_mib=1) == {"t.parquet[0]": message}


def test_of_several_columns_of_bytes_one_must_be_named(tmp_path: Path) -> None:
    columns = {"left": [b"l"], "right": [b"r"], "n": [1]}
    path = write_table(tmp_path / "pairs.parquet", columns)
    message = r"2 columns .*\(left, right\) of: left, right, n.*ingestion\.image_column"
    with pytest.raises(DataError, match=message):
        open_source(str(path), options())
    assert read(path, image_column="right")[0].content == b"r"
    for right in ({"_type": "Image"}, [], 7):  # what is no description says nothing
        features = {"left": {"_type": "Audio"}, "right": right}
        about = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
        pq.write_table(pa.table(columns).replace_schema_metadata(about), path)
        if isinstance(right, dict):
            assert read(path)[0].content == b"r"
            assert read(path, image_column="left")[0].content == b"l"
        else:
            with pytest.raises(DataError, match=message):
                open_source(str(path), options())


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"image_column": "note"}, r"image_column='note'.*image, label, note"),
        ({"labels": "column", "label_column": "x"}, "'x'.*are: label, note.*=none"),
        ({"labels": "column", "label_column": "image"}, "label_column='image'"),
        ({"labels": "l.csv"}, r"labels='l\.csv'.*no file names.*column"),
    ],
)
def test_columns_that_are_not_there_are_refused(
    table: Path, changes: dict[str, str], message: str
) -> None:
    with pytest.raises(DataError, match=message):
        open_source(str(table), options(**changes))


def test_a_table_without_bytes_is_refused(tmp_path: Path) -> None:
    path = write_table(tmp_path / "urls.parquet", {"url": ["http://x"]})
    with pytest.raises(DataError, match="0 columns that could be images"):
        open_source(str(path), options())


def test_a_damaged_row_group_is_refused_when_it_is_read(tmp_path: Path) -> None:
    path = write_table(tmp_path / "t.parquet", {"image": [bytes(range(256)) * 9] * 99})
    content = bytearray(path.read_bytes())
    content[4:300] = bytes(296)
    path.write_bytes(content)
    with pytest.raises(DataError, match="cannot be read as a Parquet file"):
        read(path)


@pytest.mark.parametrize("compression", ["none", "zstd"])
def test_a_few_pages_are_in_memory_at_a_time(tmp_path: Path, compression: str) -> None:
    """One row group of 32 MiB, in pages of 512 KiB."""
    rng = random.Random(0)
    table = pa.table({"image": [rng.randbytes(2**17) for _ in range(256)]})
    path = tmp_path / "t.parquet"
    pq.write_table(table, path, write_batch_size=4, compression=compression)
    assert pq.ParquetFile(path).num_row_groups == 1
    del table
    before, peak = pa.total_allocated_bytes(), 0
    for raw in open_source(str(path), options()).read(0, 256):
        assert len(raw.content) == 2**17
        peak = max(peak, pa.total_allocated_bytes() - before)
    assert peak < 16 * 2**20
