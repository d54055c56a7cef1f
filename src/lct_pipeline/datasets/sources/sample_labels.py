"""The label of a WebDataset's sample, from the members beside its image."""

from __future__ import annotations

import json
import tarfile
from typing import Any

from lct_pipeline.datasets.sources.base import SourceOptions
from lct_pipeline.datasets.sources.labels import LONGEST_LABEL
from lct_pipeline.datasets.sources.tar_stream import LARGEST_HEADER


class SampleLabels:
    """What the members of one sample say about its label.

    Args:
        options: With ``labels: folders``, ``.cls`` comes before ``label`` and ``cls`` of
            ``.json``; with ``column`` it is ``label_column`` of ``.json``; else nothing is read.
    """

    def __init__(self, options: SourceOptions) -> None:
        self._keys = {"folders": ("label", "cls"), "column": (options.label_column,)}
        self._suffixes = {"folders": (".cls", ".json"), "column": (".json",)}
        self._labels = options.labels
        self._found: dict[str, str] = {}

    def may_be_in(self, member: tarfile.TarInfo) -> bool:
        """Return whether a member is to be read for a label."""
        suffix = _suffix(member.name)
        is_asked_for = suffix in self._suffixes.get(self._labels, ())
        return is_asked_for and member.isreg() and member.size <= LARGEST_HEADER

    def add(self, name: str, content: bytes) -> None:
        """Read a member."""
        suffix = _suffix(name)
        try:
            text = content.decode()
            value = text.strip() if suffix == ".cls" else self._value(json.loads(text))
        except (ValueError, RecursionError):
            return
        if isinstance(value, str | int) and 0 < len(str(value)) <= LONGEST_LABEL:
            self._found.setdefault(suffix, str(value))

    def _value(self, about: Any) -> Any:
        """Return the label in the values of a ``.json``."""
        if not isinstance(about, dict):
            return None
        keys = self._keys[self._labels]
        return next((about[key] for key in keys if key in about), None)

    @property
    def chosen(self) -> str | None:
        """The label that comes first, None if there is none."""
        return self._found.get(".cls", self._found.get(".json"))


def _suffix(name: str) -> str:
    return f".{name.rpartition('.')[2].lower()}"
