"""Tables of the stages: their nodes from the pipelines, their files from the catalog."""

from __future__ import annotations

import html
import re
from functools import cache
from pathlib import Path
from typing import Any

from kedro.io import CatalogConfigResolver

from lct_pipeline.config_loader import LctConfigLoader
from lct_pipeline.pipeline_registry import STAGES, register_pipelines
from lct_pipeline.settings import CONFIG_LOADER_ARGS

ROOT = Path(__file__).parents[2]


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
        lines.append(f"| {breakable(node.short_name)} | {does} | {reads} | {writes} |")
    return "\n".join([*lines, "", "</div>"])


def files_table(stage: str) -> str:
    """Return where the results of a stage lie."""
    lines = ["| result | file |", "|---|---|"]
    names = dict.fromkeys(name for node in _nodes(stage) for name in node.outputs)
    lines += [f"| {breakable(name)} | {_place(name)} |" for name in names]
    return "\n".join(lines)


def pipelines_table(_: str) -> str:
    """Return which stages each pipeline has, in the order of their work."""
    lines = ["| pipeline | stages |", "|---|---|"]
    for name, pipeline in _pipelines().items():
        there = {node.namespace for node in pipeline.nodes}
        found = [stage for stage in STAGES if stage in there]
        lines.append(f"| `{name}` | {', '.join(found)} |")
    return "\n".join(lines)


def stages() -> list[str]:
    """Return all stages: the namespaces of the nodes."""
    return sorted({node.namespace for node in _all_nodes()})


def _nodes(stage: str) -> list[Any]:
    found = [node for node in _all_nodes() if node.namespace == stage]
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


class _Words(LctConfigLoader):
    """Reads the catalog with words in place of what follows from parameters."""

    def _parameter(self, key: str) -> str:
        return f"<{key}>"

    def _name_of(self, *groups: str) -> str:
        return f"<name of {','.join(groups)}>"

    def run_name(self) -> str:
        """Return what stands for the name of the run."""
        return "<run>"


@cache
def _catalog() -> CatalogConfigResolver:
    loader = _Words(str(ROOT / "conf"), env="base", **CONFIG_LOADER_ARGS)
    return CatalogConfigResolver(loader["catalog"], default_runtime_patterns={})


def _place(name: str) -> str:
    """Return where a dataset lies, whether it is declared by its name or by a factory."""
    entry = _catalog().resolve_pattern(name)
    path = entry.get("filepath") or entry["path"]
    notes = []
    if entry.get("versioned"):
        notes.append("a version for each run of it")
    if entry.get("latest"):
        last = breakable(f"data/08_reporting/{Path(path).name}")
        notes.append(f"that of the last run also {last}")
    return "; ".join([breakable(path), *notes])


def breakable(code: object) -> str:
    """Return code that a narrow page may break after a dot, an underscore or a slash."""
    with_breaks = re.sub(r"([._/])(?=\D)", r"\1<wbr>", html.escape(str(code)))
    return f"<code>{with_breaks}</code>"
