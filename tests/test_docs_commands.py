"""Every command that the documentation prints is there: options, pipelines, recipes, parameters."""

from __future__ import annotations

import json
import re
import shlex
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import pytest
from configuration import loader, values
from kedro.io import CatalogConfigResolver
from kedro_viz.launchers.cli.main import viz_cli

from conftest import ROOT
from lct_pipeline.cli import cli
from lct_pipeline.parameters import flatten
from lct_pipeline.pipeline_registry import STAGES, register_pipelines

PAGES = [
    ROOT / "README.md",
    *sorted((ROOT / "docs").rglob("*.md")),
]
NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
PIPELINES = register_pipelines()
BASE = {"run_id": None, **values()}
NODES = {node.name for pipeline in PIPELINES.values() for node in pipeline.nodes}
FENCE = re.compile(r"^```(?:bash|console) *\n(.*?)^```", re.DOTALL | re.MULTILINE)
ANY_FENCE = re.compile(r"^```.*?^```$", re.DOTALL | re.MULTILINE)
OPTIONS = (
    "--pipeline",
    "--env",
    "--params",
    "--namespaces",
    "--nodes",
    "--only-missing",
)
OF_KEDRO = (
    "registry",
    "ipython",
    "jupyter",
    "airflow",
)  # commands without values of ours
PLACE = "PLACE"  # stands for what a reader fills in
FILE = re.compile(r"data/08_reporting/(?:<run>/)?([\w.]+\.(?:json|png|html|parquet))")

each_page = pytest.mark.parametrize(
    "page", [*PAGES, *NOTEBOOKS], ids=lambda path: f"{path.parent.name}/{path.name}"
)


def text_of(page: Path) -> str:
    if page.suffix == ".md":
        return page.read_text()
    cells = json.loads(page.read_text())["cells"]
    return "\n\n".join("".join(cell["source"]) for cell in cells)


def spans(text: str) -> list[str]:
    """Return the code within lines, which may go on in the next one."""
    found = re.findall(r"`([^`]+)`", ANY_FENCE.sub("", text))
    return [re.sub(r"\s+", " ", span) for span in found]


def commands(text: str) -> Iterator[list[str]]:
    """Yield the words of each command: lines of blocks, and code within lines."""
    lines = [line for block in FENCE.findall(text) for line in block.splitlines()]
    for line in [*lines, *spans(text)]:
        if "$(" not in line:
            try:
                yield shlex.split(re.sub(r"<[^<>]*>", PLACE, line), comments=True)
            except ValueError:  # a code span that is no command
                continue


def kedro_commands(text: str) -> Iterator[list[str]]:
    """Yield what follows ``kedro``; options alone are those of ``kedro run``."""
    for words in commands(text):
        at = [n for n, word in enumerate(words) if word.split("/")[-1] == "kedro"]
        if at and len(words) > at[0] + 1:
            yield words[at[0] + 1 :]
        elif words and words[0].startswith(OPTIONS):
            yield ["run", *words]


def parsed(words: list[str]) -> dict[str, Any]:
    """Return the values that Kedro would take from the words after ``kedro``.

    Raises:
        UsageError: It would refuse them.
    """
    groups: dict[str, Any] = {
        "lct": cli.commands["lct"],
        "viz": viz_cli.commands["viz"],
    }
    if words[0] in groups:
        group, (name, *rest) = groups[words[0]], words[1:] or [""]
        with click.Context(group) as context:
            command = group.get_command(context, name)
    else:
        name, *rest = words
        command = cli.commands["run"] if name == "run" else None
    if command is None:
        raise click.UsageError(f"no such command: {words}")
    try:
        return command.make_context(name, _with_values(command, rest)).params
    except click.MissingParameter:  # a command is named, not called
        return {}


