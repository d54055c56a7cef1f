"""What is settled about an image file before Pillow reads it, in time linear in its size.

JPEG files (ITU-T T.81, annex B) can carry far more than one picture: without a look at their
structure, a few mebibytes made for the purpose keep a decoder busy for hours.
"""

from __future__ import annotations

FORMATS = ("JPEG", "PNG", "WEBP", "BMP", "TIFF", "GIF")  # all that Pillow may open

MAX_JPEG_SCANS = 500  # a progressive file has about ten; each is a pass over all pixels

_START_OF_IMAGE = b"\xff\xd8"
_START_OF_SCAN = 0xDA
_END_OF_IMAGE = 0xD9
_EXIF, _ADOBE = 0xE1, 0xEE
# 0xff fills, 0x00 is data, then TEM, RST0 to RST7 and SOI: markers that no length follows
_WITHOUT_LENGTH = {0x00, 0x01, *range(0xD0, 0xD9)}
# application segments and comments: JFIF and Adobe say how colours are stored, the rest is metadata
_METADATA = {*range(0xE1, 0xF0), 0xFE} - {_ADOBE}


class MalformedImageError(Exception):
    """A file breaks the rules of its format; the message is the reason."""


def strip_jpeg_metadata(content: bytes) -> bytes:
    """Return a JPEG file without metadata except its first EXIF segment, which holds the rotation.

    Profiles, comments, thumbnails and further pictures of a camera do not reach Pillow, which joins
    split segments in quadratic time.

    Args:
        content: Bytes that begin as a JPEG file does.

    Raises:
        MalformedImageError: It ends before its pixels, or has more than 500 scans.
    """
    kept, position, has_exif = [_START_OF_IMAGE], 2, False
    while True:
        marker, position = _next_marker(content, position)
        if marker == _START_OF_SCAN:
            break
        end = position + 2 + int.from_bytes(content[position + 2 : position + 4])
        is_exif = marker == _EXIF and content.startswith(b"Exif\0\0", position + 4)
        if marker not in _METADATA or (is_exif and not has_exif):
            kept.append(content[position:end])
        has_exif |= is_exif
        position = end
    if content.count(b"\xff\xda", position) > MAX_JPEG_SCANS:
        raise MalformedImageError(f"more than {MAX_JPEG_SCANS} scans")
    return b"".join([*kept, content[position:]])


def _next_marker(content: bytes, position: int) -> tuple[int, int]:
    """Return the next marker that a segment follows, and where it is; skip what lies before."""
    while 0 <= (position := content.find(b"\xff", position)) < len(content) - 3:
        marker = content[position + 1]
        if marker == _END_OF_IMAGE:
            break
        if marker != 0xFF and marker not in _WITHOUT_LENGTH:
            return marker, position
        position += 1 if marker == 0xFF else 2
    raise MalformedImageError("truncated: it ends before its pixels")
