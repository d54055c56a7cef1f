"""The final values: all models and controls, in all feature spaces."""

from __future__ import annotations

import logging
from itertools import chain
from typing import Any

from pandas import DataFrame

from lct_pipeline.datasets.decoder import Decoder
from lct_pipeline.datasets.model_set import ModelSet
from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.datasets.splits import indices_of
from lct_pipeline.evaluation.evaluator import Evaluator, Measured
from lct_pipeline.evaluation.feature_spaces import FeatureSpace
from lct_pipeline.evaluation.generator import build_generator
from lct_pipeline.evaluation.models import (
    decoded_noise,
    plans_of,
    reconstructions,
    trained_models,
)
from lct_pipeline.evaluation.protocol import CLEAN, FORMATS, PAPER_NUM_IMAGES
from lct_pipeline.parameters import Runtime, Sampling
from lct_pipeline.parameters.evaluation import Evaluation
from lct_pipeline.progress import track

logger = logging.getLogger(__name__)

NUM_BLOCKS = 4  # of each seed's images, for the distance by their number


def evaluated(
    models: ModelSet,
    decoder: Decoder,
    latents: ShardStore,
    image_manifest: DataFrame,
    spaces: list[FeatureSpace],
    parameters: Evaluation,
    num_retained: int,
    sampling: Sampling,
    runtime: Runtime,
) -> Measured:
    """Measure all models and controls against the test split, with noise that selected nothing."""
    _tell(models, parameters)
    image_format = FORMATS[parameters.protocol]
    generator = build_generator(
        models.network, decoder, sampling, runtime, quantise=image_format.quantise
    )
    evaluator = Evaluator(spaces, image_format, num_retained, NUM_BLOCKS)
    count = parameters.num_images or spaces[0].references[0].num_images
    plans = {name: plans_of(models, name) for name in models.names}
    weights = ((name, models.file(name).tensors) for name in models.names)
    controls = [
        decoded_noise(generator, count),
        reconstructions(latents, indices_of(image_manifest, "test"), generator),
    ]
    trained = trained_models(weights, plans, generator, count, "evaluation")
    total = sum(map(len, plans.values())) + len(controls)
    seeds = range(parameters.seed, parameters.seed + parameters.num_seeds)
    found, known = [], dict[Any, Measured]()
    for subject in track(chain(trained, controls), "evaluate", "model", total=total):
        if subject.key not in known:
            own = seeds if subject.depends_on_seed else seeds[:1]
            known[subject.key] = evaluator.measure(subject, own)
        found.append(known[subject.key].of(subject.about))
    if parameters.split != "all" and image_format == CLEAN:
        found.append(evaluator.measure_held_out())
    return Measured.joined(found)


def _tell(models: ModelSet, parameters: Evaluation) -> None:
    if "combined" not in models.names:
        logger.info(
            "There is no combined model yet: `kedro run --pipeline=combine` makes one."
        )
    num_images = parameters.num_images
    if parameters.protocol == "slct_paper" and num_images != PAPER_NUM_IMAGES:
        logger.warning(
            "evaluation.num_images=%d: the paper's FID is of %d images; with fewer it is higher.",
            num_images,
            PAPER_NUM_IMAGES,
        )
