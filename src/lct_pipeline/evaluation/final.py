"""The final values: all models and controls, in all feature spaces; and what is drawn of them."""

from __future__ import annotations

import logging
from itertools import chain
from typing import Any

from pandas import DataFrame
from plotly.graph_objects import Figure

from lct_pipeline.commands import command
from lct_pipeline.datasets.decoder import Decoder
from lct_pipeline.datasets.model_set import ModelSet
from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.datasets.splits import indices_of
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import DataError
from lct_pipeline.evaluation.evaluator import Evaluator, Measured
from lct_pipeline.evaluation.feature_spaces import FeatureSpace
from lct_pipeline.evaluation.generator import (
    build_generator,
    decoded_noise,
    reconstructions,
    trained_models,
)
from lct_pipeline.evaluation.protocol import (
    CLEAN,
    FORMATS,
    PAPER_NUM_IMAGES,
    log_by_protocol,
)
from lct_pipeline.parameters import Runtime, Sampling
from lct_pipeline.parameters.evaluation import Evaluation
from lct_pipeline.progress import track
from lct_pipeline.reporting.curves import draw_size_bias, draw_two_step_sweep

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
    weights = ((name, models.file(name).tensors) for name in models.names)
    controls = [
        decoded_noise(generator, count),
        reconstructions(latents, indices_of(image_manifest, "test"), generator),
    ]
    trained = trained_models(weights, models.plans, generator, count, "evaluation")
    total = sum(map(len, models.plans.values())) + len(controls)
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
        logger.info("There is no combined model yet: %s makes one.", command("combine"))
    num_images = parameters.num_images
    if parameters.protocol == "slct_paper" and num_images != PAPER_NUM_IMAGES:
        logger.warning(
            "evaluation.num_images=%d: the paper's FID is of %d images; with fewer it is higher.",
            num_images,
            PAPER_NUM_IMAGES,
        )


def conclusion(
    evaluation_table: DataFrame,
    two_step_selection: DataFrame,
    distance_by_size: DataFrame,
    sample_panels: TensorFile,
    copying: dict[str, Any],
) -> tuple[Figure, Figure, dict[str, Any]]:
    """Log the values by protocol; return two charts and the record.

    Raises:
        DataError: There is no value.
    """
    if evaluation_table.empty:
        raise DataError("the evaluation has no rows.")
    log_by_protocol(evaluation_table)
    made = evaluation_table[["metric", "protocol"]]
    first = evaluation_table[made.eq(made.iloc[0]).all(axis=1)]
    columns = ["model", "nfe", "metric", "value", "std"]  # of a Frechet distance
    record = {
        "distances": first[columns].to_dict(orient="records"),
        "num_models": evaluation_table["model"].nunique(),
        "num_panels": len(sample_panels.metadata["panels"]),
        "copying": copying.get("median_ratio"),
    }
    return (
        draw_two_step_sweep(two_step_selection),
        draw_size_bias(distance_by_size),
        record,
    )
