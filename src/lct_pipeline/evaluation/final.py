"""The final numbers: all models and controls, seen by all judges."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from itertools import chain
from typing import Any

import torch
from pandas import DataFrame

from lct_pipeline.core.metrics.feature_sets import FeatureReducer, FeatureSet
from lct_pipeline.datasets.decoder import Decoder
from lct_pipeline.datasets.model_set import ModelSet
from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.evaluation.further import judges_of
from lct_pipeline.evaluation.generator import build_generator
from lct_pipeline.evaluation.judges import Judge
from lct_pipeline.evaluation.measures import control_set, rows_of
from lct_pipeline.evaluation.models import (
    NO_PLAN,
    Subject,
    decoded_noise,
    reconstructions,
    trained_models,
)
from lct_pipeline.evaluation.protocol import (
    CLEAN,
    FORMATS,
    PAPER_NUM_IMAGES,
    ImageFormat,
)
from lct_pipeline.parameters import Runtime, Sampling
from lct_pipeline.parameters.evaluation import Evaluation
from lct_pipeline.progress import track

logger = logging.getLogger(__name__)

__all__ = ["Evaluated", "evaluated", "judges_of"]


@dataclass(frozen=True)
class Evaluated:
    """Every figure of every model and plan, and distances by the number of images."""

    rows: list[dict[str, Any]]
    points: list[dict[str, Any]]

    def as_json(self) -> dict[str, Any]:
        """Return the figures as JSON says them."""
        return {"rows": self.rows}

    def table(self) -> DataFrame:
        """Return a row for each figure."""
        return DataFrame(self.rows)

    def by_size(self) -> DataFrame:
        """Return a row for each distance of a part of the images."""
        return DataFrame(self.points)


def evaluated(
    models: ModelSet,
    decoder: Decoder,
    latents: ShardStore,
    image_manifest: DataFrame,
    judges: list[Judge],
    parameters: Evaluation,
    num_kept: int,
    sampling: Sampling,
    runtime: Runtime,
) -> Evaluated:
    """Measure all models and controls by all judges."""
    _tell(models, parameters)
    image_format = FORMATS[parameters.protocol]
    generator = build_generator(
        models.network, decoder, sampling, runtime, quantise=image_format.quantise
    )
    count = parameters.num_images or judges[0].references[0].num_images
    controls = [
        decoded_noise(generator, count),
        reconstructions(
            latents,
            image_manifest,
            decoder,
            image_format.quantise,
            generator.device,
            sampling.batch_size,
        ),
    ]
    panel = Panel(judges, image_format, parameters, num_kept)
    subjects = chain(trained_models(models, generator, count), controls)
    total = sum(map(len, models.plans.values())) + len(controls)
    for subject in track(subjects, "evaluate", "model", total=total):
        panel.judge(subject)
    if parameters.split != "all" and image_format == CLEAN:
        panel.judge_held_out()
    return Evaluated(panel.rows, panel.points)


def _tell(models: ModelSet, parameters: Evaluation) -> None:
    if "combined" not in models.names:
        logger.info(
            "There is no combined model yet: `kedro run --pipeline=combine` makes one."
        )
    if (
        parameters.protocol == "slct_paper"
        and parameters.num_images != PAPER_NUM_IMAGES
    ):
        logger.warning(
            "evaluation.num_images=%d: the paper's FID is of %d images; with fewer it is higher.",
            parameters.num_images,
            PAPER_NUM_IMAGES,
        )


class Panel:
    """All judges together: each image is generated once and seen by each of them.

    Args:
        judges: Who judges.
        image_format: How images are stored.
        parameters: Number of seeds and blocks.
        num_kept: Number of images whose features are kept, at most.
    """

    def __init__(
        self,
        judges: list[Judge],
        image_format: ImageFormat,
        parameters: Evaluation,
        num_kept: int,
    ) -> None:
        self.rows: list[dict[str, Any]] = []
        self.points: list[dict[str, Any]] = []
        self._judges, self._format = judges, image_format
        self._parameters, self._num_kept = parameters, num_kept

    def judge(self, subject: Subject) -> None:
        """Add the rows of one model and plan."""
        first = self._parameters.seed
        last = first + (self._parameters.num_seeds if subject.depends_on_seed else 1)
        seeds = list(range(first, last))
        by_seed = [self._sets(subject, seed) for seed in seeds]
        for judge, sets in zip(self._judges, zip(*by_seed, strict=True), strict=True):
            self._add(subject.about, list(sets), judge, seeds)

    def judge_held_out(self) -> None:
        """Add the rows of real images that are not the reference."""
        about = {"model": "real_validation_images", **NO_PLAN}
        for judge in self._judges:
            assert judge.held_out is not None  # the validation split is always measured
            self._add(about, [control_set(judge.held_out)], judge, [])

    def _sets(self, subject: Subject, seed: int) -> list[FeatureSet]:
        """Return what each judge's extractor finds in the images of one seed."""
        keep = torch.arange(subject.num_images) < self._num_kept
        num_blocks = min(self._parameters.num_blocks, subject.num_images // 2)
        reducers = [FeatureReducer(keep, num_blocks=num_blocks) for _ in self._judges]
        store = self._format.store
        with torch.no_grad():
            for images in subject.batches(seed):
                stored = store(images)
                for judge, reducer in zip(self._judges, reducers, strict=True):
                    features = judge.extractor.extract(stored)
                    classify = judge.extractor.classify
                    reducer.update(features, classify and classify(features))
        return [reducer.result() for reducer in reducers]

    def _add(
        self,
        about: dict[str, Any],
        sets: list[FeatureSet],
        judge: Judge,
        seeds: list[int],
    ) -> None:
        rows, points = rows_of(about, sets, judge, self._format, seeds)
        self.rows += rows
        self.points += points
