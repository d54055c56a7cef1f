"""The label of a WebDataset's sample, from the members beside its image."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from lct_pipeline.datasets.sources.base import SourceOptions
from lct_pipeline.datasets.sources.labels import LONGEST_LABEL
from lct_pipeline.datasets.sources.names import readable

LABEL_FILES = (".cls", ".json")  # suffixes


def sample_label(about: dict[str, bytes], options: SourceOptions) -> str | None:
    """Return the label of a sample, None if there is none.

    Args:
        about: Contents of its members by the suffixes ``LABEL_FILES``.
        options: With ``labels: folders``, ``.cls`` comes before ``label`` and ``cls`` of
            ``.json``; with ``column`` it is ``label_column`` of ``.json``; else there is none.
    """
    keys = {"folders": ("label", "cls"), "column": (options.label_column,)}
    fields = _parsed(about.get(".json", b""), json.loads)
    there = fields if isinstance(fields, dict) else {}
    found = [there[key] for key in keys.get(options.labels, ()) if key in there]
    if options.labels == "folders":
        found.insert(0, _parsed(about.get(".cls", b""), str.strip))
    texts = (str(value) for value in found if isinstance(value, str | int))
    usable = (readable(text) for text in texts if 0 < len(text) <= LONGEST_LABEL)
    return next(usable, None)


def _parsed(content: bytes, parse: Callable[[str], Any]) -> Any:
    """Return what a text says, None for what is no text or not of its kind."""
    try:
        return parse(content.decode())
    except (ValueError, RecursionError):
        return None
