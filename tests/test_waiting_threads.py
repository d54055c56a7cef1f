"""How threads wait is said before torch is loaded, and never against what a user says."""

from __future__ import annotations

import json
import os
import subprocess
import sys

import pytest

from lct_pipeline.waiting_threads import BY_USER, SPINNING

PRINTED = "print(json.dumps([dict(os.environ), 'torch' in sys.modules]))"


@pytest.mark.parametrize(
    "given", [{}, *({name: "PASSIVE"} for name in sorted(BY_USER))], ids=str
)
def test_the_package_says_it_before_torch_unless_a_user_did(
    given: dict[str, str],
) -> None:
    others = {name: v for name, v in os.environ.items() if name not in BY_USER}
    done = subprocess.run(
        [sys.executable, "-c", f"import json, os, sys, lct_pipeline; {PRINTED}"],
        env=others | given,
        capture_output=True,
        text=True,
        check=True,
    )
    environment, has_torch = json.loads(done.stdout)
    found = {name: environment[name] for name in BY_USER & environment.keys()}
    assert found == (given or SPINNING)
    assert not has_torch
