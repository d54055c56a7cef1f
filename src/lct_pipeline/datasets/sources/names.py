"""Names of entries: which are images, which are hidden, and which would lead outside."""

from __future__ import annotations

import glob
import ntpath
import re

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")

LONGEST_NAME = 500  # characters; every one is a row of the manifest

_BRACES = re.compile(r"\{([^{}]*)\}")
_RANGE = re.compile(r"(\d+)\.\.(\d+)")


def is_image_name(name: str) -> bool:
    """Return whether a file with this name is taken for an image."""
    return name.lower().endswith(SUFFIXES) and not is_hidden(name)


def is_hidden(name: str) -> bool:
    """Return whether a part of a name begins with a dot, or is what macOS adds to archives."""
    return any(
        part.startswith((".", "__MACOSX")) and part not in {".", ".."}
        for part in name.split("/")
    )


def refused_name(name: str) -> str | None:
    """Return why a member of an archive is refused by its name alone, or None.

    Its name leads outside of any folder, or has more than 500 characters.
    """
    if len(name) > LONGEST_NAME:
        return f"its name has {len(name)} characters, more than {LONGEST_NAME}"
    drive, path = ntpath.splitdrive(name)  # / and \ separate: stricter than Unix
    if drive or path.startswith(("/", "\\")):
        return "its name is absolute, or begins with a drive letter"
    if ".." in re.split(r"[/\\]", path):
        return "its name leads out of the archive by '..'"
    return None


def folder_of(name: str) -> str | None:
    """Return the folder that an entry lies in, None at the top."""
    folder, _, _ = name.rpartition("/")
    return folder.rpartition("/")[2] or None


def readable(name: str) -> str:
    r"""Return a name that can be written: bytes that are no UTF-8 become ``\udc..``, and cut."""
    return name.encode("utf-8", "backslashreplace").decode()[:LONGEST_NAME]


def expand(pattern: str) -> list[str]:
    """Return the names that a pattern stands for, in its order, as ``train-{000..009}.tar``.

    Braces are expanded as shells do, wildcards match what is there. A name without wildcards is
    returned whether or not there is such a file.
    """
    braces = _BRACES.search(pattern)
    if braces is None:
        matches = sorted(glob.glob(pattern, recursive=True))
        return matches if glob.has_magic(pattern) else [pattern]
    before, after = pattern[: braces.start()], pattern[braces.end() :]
    choices = _choices(braces[1])
    return [name for choice in choices for name in expand(before + choice + after)]


def _choices(text: str) -> list[str]:
    """Return what may stand for a pair of braces: the numbers of a range, or a list."""
    limits = _RANGE.fullmatch(text)
    if limits is None:
        return text.split(",")
    numbers = range(int(limits[1]), int(limits[2]) + 1)
    return [str(number).zfill(len(limits[1])) for number in numbers]
