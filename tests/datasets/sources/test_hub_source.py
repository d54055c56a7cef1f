"""Hugging Face data sets: saved ones, and the hub, which is a function here."""

import json
import os
import sys
from pathlib import Path
from typing import Any

import pytest
from made_sources import fingerprint, options, png, problems, read, write_folder

import datasets
from lct_pipeline.datasets.sources import open_source
from lct_pipeline.errors import DataError

CLASSES = ["cat", "dog", "owl"]


@pytest.fixture(autouse=True)
def _quiet() -> None:
    datasets.disable_progress_bars()


def pets(count: int = 40) -> datasets.Dataset:
    columns = {
        "image": [png(number) for number in range(count)],
        "label": [number % 3 for number in range(count - 1)] + [-1],
        "name": [f"pet {number}" for number in range(count)],
    }
    kinds = {
        "image": datasets.Image(),
        "label": datasets.ClassLabel(names=CLASSES),
        "name": datasets.Value("string"),
    }
    return datasets.Dataset.from_dict(columns, features=datasets.Features(kinds))


@pytest.fixture
def saved(tmp_path: Path) -> Path:
    pets().save_to_disk(str(tmp_path / "pets"))
    return tmp_path / "pets"


@pytest.mark.parametrize(("start", "stop"), [(0, 40), (15, 17), (30, 99), (39, 40)])
def test_rows_are_read_as_the_bytes_of_their_files(
    saved: Path, start: int, stop: int
) -> None:
    found = read(saved, start, stop)
    assert [r.content for r in found] == [png(n) for n in range(start, min(stop, 40))]
    assert found[0].name == f"pets[{start}]"


def test_of_several_splits_the_named_one_is_read(tmp_path: Path) -> None:
    splits = {"train": pets(), "test": pets(5)}
    datasets.DatasetDict(splits).save_to_disk(str(tmp_path / "pets"))
    assert len(read(tmp_path / "pets")) == 40
    found = read(tmp_path / "pets", hub_split="test")
    assert [raw.content for raw in found] == [png(number) for number in range(5)]
    assert found[0].name == "pets/test[0]"
    with pytest.raises(DataError, match=r"hub_split='dev'.*has the splits train, test"):
        open_source(str(tmp_path / "pets"), options(hub_split="dev"))


def test_files_that_rows_of_a_saved_set_name_are_not_opened(tmp_path: Path) -> None:
    """The library puts the bytes of files into what it saves; another writer need not."""
    write_folder(tmp_path, {"secret.png": png(1)})
    path = str(tmp_path / "secret.png")
    struct = {"bytes": datasets.Value("binary"), "path": datasets.Value("string")}
    made = datasets.Dataset.from_dict(
        {"image": [{"bytes": None, "path": path}]},
        features=datasets.Features({"image": struct}),
    )
    made.save_to_disk(str(tmp_path / "saved"))
    about = tmp_path / "saved" / "dataset_info.json"
    changed = {
        **json.loads(about.read_text()),
        "features": {"image": {"_type": "Image"}},
    }
    about.write_text(json.dumps(changed))
    (reason,) = problems(tmp_path / "saved").values()
    assert "names a file that is not part of the data set" in reason


def test_a_damaged_folder_is_refused(saved: Path) -> None:
    next(saved.glob("*.arrow")).unlink()
    with pytest.raises(DataError, match="cannot be read as a saved Hugging Face"):
        open_source(str(saved), options())


def test_the_fingerprint_changes_with_the_rows(saved: Path, tmp_path: Path) -> None:
    before = fingerprint(saved)
    assert fingerprint(saved) == before
    pets(39).save_to_disk(str(tmp_path / "other" / "pets"))
    assert fingerprint(tmp_path / "other" / "pets") != before