def _with_values(command: click.Command, words: list[str]) -> list[str]:
    """Return the words with values where options are only named."""
    flags = {
        name for p in command.params if getattr(p, "is_flag", False) for name in p.opts
    }
    named = [f"{w}={PLACE}" if _is_bare(w) and w not in flags else w for w in words]
    return [word for word in named if word != f"--params={PLACE}"]


def _is_bare(word: str) -> bool:
    return word.startswith("--") and "=" not in word


def is_parameter(key: str) -> bool:
    value: Any = BASE
    for part in key.split("."):
        if not isinstance(value, dict) or part not in value:
            return False
        value = value[part]
    return True


def recipes(text: str) -> set[str]:
    """Return the folders of conf/, and those that the page tells to make."""
    there = {path.parent.name for path in ROOT.glob("conf/*/*.yml")}
    return there | {"local", PLACE} | set(re.findall(r"conf/(\w+)", text))


@each_page
def test_commands_of_kedro_are_there_with_all_they_name(page: Path) -> None:
    text = text_of(page)
    for words in kedro_commands(text):
        if words[0] in OF_KEDRO:
            continue
        given, said = parsed(words), " ".join(words)
        assert (given.get("env") or "local") in recipes(text), said
        assert (given.get("pipeline") or PLACE) in {*PIPELINES, PLACE}, said
        for name in given.get("namespaces") or ():
            assert name in {*STAGES, PLACE}, said
        for name in given.get("node_names") or ():
            assert name in NODES, said
        values = dict(given.get("params") or {})
        assert [key for key in flatten(values) if not is_parameter(key)] == [], said


def test_a_wrong_command_is_noticed() -> None:
    for text in ("`kedro run --pipeline=all --tag=x`", "`kedro lct viz`"):
        (words,) = kedro_commands(text)
        with pytest.raises(click.UsageError):
            parsed(words)
    assert not is_parameter("training.steps")
    assert (
        len([words for page in PAGES for words in kedro_commands(text_of(page))]) > 80
    )


@each_page
def test_targets_of_make_are_there(page: Path) -> None:
    targets = re.findall(r"^([\w-]+):", (ROOT / "Makefile").read_text(), re.MULTILINE)
    for words in commands(text_of(page)):
        if words[:1] == ["make"] and len(words) > 1:
            assert words[1] in targets, words


@each_page
def test_python_programs_are_there_with_their_options(page: Path) -> None:
    for words in commands(text_of(page)):
        if words[:1] != ["python"] or len(words) < 2 or words[1] == "-c":
            continue
        name = words[2].replace(".", "/") + ".py" if words[1] == "-m" else words[1]
        places = [ROOT / name, ROOT / "src" / name]
        sources = [path.read_text() for path in places if path.exists()]
        assert sources, words
        for word in words[2:]:
            if word.startswith("--"):
                assert f'"{word.partition("=")[0]}"' in sources[0], words


@each_page
def test_parameters_that_are_named_are_there(page: Path) -> None:
    groups = "|".join(name for name, value in BASE.items() if isinstance(value, dict))
    dotted = re.compile(rf"((?:{groups})(?:\.\w+)+)(?:=\S+|: .+)?")
    for span in spans(text_of(page)):
        found = dotted.fullmatch(span)
        is_file = span.endswith((".json", ".py", ".parquet"))
        if found and not is_file and span not in NODES:
            assert is_parameter(found[1]), span


@each_page
def test_datasets_and_files_that_are_named_are_in_the_catalog(page: Path) -> None:
    resolver = CatalogConfigResolver(loader()["catalog"])
    datasets = {n for pipeline in PIPELINES.values() for n in pipeline.datasets()}
    text = text_of(page)
    for name in re.findall(r'catalog\.load\("(\w+)"', text):
        assert name in datasets, name
    names = (name for name in datasets if not name.startswith("params:"))
    entries = [resolver.resolve_pattern(name) for name in names]
    files = {Path(entry.get("filepath") or "").name for entry in entries}
    for name in FILE.findall(text):
        assert name in files, name
