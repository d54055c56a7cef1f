"""From files of any kind to squares of RGB pixels."""

import io
import struct
import subprocess
import sys
import tracemalloc
import zipfile
import zlib
from collections.abc import Callable
from contextlib import suppress
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lct_pipeline.datasets.decoding import (
    UndecodableImageError,
    decode_image,
    decode_pixels,
)
from lct_pipeline.processes.mapping import in_threads

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


def test_pixels_are_contiguous_bytes_channels_first() -> None:
    pixels = decode(encode(picture(), "PNG"))
    assert (pixels.shape, pixels.dtype) == ((3, 8, 8), np.uint8)
    assert pixels.flags.c_contiguous


@pytest.mark.parametrize("kind", ["PNG", "BMP", "TIFF"])
def test_a_lossless_file_of_the_right_size_is_not_changed(kind: str) -> None:
    pixels = decode(encode(picture(), kind))
    np.testing.assert_array_equal(pixels, channels_first(picture()))


def test_a_lossless_webp_is_not_changed() -> None:
    pixels = decode(encode(picture(), "WEBP", lossless=True))
    np.testing.assert_array_equal(pixels, channels_first(picture()))


def test_a_jpeg_keeps_its_colour() -> None:
    content = encode(Image.new("RGB", (16, 16), RED), "JPEG", quality=95)
    assert_plain(decode(content), RED, within=3)


def test_a_grey_image_has_three_equal_channels() -> None:
    image = picture().convert("L")
    pixels = decode(encode(image, "PNG"))
    np.testing.assert_array_equal(pixels, np.stack([np.asarray(image)] * 3))


def test_a_bilevel_image_is_black_and_white() -> None:
    image = Image.new("1", (8, 8), 1)
    image.putpixel((0, 0), 0)
    pixels = decode(encode(image, "PNG"))
    assert pixels[:, 0, 0].tolist() == [0, 0, 0]
    assert pixels[:, 1:].min() == 255


def test_grey_pixels_of_an_array_are_taken_as_they_are() -> None:
    grey = np.arange(64, dtype=np.uint8).reshape(8, 8) * 4
    np.testing.assert_array_equal(decode(grey), np.stack([grey] * 3))


def test_transparent_entries_of_a_palette_are_white() -> None:
    image = Image.new("P", (8, 8), 0)
    image.putpalette([*RED, *BLUE])
    image.paste(1, (0, 4, 8, 8))
    pixels = decode(encode(image, "PNG", transparency=0))
    assert pixels[:, 0, 0].tolist() == list(WHITE)
    assert pixels[:, 7, 7].tolist() == list(BLUE)


def test_a_palette_without_transparency_keeps_its_colours() -> None:
    image = Image.new("P", (8, 8), 1)
    image.putpalette([*RED, *BLUE])
    assert_plain(decode(encode(image, "PNG")), BLUE)


@pytest.mark.parametrize("kind", ["PNG", "TIFF"])
def test_alpha_is_composed_over_white(kind: str) -> None:
    image = Image.new("RGBA", (8, 8), (*RED, 255))
    image.paste((*BLUE, 0), (0, 0, 8, 4))
    image.paste((0, 0, 0, 51), (0, 6, 8, 8))
    pixels = decode(encode(image, kind))
    assert pixels[:, 0, 0].tolist() == list(WHITE)
    assert pixels[:, 5, 0].tolist() == list(RED)
    assert pixels[:, 7, 0].tolist() == [204, 204, 204]


def test_grey_with_alpha_is_composed_over_white() -> None:
    image = Image.new("LA", (8, 8), (100, 255))
    image.paste((0, 0), (0, 0, 8, 4))
    pixels = decode(encode(image, "PNG"))
    assert pixels[:, 0, 0].tolist() == [255, 255, 255]
    assert pixels[:, 7, 7].tolist() == [100, 100, 100]


def test_a_transparent_colour_of_an_rgb_png_is_white() -> None:
    image = halves()
    pixels = decode(encode(image, "PNG", transparency=RED))
    assert pixels[:, 0, 0].tolist() == list(WHITE)
    assert pixels[:, 7, 7].tolist() == list(BLUE)


@pytest.mark.parametrize("value", [0, 1, 127, 128, 254, 255])
def test_16_bit_grey_maps_each_multiple_of_257_to_its_level(value: int) -> None:
    image = Image.fromarray(np.full((8, 8), value * 257, np.uint16))
    content = encode(image, "PNG")
    assert content[24] == 16  # bits of the PNG header
    assert_plain(decode(content), (value,) * 3)


