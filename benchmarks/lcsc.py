"""What combining checkpoints brings: the search itself, and both use cases of LCSC.

    python benchmarks/lcsc.py --study=search [--env cifar10] [--params "ingestion.source=<zip>"]
    python benchmarks/lcsc.py --study=cheaper
    python benchmarks/lcsc.py --study=better

``search`` compares methods at the same budget, three seeds each, on one trained model.
``cheaper`` combines checkpoints of a fifth of the training, and of a training with a quarter of the
batch, and compares with the full one: quality, and seconds with and without the search's own.
``better`` combines at the end of consistency training, of distillation and of a diffusion model,
and gives the distance for each number of evaluations (NFE).
Every run is made by the project's own pipelines; ended ones are kept in
data/08_reporting/lcsc/, and the same command continues where it was stopped. Tables are printed as
Markdown.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any, NamedTuple

import pandas as pd

from lct_pipeline.datasets.results import CombinationResult
from lct_pipeline.datasets.run_records import TRAIN_NODE, read_records

ROOT = Path(__file__).parents[1]
REPORTING = ROOT / "data" / "08_reporting"
FOLDER = REPORTING / "lcsc"
SEARCH_NODES = ("combination.search_combination", "combination.score_candidates")


class Case(NamedTuple):
    """A run: its recipe, and what differs from it."""

    title: str
    env: str
    params: str = ""
    run_id: str | None = None  # where another recipe names it


METHODS = "combination.search.methods=[gradient,random,evolution]"
STUDIES = {
    "search": [Case("all methods", "", METHODS)],
    "cheaper": [
        Case("full training", "local"),
        Case("a fifth of the steps", "digits_short"),
        Case("a quarter of the batch", "digits_small_batch"),
    ],
    "better": [
        Case("consistency training", "local"),
        Case("diffusion", "digits_diffusion", run_id="digits-teacher"),
        Case("consistency distillation", "digits_distillation"),
    ],
}


def main() -> None:
    """Run what is missing, then print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--study", choices=STUDIES, required=True)
    parser.add_argument("--env", default="local", help="recipe of the study `search`")
    parser.add_argument("--params", default="", help="for all runs, as in kedro run")
    arguments = parser.parse_args()
    cases = [
        case._replace(env=case.env or arguments.env)
        for case in STUDIES[arguments.study]
    ]
    kept = {case.title: run(case, arguments.params) for case in cases}
    {"search": print_search, "cheaper": print_cheaper, "better": print_better}[
        arguments.study
    ](kept)


def run(case: Case, params: str) -> Path:
    """Train, combine and evaluate; return the folder that keeps the results."""
    words = f"{case.env} {case.params} {params}".lower()
    run_id = case.run_id or "lcsc-" + re.sub(r"[^a-z0-9]+", "-", words).strip("-")
    folder, reporting = FOLDER / run_id, REPORTING / run_id
    if (folder / "done").exists():
        return folder
    given = ",".join(part for part in (f"run_id={run_id}", case.params, params) if part)
    folder.mkdir(parents=True, exist_ok=True)
    # evaluated before and after: a second step is chosen for the best model that there is
    for pipeline in ("train", "evaluate", "combine", "evaluate"):
        command = [sys.executable, "-m", "kedro", "run", f"--pipeline={pipeline}"]
        command += [f"--env={case.env}", f"--params={given}"]
        print(case.title, pipeline, file=sys.stderr)
        subprocess.run(command, check=True, cwd=ROOT)
        keep_seconds(reporting / "records", folder / "seconds.json")
        if pipeline == "evaluate" and not (folder / "before.parquet").exists():
            table = newest(reporting / "evaluation.parquet")
            shutil.copy(table, folder / "before.parquet")
    models = ROOT / "data" / "06_models" / run_id
    shutil.copy(models / "combination.json", folder)
    shutil.copy(models / "checkpoint_index.parquet", folder)
    for table in ("combination_report.parquet", "evaluation.parquet"):
        shutil.copy(newest(reporting / table), folder / table)
    for figure in (
        "search_progress",
        "coefficients",
        "quality_along_line",
        "quality_landscape",
    ):
        shutil.copy(reporting / f"{figure}.json", folder)
    (folder / "done").touch()
    return folder


def newest(versioned: Path) -> Path:
    """Return the last version of a result."""
    return max(path for path in versioned.rglob(versioned.name) if path.is_file())


