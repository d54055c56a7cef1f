"""From files of any kind to squares of RGB pixels."""

import io
import struct
import subprocess
import sys
import zlib
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_sources import png_chunk, traced
from PIL import Image

from lct_pipeline.datasets.decoding import (
    UndecodableImageError,
    decode_image,
    decode_pixels,
    strip_jpeg_metadata,
)

ORIENTATION = 0x0112
RED, GREEN, BLUE, WHITE = (200, 20, 30), (10, 180, 40), (5, 60, 220), (255, 255, 255)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decode(
    content: bytes | np.ndarray,
    size: int = 8,
    min_side: int = 1,
    max_pixels: int = 10**6,
) -> np.ndarray:
    bounds = {"min_side": min_side, "max_pixels": max_pixels}
    return decode_image(content, size=size, **bounds).pixels


def picture(width: int = 8, height: int = 8) -> Image.Image:
    pixels = np.random.default_rng(0).integers(0, 256, (height, width, 3), np.uint8)
    return Image.fromarray(pixels)


def halves() -> Image.Image:
    """Return an image that is red above and blue below."""
    image = Image.new("RGB", (8, 8), RED)
    image.paste(BLUE, (0, 4, 8, 8))
    return image


def channels_first(image: Image.Image) -> np.ndarray:
    return np.asarray(image.convert("RGB")).transpose(2, 0, 1)


def assert_plain(pixels: np.ndarray, color: tuple[int, ...], within: int = 0) -> None:
    assert pixels.shape == (3, 8, 8)
    difference = np.abs(pixels.astype(int) - np.array(color)[:, None, None])
    assert difference.max() <= within


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF", "WEBP"])
def test_a_lossless_file_of_the_right_size_is_not_changed(kind: str) -> None:
    options = {"lossless": True} if kind == "WEBP" else {}
    pixels = decode(encode(picture(), kind, **options))
    assert pixels.flags.c_contiguous and pixels.dtype == np.uint8
    np.testing.assert_array_equal(pixels, channels_first(picture()))


def test_grey_and_colours_of_files_and_arrays_are_taken_as_they_are() -> None:
    grey = picture().convert("L")
    expected = np.stack([np.asarray(grey)] * 3)
    for content in (encode(grey, "PNG"), np.asarray(grey)):
        np.testing.assert_array_equal(decode(content), expected)
    colours = np.asarray(picture())
    np.testing.assert_array_equal(decode(colours), channels_first(picture()))


def oblong(upright: bool) -> Image.Image:
    image = Image.new("RGB", (24, 8), RED)
    image.paste(GREEN, (8, 0, 16, 8))
    return image.transpose(Image.Transpose.ROTATE_90) if upright else image


def palette(index: int) -> Image.Image:
    image = Image.new("P", (8, 8), index)
    image.putpalette([*RED, *BLUE])
    return image


@pytest.mark.parametrize(
    ("image", "kind", "color", "within"),
    [
        (Image.new("RGB", (16, 16), RED), "JPEG", RED, 3),
        (Image.new("CMYK", (16, 16), (0, 255, 255, 0)), "JPEG", (255, 0, 0), 4),
        (palette(1), "PNG", BLUE, 0),
        (Image.new("RGB", (8, 8), RED), "GIF", RED, 8),
        (Image.new("1", (8, 8), 1), "PNG", WHITE, 0),
        (Image.new("RGB", (1, 1), RED), "PNG", RED, 0),  # one pixel fills the square
        (oblong(False), "PNG", GREEN, 0),  # the centre is kept
        (oblong(True), "PNG", GREEN, 0),
    ],
)
def test_a_picture_of_one_colour_keeps_it(
    image: Image.Image, kind: str, color: tuple[int, ...], within: int
) -> None:
    options = {"quality": 95} if kind == "JPEG" else {}
    assert_plain(decode(encode(image, kind, **options)), color, within)


def transparent(mode: str, color: tuple[int, ...]) -> Image.Image:
    """Return an image of one colour that is transparent above."""
    image = Image.new(mode, (8, 8), (*color, 255))
    image.paste((0,) * len(image.mode), (0, 0, 8, 4))
    return image


