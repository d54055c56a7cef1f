"""What is looked at before it is opened or run: kinds of files, names in indexes, owners."""

from __future__ import annotations

import json
import os
import socket
import threading
from collections.abc import Callable
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest.mock import Mock

import pandas as pd
import pytest
from made_sources import options
from stand_ins import CPU, built

from lct_pipeline.datasets.atomic import AtomicDataset
from lct_pipeline.datasets.autoencoder import GivenAutoencoderDataset
from lct_pipeline.datasets.checkpoints import CheckpointIndexDataset
from lct_pipeline.datasets.external_checkpoints import find_checkpoints
from lct_pipeline.datasets.external_statistics import read_statistics
from lct_pipeline.datasets.parts import INDEX, ParquetPartsDataset, is_complete
from lct_pipeline.datasets.run_folder import RunFolder
from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.datasets.sources import open_source
from lct_pipeline.datasets.tensors import read_header
from lct_pipeline.datasets.weight_files import weight_paths
from lct_pipeline.errors import DataError, user_error_in
from lct_pipeline.export.pictures import load_pipeline
from lct_pipeline.given_files import (
    check_folder,
    indexed_file,
    private_folder,
    refuse_replaceable,
    regular_file,
)
from lct_pipeline.models.digests import file_digest
from lct_pipeline.models.published_weights import INCEPTION_FILE
from lct_pipeline.models.reconstruction import lpips_distance
from lct_pipeline.training.trainer import compile_network


def message_of(call: Callable[..., Any], *given: Any) -> str:
    with pytest.raises(Exception) as caught:  # Kedro wraps what datasets raise
        call(*given)
    fault = user_error_in(caught.value)
    assert isinstance(fault, DataError), repr(caught.value)
    return str(fault)


def source(path: Path) -> object:
    return open_source(str(path), options())


def source_folder(path: Path) -> object:
    return open_source(str(path.parent), options())


OPENED: dict[str, Callable[[Path], object]] = {
    "a.zip": source,
    "a.tar": source,
    "a.tar.gz": source,
    "a.npy": source,
    "a.npz": source,
    "a.parquet": source,
    "b.tar": source_folder,
    "b.parquet": source_folder,
    "c.parquet": lambda path: open_source(f"{path.parent}/*.parquet", options()),
    "state.json": source_folder,
    "dataset_dict.json": source_folder,
    "statistics.npz": read_statistics,
    "model-5.pt": lambda path: find_checkpoints(path.parent, None, None, "raw"),
    "model-7.bin.index.json": lambda p: find_checkpoints(p.parent, "*", None, "raw"),
    INCEPTION_FILE: lambda path: built("inception", path.parent),
    "torch.pt": lambda path: built(str(path)),
    "mine.onnx": lambda path: built(str(path)),
    "labels.csv": lambda path: open_source("digits", options(labels=str(path))),
    "alexnet.pth": lambda path: lpips_distance(path, CPU),
    "model.safetensors": lambda path: built("dinov2", path.parent),
    "config.json": lambda p: GivenAutoencoderDataset(source=str(p.parent)).load(),
    "model_index.json": lambda path: load_pipeline(path.parent, "cpu"),
    "values.json": lambda path: AtomicDataset(filepath=str(path)).load(),
    "there.json": lambda path: AtomicDataset(filepath=str(path)).exists(),
    "part-1.parquet": lambda p: ParquetPartsDataset(path=str(p.parent), key="n").load(),
    "shards/index.json": lambda path: ShardStore(path.parent).complete,
    INDEX: lambda path: is_complete(path.parent),
    "chart.png": lambda path: RunFolder(path.parent, path.parent).picture("chart"),
    "table.parquet": lambda path: RunFolder(path.parent, path.parent).table("table"),
    "shard.bin": file_digest,
    "tensors.safetensors": read_header,
}


