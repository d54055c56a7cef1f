"""A small made-up run, for the tests of the report."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from describing import described
from making_runs import FRECHET, combination, make_record, row
from matplotlib.figure import Figure

from lct_pipeline.datasets.results import EvaluationResult, EvaluationRow, Result
from lct_pipeline.datasets.run_folder import RunFolder
from lct_pipeline.datasets.tensors import TensorFile, TensorFileDataset
from lct_pipeline.reporting.box_plots import draw_td_box_plot
from lct_pipeline.reporting.page import page

NETWORK = described()
TRAINING = {"network": NETWORK.as_json(), "num_weights": 1_900_000}


def rows(combined: float = 5.2, std: float | None = 0.4) -> list[EvaluationRow]:
    """Return the rows of a run as in the README."""
    return [
        row("last", 8.4, 0.5),
        row("best_ema", 6.3, std),
        row("combined", combined, std),
        row("combined", 4.8, 0.4, nfe=2, intermediate_sigma=0.3, renoise="same"),
        row("gaussian_latents", 60.4, 0.9),
        row("real_validation_images", 5.3, None),
    ]


def record(**changes: Any) -> dict[str, Any]:
    """Return a record of a session."""
    values = {
        "env": "local",
        "started": "2026-01-02T03.04.05.000Z",
        "commit": "0123456789abcdef",
        "parameters.ingestion.source": "photos/",
        "parameters.ingestion.image_size": 32,
        "parameters.training.batch_size": 128,
    }
    made = make_record(**values)
    trained, evaluated = "training.train_model", "evaluation.evaluate_models"
    made["nodes"] = [
        {"node": trained, "seconds": 61.0, "peak_memory_mib": 1000},
        {"node": evaluated, "seconds": 12.0, "peak_memory_mib": 1200},
    ]
    return made | changes


def metrics() -> pd.DataFrame:
    """Return a training of two stages."""
    steps = list(range(10, 101, 10))
    return pd.DataFrame(
        {
            "step": steps,
            "loss": [20.0 / s for s in steps],
            "consistency_loss": [15.0 / s for s in steps],
            "diffusion_loss": [1.0 / s for s in steps],
            "num_levels": [10] * 5 + [20] * 5,
            "c": [0.05] * 10,
            "td_rms": [0.1] * 10,
            "images_per_second": [3800.0] * 10,
        }
    )


def ingestion(**changes: Any) -> dict[str, Any]:
    """Return the record of eight images, one of them broken and one a copy in no split."""
    return {
        "num_entries": 8,
        "splits": {"train": 2, "validation": 2, "test": 2},
        "problems": {"cut <short>": 1},
        "num_problems": 1,
        "num_copies": 1,
        **changes,
    }


def statistics(outer: float = 0.0) -> pd.DataFrame:
    """Return outlier statistics of one channel and of all."""
    values = {
        "num_values": 1000,
        "mean": 0.0,
        "minimum": -3.0,
        "maximum": 3.0,
        "q1": -0.7,
        "median": 0.0,
        "q3": 0.7,
        "inner_low": -2.8,
        "inner_high": 2.8,
        "outer_low": -4.9,
        "outer_high": 4.9,
        "share_beyond_inner": 0.01,
        "share_beyond_outer": outer,
        "gaussian_share_beyond_inner": 0.007,
        "gaussian_share_beyond_outer": 2.3e-6,
        "excess_kurtosis": 0.1,
    }
    return pd.DataFrame([{"channel": "0", **values}, {"channel": "all", **values}])


def panels(side: int = 8, count: int = 16) -> TensorFile:
    """Return samples as the evaluation keeps them: smooth, as photographs are in places."""
    ramp = torch.linspace(0, 255, side)
    image = (ramp[:, None] + ramp[None, :]).div(2).to(torch.uint8).expand(3, side, side)
    images = torch.stack([image.roll(n, 1) for n in range(count)])
    found = [("last", 1), ("best_ema", 1), ("combined", 1), ("combined", 2)]
    found += [("gaussian_latents", 0), ("real_test_images", 0)]
    tensors = {f"{model}-{nfe}": images for model, nfe in found}
    return TensorFile(tensors, {"panels": [{"model": m, "nfe": n} for m, n in found]})


def png() -> bytes:
    """Return a drawn figure."""
    figure, file = Figure(figsize=(4, 2)), io.BytesIO()
    figure.subplots().plot([1, 2, 3])
    figure.savefig(file, format="png")
    return file.getvalue()


def history() -> pd.DataFrame:
    """Return a gradient search of three steps."""
    steps = ["candidate"] * 3
    table = pd.DataFrame(
        {
            "evaluation": range(6),
            "kind": ["initial", "initial", *steps, "mean"],
            "generation": [0, 0, 1, 2, 3, 4],
            "name": ["EMA 0.9", "last", "a", "b", "c", "gradient 0, mean"],
            "fitness": [7.0, 9.0, 6.8, 6.0, 5.5, 5.4],
            "spent": [2.0, 2.0, 6.0, 10.0, 14.0, 15.0],
            "alpha": [[0.5, 0.5]] * 6,
        }
    )
    about = {"metric": FRECHET, "method": "gradient", "search": 0, "split": "train"}
    return table.assign(frechet=table["fitness"], num_images=800, **about)


def report() -> pd.DataFrame:
    """Return what a combination is compared with."""
    return pd.DataFrame(
        {
            "name": ["last", "EMA 0.9", "gradient 0, mean"],
            "baseline": ["last", "best_ema", None],
            "method": ["baseline", "baseline", "gradient"],
            "seed": [-1, -1, 0],
            "selection_fitness": [8.5, 6.4, 5.4],
            "selection_frechet": [8.5, 6.4, 5.4],
            FRECHET: [8.4, 6.3, 5.2],
        }
    )


COPYING = {
    "num_images": 512,
    "num_training": 1014,
    "median_ratio": 1.6,
    "smallest_ratio": 0.3,
    "share_below_half": 0.01,
    "held_out_share_below_half": 0.01,
}


def made_run(folder: Path, name: str = "tested", **changes: Any) -> RunFolder:
    """Write a whole run; what is None among ``changes`` is missing, and lists are records."""
    run = RunFolder(folder / "models" / name, folder / "reports" / name)
    td = statistics(0.001).assign(num_levels=[10, 20], step=[50, 100], t=[0.1, 1.0])
    td = td.assign(weight=1.0, space="latents")
    quality = {"exact": False, "psnr_db": 28.3, "lpips": None, "num_images": 9}
    results: dict[str, Any] = {
        "records": [record()],
        "pixel_statistics": statistics(),
        "latent_statistics": statistics(),
        "reconstruction_quality": quality,
        "training_metrics": metrics(),
        "stage_samples": png(),
        "td_statistics": td,
        "td_box_plot": json.loads(draw_td_box_plot(td).to_json()),
        "search_history": history(),
        "combination": combination(),
        "combination_report": report(),
        "evaluation": EvaluationResult(rows=rows()),
        "copying": COPYING,
        "nearest_neighbours": png(),
        "sample_panels": panels(),
    }
    for key, value in (results | changes).items():
        write(run.reporting, key, value)
    return run


def write(folder: Path, name: str, value: Any) -> None:
    """Write a result as its dataset does."""
    folder.mkdir(parents=True, exist_ok=True)
    if isinstance(value, list):
        for number, each in enumerate(value):
            write(folder / name, str(number), each)
    elif isinstance(value, pd.DataFrame):
        value.to_parquet(folder / f"{name}.parquet")
    elif isinstance(value, TensorFile):
        TensorFileDataset(filepath=str(folder / f"{name}.safetensors")).save(value)
    elif isinstance(value, bytes):
        (folder / f"{name}.png").write_bytes(value)
    elif value is not None:
        said = value.model_dump() if isinstance(value, Result) else value
        (folder / f"{name}.json").write_text(json.dumps(said))


def made_page(folder: Path, **changes: Any) -> str:
    """Return the report of a whole run but for ``changes``, among them those of records."""
    given = {"ingestion": ingestion(), "training": TRAINING} | changes
    records = (given.pop("ingestion"), given.pop("training"))
    return page(made_run(folder, **given), *records)