@pytest.mark.parametrize(
    ("content", "below"),
    [
        (encode(transparent("RGBA", RED), "PNG"), RED),
        (encode(transparent("RGBA", RED), "TIFF"), RED),
        (encode(transparent("LA", (100,)), "PNG"), (100, 100, 100)),
        (encode(halves(), "PNG", transparency=RED), BLUE),
        (encode(halves().quantize(2), "PNG", transparency=0), None),
    ],
)
def test_transparency_is_composed_over_white(
    content: bytes, below: tuple[int, ...] | None
) -> None:
    pixels = decode(content)
    ends = [pixels[:, 0, 0].tolist(), pixels[:, 7, 7].tolist()]
    assert list(WHITE) in ends
    assert below is None or ends == [list(WHITE), list(below)]


def test_a_little_transparency_is_a_little_white() -> None:
    image = Image.new("RGBA", (8, 8), (0, 0, 0, 51))
    assert_plain(decode(encode(image, "PNG")), (204, 204, 204))


def test_16_bit_grey_is_rounded_to_the_nearest_level() -> None:
    exact = [257 * level for level in (0, 1, 127, 254)]
    values = np.array([*exact, 128, 129, 32_767, 65_535], np.uint16).repeat(8)
    content = encode(Image.fromarray(values.reshape(8, 8)), "PNG")
    assert content[24] == 16  # bits of the PNG header
    assert decode(content)[0, :, 0].tolist() == [0, 1, 127, 254, 0, 1, 127, 255]


@pytest.mark.parametrize(
    ("orientation", "turn"),
    [
        (1, None),
        (2, Image.Transpose.FLIP_LEFT_RIGHT),
        (3, Image.Transpose.ROTATE_180),
        (6, Image.Transpose.ROTATE_270),
        (8, Image.Transpose.ROTATE_90),
    ],
)
def test_an_image_is_rotated_as_its_exif_tag_says(
    orientation: int, turn: Image.Transpose | None
) -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = orientation
    content = encode(picture(), "PNG", exif=exif)
    expected = picture() if turn is None else picture().transpose(turn)
    np.testing.assert_array_equal(decode(content), channels_first(expected))
    photo = encode(halves(), "JPEG", exif=exif, quality=95, subsampling=0)
    expected = halves() if turn is None else halves().transpose(turn)
    difference = decode(photo).astype(int) - channels_first(expected)
    assert np.abs(difference).max() <= 8


def test_a_larger_image_is_averaged_not_sampled() -> None:
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    pixels = decode(encode(Image.fromarray(stripes), "PNG"))
    assert 118 <= pixels.min() <= pixels.max() <= 138


@pytest.mark.parametrize("text", ['="6"', ">6</tiff:Orientation"])
def test_a_rotation_that_only_xmp_tells_is_applied(text: str) -> None:
    xmp = f"<x:xmpmeta><rdf:Description tiff:Orientation{text}/></x:xmpmeta>".encode()
    photo = encode(halves(), "JPEG", quality=95, subsampling=0)
    packet = segment(0xE1, b"http://ns.adobe.com/xap/1.0/\0" + xmp)
    expected = halves().transpose(Image.Transpose.ROTATE_270)
    found = decode(photo[:2] + packet * 2 + photo[2:]).astype(int)
    assert np.abs(found - channels_first(expected)).max() <= 8


def tiff(values: np.ndarray, sample_format: int, photometric: int = 1) -> bytes:
    """Return a TIFF file of grey values, (8, 8), as TIFF 6.0 lays it out, section 2."""
    bits, data = 8 * values.dtype.itemsize, values.tobytes()
    order = "<" if values.dtype.newbyteorder("=") == values.dtype else ">"
    tags = {256: 8, 257: 8, 258: bits, 259: 1, 262: photometric, 273: 134, 277: 1}
    tags |= {278: 8, 279: len(data), 339: sample_format}
    fields = (struct.pack(f"{order}HHIHxx", t, 3, 1, v) for t, v in tags.items())
    head = struct.pack(f"{order}2sHIH", {"<": b"II", ">": b"MM"}[order], 42, 8, 10)
    return head + b"".join(fields) + bytes(4) + data


