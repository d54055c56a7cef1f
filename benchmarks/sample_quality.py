"""How good the models of the last run are, on the scale of real images and of no model at all.

    python benchmarks/sample_quality.py [--env smoke] [--seeds 3]

One half of all images is compared with the other half, with as many generated ones, and with as
many decoded Gaussian latents. Training images are on both sides, so that there are enough: these
figures place a run, the held-out ones are in data/08_reporting/evaluation.json.
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

from lct_pipeline.core.frechet import feature_statistics, frechet_distance
from lct_pipeline.core.randomness import derived_generator
from lct_pipeline.core.sample_quality import features_of
from lct_pipeline.parameters import check_parameters
from lct_pipeline.pipelines.generation import build_generator
from lct_pipeline.pipelines.references.nodes import extractor_of

BATCH = 64


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
    summary["over real/real"] = summary["mean"] / summary["mean"].iloc[0]
    matched = summary.loc[("Gaussian latents, matched", 0), "mean"]
    summary["over Gaussian"] = summary["mean"] / matched
    print(summary.to_string(float_format="{:.3f}".format))


def measure(catalog: Any, parameters: Any, num_seeds: int) -> Iterator[dict[str, Any]]:
    """Yield what was compared, its NFE and its Frechet distance to one half of the real images."""
    images, combined = catalog.load("images"), catalog.load("combined_model")
    controls = catalog.load("control_models")
    weights = {
        "last checkpoint": controls.read("last").tensors,
        "best EMA": controls.read("best_ema").tensors,
        "combined (LCSC)": combined.tensors,
    }
    extractor = extractor_of(catalog.load("feature_extractor"), parameters.runtime)
    generator = build_generator(
        combined.metadata["network"],
        catalog.load("autoencoder"),
        catalog.load("latent_normalisation"),
        parameters.sampling,
        parameters.runtime,
    )
    real = features_of(images.batches("images", BATCH), extractor.extract)
    half = len(real) // 2
    for seed in range(num_seeds):
        order = torch.from_numpy(np.random.default_rng(seed).permutation(len(real)))
        reference = feature_statistics(real[order[:half]])

        def row(
            what: str, nfe: int, features: torch.Tensor, reference: Any = reference
        ) -> dict[str, Any]:
            distance = frechet_distance(reference, feature_statistics(features))
            return {"what": what, "nfe": nfe, "distance": distance}

        yield row("real, other half", 0, real[order[half : 2 * half]])
        for name, tensors in weights.items():
            generator.load(tensors)
            for nfe in (1, 2):
                batches = generator.images(
                    half, num_evaluations=nfe, seed=seed, purpose="benchmark"
                )
                yield row(name, nfe, features_of(batches, extractor.extract))
        noise = torch.randn(
            half, *generator.sample_shape, generator=derived_generator(seed, "gaussian")
        )
        sigma_data = generator.model.sigma_data
        batches = (
            generator.decode_latents(sigma_data * z.to(generator.device))
            for z in noise.split(BATCH)
        )
        yield row(
            "Gaussian latents, matched", 0, features_of(batches, extractor.extract)
        )


if __name__ == "__main__":
    main()
