"""Which decides: the best EMA of a run, and whether a combination is better, by validation."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from pandas import DataFrame

from lct_pipeline.combination.baselines import candidate_emas
from lct_pipeline.combination.candidates import SCORES, best_ema, with_scores
from lct_pipeline.combination.fitness import scored
from lct_pipeline.combination.sources import Request
from lct_pipeline.combination.stage import SELECTION_SPLIT, Stage
from lct_pipeline.combination.window import check_window
from lct_pipeline.core.metrics.paired import PairedGain, paired_gain
from lct_pipeline.datasets.parts import Last
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.evaluation.evaluator import Evaluator
from lct_pipeline.progress import track

Pair = tuple[list[float], list[float]]


def select_best_ema(
    stage: Stage, previous: DataFrame, widths: tuple[float, ...]
) -> tuple[Last[DataFrame], TensorFile]:
    """Return the score of every average of the weights, and the weights of the best.

    Args:
        stage: What is combined, and how it is measured.
        previous: Scores of an earlier call, which are not measured again.
        widths: Relative widths sigma_rel (EDM2) of averages made afterwards.

    Raises:
        DataError: There is no average, and too few checkpoints to make one.
    """
    emas = candidate_emas(stage.members, stage.initial, widths)
    if not emas or stage.members.window_size == 0:
        check_window(stage.members)
    rows = [ema._asdict() for ema in emas]
    *_, table = with_scores(stage, rows, [previous], "select best EMA")
    best = best_ema(table)
    return Last(table), stage.model(best["alpha"], best["name"], best["kind"])


@dataclass(frozen=True)
class Decision:
    """The best candidate and the best baseline, measured again on common noise.

    Attributes:
        found: Row of the best candidate.
        baseline: Row of the best baseline.
        by_seed: Fitness for each seed, of the candidate and of the baseline.
        check_by_seed: Frechet distances likewise, by the extractor by which nothing is searched;
            empty where the source makes features.
    """

    found: pd.Series
    baseline: pd.Series
    by_seed: Pair
    check_by_seed: Pair

    @property
    def gain(self) -> PairedGain:
        """Return by how much the candidate is better."""
        return paired_gain(*self.by_seed)

    @property
    def check_gain(self) -> PairedGain | None:
        """Return the same by the second extractor."""
        return paired_gain(*self.check_by_seed) if self.check_by_seed[0] else None

    @property
    def is_combination(self) -> bool:
        """Return whether the candidate is the combined model.

        It is where it is better, unless the second extractor sees a loss beyond chance: then what
        it has gained is the metric's.
        """
        check = self.check_gain
        is_metrics_own = check is not None and check.outcome == "loss"
        return self.gain.share > 0 and not is_metrics_own

    @property
    def selected(self) -> pd.Series:
        """Return the row of the combined model."""
        return self.found if self.is_combination else self.baseline


def select_combination(
    stage: Stage, candidate_scores: DataFrame, num_seeds: int
) -> Decision:
    """Decide between the best candidate and the best baseline by their scores.

    The score of the best of many is too good. So both are measured once more on the validation
    split, with noise that selected neither; the test split has no say.
    """
    by_score = candidate_scores.sort_values(SCORES[0], kind="stable")
    is_baseline = by_score["baseline"].notna()
    pair = by_score[~is_baseline].iloc[0], by_score[is_baseline].iloc[0]
    ours, theirs = _measured_again(stage, pair, num_seeds)
    return Decision(*pair, (ours[0], theirs[0]), (ours[1], theirs[1]))


def _measured_again(
    stage: Stage, rows: Sequence[pd.Series], num_seeds: int
) -> Iterator[Pair]:
    """Yield the fitness of each row by seed, and its distances by the second extractor."""
    parameters, spaces = stage.parameters, stage.spaces(SELECTION_SPLIT)
    evaluator, source = Evaluator(spaces), stage.task.source()
    real, *checks = (space.references[0] for space in spaces)
    for row in track(rows, "decide on the validation split", "model"):
        values: Pair = [], []
        weights = stage.weights.state_dict(np.array(row["alpha"]))
        for seed in range(parameters.seed, parameters.seed + num_seeds):
            request = Request("decision", parameters.selection.num_images, seed)
            batches = source.batches(weights, request)
            found, *others = evaluator.features(batches, request.num_images)
            values[0].append(scored(found, real, parameters.fitness).fitness)
            for check, other in zip(checks, others, strict=True):
                values[1].append(check.frechet_distance(other))
        yield values
