"""How long the default run takes, by node, beside the last row that was kept.

    python benchmarks/default_run.py [REVISION] [--beside] [--keep]

A git revision, or the working tree where it is left out, is copied to an empty folder and run there
as `kedro run` runs it, with the installed libraries: nothing is there before. Seconds of the clock
and of all cores, by node and of the whole process, and its peak memory, stand beside those of the
last row of benchmarks/default_run.json that had the same kind of processor for itself; --keep adds
a row. With --beside a second process computes all the while, one matrix product after the other.
"""

from __future__ import annotations

import argparse
import json
import os
import resource
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import pandas as pd

from pins import ROOT, commit_of, copy_code, git, processor

KEPT = ROOT / "benchmarks" / "default_run.json"
BUSY = "import torch; a = torch.randn(1500, 1500)\nwhile True: a @ a"


def main() -> None:
    """Run, print the table, and keep the row where that is asked for."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("revision", nargs="?", default=".", help="default: . as it is")
    parser.add_argument("--beside", action="store_true", help="a busy process")
    parser.add_argument("--keep", action="store_true", help="add the row")
    arguments = parser.parse_args()
    commit = commit_of(arguments.revision)
    row = {
        "commit": commit or f"after {git('rev-parse', '--short=12', 'HEAD').strip()}",
        "beside": arguments.beside,
        "processor": f"{processor()}, {os.cpu_count()} cores",
        **measured(commit, arguments.beside),
    }
    rows = json.loads(KEPT.read_text()) if KEPT.exists() else []
    alike = [r for r in rows if r["processor"] == row["processor"] and not r["beside"]]
    print(table(row, alike[-1] if alike else None))
    if arguments.keep:
        KEPT.write_text(json.dumps([*rows, row], indent=1) + "\n")


def measured(commit: str | None, beside: bool) -> dict[str, Any]:
    """Run a commit in a folder of its own; return seconds, of the clock and of all cores, and MiB.

    Raises:
        SystemExit: It failed.
    """
    with tempfile.TemporaryDirectory() as name, busy(beside):
        folder = Path(name)
        copy_code(commit, folder)
        before = resource.getrusage(resource.RUSAGE_CHILDREN)
        started = time.perf_counter()
        surroundings = {**os.environ, "PYTHONPATH": str(folder / "src")}
        command = [sys.executable, "-m", "kedro", "run"]
        if subprocess.run(
            command, cwd=folder, env=surroundings, check=False
        ).returncode:
            sys.exit("The run failed.")
        wall = time.perf_counter() - started
        after = resource.getrusage(resource.RUSAGE_CHILDREN)
        (path,) = folder.glob("data/08_reporting/*/records/*.json")
        record = json.loads(path.read_text())
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    peak = max(node["peak_memory_mib"] for node in record["nodes"])
    whole = {"seconds": round(wall, 1), "cpu_seconds": round(cpu, 1)}
    return {"nodes": by_node(record["nodes"]), "whole": whole, "peak_mib": peak}


@contextmanager
def busy(beside: bool) -> Iterator[None]:
    """Have a second process compute meanwhile, where that is asked for."""
    other = subprocess.Popen([sys.executable, "-c", BUSY]) if beside else None
    try:
        yield
    finally:
        if other is not None:
            other.kill()
            other.wait()


def by_node(nodes: list[dict[str, Any]]) -> dict[str, dict[str, float | None]]:
    """Return the seconds of each node, by its full name, in order."""
    return {
        node["node"]: {key: node.get(key) for key in ("seconds", "cpu_seconds")}
        for node in nodes
    }


def table(row: dict[str, Any], before: dict[str, Any] | None) -> str:
    """Return the table of a row, beside an earlier one where there is one."""
    kept = [("before", before)] if before else []
    columns = {}
    for title, one in [*kept, ("now", row)]:
        costs = {**one["nodes"], "whole": one["whole"]}
        for key in ("seconds", "cpu_seconds"):
            columns[f"{title}, {key}"] = pd.Series(
                {n: c[key] for n, c in costs.items()}
            )
    shown = pd.DataFrame(columns).sort_values("now, seconds", ascending=False)
    peaks = ", ".join(
        f"{title} {one['peak_mib']:,} MiB" for title, one in [*kept, ("now", row)]
    )
    beside = " with a busy process beside it" if row["beside"] else ""
    text = shown.to_string(na_rep="", float_format="{:.1f}".format)
    return f"{row['commit']}{beside}, {row['processor']}\n{text}\npeak memory: {peaks}"


if __name__ == "__main__":
    main()