@pytest.mark.timeout(30)
@pytest.mark.parametrize("name", OPENED)
def test_a_fifo_is_refused_by_its_name_and_not_waited_for(
    tmp_path: Path, name: str
) -> None:
    path = tmp_path / "given" / name
    path.parent.mkdir(parents=True)
    os.mkfifo(path)
    writer = threading.Timer(  # libraries that wait in C are not interrupted
        2.0, lambda: os.close(os.open(path, os.O_WRONLY | os.O_NONBLOCK))
    )
    writer.start()
    assert f"{path} is a FIFO, not a regular" in message_of(OPENED[name], path)
    writer.cancel()


@pytest.mark.parametrize(
    ("target", "kind"),
    [
        ("/dev/zero", "a device"),
        ("/proc/self/status", "a file of the kernel"),
        ("socket", "a socket"),
        ("fifo", "a FIFO"),
        (".", "a folder"),
    ],
)
def test_what_is_no_regular_file_is_refused_behind_links_too(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, target: str, kind: str
) -> None:
    monkeypatch.chdir(tmp_path)
    os.mkfifo("fifo")
    with socket.socket(socket.AF_UNIX) as listener:
        listener.bind("socket")
        Path("inner").symlink_to(target)
        Path("link").symlink_to("inner")
        for path in (Path(target), Path("inner"), Path("link")):
            with pytest.raises(DataError, match=rf"^{path}.* is {kind}, not a regular"):
                regular_file(path)
    Path("file").touch()
    Path("to_file").symlink_to("file")
    assert regular_file(Path("to_file")) == Path("to_file")
    with pytest.raises(FileNotFoundError):
        regular_file(Path("nothing"))


# names in indexes

OUTSIDE = ["../a.bin", "/etc/a.bin", "b/a.bin", "..", ".", "", "b\\a.bin", "C:a.bin"]


@pytest.mark.parametrize("name", [*OUTSIDE, "a\0.bin", 5, None])
def test_an_index_names_files_of_its_own_folder(tmp_path: Path, name: Any) -> None:
    index = tmp_path / "model.bin.index.json"
    with pytest.raises(DataError) as caught:
        indexed_file(index, name)
    assert str(index) in str(caught.value) and repr(name) in str(caught.value)


def test_a_link_in_an_index_stays_in_the_folder_or_in_the_cache_of_the_hub(
    tmp_path: Path,
) -> None:
    cached = tmp_path / "snapshots" / "1a2b"
    for folder in (cached, tmp_path / "blobs"):
        folder.mkdir(parents=True)
        (folder / "kept").touch()
    index = cached / "model.safetensors.index.json"
    for name, target in (("a", cached / "kept"), ("b", "../../blobs/kept")):
        (cached / name).symlink_to(target)
        assert indexed_file(index, name) == cached / name
    (cached / "c").symlink_to(tmp_path / "elsewhere")
    (cached.parent.parent / "copy").symlink_to(cached)
    for folder in (cached, tmp_path / "copy"):
        with pytest.raises(DataError, match=r"index\.json names 'c', a link .*elsewhe"):
            indexed_file(folder / index.name, "c")
    os.rename(cached.parent, tmp_path / "others")
    with pytest.raises(DataError, match="names 'b', a link that leads out"):
        indexed_file(tmp_path / "others" / "1a2b" / index.name, "b")


def checkpoint_index(path: Path) -> object:
    index = path.with_name("checkpoints.parquet")
    pd.DataFrame({"name": ["step-5", "../a"]}).to_parquet(index)
    kind = "lct_pipeline.datasets.checkpoints.CheckpointsDataset"
    checkpoints = {"type": kind, "path": str(path.parent / "checkpoints")}
    return CheckpointIndexDataset(filepath=str(index), checkpoints=checkpoints).load()


SHARDS = {"weight_map": {"a": "b", "c": "../a"}}


