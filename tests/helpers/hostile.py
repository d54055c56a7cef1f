"""Text that steers what shows it, where nothing is done against it, and secrets that may leak."""

from __future__ import annotations

import unicodedata
from html.parser import HTMLParser

import markdown
from markdown_it import MarkdownIt

TERMINAL = "\x1b]0;a\x07\x1b[31m\x9b1m\r\u202e\u2066\u2028\x85\x7f"
TAGS = "<script>alert(1)</script><img src=x onerror=alert(1)><a href='javascript:1'>"
BLOCKS = "```\n</code>`[a](javascript:1) ![b](http://c) <http://d>\n---\n# *e* __f__ | "
HOSTILE = (
    TERMINAL + TAGS + BLOCKS + r"\$\href{javascript:1}{g}$ [red][link=http://h] :boom:"
)
RENDERERS = (markdown.markdown, MarkdownIt("gfm-like", {"linkify": False}).render)

CANARY = "canary-0123456789"
SECRET_NAMES = ("HF_TOKEN", "MLFLOW_TRACKING_PASSWORD", "AWS_SECRET_ACCESS_KEY")
ENVIRONMENT = {name: f"{CANARY}-{name}" for name in SECRET_NAMES}
ADDRESS = f"https://user:{CANARY}@host/a.zip?X-Signature={CANARY}"


def steers_no_terminal(text: str) -> bool:
    """Return whether lines are all that is in a text beside what can be printed."""
    kinds = {unicodedata.category(character) for character in text.replace("\n", "")}
    return not kinds & {"Cc", "Cf", "Cs", "Zl", "Zp"}


class Shown(HTMLParser):
    """What a page shows: its tags with their attributes, and its text."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.tags, self.text = set[str](), ""
        self.feed(html)
        self.close()

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(f"{tag} {attrs}")

    def handle_data(self, data: str) -> None:
        self.text += data