@pytest.mark.parametrize(
    ("kind", "sample_format", "photometric", "reason"),
    [
        ("<f4", 3, 1, "^float samples of 32 bits; images are unsigned.*255"),
        ("<f2", 3, 1, "^float samples of 16 bits"),
        ("i1", 2, 1, "^signed samples of 8 bits"),
        ("<i2", 2, 1, "^signed samples of 16 bits"),
        ("<u4", 1, 1, "^unsigned samples of 32 bits"),
        ("u1", 4, 1, "^undefined samples"),
        ("<u2", 1, 0, "^unsigned samples of 16 bits, MinIsWhite: .* 0 as black"),
        ("u1", 1, 8, r"L\*a\*b\*: save it as RGB"),
        ("u1", 1, 1, None),
        ("u1", 1, 0, None),
        ("<u2", 1, 1, None),
        (">u2", 1, 1, None),
    ],
)
def test_samples_that_are_not_unsigned_bytes_or_pairs_are_refused_by_name(
    kind: str, sample_format: int, photometric: int, reason: str | None
) -> None:
    levels = np.arange(64).reshape(8, 8)
    values = levels * (257 if kind.endswith("u2") else 1)
    content = tiff(values.astype(kind), sample_format, photometric)
    if reason is not None:
        with pytest.raises(UndecodableImageError, match=reason):
            decode(content)
    else:
        expected = levels if photometric else 255 - levels
        np.testing.assert_array_equal(decode(content)[0], expected)


def animation(kind: str) -> bytes:
    first, *others = (Image.new("RGB", (8, 8), color) for color in (RED, BLUE, GREEN))
    return encode(first, kind, save_all=True, append_images=others)


def bomb(side: int) -> bytes:
    """Return a PNG file that is small and claims ``side`` x ``side`` pixels."""
    content = bytearray(encode(Image.new("1", (8, 8)), "PNG"))
    content[16:24] = side.to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize(
    ("content", "reason"),
    [
        *((animation(k), "^animated: more") for k in ("GIF", "PNG", "WEBP", "TIFF")),
        (b"This is not an image.\n" * 9, "^not an image of a known format .*PNG"),
        (b"", "zero bytes"),
        (b"\xff\xd8\xff\xdb", "ends before its pixels"),
        *(
            (encode(picture(16, 16), kind), "not an image of a known")
            for kind in ("PPM", "TGA", "ICO", "PCX", "EPS")
        ),
        (bomb(11_000), "11000 x"),
        (bomb(60_000), f"{60_000**2} pixels"),
    ],
)
def test_what_is_no_picture_of_bounded_size_is_refused(
    content: bytes, reason: str
) -> None:
    with pytest.raises(UndecodableImageError, match=reason):
        decode(content, max_pixels=10**8)


def test_the_first_picture_of_a_camera_s_several_is_decoded() -> None:
    pictures = [halves(), picture()]
    content = encode(pictures[0], "MPO", save_all=True, append_images=pictures[1:])
    with Image.open(io.BytesIO(content)) as opened:
        assert (opened.format, opened.n_frames) == ("MPO", 2)
    np.testing.assert_array_equal(decode(content), decode(encode(halves(), "JPEG")))


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_truncated_file_is_refused(kind: str, share: float) -> None:
    content = encode(picture(64, 64), kind)
    with pytest.raises(UndecodableImageError, match=r"\w+") as caught:
        decode(content[: int(len(content) * share)])
    assert "\n" not in str(caught.value)


def test_odd_metadata_and_large_images_give_no_warning(tmp_path: Path) -> None:
    """In a process of its own: pytest has filters of its own."""
    (tmp_path / "large").write_bytes(bomb(11_000))
    (tmp_path / "odd").write_bytes(overlapping_tags(20, 5_000))
    lines = (
        "import sys, pathlib",
        "from lct_pipeline.datasets.decoding import UndecodableImageError, decode_pixels",
        "for path in pathlib.Path(sys.argv[1]).iterdir():",
        "    try: decode_pixels(path.read_bytes(), min_side=1, max_pixels=2 * 10**8)",
        "    except UndecodableImageError as problem: print(path.name, problem)",
    )
    code = "\n".join(lines)
    command = [sys.executable, "-W", "error", "-c", code, str(tmp_path)]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stderr == ""
    assert "large image file is truncated" in done.stdout
    assert "Warning" not in done.stdout


def test_the_size_is_that_of_the_whole_upright_image() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    content = encode(picture(20, 12), "PNG", exif=exif)
    found = decode_image(content, size=8, min_side=1, max_pixels=10**6)
    assert (found.width, found.height) == (12, 20)
    whole = decode_pixels(content, min_side=1, max_pixels=240)
    turned = picture(20, 12).transpose(Image.Transpose.ROTATE_270)
    np.testing.assert_array_equal(whole, channels_first(turned))


