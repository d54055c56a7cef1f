"""Text from outside, for terminals, logs and Markdown: shown as it is, and without secrets."""

from __future__ import annotations

import io
import logging
import sys
from collections.abc import Callable, Iterator

import pytest
from hostile import (
    ADDRESS,
    CANARY,
    ENVIRONMENT,
    HOSTILE,
    RENDERERS,
    Shown,
    steers_no_terminal,
)
from rich.console import Console
from rich.logging import RichHandler

from lct_pipeline.errors import one_message
from lct_pipeline.plain_text import (
    PlainRecord,
    lines,
    markdown,
    message,
    printable,
    without_secrets,
)
from lct_pipeline.progress import track


def test_a_line_has_no_control_characters_and_says_where_they_were() -> None:
    found = printable(HOSTILE)
    assert steers_no_terminal(found) and "\n" not in found
    assert found.startswith(r"\x1b]0;a\x07\x1b[31m\x9b1m\r\u202e\u2066\u2028\x85\x7f")
    assert printable(found) == found
    assert printable("a\udc80") == r"a\udc80"  # a byte of a name that is no UTF-8
    assert printable("Łódź 東京 ± é 🎈") == "Łódź 東京 ± é 🎈"


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("one", "one"),
        ("a\nError: b\n\nc\n", "a\n  Error: b\n\n  c\n"),
        ("a\n  b\n    c", "a\n  b\n    c"),
        (
            "title:\n     x\na    1\n",
            "title:\n       x\n  a    1\n",
        ),  # a table stays one
        ("a\r\nb", "a\\r\n  b"),
    ],
)
def test_a_line_of_a_message_passes_for_no_other(text: str, expected: str) -> None:
    assert lines(text) == lines(expected) == expected


@pytest.mark.parametrize("render", RENDERERS.values(), ids=RENDERERS)
def test_markdown_shows_a_text_as_it_is(render: Callable[[str], str]) -> None:
    for text in (
        HOSTILE,
        *HOSTILE.split("\n"),
        "a_b_c",
        "_a_",
        "\\`b`",
        "&lt;",
        "~~c~~",
    ):
        shown = Shown(render(f"of {markdown(text)}."))
        assert shown.tags <= {"p"} and not shown.attributes, text
        assert shown.text.strip() == f"of {printable(text)}."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://u:p@h/a.zip?token=b#c and more", "https://h/a.zip and more"),
        ("s3://key:pa/s?s#@bucket/a", "s3://bucket/a"),
        ("https://:p@h:8080/x@v2", "https://h:8080/x@v2"),
        ("git+https://p@h/a.git", "git+https://h/a.git"),
        ("https://a/https://u:p@b?c", "https://a/https://b"),
        ('{"uri": "https://u:p@h/?a=b", "c": 1}', '{"uri": "https://h/", "c": 1}'),
        (
            "password=p, Authorization: Bearer b",
            "password=***, Authorization: Bearer ***",
        ),
        ("hf_abcdefghijklmnopqrst is refused", "*** is refused"),
        ("hf://datasets/a/b@main", "hf://datasets/a/b@main"),
        (
            "sqlite:////data/a.db, http://h:5000/x.",
            "sqlite:////data/a.db, http://h:5000/x.",
        ),
        ("a? b# user@host step={1..3}", "a? b# user@host step={1..3}"),
    ],
)
def test_what_logs_in_is_left_out(text: str, expected: str) -> None:
    assert without_secrets(text) == expected
    assert without_secrets(expected) == expected


def test_values_of_secret_variables_are_left_out(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name, value in {**ENVIRONMENT, "SHORT_TOKEN": "main"}.items():
        monkeypatch.setenv(name, value)
    text = f"main: {' '.join(ENVIRONMENT.values())}"
    assert without_secrets(text) == "main: *** *** ***"


@pytest.fixture
def of_another_library(
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[tuple[logging.Logger, io.StringIO]]:
    """Return a logger with a handler of its own, as those of the hub's client and of MLflow."""
    monkeypatch.setattr(logging, "_logRecordFactory", PlainRecord)
    stream, logger = io.StringIO(), logging.getLogger("another_library")
    rich = RichHandler(console=Console(file=stream, width=500), markup=True)
    handlers = (logging.StreamHandler(stream), rich)
    for handler in handlers:
        logger.addHandler(handler)
    yield logger, stream
    for handler in handlers:
        logger.removeHandler(handler)


def test_entries_of_a_log_are_plain_whichever_library_writes_them(
    of_another_library: tuple[logging.Logger, io.StringIO],
) -> None:
    logger, stream = of_another_library
    try:
        raise OSError(f"no answer of {ADDRESS}{HOSTILE}")
    except OSError:
        logger.exception("lost %s at %s", HOSTILE, ADDRESS)
    text = stream.getvalue()
    assert steers_no_terminal(text) and CANARY not in text
    assert "[red]" in text and "OSError: no answer of https://host/a.zip" in text
    assert "\n---" not in text and text.count("\n  ---") == 2  # no line of their own


def test_a_fault_of_the_program_is_shown_without_secrets(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    with pytest.raises(ZeroDivisionError) as caught, one_message():
        raise ZeroDivisionError(f"{ADDRESS} {HOSTILE}")
    sys.excepthook(caught.type, caught.value, caught.tb)
    said = capsys.readouterr().err
    assert "ZeroDivisionError: https://host/a.zip" in said
    assert CANARY not in said and steers_no_terminal(said)


def test_the_title_of_a_progress_bar_steers_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    list(track([1], HOSTILE, "item"))
    assert "\x1b[31m" not in capsys.readouterr().err


def test_a_message_is_not_changed_twice() -> None:
    once = message(f"{HOSTILE} {ADDRESS}\nand {ADDRESS}")
    assert message(once) == once and CANARY not in once
