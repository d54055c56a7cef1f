"""Runs as they lie in a project's folders, and results, made without running anything."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pandas as pd
from configuration import recipe

from conftest import put
from lct_pipeline.config_loader import name_of
from lct_pipeline.datasets.results import (
    CombinationResult,
    EvaluationResult,
    EvaluationRow,
)

FRECHET = "classifier_frechet_distance"


def around(value: float, std: float | None) -> list[float]:
    """Return values of three seeds with that mean and standard deviation; None is of one seed."""
    return [value] if std is None else [value - std, value, value + std]


def row(
    model: str, value: float, std: float | None = 0.1, **changes: Any
) -> EvaluationRow:
    """Return a row of an evaluation: a Frechet distance, of a trained model in one step."""
    is_model = model in ("last", "best_ema", "combined")
    by_seed = around(value, std) if is_model else [value]
    values = {
        "model": model,
        "nfe": 1 if is_model else 0,
        "metric": FRECHET,
        "value": value,
        "std": std,
        "standard_error": None,
        "by_seed": by_seed,
        "protocol": "aaaa1111" if is_model else "bbbb2222",
        "extractor": "classifier",
        "extractor_digest": "e" * 64,
        "resize": "none",
        "quantisation": "rounded",
        "file_format": "lossless",
        "reference": "the test split",
        "reference_digest": "f" * 64,
        "num_generated": 2000 if is_model else 398,
        "num_real": 385,
        "kept_generated": 2000,
        "kept_real": 385,
        "seeds": list(range(len(by_seed))) if is_model else [],
        "versions": "torch 2.0",
    }
    return EvaluationRow(**values | changes)


def combination(**changes: Any) -> CombinationResult:
    """Return a combination that is better than the best EMA, which is better than the last."""
    ours = scores(5.4, test=5.15, decision=around(5.5, 0.2))
    theirs = scores(6.4, test=6.25, decision=around(6.5, 0.2))
    values = {
        "name": "gradient 0, mean",
        "method": "gradient",
        "alpha": [-0.5, 0.3, 1.2],
        "steps": [10, 20, 30],
        "checkpoints": ["step-10-raw", "step-20-raw", "step-30-raw"],
        "digests": ["a" * 64, "b" * 64, "c" * 64],
        "metric": FRECHET,
        "scores": ours,
        "baselines": {
            "last": {"name": "last", "scores": scores(8.5, test=8.4)},
            "best_ema": {"name": "EMA 0.9", "scores": theirs},
        },
        "best_baseline": "best_ema",
        "seeds": {"0": ours},
        "gain": {"share": 0.15, "standard_error": 0.01, "outcome": "gain"},
        "check_gain": None,
        "is_selected": True,
        "selected": "gradient 0, mean",
        "verdict": "Combining checkpoints helped: 15% closer to real images.",
        "parameters": {
            "fitness": {"num_images": 800},
            "search": {"methods": ["gradient"], "num_seeds": 3, "num_evaluations": 100},
            "selection": {"num_images": 700},
        },
    }
    return CombinationResult.of(values | changes)


def scores(
    selection: float, *, test: float, decision: list[float] | None = None
) -> dict[str, Any]:
    """Return scores; only those of what was compared have a decision."""
    search = selection - 0.5
    return {
        "search": search,
        "selection": selection,
        "decision": decision,
        "test": test,
    }


SPLITS = {"train": 6, "validation": 3, "test": 2}


def make_record(**changes: Any) -> dict[str, Any]:
    """Return the record of a finished session of a minute; changes by dotted name."""
    record = {
        "status": "finished",
        "error": None,
        "started": "2026-03-01T10.00.00.000Z",
        "ended": "2026-03-01T10.01.00.000Z",
        "pipelines": ["__default__"],
        "env": "smoke",
        "process": os.getpid(),
        "commit": "a" * 40,
        "dirty": False,
        "parameters": recipe().model_dump(mode="json"),
        "parameters_digest": "abcd1234",
        "python": "3.11.7",
        "versions": {"torch": "2.13.0", "numpy": "2.4.0"},
        "machine": "Linux x86_64, 2 cores",
        "device": "cpu",
        "inputs": {"image_source": "f" * 64},
        "outputs": {"checkpoints": "c" * 64},
        "nodes": [
            {"node": "training.train_model", "seconds": 90.0, "peak_memory_mib": 100}
        ],
    }
    for name, value in changes.items():
        put(record, name, value)
    return record


def make_run(
    project: Path,
    name: str,
    *records: dict[str, Any],
    rows: list[EvaluationRow] | None = None,
    steps: tuple[int, ...] = (),
) -> None:
    """Write the folders of a run, and the manifest of its images."""
    reporting = project / "data" / "08_reporting" / name
    (reporting / "records").mkdir(parents=True)
    for record in records:
        path = reporting / "records" / f"{record['started']}.json"
        path.write_text(json.dumps(record))
        make_manifest(project, record["parameters"])
    if rows is not None:
        text = EvaluationResult(rows=rows).model_dump_json()
        (reporting / "evaluation.json").write_text(text)
    checkpoints = project / "data" / "06_models" / name / "checkpoints"
    checkpoints.mkdir(parents=True)
    for step in steps:
        (checkpoints / f"step-{step:07d}-raw.safetensors").write_bytes(bytes(2**20))


def make_manifest(project: Path, parameters: dict[str, Any]) -> None:
    folder = project / "data" / "02_intermediate" / name_of(parameters, "ingestion")
    folder.mkdir(parents=True, exist_ok=True)
    splits = [name for name, count in SPLITS.items() for _ in range(count)]
    table = pd.DataFrame({"split": [*splits, None], "source": "image"})
    table.to_parquet(folder / "image_manifest.parquet")
