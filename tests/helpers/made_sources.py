"""Files to read as sources, how they are read, and the pipeline of ingestion on them."""

from __future__ import annotations

import io
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import pandas as pd
from configuration import recipe
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner
from PIL import Image

from conftest import changed
from lct_pipeline.datasets.shards import ShardsDataset, ShardStore
from lct_pipeline.datasets.sources import ImageSource, RawImage, open_source
from lct_pipeline.datasets.sources.base import SourceOptions
from lct_pipeline.parameters import Runtime
from lct_pipeline.parameters.data import Ingestion
from lct_pipeline.pipelines.ingestion import create_pipeline

T = TypeVar("T")

FILES = {
    "top.PNG": b"top",
    "b/2.jpg": b"b two",
    "b/10.jpeg": b"b ten",
    "b-side/1.webp": b"b side",
    "a/deep/x.gif": b"deep",
    "a/.hidden.png": b"hidden file",
    ".cache/1.png": b"hidden folder",
    "__MACOSX/b/2.jpg": b"resource fork",
    "a/notes.txt": b"text",
    "a/noending": b"nothing",
}
NAMES = ["a/deep/x.gif", "b-side/1.webp", "b/10.jpeg", "b/2.jpg", "top.PNG"]
LABELS = ["deep", "b-side", "b", "b", None]


def options(**changes: Any) -> SourceOptions:
    """Return how sources are read by default, but for ``changes``."""
    values = {
        "labels": "folders",
        "image_column": None,
        "label_column": "label",
        "hub_split": "train",
        "max_mib": 256,
    }
    return SourceOptions(**{**values, **changes})


def read(
    source: Path | str, start: int = 0, stop: int = 10**6, **changes: Any
) -> list[RawImage]:
    """Return the entries of a source."""
    return list(open_source(str(source), options(**changes)).read(start, stop))


def fingerprint(source: Path | str, **changes: Any) -> str:
    """Return the fingerprint of a source."""
    return open_source(str(source), options(**changes)).fingerprint


def labels(source: Path | str, **changes: Any) -> list[str | None]:
    """Return the labels of a source."""
    return [image.label for image in read(source, **changes)]


def problems(source: Path | str, **changes: Any) -> dict[str, str]:
    """Return what is wrong with entries of a source, by name; those have no content."""
    found = [raw for raw in read(source, **changes) if raw.problem is not None]
    assert all(raw.content == b"" for raw in found)
    return {raw.name: str(raw.problem) for raw in found}


def write_folder(folder: Path, files: dict[str, bytes]) -> Path:
    """Write files below a folder."""
    for name, content in files.items():
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)
    return folder


def write_zip(
    path: Path, files: dict[str, bytes], kind: int = zipfile.ZIP_DEFLATED
) -> Path:
    """Write files into a zip, the last first."""
    with zipfile.ZipFile(path, "w", kind) as archive:
        archive.mkdir("looks-like.png")
        for name, content in reversed(files.items()):
            archive.writestr(name, content)
    return path


def write_tar(path: Path, files: dict[str, bytes], **about: Any) -> Path:
    """Write files into a tar, compressed as its suffix says; ``about`` changes its members."""
    path.parent.mkdir(exist_ok=True)
    kind = path.name.rpartition(".tar")[2].lstrip(".")
    with tarfile.open(path, f"w:{kind}") as archive:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size = len(content)
            for key, value in about.items():
                setattr(member, key, value)
            archive.addfile(member, io.BytesIO(content))
    return path


WRITE: dict[str, Callable[[Path, dict[str, bytes]], Path]] = {
    "images": write_folder,
    "images.zip": write_zip,
    "images.tar": write_tar,
}


def png(level: int = 0) -> bytes:
    """Return a small picture of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (level % 256, level // 256, 7)).save(buffer, "PNG")
    return buffer.getvalue()


def png_chunk(kind: bytes, data: bytes) -> bytes:
    """Return a piece of a PNG file."""
    checksum = zlib.crc32(kind + data).to_bytes(4, "big")
    return len(data).to_bytes(4, "big") + kind + data + checksum


def traced(work: Callable[[], T]) -> tuple[T, float]:
    """Return what work returns, and the most memory that Python held meanwhile, in MiB."""
    tracemalloc.start()
    try:
        found = work()
        return found, tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()


def ingestion(**changes: Any) -> Ingestion:
    """Return parameters of few small images, but for ``changes``."""
    few = {"image_size": 8, "splits": {"validation": 0.33, "test": 0.33}}
    return changed(recipe("base").ingestion, {**few, **changes})


def runtime(num_workers: int = 1) -> Runtime:
    """Return parameters of a run in a number of threads."""
    return changed(recipe("base").runtime, {"num_workers": num_workers})


def opened(source: Path | str, parameters: Ingestion) -> ImageSource:
    """Return a source, opened as the catalog does."""
    fields = SourceOptions.__dataclass_fields__
    options = SourceOptions(**parameters.model_dump(include=set(fields)))
    return open_source(str(source), options)


def ingest(
    source: Path | str | ImageSource,
    folder: Path,
    parameters: Ingestion,
    num_workers: int = 1,
) -> tuple[pd.DataFrame, ShardStore]:
    """Run the pipeline; return the manifest as it is read back, and the shards."""
    if isinstance(source, Path | str):
        source = opened(source, parameters)
    manifest = MemoryDataset()
    entries = {
        "image_source": MemoryDataset(source, copy_mode="assign"),
        "previous_images": ShardsDataset(path=str(folder)),
        "images": ShardsDataset(path=str(folder)),
        "image_manifest": manifest,
        "params:ingestion": MemoryDataset(parameters),
        "params:runtime": MemoryDataset(runtime(num_workers)),
    }
    SequentialRunner().run(create_pipeline(), DataCatalog(entries))
    buffer = io.BytesIO()
    manifest.load().to_parquet(buffer)
    return pd.read_parquet(io.BytesIO(buffer.getvalue())), ShardStore(folder)


def noise_png(seed: int, width: int = 16, height: int = 12) -> bytes:
    """Return a picture of noise, which no file format compresses."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
