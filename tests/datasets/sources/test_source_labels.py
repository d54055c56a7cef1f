"""Labels that a source has by itself, and what is said of them."""

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_sources import (
    labels,
    options,
    png,
    read,
    write_folder,
    write_tar,
    write_zip,
)

from lct_pipeline.datasets.sources import open_source
from lct_pipeline.errors import DataError

# numbered folders, as EDM's dataset_tool.py writes them
NUMBERED = {f"{n // 3:05d}/img{n:08d}.png": png(n) for n in range(6)}
CLASSES = [[name, (2 * n) % 5] for n, name in enumerate(NUMBERED)]
WRITE = {"images": write_folder, "images.zip": write_zip, "images.tar": write_tar}


def listed(tmp_path: Path, kind: str, listing: Any, folder: str = "") -> Path:
    content = listing if isinstance(listing, bytes) else json.dumps(listing).encode()
    files = {**NUMBERED, "dataset.json": content}
    inside = {f"{folder}{name}": data for name, data in files.items()}
    return WRITE[kind](tmp_path / kind, inside)


@pytest.mark.parametrize("kind", WRITE)
@pytest.mark.parametrize("folder", ["", "data/ffhq/"])
def test_a_dataset_json_says_what_the_folders_do_not(
    tmp_path: Path, kind: str, folder: str
) -> None:
    path = listed(tmp_path, kind, {"labels": CLASSES[:5]}, folder)
    assert labels(path) == ["0", "2", "4", "1", "3", None]
    assert labels(path, labels="none") == [None] * 6
    windows = [[name.replace("/", "\\"), label] for name, label in CLASSES]
    path = listed(tmp_path, kind, {"labels": windows}, folder)
    assert labels(path) == ["0", "2", "4", "1", "3", "0"]


@pytest.mark.parametrize("kind", WRITE)
@pytest.mark.parametrize(
    ("listing", "expected"),
    [
        ({"labels": None}, [None] * 6),
        ({"labels": [[name, [0.5, 1.0]] for name in NUMBERED]}, [None] * 6),
        ({"name": "something else"}, ["00000"] * 3 + ["00001"] * 3),
        ([1, 2], ["00000"] * 3 + ["00001"] * 3),
    ],
)
def test_where_it_lists_no_classes(
    tmp_path: Path, kind: str, listing: Any, expected: list[str | None]
) -> None:
    assert labels(listed(tmp_path, kind, listing)) == expected


@pytest.mark.parametrize("kind", WRITE)
@pytest.mark.parametrize(
    ("listing", "message"),
    [
        (b'{"labels": [', "is no list of labels"),
        (b"[" * 10**5, "is no list of labels"),
        ({"labels": [1, 2]}, "is no list of labels"),
        ({"labels": [["elsewhere.png", 1]]}, "'elsewhere.png', the source '00000/img"),
    ],
)
def test_one_that_cannot_be_used_is_refused(
    tmp_path: Path, kind: str, listing: Any, message: str
) -> None:
    path = str(listed(tmp_path, kind, listing))
    with pytest.raises(DataError, match=rf"dataset\.json of .*{message}"):
        open_source(path, options())
    assert open_source(path, options(labels="none"))


@pytest.mark.parametrize(
    ("names", "expected"),
    [
        (["train/cat/1", "train/dog/2", "val/cat/3"], ["cat", "dog", "cat"]),
        (["d/training_set/cat/1", "d/test_set/cat/2"], ["cat", "cat"]),
        (["1", "cat/2"], [None, "cat"]),
        (["cat/a/1", "dog/a/2"], None),
        (["cat/1", "cat/small/2"], None),
    ],
)
def test_folders_are_labels_unless_it_is_not_clear_which(
    tmp_path: Path, names: list[str], expected: list[str | None] | None
) -> None:
    path = write_zip(tmp_path / "a.zip", {f"{name}.png": b"x" for name in names})
    if expected is None:
        with pytest.raises(DataError, match=r"'cat.*which folder is the class"):
            read(path)
        assert labels(path, labels="none") == [None, None]
    else:
        assert labels(path) == expected


def test_of_some_samples_with_labels_the_others_have_none(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    files = {"a/0.png": b"", "a/0.cls": b"7", "a/1.png": b"", "b/2.cls": b"8"}
    assert labels(write_tar(tmp_path / "a.tar", files)) == ["7", None]
    assert "1 labels (.cls) of a.tar are beside no image and are lost" in caplog.text


def test_columns_that_are_not_used_are_mentioned(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "lct_pipeline")
    table = pa.table({"image": [b"a"], "breed": [1], "weight": [0.5]})
    (tmp_path / "sub").mkdir()
    pq.write_table(table, tmp_path / "sub" / "a.parquet")
    np.savez(tmp_path / "a.npz", images=np.zeros((1, 8, 8), np.uint8), kind=[0])
    assert labels(tmp_path) == labels(tmp_path / "a.npz") == [None]
    assert "not used: breed. Labels are taken" in caplog.text
    assert "not used: kind. Labels are taken" in caplog.text


def test_tables_with_other_names_of_classes_are_refused(tmp_path: Path) -> None:
    for number, names in enumerate((["cat", "dog"], ["dog", "cat"])):
        features = {"label": {"names": names, "_type": "ClassLabel"}}
        about = {b"huggingface": json.dumps({"info": {"features": features}}).encode()}
        table = pa.table({"image": [b"a"], "label": [0]}).replace_schema_metadata(about)
        pq.write_table(table, tmp_path / f"{number}.parquet")
    with pytest.raises(DataError, match="other names of classes"):
        labels(tmp_path, labels="column")


@pytest.mark.parametrize(
    ("name", "changes"),
    [
        ("digits", {"image_column": "jpg"}),
        ("a.npy", {"image_column": "images"}),
        ("images", {"image_column": "image"}),
        ("images.zip", {"image_column": "image"}),
        ("images.tar", {"image_column": "image"}),
        ("images", {"hub_split": "test"}),
        ("digits", {"hub_split": "test"}),
        ("digits", {"labels": "column"}),
    ],
)
def test_what_has_no_effect_is_refused(
    tmp_path: Path, name: str, changes: dict[str, str]
) -> None:
    for kind, write in WRITE.items():
        write(tmp_path / kind, NUMBERED)
    np.save(tmp_path / "a.npy", np.zeros((3, 8, 8), np.uint8))
    path = name if name == "digits" else str(tmp_path / name)
    with pytest.raises(DataError, match=rf"{next(iter(changes))}|endings png"):
        open_source(path, options(**changes))
    if "labels" not in changes:
        assert len(open_source(path, options(**changes, shared=True))) > 0
