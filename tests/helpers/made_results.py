"""Made-up results of an evaluation and of a combination."""

from __future__ import annotations

from typing import Any

from lct_pipeline.datasets.results import CombinationResult, EvaluationRow

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
