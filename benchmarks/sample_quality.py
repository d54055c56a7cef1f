"""How good the models of the last run are, on the scale of real images and of no model at all.

    python benchmarks/sample_quality.py [--env smoke] [--seeds 3]

One half of all images is compared with the other half, with as many generated ones, and with as
many decoded Gaussian latents. Training images are on both sides, so that there are enough: these
values place a run, the held-out ones are in data/08_reporting/evaluation.json.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from kedro.framework.session import KedroSession
from kedro.framework.startup import bootstrap_project

from lct_pipeline.core.metrics.frechet import FrechetReference, feature_statistics
from lct_pipeline.core.sample_quality import features_of
from lct_pipeline.evaluation.feature_spaces import extractor_of
from lct_pipeline.evaluation.generator import build_generator, gaussian_images
from lct_pipeline.parameters import check_parameters
from lct_pipeline.reporting.words import MODELS

BATCH = 64
REAL, GAUSSIAN = "real, other half", "Gaussian latents, matched"


def main() -> None:
    """Measure and print one table."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--env", default="local", help="the recipe that was run")
    parser.add_argument("--seeds", type=int, default=3, help="noise seeds and splits")
    arguments = parser.parse_args()
    root = Path(__file__).parents[1]
    bootstrap_project(root)
    with KedroSession.create(project_path=root, env=arguments.env) as session:
        context = session.load_context()
        parameters = check_parameters(context.params)
        rows = list(measure(context.catalog, parameters, arguments.seeds))
    table = pd.DataFrame(rows).groupby(["what", "nfe"], sort=False)["distance"]
    summary = table.agg(["mean", "std"])
    summary["over real/real"] = summary["mean"] / summary.loc[(REAL, 0), "mean"]
    summary["over Gaussian"] = summary["mean"] / summary.loc[(GAUSSIAN, 0), "mean"]
    print(summary.to_string(float_format="{:.3f}".format))


def measure(catalog: Any, parameters: Any, num_seeds: int) -> Iterator[dict[str, Any]]:
    """Yield what was compared, its NFE and its Frechet distance to one half of the real images."""
    extractor = catalog.load("reference").extractor
    extract = extractor_of(extractor, parameters.runtime).extract
    models = catalog.load("models")
    generator = build_generator(
        models.network,
        catalog.load("decoder"),
        parameters.sampling,
        parameters.runtime,
    )
    real = features_of(catalog.load("images").batches("images", BATCH), extract)
    half = len(real) // 2
    for seed in range(num_seeds):
        order = torch.from_numpy(np.random.default_rng(seed).permutation(len(real)))
        reference = FrechetReference(feature_statistics(real[order[:half]]))
        found = [(REAL, 0, real[order[half : 2 * half]])]
        for name in models.names:
            generator.load(models.file(name).tensors)
            for plan in models.plans[name]:
                images = generator.images(half, plan, seed=seed, purpose="benchmark")
                features = features_of(images, extract)
                found.append((MODELS[name], plan.num_evaluations, features))
        gaussian = gaussian_images(generator, half, seed)
        found.append((GAUSSIAN, 0, features_of(gaussian, extract)))
        for what, nfe, features in found:
            distance = reference.distance_of_features(features)
            yield {"what": what, "nfe": nfe, "distance": distance}


if __name__ == "__main__":
    main()
