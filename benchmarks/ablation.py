"""What each technique of sLCT brings, measured by trainings that differ in it alone.

    python benchmarks/ablation.py --source=<zip or folder> [--env cifar10] [--seeds 3] [--jobs 1]
    python benchmarks/ablation.py --study=coupling --source=digits --env=local

The study ``ladder`` goes from iLCT to the full recipe technique by technique, and removes each one
alone from the full recipe; ``coupling`` compares optimal transport with independent noise at
several batch sizes. Every run is trained and evaluated by the project's own pipelines, in a process
of its own. Ended ones are kept in data/08_reporting/ablation/: the same command continues where it
was stopped. It writes <study>-<env>.csv and .png there, and prints the table as Markdown.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import subprocess
import sys
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[1]
FOLDER = ROOT / "data" / "08_reporting" / "ablation"

# the ladder: each step adds to the one before; keys are parameters of training
ILCT = {
    "objective.loss": "pseudo_huber",
    "objective.c_schedule": "constant",
    "objective.diffusion_weight": 0.0,
    "objective.coupling": "independent",
    "network.norm": "group_norm",
}
TECHNIQUES = {
    "Cauchy": {"objective.loss": "cauchy"},
    "diffusion loss": {"objective.diffusion_weight": 5.0},
    "OT": {"objective.coupling": "batch"},
    "adaptive c": {"objective.c_schedule": "paper"},
    "NsLN": {"network.norm": "non_scaling_layer_norm"},
}


def ladder() -> dict[str, dict[str, Any]]:
    """Return the changed parameters of each variant by its name, in the order of the table."""
    found = {
        "iLCT, c on the sum": {**ILCT, "objective.residual": "sum"},
        "iLCT, c on the mean": ILCT,
    }
    chosen = dict(ILCT)
    for name, change in TECHNIQUES.items():
        chosen = {**chosen, **change}
        found[f"+ {name}"] = chosen
    full = chosen
    found["full, c fitted"] = {**full, "objective.c_schedule": "fitted"}
    for name, change in list(TECHNIQUES.items())[:-1]:  # full without NsLN is a rung
        found[f"full without {name}"] = {**full, **{key: ILCT[key] for key in change}}
    return found


def coupling() -> dict[str, dict[str, Any]]:
    """Return both couplings at three batch sizes."""
    return {
        f"{name}, batch {size}": {"objective.coupling": kind, "batch_size": size}
        for size in (32, 128, 512)
        for name, kind in (("independent", "independent"), ("OT", "batch"))
    }


STUDIES = {"ladder": ladder, "coupling": coupling}


def main() -> None:
    """Run what is missing, then draw and print."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--source", required=True, help="images: ingestion.source")
    parser.add_argument("--study", choices=STUDIES, default="ladder")
    parser.add_argument("--env", default="cifar10", help="the recipe to vary")
    parser.add_argument("--params", default="", help="key=value;..., for all runs")
    parser.add_argument("--seeds", type=int, default=3, help="training seeds")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--only", nargs=2, metavar=("VARIANT", "SEED"), help="one run")
    arguments = parser.parse_args()
    if arguments.only:
        run_one(arguments, arguments.only[0], int(arguments.only[1]))
        return
    todo = [
        (name, seed)
        for seed in range(arguments.seeds)
        for name in STUDIES[arguments.study]()
        if not result_file(arguments, name, seed).exists()
    ]
    # the first alone: it makes the latents and references that the others share
    for part in (todo[:1], todo[1:]):
        with ThreadPoolExecutor(arguments.jobs) as pool:
            list(pool.map(lambda job: _spawn(arguments, *job), part))
    report(arguments)


