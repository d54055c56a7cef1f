"""Nodes of the evaluation stage: the final numbers."""

from __future__ import annotations

import logging
from itertools import chain
from typing import TYPE_CHECKING, Any

from lct_pipeline.datasets.autoencoder import StoredAutoencoder
from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.datasets.tensors import CheckpointStore, TensorFile
from lct_pipeline.errors import DataError
from lct_pipeline.evaluation.judges import Judge
from lct_pipeline.evaluation.measures import control_set, rows_of
from lct_pipeline.evaluation.models import (
    NO_PLAN,
    Subject,
    decoded_noise,
    plans_of,
    reconstructions,
    trained_models,
    weights_of,
)
from lct_pipeline.evaluation.protocol import (
    CLEAN,
    FORMATS,
    PAPER_NUM_IMAGES,
    ImageFormat,
    log_by_protocol,
)
from lct_pipeline.lazy_types import DataFrame, pd
from lct_pipeline.parameters import Runtime, Sampling
from lct_pipeline.parameters.evaluation import Evaluation, Features
from lct_pipeline.pipelines.evaluation.further import judges_of
from lct_pipeline.progress import track

if TYPE_CHECKING:
    from lct_pipeline.core.metrics.feature_sets import FeatureSet

logger = logging.getLogger(__name__)


def evaluate_models(
    best_average: TensorFile,
    combined_model: TensorFile | None,
    checkpoint_index: DataFrame,
    checkpoints: CheckpointStore,
    sampling_plans: dict[str, Any],
    autoencoder: StoredAutoencoder,
    latent_normalisation: TensorFile,
    latents: ShardStore,
    image_manifest: DataFrame,
    feature_extractor: TensorFile,
    check_extractor: TensorFile,
    reference_statistics: TensorFile,
    further_references: TensorFile,
    given_reference: TensorFile | None,
    parameters: Evaluation,
    features: Features,
    sampling: Sampling,
    runtime: Runtime,
) -> tuple[dict[str, Any], DataFrame, DataFrame]:
    """Return every figure of every model and plan, and distances by the number of images."""
    from lct_pipeline.evaluation.generator import build_generator

    _tell(combined_model, parameters)
    image_format = FORMATS[parameters.protocol]
    judges = judges_of(
        feature_extractor,
        check_extractor,
        reference_statistics,
        further_references,
        given_reference,
        parameters,
        features,
        runtime,
    )
    generator = build_generator(
        best_average.metadata["network"],
        autoencoder,
        latent_normalisation,
        sampling,
        runtime,
        quantise=image_format.quantise,
    )
    weights = weights_of(best_average, combined_model, checkpoint_index, checkpoints)
    plans = {name: plans_of(sampling_plans, name) for name in weights}
    count = parameters.num_images or judges[0].references[0].num_images
    subjects = chain(
        trained_models(weights, plans, generator, count),
        [
            decoded_noise(generator, count),
            reconstructions(
                latents,
                image_manifest,
                autoencoder,
                image_format.quantise,
                generator.device,
                sampling.batch_size,
            ),
        ],
    )
    panel = Panel(judges, image_format, parameters, features.num_kept)
    for subject in track(
        subjects, "evaluate", "model", total=sum(map(len, plans.values())) + 2
    ):
        panel.judge(subject)
    if parameters.split != "all" and image_format == CLEAN:
        panel.judge_held_out()
    return {"rows": panel.rows}, pd.DataFrame(panel.rows), pd.DataFrame(panel.points)


def _tell(combined_model: TensorFile | None, parameters: Evaluation) -> None:
    if combined_model is None:
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
        import torch

        from lct_pipeline.core.metrics.feature_sets import FeatureReducer

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


def log_evaluation(evaluation_table: DataFrame) -> None:
    """Log what a person looks for at the end of a run, a table for each protocol."""
    if evaluation_table.empty:
        raise DataError("the evaluation has no rows.")
    log_by_protocol(evaluation_table)
