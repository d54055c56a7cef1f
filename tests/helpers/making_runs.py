"""Runs as they lie in a project's folders, made without running anything."""

from __future__ import annotations

import json
import os
from copy import deepcopy
from functools import cache
from pathlib import Path
from typing import Any

import pandas as pd

from conftest import ROOT
from lct_pipeline.config_loader import LctConfigLoader, name_of
from lct_pipeline.datasets.results import EvaluationResult, EvaluationRow
from lct_pipeline.parameters import check_parameters
from lct_pipeline.settings import CONFIG_LOADER_ARGS

SPLITS = {"train": 6, "validation": 3, "test": 2}


@cache
def smoke_parameters() -> dict[str, Any]:
    loader = LctConfigLoader(str(ROOT / "conf"), env="smoke", **CONFIG_LOADER_ARGS)
    return check_parameters(loader["parameters"]).model_dump(mode="json")


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
        "parameters": deepcopy(smoke_parameters()),
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
        *parts, last = name.split(".")
        at: Any = record
        for part in parts:
            at = at[part]
        at[last] = value
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
