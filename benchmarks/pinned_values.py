"""The values of a run that another version of the code has to give again, and their comparison.

They are read from the files that the run left, without the project's code, so that two versions
may differ in their modules. Times do not count, nor do a tensor file's metadata and whatever else
depends on the names of parameters.
"""

from __future__ import annotations

import hashlib
import json
import math
import mmap
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import pyarrow as pa
import pyarrow.parquet as pq

CHANGELOG = Path(__file__).parents[1] / "CHANGELOG.md"
# JSON files with results; the others are charts, indices and descriptions
RECORDS = {
    "combination.json",
    "copying.json",
    "evaluation.json",
    "reconstruction_quality.json",
    "sampling_plans.json",
}
COPIES = {"evaluation.parquet"}  # of the rows of evaluation.json
# times, sentences, the run's name, digests, and what describes parameters and libraries
IGNORED = re.compile(
    r".*digests?|.*seconds|.*per_second|bytes|parameters|protocol|run|verdict|versions"
)
ROW_NAMES = ("model", "nfe", "solver", "metric", "extractor", "reference")
KINDS = ("same", "changed", "missing", "new")

Pins = dict[str, dict[str, Any]]  # by file, then by tensor, column or entry


@cache
def new_names() -> dict[str, dict[str, str]]:
    """Return old names with new ones, whole words, by the file that has them, or "all".

    They are those of files, columns and entries in the table that the CHANGELOG has of them.
    """
    _, table = CHANGELOG.read_text().split("| result | before | now |")
    names: dict[str, dict[str, str]] = {}
    for row in table.partition("\n\n")[0].splitlines()[2:]:
        file, before, now = re.findall(r"[\w./-]+", row)
        names.setdefault(file, {})[before] = now
    return names


class Comparison(NamedTuple):
    """A pinned value in two versions: which of ``KINDS`` it is, and what changed."""

    file: str
    name: str
    kind: str
    what: str = ""


def pinned_values(data: Path) -> Pins:
    """Return the values of the one run that a data folder has.

    A file's name begins below the folder of the run, or of its images, latents or features:
    ``data/06_models/<name>/search/state.safetensors`` is ``search/state.safetensors``. So neither
    names that depend on parameters nor layers count.

    Raises:
        ValueError: Two files have the same name.
    """
    pins: Pins = {}
    for folder in sorted(data.glob("0[2-8]_*/*/")):
        for name, values in files(folder):
            if name in pins:
                raise ValueError(f"{data} has {name} twice")
            pins[name] = values
    return dict(sorted(pins.items()))


def files(folder: Path) -> Iterator[tuple[str, dict[str, Any]]]:
    """Yield names and values of the files below a folder; the parts of a table are one table."""
    tables: dict[str, list[Path]] = {}
    for path in sorted(path for path in folder.rglob("*") if path.is_file()):
        name = path.relative_to(folder).as_posix()
        if path.suffix == ".safetensors":
            yield name, tensor_digests(path)
        elif path.name in RECORDS:
            yield name, entries(json.loads(path.read_text()))
        elif path.suffix == ".parquet":
            tables.setdefault(table_name(name), []).append(path)
    for name in tables.keys() - COPIES:
        yield name, columns(tables[name])


def table_name(name: str) -> str:
    """Return ``a.parquet`` for ``a/part-7.parquet`` and ``a.parquet/<version>/a.parquet`` too."""
    return re.sub(r"(/part-\d+)?\.parquet(/.*)?$", "", name) + ".parquet"


def tensor_digests(path: Path) -> dict[str, str]:
    """Return a SHA-256 of type, shape and values of each tensor of a safetensors file."""
    with (
        path.open("rb") as file,
        mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ) as mapped,
        memoryview(mapped) as content,
    ):
        start = 8 + int.from_bytes(content[:8], "little")
        header = json.loads(bytes(content[8:start]))
        header.pop("__metadata__", None)
        digests = {}
        for name, entry in sorted(header.items()):
            first, last = (start + offset for offset in entry["data_offsets"])
            digest = hashlib.sha256(f"{entry['dtype']} {entry['shape']} ".encode())
            digest.update(content[first:last])
            digests[name] = digest.hexdigest()
    return digests


