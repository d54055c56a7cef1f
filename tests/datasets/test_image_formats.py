"""The structure of JPEG and GIF files, before Pillow reads them."""

import io
import random
import struct
import tracemalloc

import numpy as np
import pytest
from PIL import Image

from lct_pipeline.datasets.image_formats import (
    MalformedImageError,
    count_gif_frames,
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
    tracemalloc.start()
    stripped = strip_jpeg_metadata(many)
    peak = tracemalloc.get_traced_memory()[1]
    tracemalloc.stop()
    assert len(stripped) == len(content) + 11
    assert peak < 2**20


def gif(num_frames: int, **options: object) -> bytes:
    colors = [(n * 7 % 256, n * 13 % 256, n * 29 % 256) for n in range(num_frames)]
    first, *others = [Image.new("RGB", (8, 8), color) for color in colors]
    buffer = io.BytesIO()
    first.save(buffer, "GIF", save_all=True, append_images=others, **options)
    return buffer.getvalue()


@pytest.mark.parametrize("count", [1, 2, 3, 50])
@pytest.mark.parametrize("options", [{}, {"loop": 0, "comment": b"c" * 1000}])
def test_frames_are_counted_as_pillow_counts_them(
    count: int, options: dict[str, object]
) -> None:
    content = gif(count, **options)
    with Image.open(io.BytesIO(content)) as image:
        assert image.n_frames == count
    assert count_gif_frames(content) == count


def test_counting_stops_at_a_thousand() -> None:
    content = gif(3)
    frames = content[content.index(b"!\xf9") : -1]
    assert count_gif_frames(content[:-1] + frames * 2000 + b";") == 1000


def test_a_file_cut_anywhere_has_the_frames_that_began() -> None:
    content = gif(5)
    counts = [count_gif_frames(content[:end]) for end in range(len(content) + 1)]
    assert counts == sorted(counts)
    assert (counts[0], counts[-1]) == (0, 5)
