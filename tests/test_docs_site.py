"""The documentation builds without a warning, needs no network, and says what the code does."""

from __future__ import annotations

import html
import importlib
import re
import sys
from collections.abc import Iterator
from email.message import Message
from html.parser import HTMLParser
from pathlib import Path
from types import ModuleType
from typing import Any
from unittest.mock import Mock
from urllib.error import HTTPError, URLError

import pytest

from conftest import ROOT

DOCS = ROOT / "docs"
PAGES = sorted(DOCS.rglob("*.md"))
FENCE = re.compile(r"^```.*?^```$", flags=re.DOTALL | re.MULTILINE)
LINK = re.compile(r"\]\(([^)\s]+)\)")


@pytest.fixture(scope="module")
def generators() -> Iterator[dict[str, ModuleType]]:
    """Import the modules that make tables."""
    sys.path.insert(0, str(DOCS / "_generate"))
    names = ("parameter_tables", "stage_tables", "recipes", "external_links")
    yield {name: importlib.import_module(name) for name in names}
    sys.path.remove(str(DOCS / "_generate"))


@pytest.fixture(scope="module")
def site(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Build the site with every warning an error."""
    from mkdocs.commands.build import build
    from mkdocs.config import load_config

    folder = tmp_path_factory.mktemp("site")
    config = load_config(str(ROOT / "mkdocs.yml"), site_dir=str(folder), strict=True)
    build(config)
    return folder


class Resources(HTMLParser):
    """Collects what a browser loads by itself, and the text of tables."""

    def __init__(self) -> None:
        super().__init__()
        self.loaded: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        for name, value in attrs:
            is_link = tag == "a" or (tag == "link" and ("rel", "canonical") in attrs)
            if name in ("src", "href", "srcset", "data") and value and not is_link:
                self.loaded.append(value)


def test_the_site_loads_nothing_from_elsewhere(site: Path) -> None:
    pages = list(site.rglob("*.html"))
    assert len(pages) > len(PAGES)  # and that of what is not found
    for page in pages:
        resources = Resources()
        resources.feed(page.read_text())
        assert resources.loaded
        outside = [path for path in resources.loaded if re.match(r"(\w+:)?//", path)]
        assert not outside, f"{page.relative_to(site)} loads {outside}"
    for style in site.rglob("*.css"):
        assert not re.search(r"(@import|url\()\s*['\"]?(https?:)?//", style.read_text())


def test_every_place_is_filled(site: Path) -> None:
    for page in site.rglob("*.html"):
        assert not re.search(r"<!-- \w+: \w+ -->", page.read_text()), page


def test_the_page_of_the_parameters_is_current(
    generators: dict[str, ModuleType],
) -> None:
    tables = generators["parameter_tables"]
    assert tables.PAGE.read_text() == tables.page(), "`make docs` writes it"


def test_every_parameter_has_default_bounds_and_meaning() -> None:
    text = html.unescape((DOCS / "parameters.md").read_text())
    rows = [line[2:-2].split(" | ") for line in text.splitlines() if "| `" in line]
    rows = [row for row in rows if row[0].startswith("`")]
    assert len(rows) > 100
    without = [row for row in rows if len(row) != 4 or not all(row)]
    assert not without, f"no text below it in src/lct_pipeline/parameters: {without}"
    assert [
        "`training.optimizer.learning_rate`",
        "`0.0015`",
        "number > 0",
        "Learning rate, constant; paper: 1e-4 for 158 M parameters; small networks learn "
        "faster with more.",
    ] in rows


def test_signs_of_markdown_in_a_meaning_reach_the_page(site: Path) -> None:
    text = html.unescape((site / "parameters.html").read_text())
    assert "beside that of features: inception, dinov2, {kind: ..., path: ...}" in text


def test_every_stage_has_a_page(generators: dict[str, ModuleType]) -> None:
    text = "\n".join(page.read_text() for page in PAGES)
    for kind in ("steps", "files"):
        found = re.findall(rf"<!-- {kind}: (\w+) -->", text)
        assert sorted(found) == generators["stage_tables"].stages()


@pytest.mark.parametrize(
    ("schema", "words"),
    [
        (
            {"type": "integer", "minimum": 8, "multipleOf": 8},
            "whole number ≥ 8, multiple of 8",
        ),
        ({"anyOf": [{"type": "string"}, {"type": "null"}]}, "text, or `null`"),
        (
            {"type": "string", "enum": ["a", "b_c"]},
            "`a`, `b_c`",
        ),
        (
            {
                "type": "array",
                "minItems": 1,
                "items": {"type": "number", "exclusiveMinimum": 0},
            },
            "list of at least 1: number > 0",
        ),
        ({"type": "boolean"}, "`true`, `false`"),
    ],
)
def test_types_are_told_in_words(
    generators: dict[str, ModuleType], schema: dict[str, Any], words: str
) -> None:
    assert generators["parameter_tables"].allowed(schema) == words


def test_files_have_the_paths_of_the_catalog(generators: dict[str, ModuleType]) -> None:
    def table(stage: str) -> str:
        text = generators["stage_tables"].files_table(stage).replace("<wbr>", "")
        return re.sub("</?code>", "`", html.unescape(text))

    assert "| `checkpoints` | `data/06_models/<run>/checkpoints` |" in table("training")
    assert (
        "| `decoder` | `data/04_feature/<name of ingestion,encoding>/decoder.json` |"
        in (table("encoding"))
    )
    assert (
        "| `training_curves_chart` | `data/08_reporting/<run>/training_curves.json`"
        in (table("training"))
    )
    assert "| `models` | `data/06_models/<run>/sampling_plans.json` |" in (
        table("evaluation")
    )
    for stage in generators["stage_tables"].stages():
        rows = table(stage).splitlines()[2:]
        assert rows
        for row in rows:
            assert re.fullmatch(r"\| `\w+` \| `data/[^${}`]+`(; [^${}]+)? \|", row), row


def test_a_recipe_is_shown_with_its_header_and_values(
    generators: dict[str, ModuleType],
) -> None:
    text = generators["recipes"].recipe("celebahq256")
    assert "- *expect*: FID 7.27" in text
    assert "  num_steps: 294_000" in text


def test_links_of_the_readme_lead_to_files() -> None:
    # `mkdocs build --strict` looks at those of the pages, at anchors, and at the navigation
    links = LINK.findall(FENCE.sub("", (ROOT / "README.md").read_text()))
    files = [link.partition("#")[0] for link in links if not re.match(r"\w+:", link)]
    assert files
    assert [name for name in files if not (ROOT / name).exists()] == []


@pytest.mark.parametrize(
    ("error", "said"),
    [
        (HTTPError("", 404, "", Message(), None), "gone: 404"),
        (HTTPError("", 503, "", Message(), None), "answers 503"),
        (URLError("no such host"), "gone: no such host"),
        (TimeoutError(), "slow"),
    ],
)
def test_external_links_that_are_gone_are_told_from_others(
    generators: dict[str, ModuleType],
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    said: str,
) -> None:
    links = generators["external_links"]
    monkeypatch.setattr(links, "urlopen", Mock(side_effect=error))
    assert links.fault("https://example.org") == said
