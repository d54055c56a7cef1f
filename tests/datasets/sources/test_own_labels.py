"""Labels that a source has by itself, and what is said of them."""

import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from made_sources import WRITE, labels, options, write_tar, write_zip

from lct_pipeline.datasets.sources import open_source
from lct_pipeline.errors import DataError

# numbered folders, as EDM's dataset_tool.py writes them
NAMES = [f"{n // 3:05d}/img{n:08d}.png" for n in range(6)]
CLASSES = [[name, (2 * n) % 5] for n, name in enumerate(NAMES)]
FOLDERS = ["00000"] * 3 + ["00001"] * 3


@pytest.mark.parametrize("kind", WRITE)
@pytest.mark.parametrize("folder", ["", "data/ffhq/"])
@pytest.mark.parametrize(
    ("listing", "expected"),
    [
        ({"labels": CLASSES[:5]}, ["0", "2", "4", "1", "3", None]),
        ({"labels": dict(CLASSES)}, ["0", "2", "4", "1", "3", "0"]),
        ({"labels": [["00000\\img00000002.png", 7]]}, [None, None, "7", *3 * [None]]),
        ({"labels": None}, [None] * 6),
        ({"labels": [[name, [0.5, 1.0]] for name in NAMES]}, [None] * 6),
        ({"name": "something else"}, FOLDERS),
        ([1, 2], FOLDERS),
        (b'{"labels": [', "is no list of labels"),
        (b"[" * 10**5, "is no list of labels"),
        ({"labels": [1, 2]}, "is no list of labels"),
        ({"labels": [["other.png", 1]]}, "other.png', the source '.*00000/img00000000"),
    ],
)
def test_a_dataset_json_says_what_numbered_folders_do_not(
    tmp_path: Path, kind: str, folder: str, listing: Any, expected: Any
) -> None:
    content = listing if isinstance(listing, bytes) else json.dumps(listing).encode()
    files = {**dict.fromkeys(NAMES, b"image"), "dataset.json": content}
    inside = {f"{folder}{name}": data for name, data in files.items()}
    path = WRITE[kind](tmp_path / kind, inside)
    assert labels(path, labels="none") == [None] * 6
    if isinstance(expected, list):
        assert labels(path) == expected
    else:
        with pytest.raises(DataError, match=rf"dataset\.json of .*{expected}"):
            labels(path)


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
            labels(path)
        assert labels(path, labels="none") == [None, None]
    else:
        assert labels(path) == expected


def test_of_some_samples_with_labels_the_others_have_none(tmp_path: Path) -> None:
    files = {"a/0.png": b"", "a/0.cls": b"7", "a/1.png": b""}
    assert labels(write_tar(tmp_path / "a.tar", files)) == ["7", None]


def test_columns_that_are_not_used_are_mentioned(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "lct_pipeline")
    (tmp_path / "sub").mkdir()
    table = pa.table({"image": [b"a"], "breed": [1], "weight": [0.5]})
    pq.write_table(table, tmp_path / "sub" / "a.parquet")
    np.savez(tmp_path / "a.npz", images=np.zeros((1, 8, 8), np.uint8), kind=[0])
    assert labels(tmp_path) == labels(tmp_path / "a.npz") == [None]
    assert re.findall(r"not used: (\w+)\.", caplog.text) == ["breed", "kind"]


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
        *((name, {"image_column": "x"}) for name in ("digits", "a.npy", *WRITE)),
        *((name, {"hub_split": "test"}) for name in ("digits", "a.npy", *WRITE)),
    ],
)
def test_what_has_no_effect_is_refused(
    tmp_path: Path, name: str, changes: dict[str, str]
) -> None:
    path = name if name == "digits" else str(tmp_path / name)
    if name in WRITE:
        WRITE[name](tmp_path / name, dict.fromkeys(NAMES, b"image"))
    np.save(tmp_path / "a.npy", np.zeros((6, 8, 8), np.uint8))
    with pytest.raises(DataError, match=rf"ingestion\.{next(iter(changes))}"):
        open_source(path, options(**changes))
    assert len(open_source(path, options(**changes, shared=True))) >= 6
