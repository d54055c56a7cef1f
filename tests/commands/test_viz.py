"""``kedro lct viz``."""

import json
import re
import socket
import subprocess
import sys
from pathlib import Path
from urllib.request import urlopen

from click.testing import CliRunner

from lct_pipeline.commands import lct


def test_a_run_is_served_to_this_machine(smoke_run: Path) -> None:
    words = ["lct", "viz", "tested", "--port=0", "--no-browser"]
    with subprocess.Popen(
        [sys.executable, "-m", "kedro", *words],
        cwd=smoke_run,
        stdout=subprocess.PIPE,
        text=True,
    ) as process:
        try:
            assert process.stdout is not None
            found = None
            while found is None:
                line = process.stdout.readline()
                assert line, "it ended"
                found = re.search(r"Run tested is at (http://127\.0\.0\.1:\d+/)", line)
            with urlopen(f"{found[1]}api/run-status") as answer:
                assert json.load(answer)["pipeline"]["run_id"] == "tested"
        finally:
            process.terminate()


def test_a_taken_port_is_named(smoke_run: Path, monkeypatch) -> None:
    monkeypatch.chdir(smoke_run)
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        done = CliRunner().invoke(lct, ["viz", f"--port={port}"])
    assert done.exit_code == 1
    assert f"port {port} is taken" in done.output


def test_an_unknown_run_is_named(smoke_run: Path, monkeypatch) -> None:
    monkeypatch.chdir(smoke_run)
    done = CliRunner().invoke(lct, ["viz", "other"])
    assert done.exit_code == 1
    assert "no run 'other'" in done.output