def keep_seconds(records: Path, path: Path) -> None:
    """Keep the longest that each node has taken: a continued one takes no time."""
    record = read_records(records)[-1]
    seconds = json.loads(path.read_text()) if path.exists() else {}
    for node in record["nodes"]:
        name = node["node"]
        seconds[name] = max(node["seconds"], seconds.get(name, 0.0))
    path.write_text(json.dumps(seconds))


def report_of(folder: Path) -> tuple[pd.DataFrame, CombinationResult]:
    """Return the report and the combination."""
    said = json.loads((folder / "combination.json").read_text())
    report = pd.read_parquet(folder / "combination_report.parquet")
    return report, CombinationResult.of(said)


def print_table(rows: list[dict[str, Any]]) -> None:
    """Print rows as Markdown."""
    columns = list(rows[0])
    print("| " + " | ".join(columns) + " |\n" + "|---" * len(columns) + "|")
    for row in rows:
        cells = [f"{v:.3g}" if isinstance(v, float) else str(v) for v in row.values()]
        print("| " + " | ".join(cells) + " |")
    print()


def print_search(kept: dict[str, Path]) -> None:
    """Print every method: mean and deviation over seeds, of all that was measured at the end."""
    for folder in kept.values():
        report, combination = report_of(folder)
        values = list(report.columns[report.columns.get_loc(combination.metric) :])
        rows = []
        for title, group in groups_of(report):
            cells = {"": title, "seeds": len(group)}
            for column in ("search_fitness", "selection_fitness", *values):
                found = group[column].astype(float)
                std = f" ± {found.std():.2g}" if len(found) > 1 else ""
                cells[column.replace("_", " ")] = f"{found.mean():.3g}{std}"
            rows.append(cells)
        print_table(rows)
        print(f"{combination.verdict}\n")
        print_evaluations(folder, combination.metric)


def groups_of(report: pd.DataFrame) -> list[tuple[str, pd.DataFrame]]:
    """Return titles and rows: baselines by name, searches by method, their mean alone."""
    is_baseline = report["baseline"].notna()
    baselines, searched = report[is_baseline], report[~is_baseline]
    found = [(row["name"], baselines.loc[[i]]) for i, row in baselines.iterrows()]
    for method, rows in searched.groupby("method", sort=False):
        found.append((str(method), rows[rows["seed"] >= 0]))
        means = rows[rows["seed"] < 0]
        found += [(row["name"], means.loc[[i]]) for i, row in means.iterrows()]
    return found


def print_cheaper(kept: dict[str, Path]) -> None:
    """Print quality and cost of each training, and the factors of speed."""
    rows, full = [], 0.0
    for title, folder in kept.items():
        _, combination = report_of(folder)
        seconds = json.loads((folder / "seconds.json").read_text())
        train = seconds[TRAIN_NODE]
        search = sum(seconds[node] for node in SEARCH_NODES)
        full = full or train
        images = pd.read_parquet(folder / "checkpoint_index.parquet")[
            "num_images"
        ].max()
        rows.append(
            {
                "training": title,
                "images": f"{images:,}",
                "last checkpoint": combination.baselines["last"].scores.test,
                "best EMA": combination.baselines["best_ema"].scores.test,
                "combination": combination.scores.test,
                "training, s": round(train),
                "search, s": round(search),
                "times faster": full / train,
                "with the search": full / (train + search),
            }
        )
    print_table(rows)


def print_better(kept: dict[str, Path]) -> None:
    """Print the distance of each model for each number of evaluations."""
    for title, folder in kept.items():
        _, combination = report_of(folder)
        print(f"{title}: {combination.verdict}\n")
        print_evaluations(folder, combination.metric)


def print_evaluations(folder: Path, metric: str) -> None:
    """Print the distance for each number of evaluations: of the combination, and before it."""
    before = pd.read_parquet(folder / "before.parquet")
    after = pd.read_parquet(folder / "evaluation.parquet")
    table = pd.concat([before, after[after["model"] == "combined"]])
    table = table[(table["metric"] == metric) & (table["nfe"] > 0)]
    wide = table.pivot(index="model", columns="nfe", values="value")
    print_table(
        [
            {"model": model, **{f"NFE {n}": float(v) for n, v in row.items()}}
            for model, row in wide.iterrows()
        ]
    )


if __name__ == "__main__":
    main()