class Hub:
    """Stands for the hub: notes what is asked for, and gives a data set or an error."""

    def __init__(self, answer: Any) -> None:
        self.answer = answer
        self.asked: list[tuple[Any, ...]] = []

    def __call__(self, name: str, *, revision: str | None, split: str) -> Any:
        self.asked.append((name, revision, split))
        if isinstance(self.answer, Exception):
            raise self.answer
        return self.answer


@pytest.mark.parametrize(
    ("address", "name", "revision"),
    [
        ("hf://datasets/cifar10", "cifar10", None),
        ("hf://datasets/owner/pets", "owner/pets", None),
        ("hf://datasets/owner/pets@v1.0", "owner/pets", "v1.0"),
        (
            "hf://datasets/owner/pets@refs/convert/parquet",
            "owner/pets",
            "refs/convert/parquet",
        ),
    ],
)
def test_the_hub_is_asked_for_a_split_of_a_revision(
    monkeypatch: pytest.MonkeyPatch, address: str, name: str, revision: str | None
) -> None:
    hub = Hub(pets())
    monkeypatch.setattr(datasets, "load_dataset", hub)
    found = read(address, hub_split="train[:40]", labels="column")
    assert hub.asked == [(name, revision, "train[:40]")]
    assert [raw.content for raw in found] == [png(number) for number in range(40)]
    assert found[3].label == "cat"
    assert found[3].name == f"{address.removeprefix('hf://datasets/')}/train[:40][3]"


@pytest.mark.timeout(30)
def test_files_of_the_library_s_downloads_are_read_and_no_others(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    write_folder(tmp_path, {"cache/1.png": png(1), "home/secret.png": png(2)})
    (tmp_path / "cache" / "2.png").symlink_to(tmp_path / "home" / "secret.png")
    paths = [tmp_path / "cache" / "1.png", tmp_path / "cache" / "2.png"]
    paths += [tmp_path / "home" / "secret.png", tmp_path / "cache" / "fifo.png"]
    os.mkfifo(paths[-1])
    columns = {"image": [{"bytes": None, "path": str(path)} for path in paths]}
    features = datasets.Features({"image": datasets.Image()})
    made = datasets.Dataset.from_dict(columns, features=features)
    monkeypatch.setattr(datasets, "load_dataset", Hub(made))
    monkeypatch.setattr(datasets.config, "HF_DATASETS_CACHE", tmp_path / "cache")
    found = read("hf://datasets/pets")
    assert [raw.content for raw in found] == [png(1), b"", b"", b""]
    refused = problems("hf://datasets/pets")
    assert list(refused) == [str(path) for path in paths[1:]]
    assert "not a regular one" in refused.pop(str(paths[-1]))
    assert all("not part of the data set" in reason for reason in refused.values())


@pytest.mark.parametrize(
    "error", [ConnectionError("no network\nmore"), ValueError('Unknown split "train".')]
)
def test_what_the_hub_refuses_is_told_in_one_line(
    monkeypatch: pytest.MonkeyPatch, error: Exception
) -> None:
    monkeypatch.setattr(datasets, "load_dataset", Hub(error))
    first = str(error).splitlines()[0]
    message = (
        rf"hf://datasets/pets' cannot be loaded with .*hub_split='train': {first}$"
    )
    with pytest.raises(DataError, match=message):
        open_source("hf://datasets/pets", options())


@pytest.mark.parametrize("address", ["hf://datasets/", "hf://datasets/a/b/c"])
def test_other_addresses_are_refused(address: str) -> None:
    with pytest.raises(DataError, match=r"no data set of the hub: give hf://datasets/"):
        open_source(address, options())


def test_without_the_library_its_extra_is_named(
    monkeypatch: pytest.MonkeyPatch, saved: Path
) -> None:
    monkeypatch.setitem(sys.modules, "datasets", None)
    for source in ("hf://datasets/pets", str(saved)):
        with pytest.raises(DataError, match=r"pip install lct_pipeline\[hub\]"):
            open_source(source, options())
