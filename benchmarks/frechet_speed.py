"""How fast and how exact the Frechet distance is, beside scipy's square root of the product.

    python benchmarks/frechet_speed.py [--features 2048] [--images 5000] [--few 1000]

The features are made up: rectified sums of Gaussian factors of power-law strength, as the last
layer of a classifier gives them. In this one run, on one thread each, the distance is found from
mean and covariance by `scipy.linalg.sqrtm` of the product, as pytorch-fid and clean-fid do, and
by this project: with nothing known, with the factor of one side known as in a search, and by the
low-rank route from features. What each is off by is measured against a third way, the singular
values of one set of features times the other.
"""

from __future__ import annotations

import argparse
import time
from collections.abc import Callable, Iterator
from statistics import median
from typing import NamedTuple

import numpy as np
import pandas as pd
import scipy
import torch
from threadpoolctl import threadpool_limits
from torch import Tensor

from lct_pipeline.core.metrics.frechet import (
    FeatureStatistics,
    FrechetReference,
    feature_statistics,
)

DECAY = 0.5  # strength of the n-th factor: n^-DECAY


class Route(NamedTuple):
    """One way to the distance."""

    images: str
    name: str
    function: Callable[[], float]
    expected: float


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--features", type=int, default=2048)
    parser.add_argument("--images", type=int, default=5000, help="of the larger sets")
    parser.add_argument("--few", type=int, default=1000, help="of the small set")
    parser.add_argument("--repeats", type=int, default=3, help="the median counts")
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    with threadpool_limits(1):
        rows = list(measure(arguments))
    print(
        f"{arguments.features} features; numpy {np.__version__}, scipy {scipy.__version__}, "
        f"torch {torch.__version__}; 1 thread; median of {arguments.repeats}\n"
    )
    table = pd.DataFrame(rows)
    formats = {"relative error": "{:.1e}".format}
    print(
        table.to_string(index=False, float_format="{:.3f}".format, formatters=formats)
    )


def measure(arguments: argparse.Namespace) -> Iterator[dict[str, object]]:
    """Yield a row for each way; sqrtm is the first of each number of images."""
    baseline = 0.0
    for images, name, function, expected in routes(arguments):
        seconds, distance = timed(function, arguments.repeats)
        baseline = seconds if name.startswith("sqrtm") else baseline
        yield {
            "images": images,
            "route": name,
            "seconds": seconds,
            "times faster": baseline / seconds,
            "distance": distance,
            "relative error": distance / expected - 1,
        }


def routes(arguments: argparse.Namespace) -> Iterator[Route]:
    """Yield the ways that are compared."""
    num_features, num, few = arguments.features, arguments.images, arguments.few
    real = made_up_features(num, num_features, seed=0)
    many = made_up_features(num, num_features, seed=1, strength=1.1)
    a, b = feature_statistics(real), feature_statistics(many)
    known = FrechetReference(a)
    expected = by_singular_values(real, many)
    pair = f"{num} and {num}"
    yield Route(pair, "sqrtm", lambda: by_sqrtm(a, b), expected)
    yield Route(
        pair, "nothing known", lambda: FrechetReference(a).distance(b), expected
    )
    known.factor  # noqa: B018 - found once, as by the first candidate of a search
    yield Route(pair, "factor known", lambda: known.distance(b), expected)
    some = many[:few]
    c = feature_statistics(some)
    expected = by_singular_values(real, some)
    pair = f"{num} and {few}"
    yield Route(pair, "sqrtm", lambda: by_sqrtm(a, c), expected)
    yield Route(pair, "factor known", lambda: known.distance(c), expected)

    def low_rank(reference: FrechetReference) -> float:
        return reference.distance_of_features(some)

    yield Route(pair, "low rank", lambda: low_rank(FrechetReference(a)), expected)
    yield Route(pair, "low rank, factor known", lambda: low_rank(known), expected)


def made_up_features(
    num: int, num_features: int, *, seed: int, strength: float = 1.0
) -> Tensor:
    """Return rectified sums of Gaussian factors, ``(N, D)``, float32."""
    mixing = torch.randn(
        num_features, num_features, generator=torch.Generator().manual_seed(2**20)
    )
    decay = torch.arange(1, num_features + 1) ** -DECAY
    factors = torch.randn(
        num, num_features, generator=torch.Generator().manual_seed(seed)
    )
    return (0.3 + factors * strength * decay @ mixing / num_features**0.5).relu()


def by_sqrtm(a: FeatureStatistics, b: FeatureStatistics) -> float:
    """Return the distance in the way of pytorch-fid and clean-fid."""
    cov_a, cov_b = a.cov.numpy(), b.cov.numpy()
    root = scipy.linalg.sqrtm(cov_a @ cov_b).real
    shift = np.square((a.mu - b.mu).numpy()).sum()
    return float(shift + np.trace(cov_a) + np.trace(cov_b) - 2 * np.trace(root))


def by_singular_values(x: Tensor, y: Tensor) -> float:
    """Return the distance by |A_x A_y^T|_*, A centred features over (N - 1)^(1/2).

    With A = Q R it is |R_x R_y^T|_*: no covariance is formed and no root of an eigenvalue taken.
    """
    roots = []
    for features in (x.double(), y.double()):
        centred = features - features.mean(0)
        roots.append(torch.linalg.qr(centred, mode="r").R / (len(centred) - 1) ** 0.5)
    cross = torch.linalg.svdvals(roots[0] @ roots[1].T).sum()
    traces = sum(root.square().sum() for root in roots)
    shift = (x.double().mean(0) - y.double().mean(0)).square().sum()
    return (shift + traces - 2 * cross).item()


def timed(function: Callable[[], float], repeats: int) -> tuple[float, float]:
    """Return the median of the seconds, and the result."""
    seconds, result = [], 0.0
    for _ in range(repeats):
        start = time.perf_counter()
        result = function()
        seconds.append(time.perf_counter() - start)
    return median(seconds), result


if __name__ == "__main__":
    main()