@pytest.mark.parametrize("kind", ["zTXt", "iCCP", "iTXt"])
def test_metadata_of_a_png_that_inflate_a_thousandfold_stay_bounded(kind: str) -> None:
    packed = zlib.compress(bytes(100 * 2**20))
    heads = {"zTXt": b"a\0\0", "iCCP": b"a\0\0", "iTXt": b"a\0\1\0\0\0"}
    content = encode(picture(), "PNG")
    bomb = content[:33] + png_chunk(kind.encode(), heads[kind] + packed) + content[33:]

    def attempt() -> None:
        with suppress(UndecodableImageError):
            np.testing.assert_array_equal(decode(bomb), channels_first(picture()))

    assert traced(attempt)[1] < 20


def overlapping_tags(count: int, num_bytes: int) -> bytes:
    """Return a TIFF structure with tags that all claim the same bytes, which are there."""
    first_value = 8 + 2 + 12 * count + 4
    tags = (
        struct.pack("<HHII", 40_000 + n, 1, num_bytes, first_value)
        for n in range(count)
    )
    head = struct.pack("<2sHIH", b"II", 42, 8, count)
    return head + b"".join(tags) + bytes(4 + num_bytes)


@pytest.mark.filterwarnings("ignore::UserWarning")
@pytest.mark.parametrize("kind", ["TIFF", "JPEG", "PNG", "WEBP"])
def test_tags_that_claim_the_same_bytes_over_and_over_stay_bounded(kind: str) -> None:
    """A thousand tags of 60 kB each would be 60 MB out of 72 kB."""
    tags = overlapping_tags(1000, 50_000)
    image = Image.new("RGB", (8, 8), RED)
    content = tags if kind == "TIFF" else encode(image, kind, exif=b"Exif\0\0" + tags)

    def attempt() -> None:
        with suppress(UndecodableImageError):
            decode(content)

    assert traced(attempt)[1] < 10


@pytest.mark.filterwarnings("ignore:::PIL")
@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF"])
def test_damaged_bytes_are_decoded_or_refused_and_nothing_else(kind: str) -> None:
    content, rng = encode(picture(24, 24), kind), np.random.default_rng(0)
    refused = 0
    for _ in range(150):
        damaged = bytearray(content)
        for place in rng.integers(2, len(content) // 2, rng.integers(1, 12)):
            damaged[place] = rng.integers(256)
        try:
            assert decode(bytes(damaged)).shape == (3, 8, 8)
        except UndecodableImageError as problem:
            refused += 1
            assert 0 < len(str(problem)) <= 200
    assert refused > 0


def segment(marker: int, data: bytes) -> bytes:
    return bytes([0xFF, marker]) + struct.pack(">H", len(data) + 2) + data


def file_pixels(content: bytes) -> np.ndarray:
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
    content = encode(picture(40, 30).convert(mode), "JPEG", **options)
    stripped = strip_jpeg_metadata(content)
    np.testing.assert_array_equal(file_pixels(stripped), file_pixels(content))
    assert len(stripped) <= len(content) - len(options.get("icc_profile", b""))


def test_only_the_first_exif_segment_is_kept() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    content = encode(picture(), "JPEG", exif=exif)
    more = [
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
        assert image.getexif()[ORIENTATION] == 6


def test_filling_bytes_between_segments_are_passed_over() -> None:
    content = encode(picture(40, 30), "JPEG")
    table = content.index(b"\xff\xdb")
    filled = content[:table] + b"\xff\xff\xff" + content[table:]
    np.testing.assert_array_equal(
        file_pixels(strip_jpeg_metadata(filled)), file_pixels(content)
    )


def test_a_progressive_file_of_many_scans_is_refused() -> None:
    content = encode(picture(40, 30), "JPEG", progressive=True)
    last_scan = content.rindex(b"\xff\xda")
    scan = content[last_scan:-2]
    few = content[:last_scan] + scan * 400 + content[-2:]
    many = content[:last_scan] + scan * 600 + content[-2:]
    assert strip_jpeg_metadata(few).endswith(scan + content[-2:])
    with pytest.raises(UndecodableImageError, match="more than 500 scans"):
        strip_jpeg_metadata(many)


def test_many_segments_are_not_joined_again_and_again() -> None:
    """Half a megabyte of one-byte EXIF segments, of which one is kept."""
    content = encode(picture(), "JPEG")
    many = content[:2] + segment(0xE1, b"Exif\0\0x") * 50_000 + content[2:]
    stripped, peak = traced(lambda: strip_jpeg_metadata(many))
    assert len(stripped) == len(content) + 11
    assert peak < 1
