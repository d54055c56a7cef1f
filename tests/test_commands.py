"""Commands that messages print: pasted, they give what the session was given."""

from __future__ import annotations

import shlex
from typing import Any

from lct_pipeline.commands import command, remember
from lct_pipeline.parameters.given import parsed

GIVEN: dict[str, Any] = {
    "run_id": "007",
    "ingestion": {"source": "/it's, [mine]/a b; $(x)", "label_column": "'"},
    "training": {"precision": "float32", "num_steps": 50, "init_from": {"run": None}},
    "combination": {"search": {"methods": ["cma", "random"]}},
    "evaluation": {"extractors": [{"kind": "inception", "path": "/a,b"}]},
    "runtime": {"mlflow": False},
}


def test_a_command_gives_again_what_its_session_was_given() -> None:
    remember("smoke", GIVEN)
    words = shlex.split(command("evaluate").strip("`"))
    assert words[:4] == ["kedro", "run", "--pipeline=evaluate", "--env=smoke"]
    assert parsed(words[4].removeprefix("--params=")) == GIVEN


def test_values_are_given_too_or_instead_and_what_was_not_given_is_not() -> None:
    assert command(None) == "`kedro run`"
    remember(None, {"run_id": "a", "export": {"model": "best"}})
    changed = command("export", **{"export.model": "last"})
    assert (
        changed == "`kedro run --pipeline=export --params=run_id=a,export.model=last`"
    )