@pytest.mark.parametrize(
    ("name", "content", "read"),
    [
        ("model.safetensors.index.json", SHARDS, OPENED["model.safetensors"]),
        ("model.safetensors.index.json", SHARDS, OPENED["config.json"]),
        ("unet/model.bin.index.json", SHARDS, OPENED["model_index.json"]),
        ("x.index.json", SHARDS, lambda p: weight_paths(p.with_name("x.index.json"))),
        ("state.json", {"_data_files": [{"filename": "../a"}]}, source_folder),
        ("dataset_dict.json", {"splits": ["train", "../a"]}, source_folder),
        ("index.json", {"files": ["../a"]}, OPENED[INDEX]),
        (
            "index.json",
            {"shards": [{"name": "../a"}]},
            lambda path: ShardStore(path.parent).shards,
        ),
        ("checkpoints.parquet", None, checkpoint_index),
    ],
)
def test_no_reader_of_an_index_leaves_its_folder(
    tmp_path: Path, name: str, content: Any, read: Callable[[Path], object]
) -> None:
    (tmp_path / "unet").mkdir()
    (tmp_path / name).write_text(json.dumps(content))
    message = message_of(read, tmp_path / "any")
    assert f"{tmp_path / name} names '../a" in message


@pytest.mark.parametrize("name", ["a.index.json", "state.json", "dataset_dict.json"])
def test_a_damaged_index_in_a_folder_is_named(tmp_path: Path, name: str) -> None:
    (tmp_path / name).write_text('{"weight_map": 5, "_data_files": 5, "splits": 5}')
    assert f"{tmp_path / name} cannot be read" in message_of(check_folder, tmp_path)


# code that others could replace


@pytest.mark.parametrize(
    ("modes", "owner", "is_refused"),
    [
        ((0o755, 0o755, 0o644), 0, False),
        ((0o755, 0o755, 0o666), 0, True),
        ((0o755, 0o777, 0o644), 0, True),
        ((0o777, 0o755, 0o644), 0, True),
        ((0o1777, 0o775, 0o664), 0, False),
        ((0o755, 0o1777, 0o644), 0, False),
        ((0o755, 0o1777, 0o644), 12345, True),
        ((0o755, 0o755, 0o644), 12345, False),
    ],
)
def test_code_that_other_users_could_replace_is_refused(
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    modes: tuple[int, ...],
    owner: int,
    is_refused: bool,
) -> None:
    file, link = tmp_path / "top" / "folder" / "net.pt", tmp_path / "link.pt"
    file.parent.mkdir(parents=True)
    file.touch()
    link.symlink_to(file)
    for place, mode in zip((file.parents[1], file.parent, file), modes, strict=True):
        place.chmod(mode)

    def stat(path: Path) -> Any:
        uid = owner if path == file else 0
        return SimpleNamespace(st_mode=os.stat(path).st_mode, st_uid=uid)

    monkeypatch.setattr(Path, "stat", stat)
    if not is_refused:
        refuse_replaceable(link)
        return
    for call, given in ((refuse_replaceable, link), (built, str(file))):
        assert "other users of this machine" in message_of(call, given)


def test_compiled_code_is_kept_where_nobody_else_can_go(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.delenv("TORCHINDUCTOR_CACHE_DIR", raising=False)
    folder = tmp_path / "lct_pipeline" / "torchinductor"
    folder.mkdir(parents=True)
    compile_network(Mock(), 0.0)
    assert os.environ["TORCHINDUCTOR_CACHE_DIR"] == str(folder)
    assert folder.stat().st_mode & 0o777 == 0o700
    tmp_path.chmod(0o777)
    assert "other users of this machine" in message_of(private_folder, "x")
    (tmp_path / "lct_pipeline" / "y").touch()
    assert "Set XDG_CACHE_HOME" in message_of(private_folder, "y")


def test_a_model_that_others_could_replace_is_not_loaded(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model").chmod(0o777)
    message = message_of(load_pipeline, tmp_path / "model", "cpu")
    assert f"{tmp_path / 'model'} is not yours alone to write" in message
