"""What the tests of sources share: files to read, and how they are read."""

from __future__ import annotations

import io
import tarfile
import tracemalloc
import zipfile
from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from PIL import Image

from lct_pipeline.datasets.sources import RawImage, open_source
from lct_pipeline.datasets.sources.base import SourceOptions

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


def png(level: int = 0) -> bytes:
    """Return a small picture of one colour."""
    buffer = io.BytesIO()
    Image.new("RGB", (8, 8), (level % 256, level // 256, 7)).save(buffer, "PNG")
    return buffer.getvalue()


def traced(work: Callable[[], T]) -> tuple[T, float]:
    """Return what work returns, and the most memory that Python held meanwhile, in MiB."""
    tracemalloc.start()
    try:
        found = work()
        return found, tracemalloc.get_traced_memory()[1] / 2**20
    finally:
        tracemalloc.stop()