def _spawn(arguments: argparse.Namespace, name: str, seed: int) -> None:
    """Do one run in a process of its own, with its share of the cores."""
    threads = max(1, (os.cpu_count() or 1) // arguments.jobs)
    command = [sys.executable, __file__, "--source", arguments.source]
    command += ["--study", arguments.study, "--params", arguments.params]
    command += ["--env", arguments.env, "--only", name, str(seed)]
    environment = {**os.environ, "OMP_NUM_THREADS": str(threads)}
    print(f"{name}, seed {seed}", file=sys.stderr)
    subprocess.run(command, check=True, env=environment)


def run_id_of(arguments: argparse.Namespace, name: str, seed: int) -> str:
    """Return the name of a run: letters, digits and dashes."""
    words = f"{arguments.env} {arguments.params} {name}".lower().replace("+", "with")
    return "ablation-" + re.sub(r"[^a-z0-9.]+", "-", f"{words} {seed}")


def result_file(arguments: argparse.Namespace, name: str, seed: int) -> Path:
    """Return where the result of a run is kept."""
    return FOLDER / f"{run_id_of(arguments, name, seed)}.json"


def run_one(arguments: argparse.Namespace, name: str, seed: int) -> None:
    """Train and evaluate one variant, and keep its result."""
    from kedro.framework.startup import bootstrap_project

    bootstrap_project(ROOT)
    training = {"seed": seed, **STUDIES[arguments.study]()[name]}
    parameters = nested(
        {
            "run_id": run_id_of(arguments, name, seed),
            "ingestion.source": arguments.source,
            "runtime.num_threads": int(os.environ.get("OMP_NUM_THREADS", "0")),
            **{f"training.{key}": value for key, value in training.items()},
            **{k: yaml.safe_load(v) for k, v in _assignments(arguments.params)},
        }
    )
    shared = ["latent_manifest", "decoder", "reference"]
    catalog, _ = _run(arguments.env, parameters, None)
    if not all(catalog.exists(entry) for entry in shared):
        _run(arguments.env, parameters, {"to_outputs": shared})
    trained = ["training.train_model", "cataloging.index_checkpoints"]
    _run(arguments.env, parameters, {"node_names": trained})
    measured = [
        "baselines.select_best_ema",
        "evaluation.select_sampling_plan",
        "evaluation.measure_further_references",
        "evaluation.evaluate_models",
    ]
    catalog, version = _run(arguments.env, parameters, {"node_names": measured})
    tables = {
        "rows": catalog.load("evaluation_table", version=version),
        "second_step": catalog.load("two_step_selection"),
    }
    about = {"variant": name, "seed": seed}
    metrics = catalog.load("training_metrics")
    _keep(result_file(arguments, name, seed), about, metrics, tables)


def _assignments(text: str) -> list[tuple[str, str]]:
    """Return the keys and values of ``key=value;key=value``."""
    return [(k, v) for k, v in (part.split("=", 1) for part in text.split(";") if part)]


def nested(values: dict[str, Any]) -> dict[str, Any]:
    """Return values with dotted keys as groups within groups."""
    found: dict[str, Any] = {}
    for key, value in values.items():
        *groups, leaf = key.split(".")
        place = found
        for group in groups:
            place = place.setdefault(group, {})
        place[leaf] = value
    return found


def _run(
    env: str, parameters: dict[str, Any], nodes: dict[str, list[str]] | None
) -> tuple[Any, str]:
    """Run some nodes of the evaluation and all it needs; return the catalog and the version."""
    from kedro.framework.session import KedroSession

    with KedroSession.create(
        project_path=ROOT, env=env, runtime_params=parameters
    ) as session:
        if nodes is not None:
            session.run(pipeline_names=["train", "evaluate"], **nodes)
        return session.load_context().catalog, session.session_id


def _keep(
    path: Path, about: dict[str, Any], metrics: Any, tables: dict[str, Any]
) -> None:
    """Write the result of a run, atomically."""
    path.parent.mkdir(parents=True, exist_ok=True)
    result = {
        **about,
        "images_per_second": float(metrics["images_per_second"].median()),
        "coupling_seconds": float(metrics["coupling_seconds"].mean()),
        "wait_seconds": float(metrics["wait_seconds"].mean()),
        **{key: json.loads(t.to_json(orient="records")) for key, t in tables.items()},
    }
    temporary = path.with_suffix(".tmp")
    temporary.write_text(json.dumps(result, indent=1))
    temporary.replace(path)


def is_frechet(entry: dict[str, Any]) -> bool:
    """Return whether a row is the Frechet distance by the extractor that selects."""
    if entry["extractor"].startswith("check_"):
        return False
    return entry["metric"] in ("fid", f"{entry['extractor']}_frechet_distance")


def results(arguments: argparse.Namespace) -> Any:
    """Return one row per run: its distances on the test split, and its speed.

    The last two are two evaluations on the validation split, at the best level for new noise and
    for the first noise again.
    """
    import pandas as pd

    rows = []
    for name in STUDIES[arguments.study]():
        for seed in range(arguments.seeds):
            kept = json.loads(result_file(arguments, name, seed).read_text())
            row = {"variant": name, "seed": seed}
            for entry in kept["rows"]:
                if is_frechet(entry):
                    row[f"{entry['model']}, NFE {entry['nfe']}"] = entry["value"]
                    row["metric"] = entry["metric"]
            for noise in ("fresh", "same"):
                two = [
                    r["distance"]
                    for r in kept["second_step"]
                    if r["renoise"] == noise and r["model"] == "best_ema"
                ]
                row[f"NFE 2, {noise} noise"] = min(two)
            rows.append({**row, "images/s": kept["images_per_second"]})
    return pd.DataFrame(rows)


def report(arguments: argparse.Namespace) -> None:
    """Write the table and the figure, and print the table."""
    table = results(arguments)
    stem = f"{arguments.study}-{arguments.env}"
    table.to_csv(FOLDER / f"{stem}.csv", index=False)
    controls = ("gaussian", "real")
    columns = [c for c in table if "NFE" in c and not c.startswith(controls)]
    print("| variant | " + " | ".join(columns) + " | images/s |")
    print("|---|" + "---|" * (len(columns) + 1))
    for name, rows in table.groupby("variant", sort=False):
        cells = [f"{rows[c].mean():.2f} ± {rows[c].std():.2f}" for c in columns]
        print(
            f"| {name} | " + " | ".join(cells) + f" | {rows['images/s'].mean():.0f} |"
        )
    draw(table, FOLDER / f"{stem}.png")


def draw(table: Any, path: Path) -> None:
    """Draw a point per seed and a bar at the mean, for one and for two evaluations."""
    import matplotlib

    matplotlib.use("Agg")
    from matplotlib import pyplot as plt

    names = list(dict.fromkeys(table["variant"]))
    columns = {"best_ema, NFE 1": "1 evaluation", "best_ema, NFE 2": "2 evaluations"}
    figure, axes = plt.subplots(
        1, 2, figsize=(11, 5.2), sharey=True, layout="constrained"
    )
    for axis, (column, title) in zip(axes, columns.items(), strict=True):
        means = table.groupby("variant", sort=False)[column].mean()
        axis.barh(names, means[names], color="#b8cbe0")
        axis.scatter(table[column], table["variant"], s=14, color="#1f3d5c", zorder=3)
        axis.set_title(title)
        axis.set_xlabel(
            f"{table['metric'].iloc[0].replace('_', ' ')} (lower is better)"
        )
    axes[0].invert_yaxis()
    figure.savefig(path, dpi=110)


if __name__ == "__main__":
    main()
