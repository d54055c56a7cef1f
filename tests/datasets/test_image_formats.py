"""The structure of JPEG files, before Pillow reads them."""

import io
import random
import struct

import numpy as np
import pytest
from made_sources import traced
from PIL import Image

from lct_pipeline.datasets.image_formats import (
    MalformedImageError,
    strip_jpeg_metadata,
)


def picture(width: int = 40, height: int = 30) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def jpeg(image: Image.Image | None = None, **options: object) -> bytes:
    buffer = io.BytesIO()
    (image or picture()).save(buffer, "JPEG", **options)
    return buffer.getvalue()


def segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def pixels(content: bytes) -> np.ndarray:
    with Image.open(io.BytesIO(content)) as image:
        return np.asarray(image)


@pytest.mark.parametrize(
    "options",
    [
        {},
        {"progressive": True},
        {"optimize": True, "subsampling": 2},
        {"icc_profile": bytes(200_000), "comment": b"a comment"},
        {"dpi": (72, 72), "restart_marker_blocks": 2},
    ],
)
@pytest.mark.parametrize("mode", ["RGB", "L", "CMYK"])
def test_pixels_are_the_same_without_metadata(
    mode: str, options: dict[str, object]
) -> None:
    content = jpeg(picture().convert(mode), **options)
    stripped = strip_jpeg_metadata(content)
    np.testing.assert_array_equal(pixels(stripped), pixels(content))
    assert len(stripped) <= len(content) - len(options.get("icc_profile", b""))


def test_only_the_first_exif_segment_is_kept() -> None:
    exif = Image.Exif()
    exif[0x0112] = 6
    content = jpeg(exif=exif)
    more = [
        segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0<xmp/>"),
        segment(0xE1, b"Exif\0\0" + bytes(1000)),
        segment(0xE2, b"MPF\0" + bytes(100)),
        segment(0xED, b"Photoshop 3.0\0" + bytes(100)),
        segment(0xFE, b"comment"),
    ]
    first_exif = content.index(b"\xff\xe1")
    end = first_exif + 2 + int.from_bytes(content[first_exif + 2 : first_exif + 4])
    with_more = content[:end] + b"".join(more) + content[end:]
    assert strip_jpeg_metadata(with_more) == content
    with Image.open(io.BytesIO(content)) as image:
        assert image.getexif()[0x0112] == 6


def test_filling_bytes_between_segments_are_passed_over() -> None:
    content = jpeg()
    table = content.index(b"\xff\xdb")
    filled = content[:table] + b"\xff\xff\xff" + content[table:]
    np.testing.assert_array_equal(pixels(strip_jpeg_metadata(filled)), pixels(content))


@pytest.mark.parametrize("share", [0.0, 0.01, 0.05, 0.1])
def test_a_file_that_ends_in_its_headers_is_refused(share: float) -> None:
    content = jpeg(picture(8, 8))
    with pytest.raises(MalformedImageError, match="ends before its pixels"):
        strip_jpeg_metadata(content[: 2 + int(share * len(content))])


def test_damaged_bytes_never_raise_anything_else() -> None:
    content, rng = jpeg(picture(8, 8)), random.Random(0)
    for _ in range(2000):
        damaged = bytearray(content)
        for _ in range(rng.randint(1, 20)):
            damaged[rng.randrange(2, len(damaged))] = rng.choice([0, 0xFF, 0xDA, 0xE1])
        try:
            strip_jpeg_metadata(bytes(damaged))
        except MalformedImageError:
            continue


def test_a_progressive_file_of_many_scans_is_refused() -> None:
    content = jpeg(progressive=True)
    last_scan = content.rindex(b"\xff\xda")
    scan = content[last_scan:-2]
    few = content[:last_scan] + scan * 400 + content[-2:]
    many = content[:last_scan] + scan * 600 + content[-2:]
    assert strip_jpeg_metadata(few).endswith(scan + content[-2:])
    with pytest.raises(MalformedImageError, match="more than 500 scans"):
        strip_jpeg_metadata(many)


def test_many_segments_are_not_joined_again_and_again() -> None:
    """Half a megabyte of one-byte EXIF segments, of which one is kept."""
    content = jpeg(picture(8, 8))
    many = content[:2] + segment(0xE1, b"Exif\0\0x") * 50_000 + content[2:]
    stripped, peak = traced(lambda: strip_jpeg_metadata(many))
    assert len(stripped) == len(content) + 11
    assert peak < 1