def columns(paths: list[Path]) -> dict[str, Any]:
    """Return the columns of a Parquet table in parts, or of the last of its versions."""
    is_versioned = paths[0].parent.parent.suffix == ".parquet"
    parts = [pq.read_table(path) for path in (paths[-1:] if is_versioned else paths)]
    table = pa.concat_tables(parts, promote_options="permissive")
    return {
        name: plain(values)
        for name, values in table.to_pydict().items()
        if not IGNORED.fullmatch(name)
    }


def entries(record: dict[str, Any]) -> dict[str, Any]:
    """Return the values of a JSON file by dotted name.

    Raises:
        ValueError: Two rows are of the same.
    """
    found: dict[str, Any] = {}
    for name, value in leaves(record):
        if name in found:
            raise ValueError(f"two values are {name}")
        found[name] = value
    return found


def leaves(value: Any, name: str = "") -> Iterator[tuple[str, Any]]:
    """Yield names and values; a row is named by what it is of, a list of numbers is one value."""
    if isinstance(value, dict):
        for key, part in value.items():
            if not IGNORED.fullmatch(key):
                yield from leaves(part, f"{name}.{key}" if name else key)
    elif isinstance(value, list) and value and isinstance(value[0], dict):
        for number, row in enumerate(value):
            of = [str(row[key]) for key in ROW_NAMES if row.get(key) is not None]
            yield from leaves(row, f"{name}[{', '.join(of) or number}]")
    else:
        yield name, plain(value)


def plain(value: Any) -> Any:
    """Return a value as JSON has it; NaN is None, which tables do not tell apart."""
    if isinstance(value, list):
        return [plain(part) for part in value]
    if isinstance(value, float):
        return None if math.isnan(value) else value
    return value if isinstance(value, int | None) else str(value)


def compared(old: Pins, new: Pins) -> list[Comparison]:
    """Return how each value of two versions compares, both under the names of today."""
    old, new = renamed(old), renamed(new)
    return [
        Comparison(file, name, *change(before, after, name))
        for file in sorted({*old, *new})
        for before, after in [(old.get(file, {}), new.get(file, {}))]
        for name in {**before, **after}
    ]


def renamed(pins: Pins) -> Pins:
    """Return pinned values with the names that they have today."""
    names = new_names()
    return {
        in_new_words(file, names["all"]): in_new_words(
            values, names["all"] | names.get(file, {})
        )
        for file, values in pins.items()
    }


def in_new_words(value: Any, names: dict[str, str]) -> Any:
    """Return a value with its words and those of its entries as ``names`` has them."""
    if isinstance(value, dict):
        return {
            in_new_words(key, names): in_new_words(part, names)
            for key, part in value.items()
        }
    if isinstance(value, list):
        return [in_new_words(part, names) for part in value]
    if not isinstance(value, str):
        return value
    words = "|".join(map(re.escape, names))
    return re.sub(rf"\b({words})\b", lambda word: names[word[0]], value)


def change(before: dict[str, Any], after: dict[str, Any], name: str) -> tuple[str, str]:
    """Return which of ``KINDS`` a value is, and what changed."""
    if name not in after:
        return "missing", ""
    if name not in before:
        return "new", ""
    if before[name] == after[name]:
        return "same", ""
    return "changed", in_text(before[name], after[name])


def in_text(before: Any, after: Any) -> str:
    """Return two values, or how many of a column's differ and the first that do."""
    if not (isinstance(before, list) and isinstance(after, list)):
        return f"{shown(before)} -> {shown(after)}"
    if len(before) != len(after):
        return f"{len(before)} -> {len(after)} values"
    pairs = zip(before, after, strict=True)
    rows = [row for row, (a, b) in enumerate(pairs) if a != b]
    first = in_text(before[rows[0]], after[rows[0]])
    return f"{len(rows)} of {len(before)}, first row {rows[0]}: {first}"


def shown(value: Any) -> str:
    """Return a value as it is printed: digests shortened, numbers in full."""
    is_digest = isinstance(value, str) and re.fullmatch("[0-9a-f]{64}", value)
    return value[:12] if is_digest else repr(value)
