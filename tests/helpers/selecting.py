"""Made-up candidates of the tiny run, for the tests of selection and verification."""

from __future__ import annotations

import pandas as pd

# coefficients, named by how well the tiny run generates with them
GOOD, MIDDLE, BAD = [0.2, 0.0, -0.2, 1.0], [0.0, 0.0, 0.0, 1.0], [2.0, -1.0, 0.0, 0.0]


def candidate_scores(**rows: tuple[str, float, list[float]]) -> pd.DataFrame:
    """Return candidates: method, score and coefficients by name; baselines by their own names."""
    table = [
        {
            "name": name,
            "kind": "baseline" if method == "baseline" else "candidate",
            "baseline": name if method == "baseline" else None,
            "method": method,
            "seed": -1 if method == "baseline" else 0,
            "alpha": alpha,
            "search_fitness": score + 1,
            "selection_fitness": score,
            "selection_frechet": score + 2,
        }
        for name, (method, score, alpha) in rows.items()
    ]
    return pd.DataFrame(table)
