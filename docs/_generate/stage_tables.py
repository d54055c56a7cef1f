"""Tables of the stages: their nodes from the pipelines, their files from the catalog."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import yaml
from parameter_tables import breakable

from lct_pipeline.pipeline_registry import STAGES, register_pipelines

ROOT = Path(__file__).parents[2]
BASE = ROOT / "conf" / "base"


def nodes_table(stage: str) -> str:
    """Return the steps of a stage, in an order in which they can run."""
    lines = [
        '<div class="steps" markdown="block">',
        "",
        "| step | does | reads | writes |",
        "|---|---|---|---|",
    ]
    for node in _nodes(stage):
        inputs = [name for name in node.inputs if not name.startswith("params:")]
        does = (node.func.__doc__ or "").splitlines()[0].replace("``", "`")
        does = does.replace("|", r"\|")
        reads, writes = (
            ", ".join(breakable(name) for name in names)
            for names in (inputs, node.outputs)
        )
        lines.append(f"| {breakable(node.name)} | {does} | {reads} | {writes} |")
    return "\n".join([*lines, "", "</div>"])


def files_table(stage: str) -> str:
    """Return where the results of a stage lie."""
    lines = ["| result | file |", "|---|---|"]
    names = dict.fromkeys(name for node in _nodes(stage) for name in node.outputs)
    for name in names:
        entry = _catalog().get(name)
        if entry is not None:
            lines.append(f"| {breakable(name)} | {_place(entry)} |")
    return "\n".join(lines)


def pipelines_table(_: str) -> str:
    """Return which stages each pipeline has, in the order of their work."""
    lines = ["| pipeline | stages |", "|---|---|"]
    for name, pipeline in _pipelines().items():
        tags = dict.fromkeys(
            tag for tag in STAGES for n in pipeline.nodes if tag in n.tags
        )
        lines.append(f"| `{name}` | {', '.join(tags)} |")
    return "\n".join(lines)


def stages() -> list[str]:
    """Return all stages: the tags of the nodes."""
    return sorted({tag for node in _all_nodes() for tag in node.tags})


def _nodes(stage: str) -> list[Any]:
    found = [node for node in _all_nodes() if stage in node.tags]
    if not found:
        raise ValueError(f"no stage {stage!r}; there are: {', '.join(stages())}")
    return found


@cache
def _pipelines() -> dict[str, Any]:
    return register_pipelines()


@cache
def _all_nodes() -> list[Any]:
    nodes = {}
    for pipeline in _pipelines().values():
        nodes |= {node.name: node for node in pipeline.nodes}
    return list(nodes.values())


@cache
def _catalog() -> dict[str, Any]:
    entries: dict[str, Any] = {}
    for path in sorted(BASE.glob("catalog*.yml")):
        entries |= yaml.safe_load(path.read_text()) or {}
    return entries


def _place(entry: dict[str, Any]) -> str:
    path = readable(str(entry.get("filepath") or entry.get("path")))
    notes = []
    if entry.get("versioned"):
        notes.append("a version for each run of it")
    if entry.get("latest"):
        last = breakable(f"data/08_reporting/{Path(path).name}")
        notes.append(f"that of the last run also {last}")
    return "; ".join([breakable(path), *notes])


def readable(path: str) -> str:
    """Return a path of the catalog with words in place of resolvers."""
    for name, value in _catalog().items():
        if isinstance(value, str):  # such as _features
            path = path.replace("${" + name + "}", value)
    path = path.replace("${run_name:}", "<run>")
    return re.sub(r"\$\{name_of:([\w,]+)\}", r"<name of \1>", path)
