"""Names of entries: which are images, which are hidden, and which would lead outside."""

from __future__ import annotations

import re
from array import array
from collections.abc import Iterable, Sequence
from typing import overload

SUFFIXES = (".jpg", ".jpeg", ".png", ".webp", ".bmp", ".tif", ".tiff", ".gif")

LONGEST_NAME = 500  # characters; manifests lie in headers of bounded size

_DRIVE = re.compile(r"^[A-Za-z]:")


class Names(Sequence[str]):
    """Many names in the bytes of their texts and eight more each."""

    def __init__(self, names: Iterable[str] = ()) -> None:
        self._texts = bytearray()
        self._ends = array("q", [0])
        for name in names:
            self.append(name)

    def append(self, name: str) -> None:
        """Add a name; what is no UTF-8 in it comes back as it was."""
        self._texts += name.encode("utf-8", "surrogatepass")
        self._ends.append(len(self._texts))

    def __len__(self) -> int:
        """Number of names."""
        return len(self._ends) - 1

    @overload
    def __getitem__(self, number: int) -> str: ...

    @overload
    def __getitem__(self, number: slice) -> list[str]: ...

    def __getitem__(self, number: int | slice) -> str | list[str]:
        """Return a name, or those of a slice."""
        if isinstance(number, slice):
            return [self[n] for n in range(*number.indices(len(self)))]
        if not 0 <= number < len(self):
            raise IndexError(number)
        text = self._texts[self._ends[number] : self._ends[number + 1]]
        return text.decode("utf-8", "surrogatepass")


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
    if name.startswith(("/", "\\")):
        return "its name is absolute"
    if _DRIVE.match(name):
        return "its name begins with a drive letter"
    if ".." in re.split(r"[/\\]", name):
        return "its name leads out of the archive by '..'"
    return None


def folder_of(name: str) -> str | None:
    """Return the folder that an entry lies in, None at the top."""
    folder, _, _ = name.rpartition("/")
    return folder.rpartition("/")[2] or None


def readable(name: str) -> str:
    r"""Return a name that can be written: bytes that are no UTF-8 become ``\udc..``, and cut."""
    return name.encode("utf-8", "backslashreplace").decode()[:LONGEST_NAME]
