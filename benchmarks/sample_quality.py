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

from lct_pipeline.core.metrics.frechet import FrechetReference, feature_statistics
from lct_pipeline.core.sample_quality import features_of, noise_batches
from lct_pipeline.evaluation.generator import Generator, build_generator
from lct_pipeline.evaluation.models import TITLES, plans_of
from lct_pipeline.parameters import check_parameters
from lct_pipeline.pipelines.references.extractors import extractor_of

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
    extract = extractor_of(
        catalog.load("feature_extractor"), parameters.runtime
    ).extract
    generator = build_generator(
        catalog.load("best_average").metadata["network"],
        catalog.load("autoencoder"),
        catalog.load("latent_normalisation"),
        parameters.sampling,
        parameters.runtime,
    )
    weights, chosen = weights_of(catalog), catalog.load("sampling_plans")
    real = features_of(catalog.load("images").batches("images", BATCH), extract)
    half = len(real) // 2
    for seed in range(num_seeds):
        order = torch.from_numpy(np.random.default_rng(seed).permutation(len(real)))
        reference = FrechetReference(feature_statistics(real[order[:half]]))
        found = [(REAL, 0, real[order[half : 2 * half]])]
        for what, tensors in weights.items():
            generator.load(tensors)
            for plan in plans_of(chosen, what):
                images = generator.images(half, plan, seed=seed, purpose="benchmark")
                found.append((what, plan.num_evaluations, features_of(images, extract)))
        gaussian = decoded_noise(generator, half, seed)
        found.append((GAUSSIAN, 0, features_of(gaussian, extract)))
        for what, nfe, features in found:
            distance = reference.distance_of_features(features)
            yield {"what": what, "nfe": nfe, "distance": distance}


def weights_of(catalog: Any) -> dict[str, dict[str, torch.Tensor]]:
    """Return the weights of the last checkpoint, the best average and, if any, the combination."""
    index = catalog.load("checkpoint_index")
    last = index.loc[index["kind"] == "raw", "name"].iloc[-1]
    models = {
        "last": catalog.load("checkpoints").read(last),
        "best_ema": catalog.load("best_average"),
        "combined": catalog.load("combined_model_if_any"),
    }
    return {TITLES[name]: model.tensors for name, model in models.items() if model}


def decoded_noise(
    generator: Generator, num_images: int, seed: int
) -> Iterator[torch.Tensor]:
    """Yield images of noise with the latents' standard deviation."""
    noises = noise_batches(
        num_images,
        generator.sample_shape,
        num_evaluations=1,
        batch_size=BATCH,
        seed=seed,
        purpose="gaussian",
    )
    sigma_data = generator.model.sigma_data
    for noise in noises:
        yield generator.decode_latents(sigma_data * noise[0].to(generator.device))


if __name__ == "__main__":
    main()
