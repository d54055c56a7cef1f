"""What checkpoints of other trainers say beside their tensors, without which these mean little.

Scale and ranks of a LoRA adapter, for instance, stand in the header of its file, or in a JSON file
beside it.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from safetensors import SafetensorError, safe_open

from lct_pipeline.datasets.weight_files import unreadable
from lct_pipeline.given_files import regular_file
from lct_pipeline.parameters import first_difference

# beside a file of weights: what PEFT and diffusers need to use it
CONFIGURATIONS = ("adapter_config.json", "config.json")
# what may differ between checkpoints of one training, and holds for no combination of them
PROGRESS = re.compile(
    r"(^|[_.])(steps?|epochs?|iter(ation)?s?|time(stamp)?|date|hash(_sha256)?|loss|metrics?|"
    r"score|training_info|seed|uuid|title|session_id|[a-z]+_at)$"
)
NO_MEANING = re.compile(r"^_|version$")


def said_by(paths: tuple[Path, ...]) -> dict[str, str]:
    """Return what files say beside their tensors: texts of the header, and of JSON beside them.

    Such as scale and ranks of a LoRA adapter, without which its tensors mean another model.

    Args:
        paths: What :func:`weight_paths` gives.
    """
    path, said = (paths[1:] or paths)[0], dict[str, str]()
    try:
        if path.suffix == ".safetensors":
            with safe_open(path, "pt") as file:
                said = dict(file.metadata() or {})
        for name in CONFIGURATIONS:
            if (path.parent / name).is_file():
                beside = regular_file(path.parent / name)
                said[name] = beside.read_text(encoding="utf-8")
    except (OSError, ValueError, SafetensorError) as error:
        raise unreadable(path, error) from error
    return said


def without_progress(said: Mapping[str, str]) -> dict[str, str]:
    """Return what a checkpoint says that holds for all of its training, and their combinations."""
    return {name: text for name, text in said.items() if not PROGRESS.search(name)}


def _ordered(text: str) -> Any:
    """Return JSON with the texts of lists sorted, without paths and versions; or the text."""

    def order(value: Any) -> Any:
        if isinstance(value, dict):
            return {k: order(v) for k, v in value.items() if not NO_MEANING.search(k)}
        if isinstance(value, list):
            is_set = all(isinstance(item, str) for item in value)  # as PEFT writes sets
            return sorted(value) if is_set else [order(item) for item in value]
        return value

    try:
        return order(json.loads(text))
    except (ValueError, RecursionError):
        return text


def difference_of_meaning(
    one: Mapping[str, str], other: Mapping[str, str]
) -> str | None:
    """Return the first difference in what holds for all of a training; None where there is none."""
    first, second = (
        {name: _ordered(text) for name, text in without_progress(each).items()}
        for each in (one, other)
    )
    return first_difference(first, second)
