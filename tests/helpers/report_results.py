"""Small made-up results of a run, for the tests of the report."""

from __future__ import annotations

import io
from typing import Any

import pandas as pd
import torch
from describing import described
from made_results import FRECHET, combination, row
from matplotlib.figure import Figure

from lct_pipeline.datasets.results import EvaluationRow
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.reporting.results import Results

NETWORK = described()


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
    return {
        "status": "finished",
        "error": None,
        "started": "2026-01-02T03.04.05.000Z",
        "pipelines": ["__default__"],
        "env": "local",
        "commit": "0123456789abcdef",
        "dirty": False,
        "parameters": {
            "ingestion": {"source": "photos/", "image_size": 32},
            "encoding": {"autoencoder": None},
            "training": {"batch_size": 128},
        },
        "parameters_digest": "abcd1234",
        "python": "3.12.1",
        "versions": {"torch": "2.0"},
        "machine": "Linux x86_64, 2 cores",
        "device": "cpu",
        "inputs": {"image_source": "1" * 64},
        "outputs": {"checkpoints": "2" * 64},
        "nodes": [
            {"node": "training.train_model", "seconds": 61.0, "peak_memory_mib": 1000},
            {
                "node": "evaluation.evaluate_models",
                "seconds": 12.0,
                "peak_memory_mib": 1200,
            },
        ],
        **changes,
    }


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
            "spread": [0.1] * 10,
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


def everything(**changes: Any) -> Results:
    """Return a whole run's results."""
    history = pd.DataFrame(
        {
            "evaluation": range(6),
            "metric": FRECHET,
            "method": "gradient",
            "search": 0,
            "kind": [
                "initial",
                "initial",
                "candidate",
                "candidate",
                "candidate",
                "mean",
            ],
            "generation": [0, 0, 1, 2, 3, 4],
            "name": ["EMA 0.9", "last", "a", "b", "c", "gradient 0, mean"],
            "num_images": 800,
            "fitness": [7.0, 9.0, 6.8, 6.0, 5.5, 5.4],
            "spent": [2.0, 2.0, 6.0, 10.0, 14.0, 15.0],
        }
    )
    history["frechet"] = history["fitness"]
    report = pd.DataFrame(
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
    by_size = pd.DataFrame(
        {
            "model": ["last", "last", "combined", "combined"],
            "nfe": 1,
            "metric": FRECHET,
            "reference": "the test split",
            "num_images": [500.0, 1000.0] * 2,
            "mean": [9.0, 8.5, 6.0, 5.4],
        }
    )
    second = pd.DataFrame(
        {
            "nfe": [1, 2, 2],
            "intermediate_sigma": [None, 0.1, 0.3],
            "renoise": [None, "fresh", "fresh"],
            "distance": [5.2, 6.0, 5.0],
            "metric": FRECHET,
            "model": "combined",
        }
    )
    td = statistics(0.001).assign(
        num_levels=[10, 20], step=[50, 100], t=[0.1, 1.0], weight=1.0
    )
    summary = pd.DataFrame(
        {"num_levels": [10, 20], "spread": [0.1, 0.05], "c_paper": [0.03, 0.01]}
    ).assign(c_fitted=[0.1, 0.05])
    values: dict[str, Any] = {
        "run": "tested",
        "records": [record()],
        "network": NETWORK,
        "num_weights": 1_900_000,
        "ingestion": ingestion(),
        "pixel_statistics": statistics(),
        "latent_statistics": statistics(),
        "reconstruction_quality": {
            "exact": False,
            "psnr_db": 28.3,
            "lpips": None,
            "num_images": 9,
        },
        "training_metrics": metrics(),
        "stage_samples": png(),
        "td_statistics": td,
        "td_summary": summary,
        "search_history": history,
        "combination": combination(),
        "combination_report": report,
        "evaluation": rows(),
        "distance_by_size": by_size,
        "two_step_selection": second,
        "copying": {
            "num_images": 512,
            "num_training": 1014,
            "median_ratio": 1.6,
            "smallest_ratio": 0.3,
            "share_below_half": 0.01,
            "held_out_share_below_half": 0.01,
        },
        "nearest_neighbours": png(),
        "sample_panels": panels(),
    }
    return Results(**{**values, **changes})
