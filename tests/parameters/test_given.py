"""``--params`` as typed: what is text stays it, what is not is read, and commas part them."""

from __future__ import annotations

from typing import Any

import pytest

from lct_pipeline.errors import ParameterError
from lct_pipeline.parameters.given import parsed


@pytest.mark.parametrize(
    "text", ["007", "12:30", "1e5", "on", "0x10", "1_000", "2026-01-02", ".5", "yes"]
)
@pytest.mark.parametrize(
    "key", ["run_id", "ingestion.label_column", "cataloging.entry", "ingestion.labels"]
)
def test_text_is_taken_as_typed(key: str, text: str) -> None:
    found: Any = parsed(f"{key}= {text} ,ingestion.image_size=64")
    assert found["ingestion"]["image_size"] == 64
    for part in key.split("."):
        found = found[part]
    assert found == text


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("run_id=null", {"run_id": None}),
        ("run_id='null'", {"run_id": "null"}),
        ("training.num_steps=1e3", {"training": {"num_steps": 1000.0}}),
        ("runtime.compile=on,", {"runtime": {"compile": True}}),
        (
            "combination.search.methods=[cma, random],run_id=a",
            {"combination": {"search": {"methods": ["cma", "random"]}}, "run_id": "a"},
        ),
        ("ingestion.source='a, b'", {"ingestion": {"source": "a, b"}}),
        (
            "ingestion.source=/it's [one,run_id=b",
            {"ingestion": {"source": "/it's [one"}, "run_id": "b"},
        ),
        (
            "evaluation.extractors=[{kind: inception, path: /a}]",
            {"evaluation": {"extractors": [{"kind": "inception", "path": "/a"}]}},
        ),
    ],
)
def test_other_values_are_read_and_commas_part_them(text: str, value: Any) -> None:
    assert parsed(text) == value


@pytest.mark.parametrize(
    "text", ["run_id", "=3", "a=1,a.b=2", "ingestion.source=${oc.env:HOME}", "a=[1,"]
)
def test_what_is_no_key_and_value_is_refused(text: str) -> None:
    with pytest.raises(ParameterError, match="--params"):
        parsed(text)
