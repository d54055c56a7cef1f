"""Archives made to do harm: the good images come through, the rest are rows with a reason."""

from __future__ import annotations

import hashlib
import io
import re
import stat
import struct
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import made_sources
import numpy as np
import pytest
from made_sources import ingest, ingestion, noise_png, opened, png_chunk, traced
from PIL import Image

from lct_pipeline.datasets.sources import RawImage
from lct_pipeline.pipelines.ingestion.images import ingest_entry

MAX_MIB = 4
ABSOLUTE = "/tmp/written-by-a-hostile-archive.png"
GOOD = {f"good/{number:02d}.png": noise_png(number) for number in range(20)}


def encoded(image: Image.Image, kind: str, **options: object) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def huge_png(side: int = 40_000, rows: int = 200) -> bytes:
    """Return a PNG file of ``side`` x ``side`` RGB pixels, of which the first rows are there."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    packer, packed = zlib.compressobj(9), b""
    for _ in range(rows):
        packed += packer.compress(bytes(1 + 3 * side))
    parts = [png_chunk(b"IHDR", header), png_chunk(b"IDAT", packed + packer.flush())]
    return b"\x89PNG\r\n\x1a\n" + b"".join([*parts, png_chunk(b"IEND", b"")])


def animation() -> bytes:
    frames = [Image.new("RGB", (16, 16), (n, 99, 7)) for n in range(12)]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


def photo() -> Image.Image:
    return Image.open(io.BytesIO(noise_png(99, 64, 64)))


BAD: dict[str, tuple[bytes, str]] = {  # name -> content, reason
    "../../traversal.png": (noise_png(1000), r"'\.\.'"),
    ABSOLUTE: (noise_png(1001), "absolute"),
    "C:\\drive.png": (noise_png(1002), "drive letter"),
    "huge.png": (huge_png(), "1600000000 pixels"),
    "truncated.jpg": (encoded(photo(), "JPEG")[:1500], "truncated"),
    "headless.jpg": (encoded(photo(), "JPEG")[:30], "truncated"),
    "text.jpg": (b"This is not an image.\n" * 100, "not an image of a known format"),
    "empty.png": (b"", "zero bytes"),
    "animated.gif": (animation(), "animated: more than one frame"),
    "nested.png": (b"PK\3\4" + noise_png(0), "not an image of a known format"),
    "tiny.png": (noise_png(5, 7, 300), "7 x 300 pixels, the shorter side below 8"),
    "bomb.png": (bytes(300 * 2**20), "300.0 MiB, more than ingestion.max_mib=4"),
    "liar.png": (bytes(50 * 2**20), "more bytes than its archive claims"),  # of a zip
    "link.png": (b"/etc/passwd", "a link|not a regular file"),
}
WRONG_SUFFIX = {"really-a.jpg": noise_png(50), "really-b.gif": noise_png(51)}


def write_zip(path: Path) -> Path:
    with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
        for name, content in {**GOOD, **WRONG_SUFFIX}.items():
            archive.writestr(name, content)
        for name, (content, _) in BAD.items():
            member = zipfile.ZipInfo(name)
            member.compress_type = zipfile.ZIP_DEFLATED
            if name == "link.png":
                member.external_attr = (stat.S_IFLNK | 0o777) << 16
            archive.writestr(member, content)
    changed = bytearray(path.read_bytes())
    entry = changed.rindex(b"PK\1\2", 0, changed.rindex(b"liar.png"))
    changed[entry + 24 : entry + 28] = struct.pack("<I", 1000)
    path.write_bytes(changed)
    return path


def write_tar(path: Path) -> Path:
    contents = {**GOOD, **WRONG_SUFFIX, **{name: bad[0] for name, bad in BAD.items()}}
    del contents["liar.png"]
    with tarfile.open(path, "w:gz", compresslevel=1) as archive:
        for name, content in contents.items():
            member = tarfile.TarInfo(name)
            if name == "link.png":
                member.type, member.linkname = tarfile.SYMTYPE, content.decode()
                archive.addfile(member)
                continue
            member.size = len(content)
            archive.addfile(member, io.BytesIO(content))
    return path


WRITERS: dict[str, Callable[[Path], Path]] = {".zip": write_zip, ".tar.gz": write_tar}


@pytest.fixture(params=WRITERS, scope="module")
def archive(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> Path:
    folder = tmp_path_factory.mktemp("archives") / "deep" / "below"
    folder.mkdir(parents=True)
    return WRITERS[request.param](folder / f"hostile{request.param}")


def files_below(folder: Path) -> set[Path]:
    return set(folder.rglob("*"))


@pytest.mark.parametrize("num_workers", [1, 4])
def test_good_images_come_through_and_every_bad_one_has_its_reason(
    archive: Path, tmp_path: Path, num_workers: int
) -> None:
    parameters = ingestion(max_mib=MAX_MIB)
    surroundings = archive.parents[3]  # all temporary files of the tests
    before = files_below(surroundings)
    images = tmp_path / "project" / "images"
    manifest, store = ingest(archive, images, parameters, num_workers)
    manifest = manifest.set_index("source")

    bad = {name: reason for name, (_, reason) in BAD.items() if name in manifest.index}
    assert set(manifest.index) == {*GOOD, *WRONG_SUFFIX, *bad}
    assert len(bad) == len(BAD) - (archive.suffix == ".gz")
    problems = manifest["problem"].dropna()
    assert set(problems.index) == set(bad)
    for name, reason in bad.items():
        assert re.search(reason, problems[name]), (name, problems[name])

    for name, content in {**GOOD, **WRONG_SUFFIX}.items():
        row = manifest.loc[name]
        assert row["digest"] == hashlib.sha256(content).hexdigest()
        expected = ingest_entry(RawImage(name, content, None), parameters).pixels
        (stored,) = store.gather("images", np.array([row["index"]])).numpy()
        np.testing.assert_array_equal(stored, expected)
    project = tmp_path / "project"
    new = files_below(surroundings) - before - {project} - files_below(project)
    assert new == set()
    assert not Path(ABSOLUTE).exists()


def test_memory_stays_bounded_by_the_largest_file_that_is_read(archive: Path) -> None:
    """350 MiB of bombs and 4.8 GB of pixels are in the archive."""
    parameters = ingestion(max_mib=MAX_MIB)

    def ingest_all() -> None:
        source = opened(archive, parameters)
        for raw in source.read(0, len(source)):
            ingest_entry(raw, parameters)

    assert traced(ingest_all)[1] < 4 * MAX_MIB


@pytest.mark.parametrize("suffix", [".zip", ".tar"])
def test_many_entries_are_named_and_placed_in_few_bytes_each(
    tmp_path: Path, suffix: str
) -> None:
    files = {f"class-{n % 10}/{n:06d}.png": b"%d" % n for n in range(5_000)}
    write = made_sources.write_zip if suffix == ".zip" else made_sources.write_tar
    path = write(tmp_path / f"many{suffix}", files)
    tracemalloc.start()
    source = opened(path, ingestion())
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(source) == len(files)
    assert kept < 250 * len(files)
    found = {raw.name: raw.content for raw in source.read(0, len(source))}
    assert found == files
