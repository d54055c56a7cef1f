"""Whether two versions of the code give the same results, bit for bit.

    python benchmarks/pins.py OLD [NEW] [--recipes=smoke,default]

Each version, a git revision, is run on this machine's CPU with one thread, in a folder of its own;
NEW is the working tree where it is left out or ".". Then all that the runs left is compared: the
digest of every tensor, the rows of the evaluation, and the values of every table and record, but
for times and digests of parameters. What is only in NEW is listed; what differs, or is not in NEW,
makes the exit status 1.
The values of a commit are kept in build/pins/<commit>/<recipe>.json and not measured again, unless
a library or the processor changed; those of a working tree with changes in build/pins/worktree.
"""

from __future__ import annotations

import argparse
import json
import os
import platform
import re
import shutil
import subprocess
import sys
import tempfile
import time
from importlib.metadata import version
from pathlib import Path

import pandas as pd

from pinned_values import KINDS, Comparison, Pins, compared, pinned_values

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "build" / "pins"
RECIPES = {"smoke": "smoke", "default": "local"}  # and the environments of Kedro
LIBRARIES = ("torch", "numpy", "scipy", "POT", "scikit-learn", "diffusers", "cma")
SHOWN = 8  # differences of a file that are printed


def main() -> int:
    """Run what was not run yet, compare and print; return the exit status."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("old", help="a git revision")
    parser.add_argument("new", nargs="?", default=".", help="another, or . (default)")
    parser.add_argument("--recipes", type=recipe_names, default=list(RECIPES))
    arguments = parser.parse_args()
    same = True
    for recipe in arguments.recipes:
        old, new = (pins_of(name, recipe) for name in (arguments.old, arguments.new))
        print(f"Recipe {recipe}, {arguments.old} and {arguments.new}:\n")
        same &= report(compared(old, new))
    return 0 if same else 1


def recipe_names(text: str) -> list[str]:
    """Return the names in a text, separated by commas."""
    names = text.split(",")
    if not set(names) <= set(RECIPES):
        raise argparse.ArgumentTypeError(f"there are {', '.join(RECIPES)}")
    return names


def report(values: list[Comparison]) -> bool:
    """Print a table and what differs; return whether nothing of the old is lost."""
    table = pd.DataFrame(values)
    table["part"] = table["file"].str.partition("/")[0]
    counts = pd.crosstab(table["part"], table["kind"])
    counts = counts.reindex(columns=list(KINDS), fill_value=0)
    print(counts.rename_axis(index=None, columns=None).to_string(), "\n")
    for _, rows in table[table["kind"] != "same"].groupby("file"):
        for row in rows.head(SHOWN).itertuples():
            print(f"{row.kind}: {row.file}, {row.name}{row.what and ': '}{row.what}")
        if len(rows) > SHOWN:
            print(f"    and {len(rows) - SHOWN} more")
    is_same = bool(table["kind"].isin(["same", "new"]).all())
    print(
        "All values are the same.\n" if is_same else "Values changed or are missing.\n"
    )
    return is_same


def pins_of(revision: str, recipe: str) -> Pins:
    """Return the pinned values of a revision, measured unless they are kept."""
    commit = commit_of(revision)
    kept = FOLDER / (commit or "worktree") / f"{recipe}.json"
    if commit is None or not is_current(kept):
        write_pins(kept, measured(commit, recipe, kept.with_suffix(".log")))
    return json.loads(kept.read_text())["pins"]


def is_current(kept: Path) -> bool:
    """Return whether values are there, made with the same libraries on the same processor."""
    if not kept.exists():
        return False
    return json.loads(kept.read_text())["made_with"] == environment()


def write_pins(path: Path, pins: Pins) -> None:
    """Keep pinned values, with what they were made with."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text(json.dumps({"made_with": environment(), "pins": pins}, indent=1))


def commit_of(revision: str) -> str | None:
    """Return the commit, shortened; None for a working tree with changes.

    Raises:
        SystemExit: There is none.
    """
    if revision == ".":
        if git("status", "--porcelain"):
            return None
        revision = "HEAD"
    try:
        return git("rev-parse", "--verify", f"{revision}^{{commit}}").strip()[:12]
    except subprocess.CalledProcessError:
        sys.exit(f"git knows no commit {revision!r}")


def environment() -> str:
    """Return what may change the bits of a result, beside the code."""
    libraries = ", ".join(f"{name} {version(name)}" for name in LIBRARIES)
    return f"Python {platform.python_version()}, {libraries}, {processor()}"


def processor() -> str:
    """Return the name of the processor: another has other vector units, and sums otherwise."""
    cpuinfo = Path("/proc/cpuinfo")
    text = cpuinfo.read_text() if cpuinfo.exists() else ""
    model = re.search(r"^model name\s*:\s*(.+)$", text, re.MULTILINE)
    return model[1] if model else f"{platform.machine()} {platform.processor()}"


def measured(commit: str | None, recipe: str, log: Path) -> Pins:
    """Run a recipe in a copy of the code; return its values and remove the copy."""
    log.parent.mkdir(parents=True, exist_ok=True)
    name = commit or "the working tree"
    print(f"running recipe {recipe} of {name}", file=sys.stderr)
    started = time.perf_counter()
    with tempfile.TemporaryDirectory(dir=FOLDER, prefix="run-") as folder:
        copy_code(commit, Path(folder))
        run(Path(folder), recipe, log)
        pins = pinned_values(Path(folder) / "data")
    print(f"    {time.perf_counter() - started:.0f} s", file=sys.stderr)
    return pins


def copy_code(commit: str | None, target: Path) -> None:
    """Copy a commit, or all files of the working tree that git does not ignore."""
    if commit is not None:
        archive = target / "code.tar"
        git("archive", f"--output={archive}", commit)
        shutil.unpack_archive(archive, target, filter="data")
        return
    names = git("ls-files", "-z", "--cached", "--others", "--exclude-standard")
    for name in filter(None, names.split("\0")):
        if (ROOT / name).is_file():
            (target / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(ROOT / name, target / name)


def run(folder: Path, recipe: str, log: Path) -> None:
    """Run a recipe's whole pipeline; what it says goes to a file.

    Raises:
        SystemExit: It failed.
    """
    values = "runtime.num_threads=1,runtime.device=cpu,run_id=pins"
    command = [sys.executable, "-m", "kedro", "run", f"--env={RECIPES[recipe]}"]
    surroundings = {
        **os.environ,
        "PYTHONPATH": str(folder / "src"),
        "PYTHONHASHSEED": "0",
        "OMP_NUM_THREADS": "1",
        "DO_NOT_TRACK": "1",
    }
    with log.open("w") as output:
        done = subprocess.run(
            [*command, f"--params={values}"],
            check=False,
            cwd=folder,
            env=surroundings,
            stdout=output,
            stderr=subprocess.STDOUT,
        )
    if done.returncode:
        sys.exit(f"{log.read_text()[-3000:]}\nThe run failed; all of it is in {log}")


def git(*words: str) -> str:
    """Run git in the project and return what it prints."""
    command = ["git", "-C", str(ROOT), *words]
    return subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout


if __name__ == "__main__":
    sys.exit(main())
