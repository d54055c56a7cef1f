"""Archives made to do harm: the good images come through, the rest are rows with a reason."""

from __future__ import annotations

import hashlib
import io
import re
import stat
import struct
import subprocess
import sys
import tarfile
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from ingesting import ingest, ingestion, noise_png, opened
from made_sources import traced
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


def chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data).to_bytes(4, "big")
    return len(data).to_bytes(4, "big") + kind + data + checksum


def huge_png(side: int = 40_000, rows: int = 2_000) -> bytes:
    """Return a PNG file of ``side`` x ``side`` RGB pixels, of which the first rows are there."""
    header = struct.pack(">IIBBBBB", side, side, 8, 2, 0, 0, 0)
    packer, packed = zlib.compressobj(9), b""
    for _ in range(rows):
        packed += packer.compress(bytes(1 + 3 * side))
    parts = [chunk(b"IHDR", header), chunk(b"IDAT", packed + packer.flush())]
    return b"\x89PNG\r\n\x1a\n" + b"".join([*parts, chunk(b"IEND", b"")])


def animation() -> bytes:
    frames = [Image.new("RGB", (16, 16), (n, 99, 7)) for n in range(12)]
    return encoded(frames[0], "GIF", save_all=True, append_images=frames[1:])


def nested_zip() -> bytes:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("good.png", noise_png(0))
    return buffer.getvalue()


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
    "nested.png": (nested_zip(), "not an image of a known format"),
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


def test_a_picture_of_billions_of_pixels_takes_no_memory_outside_python_either(
    tmp_path: Path,
) -> None:
    """Pixels are not Python's: the peak of a process of its own is measured."""
    (tmp_path / "huge.png").write_bytes(huge_png(rows=100))
    (tmp_path / "fits.png").write_bytes(huge_png(side=100, rows=100))
    lines = (
        "import pathlib, resource, sys",
        "from lct_pipeline.datasets.decoding import UndecodableImageError, decode_image",
        "def attempt(name):",
        "    content = pathlib.Path(sys.argv[1], name).read_bytes()",
        "    try: decode_image(content, size=8, min_side=8, max_pixels=10**8)",
        "    except UndecodableImageError as problem: return str(problem)",
        "    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss",
        "before = attempt('fits.png')",
        "assert 'pixels' in attempt('huge.png')",
        "print(attempt('fits.png') - before)",
    )
    command = [sys.executable, "-c", "\n".join(lines), str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert int(done.stdout) < 20 * 2**10  # kibibytes


@pytest.mark.parametrize("kind", ["zip", "tar"])
def test_many_entries_are_named_and_placed_in_few_bytes_each(
    tmp_path: Path, kind: str
) -> None:
    """20,000 entries of a picture of 70 bytes, one in 1,000 of them broken."""
    good = encoded(Image.new("RGB", (8, 8), (3, 5, 7)), "PNG")
    names = [f"class-{n % 10}/{n:06d}.png" for n in range(20_000)]
    path = tmp_path / f"many.{kind}"
    with (
        zipfile.ZipFile(path, "w") if kind == "zip" else tarfile.open(path, "w") as out
    ):
        for number, name in enumerate(names):
            content = b"broken" if number % 1000 == 999 else good
            if isinstance(out, zipfile.ZipFile):
                out.writestr(name, content)
            else:
                member = tarfile.TarInfo(name)
                member.size = len(content)
                out.addfile(member, io.BytesIO(content))
    parameters = ingestion(splits={"validation": 0.0, "test": 0.0})
    tracemalloc.start()
    source = opened(path, parameters)
    kept = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    assert len(source) == len(names)
    assert kept < 250 * len(names)
    found = list(source.read(0, len(source)))
    assert sorted(raw.name for raw in found) == sorted(names)
    assert sum(raw.content == b"broken" for raw in found) == 20
