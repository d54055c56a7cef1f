"""Text from outside, for terminals, logs and Markdown: shown as it is, and without secrets."""

from __future__ import annotations

import io
import logging
import sys

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
    printable,
    without_secrets,
)
from lct_pipeline.progress import track


def test_a_line_has_no_control_characters_and_says_where_they_were() -> None:
    found = printable(HOSTILE)
    assert steers_no_terminal(found) and "\n" not in found
    assert found.startswith(r"\x1b]0;a\x07\x1b[31m\x9b1m\r\u202e\u2066\u2028\x85\x7f")
    assert printable(found) == found
    assert printable("Ł京 ±\udc80") == r"Ł京 ±\udc80"  # a byte that is no UTF-8


TABLE = "title:\n     x\na    1\n"  # which stays one


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a\nError: b\n\nc\n", "a\n  Error: b\n\n  c\n"),
        ("a\r\n  b\n    c", "a\\r\n  b\n    c"),
        (TABLE, "title:\n       x\n  a    1\n"),
    ],
)
def test_a_line_of_a_message_passes_for_no_other(text: str, expected: str) -> None:
    assert lines(text) == lines(expected) == expected


def test_markdown_shows_a_text_as_it_is() -> None:
    for text in (HOSTILE, *HOSTILE.split("\n"), "a_b _c_", "\\`b`", "&lt; ~~c~~"):
        for render in RENDERERS:
            shown = Shown(render(f"of {markdown(text)}."))
            assert shown.tags == {"p []"}, text
            assert shown.text.strip() == f"of {printable(text)}."


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://u:p@h/a.zip?token=b#c and more", "https://h/a.zip and more"),
        ("s3://key:pa/s?s#@bucket/a", "s3://bucket/a"),
        ("https://:p@h:8080/x@v2", "https://h:8080/x@v2"),
        ("https://a/https://u:p@b?c", "https://a/https://b"),
        ('{"uri": "https://u@h/?a=b", "c": 1}', '{"uri": "https://h/", "c": 1}'),
        ("password=p, Bearer hf_c", "password=***, Bearer ***"),
        ("hf_abcdefghijklmnopqrst is refused", "*** is refused"),
        ("hf://datasets/a/b@c a? b#c@d http://e:5000/x.", None),
        (f"main: {' '.join(ENVIRONMENT.values())}", "main: *** *** ***"),
    ],
)
def test_what_logs_in_is_left_out(
    text: str, expected: str | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name, value in {**ENVIRONMENT, "SHORT_TOKEN": "main"}.items():
        monkeypatch.setenv(name, value)
    assert without_secrets(text) == (expected or text)


def test_logs_of_all_libraries_and_tracebacks_are_plain(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Those of the hub's client and of MLflow have handlers of their own."""
    monkeypatch.setattr(logging, "_logRecordFactory", PlainRecord)
    monkeypatch.setattr(sys, "excepthook", sys.__excepthook__)
    stream, logger = io.StringIO(), logging.Logger("another_library")
    logger.addHandler(logging.StreamHandler(stream))
    logger.addHandler(RichHandler(console=Console(file=stream, width=999), markup=True))
    with pytest.raises(OSError, match="no answer") as caught, one_message():
        raise OSError(f"no answer of {ADDRESS} {HOSTILE}")
    logger.error("lost %s at %s", HOSTILE, ADDRESS, exc_info=caught.value)
    sys.excepthook(caught.type, caught.value, caught.tb)
    for text in (stream.getvalue(), capsys.readouterr().err):
        assert "OSError: no answer of https://host/a.zip" in text and "[red]" in text
        assert CANARY not in text and steers_no_terminal(text)
        assert "\n---" not in text and "\n  ---" in text  # no line of their own


def test_the_title_of_a_progress_bar_steers_no_terminal(
    capsys: pytest.CaptureFixture[str],
) -> None:
    list(track([1], HOSTILE, "item"))
    assert "\x1b[31m" not in capsys.readouterr().err
