"""From files of any kind to squares of RGB pixels."""

import io
import zlib
from typing import Any

import numpy as np
import pytest
from PIL import Image

from lct_pipeline.datasets.decoding import UndecodableImageError, decode_image

ORIENTATION = 0x0112
RED, GREEN, BLUE, WHITE = (200, 20, 30), (10, 180, 40), (5, 60, 220), (255, 255, 255)


def encode(image: Image.Image, kind: str, **options: Any) -> bytes:
    buffer = io.BytesIO()
    image.save(buffer, kind, **options)
    return buffer.getvalue()


def decode(
    content: bytes | np.ndarray, size: int = 8, max_pixels: int = 10**6
) -> np.ndarray:
    return decode_image(content, size=size, max_pixels=max_pixels)


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


def test_the_first_frame_of_an_animation_is_taken() -> None:
    frames = [Image.new("RGB", (8, 8), color) for color in (RED, BLUE)]
    content = encode(frames[0], "GIF", save_all=True, append_images=frames[1:])
    assert_plain(decode(content), RED, within=8)


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
    with pytest.raises(UndecodableImageError, match="empty or unreadable"):
        decode(b"")


def test_too_many_pixels_are_refused_before_they_are_decoded(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(_self: Image.Image) -> None:
        raise AssertionError("decoded")

    content = encode(Image.new("L", (100, 50)), "PNG")
    monkeypatch.setattr("PIL.PngImagePlugin.PngImageFile.load", refuse)
    with pytest.raises(UndecodableImageError, match="100 x 50 pixels, more than 4999"):
        decode(content, max_pixels=4999)


def test_as_many_pixels_as_allowed_are_decoded() -> None:
    assert decode(encode(Image.new("L", (100, 50)), "PNG"), max_pixels=5000).shape


def test_a_decompression_bomb_is_refused() -> None:
    content = bytearray(encode(Image.new("1", (8, 8)), "PNG"))
    content[16:24] = (60_000).to_bytes(4, "big") * 2
    content[29:33] = zlib.crc32(content[12:29]).to_bytes(4, "big")
    with pytest.raises(UndecodableImageError, match="3600000000 pixels"):
        decode(bytes(content), max_pixels=10**8)