def test_16_bit_grey_is_rounded_to_the_nearest_level() -> None:
    values = np.array([128, 129, 32_767, 65_535], np.uint16).repeat(16)
    pixels = decode(encode(Image.fromarray(values.reshape(8, 8)), "PNG"))
    assert pixels[0, ::2, 0].tolist() == [0, 1, 127, 255]


def test_a_cmyk_jpeg_has_its_rgb_colours() -> None:
    image = Image.new("CMYK", (16, 16), (0, 255, 255, 0))
    content = encode(image, "JPEG", quality=95)
    with Image.open(io.BytesIO(content)) as opened:
        assert opened.mode == "CMYK"
    assert_plain(decode(content), (255, 0, 0), within=4)


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


def test_a_rotated_jpeg_equals_the_rotated_image() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    pixels = decode(encode(halves(), "JPEG", exif=exif, quality=95, subsampling=0))
    assert np.abs(pixels[:, 0, 7].astype(int) - RED).max() <= 8
    assert np.abs(pixels[:, 7, 0].astype(int) - BLUE).max() <= 8
    upright = decode(encode(halves(), "JPEG", quality=95, subsampling=0))
    np.testing.assert_array_equal(pixels, upright[:, ::-1].transpose(0, 2, 1))


@pytest.mark.parametrize("upright", [False, True])
def test_the_centre_of_an_oblong_image_is_kept(upright: bool) -> None:
    image = Image.new("RGB", (24, 8), RED)
    image.paste(GREEN, (8, 0, 16, 8))
    if upright:
        image = image.transpose(Image.Transpose.ROTATE_90)
    assert_plain(decode(encode(image, "PNG")), GREEN)


def test_a_larger_image_is_averaged_not_sampled() -> None:
    stripes = np.zeros((64, 64), np.uint8)
    stripes[:, ::2] = 255
    pixels = decode(encode(Image.fromarray(stripes), "PNG"))
    assert 118 <= pixels.min() <= pixels.max() <= 138


def test_a_smaller_image_is_enlarged() -> None:
    image = Image.new("RGB", (2, 2), RED)
    image.paste(BLUE, (0, 1, 2, 2))
    pixels = decode(encode(image, "PNG"), size=16)
    assert pixels.shape == (3, 16, 16)
    # bicubic overshoots beside an edge
    assert np.abs(pixels[:, 0, 0].astype(int) - RED).max() <= 25
    assert np.abs(pixels[:, 15, 15].astype(int) - BLUE).max() <= 25


def test_a_single_pixel_fills_the_square() -> None:
    assert_plain(decode(encode(Image.new("RGB", (1, 1), RED), "PNG")), RED)


@pytest.mark.parametrize("kind", ["GIF", "PNG", "WEBP"])
def test_an_animation_is_refused_with_its_number_of_frames(kind: str) -> None:
    colors = (RED, BLUE, GREEN)
    first, *others = (Image.new("RGB", (8, 8), color) for color in colors)
    content = encode(first, kind, save_all=True, append_images=others)
    with pytest.raises(UndecodableImageError, match=r"^animated: 3 frames$"):
        decode(content)


def test_a_tiff_of_several_pages_is_refused() -> None:
    pages = [picture(), picture()]
    content = encode(pages[0], "TIFF", save_all=True, append_images=pages[1:])
    with pytest.raises(UndecodableImageError, match="animated: several frames"):
        decode(content)


def test_a_gif_of_one_frame_is_decoded() -> None:
    assert_plain(decode(encode(Image.new("RGB", (8, 8), RED), "GIF")), RED, within=8)


def test_the_first_picture_of_a_camera_s_several_is_decoded() -> None:
    pictures = [halves(), picture()]
    content = encode(pictures[0], "MPO", save_all=True, append_images=pictures[1:])
    with Image.open(io.BytesIO(content)) as opened:
        assert (opened.format, opened.n_frames) == ("MPO", 2)
    np.testing.assert_array_equal(decode(content), decode(encode(halves(), "JPEG")))


def test_text_named_as_an_image_is_refused() -> None:
    with pytest.raises(
        UndecodableImageError, match=r"^not an image of a known format$"
    ):
        decode(b"This is not an image.\n" * 9)


@pytest.mark.parametrize("kind", ["JPEG", "PNG", "WEBP", "GIF"])
@pytest.mark.parametrize("share", [0.5, 0.9])
def test_a_truncated_file_is_refused(kind: str, share: float) -> None:
    content = encode(picture(64, 64), kind)
    with pytest.raises(UndecodableImageError, match=r"\w+") as caught:
        decode(content[: int(len(content) * share)])
    assert "\n" not in str(caught.value)


def test_no_bytes_are_refused() -> None:
    with pytest.raises(UndecodableImageError, match="zero bytes"):
        decode(b"")


