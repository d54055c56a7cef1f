"""Names of entries: which are images, which are hidden, and which would lead outside."""

from __future__ import annotations

import re
from pathlib import PurePosixPath

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")

LONGEST_NAME = 500  # characters; manifests lie in headers of bounded size

_DRIVE = re.compile(r"^[A-Za-z]:")


def is_image_name(name: str) -> bool:
    """Return whether a file with this name is taken for an image."""
    return name.lower().endswith(SUFFIXES) and not is_hidden(name)


def is_hidden(name: str) -> bool:
    """Return whether a part of a name begins with a dot, or is what macOS adds to archives."""
    parts = PurePosixPath(name).parts
    return any(part.startswith((".", "__MACOSX")) and part != ".." for part in parts)


def refused_name(name: str) -> str | None:
    """Return why a member of an archive is refused by its name alone, or None.

    Its name leads outside of any folder, or has more than 500 characters.
    """
    if len(name) > LONGEST_NAME:
        return f"its name has {len(name)} characters, more than {LONGEST_NAME}"
    if name.startswith(("/", "\\")):
        return "its name is absolute"
    if _DRIVE.match(name):
        return "its name begins with a drive letter"
    if ".." in re.split(r"[/\\]", name):
        return "its name leads out of the archive by '..'"
    return None


def folder_of(name: str) -> str | None:
    """Return the folder that an entry lies in, None at the top."""
    return PurePosixPath(name).parent.name or None


def readable(name: str) -> str:
    r"""Return a name that can be written: bytes that are no UTF-8 become ``\udc..``, and cut."""
    return name.encode("utf-8", "backslashreplace").decode()[:LONGEST_NAME]