def test_too_many_pixels_are_refused_before_they_are_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_self: Image.Image) -> None:
        raise AssertionError("decoded")

    content = encode(Image.new("L", (100, 50)), "PNG")
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", refuse)
    with pytest.raises(
        UndecodableImageError, match=r"100 x 50 pixels, more than .*4999"
    ):
        decode(content, max_pixels=4999)


def test_as_many_pixels_as_allowed_are_decoded() -> None:
    assert decode(encode(Image.new("L", (100, 50)), "PNG"), max_pixels=5000).shape


def bomb(side: int) -> bytes:
    """Return a PNG file that is small and claims ``side`` x ``side`` pixels."""
    content = bytearray(encode(Image.new("1", (8, 8)), "PNG"))
    content[16:24] = side.to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    return bytes(content)


@pytest.mark.filterwarnings("ignore::PIL.Image.DecompressionBombWarning")
@pytest.mark.parametrize("side", [11_000, 60_000])
def test_a_decompression_bomb_is_refused(side: int) -> None:
    with pytest.raises(UndecodableImageError, match=rf"11000 x|{side**2} pixels"):
        decode(bomb(side), max_pixels=10**8)


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


@pytest.mark.parametrize("size", [(7, 30), (30, 7)])
def test_an_image_below_the_shortest_side_is_refused(size: tuple[int, int]) -> None:
    content = encode(picture(*size), "PNG")
    with pytest.raises(UndecodableImageError, match=r"7 pixels|7 x 30.*below 8"):
        decode(content, min_side=8)
    assert decode(content, min_side=7).shape == (3, 8, 8)


def test_other_formats_that_pillow_knows_are_not_opened() -> None:
    for kind in ("PPM", "TGA", "ICO", "PCX", "EPS"):
        with pytest.raises(UndecodableImageError, match="not an image of a known"):
            decode(encode(picture(16, 16), kind))


def test_a_zip_is_no_image() -> None:
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:
        archive.writestr("picture.png", encode(picture(), "PNG"))
    with pytest.raises(UndecodableImageError, match="not an image of a known format"):
        decode(buffer.getvalue())


def test_the_size_is_that_of_the_whole_upright_image() -> None:
    exif = Image.Exif()
    exif[ORIENTATION] = 6
    content = encode(picture(20, 12), "PNG", exif=exif)
    found = decode_image(content, size=8, min_side=1, max_pixels=10**6)
    assert (found.width, found.height) == (12, 20)
    assert found.pixels.shape == (3, 8, 8)


def test_a_whole_image_is_neither_cropped_nor_resized() -> None:
    pixels = decode_pixels(encode(picture(20, 12), "PNG"), min_side=1, max_pixels=240)
    np.testing.assert_array_equal(pixels, channels_first(picture(20, 12)))


def test_colours_of_an_array_are_taken_as_they_are() -> None:
    np.testing.assert_array_equal(
        decode(np.asarray(picture())), channels_first(picture())
    )


def test_many_threads_decode_as_one_does() -> None:
    kinds = {"JPEG": {}, "PNG": {}, "WEBP": {"lossless": True}, "GIF": {}, "TIFF": {}}
    contents = [encode(picture(40, 30), kind, **o) for kind, o in kinds.items()] * 20
    expected = [decode(content) for content in contents]
    found = list(in_threads(decode, contents, num_workers=8))
    np.testing.assert_array_equal(np.stack(found), np.stack(expected))


def peak_mebibytes(work: Callable[[], object]) -> float:
    """Return how much more Python's memory was at its peak, which is where bytes are kept."""
    tracemalloc.start()
    before = tracemalloc.get_traced_memory()[0]
    try:
        work()
    finally:
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
    return (peak - before) / 2**20


def chunk(kind: bytes, data: bytes) -> bytes:
    checksum = zlib.crc32(kind + data).to_bytes(4, "big")
    return len(data).to_bytes(4, "big") + kind + data + checksum


@pytest.mark.parametrize("kind", ["zTXt", "iCCP", "iTXt"])
def test_metadata_of_a_png_that_inflate_a_thousandfold_stay_bounded(kind: str) -> None:
    packed = zlib.compress(bytes(100 * 2**20))
    heads = {"zTXt": b"a\0\0", "iCCP": b"a\0\0", "iTXt": b"a\0\1\0\0\0"}
    content = encode(picture(), "PNG")
    bomb = content[:33] + chunk(kind.encode(), heads[kind] + packed) + content[33:]

    def attempt() -> None:
        with suppress(UndecodableImageError):
            np.testing.assert_array_equal(decode(bomb), channels_first(picture()))

    assert peak_mebibytes(attempt) < 20


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

    assert peak_mebibytes(attempt) < 10


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
