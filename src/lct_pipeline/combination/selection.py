"""Which decides, by validation: the best EMA of a run, and whether a combination is better.

Noise and images are others than those of the search: what fits only these falls back here.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from pandas import DataFrame

from lct_pipeline.combination.fitness import Score, scored, tell_faults
from lct_pipeline.combination.sources import Request
from lct_pipeline.combination.stage import ORIGIN, SELECTION_SPLIT, Stage
from lct_pipeline.combination.weights import candidate_emas, check_window
from lct_pipeline.core.metrics.paired import PairedGain, paired_gain
from lct_pipeline.datasets.parts import Last
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import DataError, MeasureError
from lct_pipeline.evaluation.evaluator import Evaluator
from lct_pipeline.progress import track

NO_SEED = -1  # of what is not of one search
SCORES = ["selection_fitness", "selection_frechet"]
CANDIDATE = ("name", "kind", "baseline", "method", "seed", "alpha", "search_fitness")
Pair = tuple[list[float], list[float]]
NOTHING_MEASURED = (
    "{} can be measured: generating with it fails, or gives values that are not finite; the log "
    "says why."
)


def select_best_ema(
    stage: Stage, previous: DataFrame, widths: tuple[float, ...]
) -> tuple[Last[DataFrame], TensorFile]:
    """Return the score of every average of the weights, and the weights of the best.

    Args:
        stage: What is combined, and how it is measured.
        previous: Scores of an earlier call, which are not measured again.
        widths: Relative widths sigma_rel (EDM2) of averages made afterwards.

    Raises:
        DataError: There is no average, and too few checkpoints to make one; or none of them can be
            measured.
    """
    emas = candidate_emas(stage.members, stage.initial, widths)
    if not emas or stage.members.window_size == 0:
        check_window(stage.members)
    rows = [ema._asdict() for ema in emas]
    *_, table = _with_scores(stage, rows, [previous], "select best EMA")
    best = _best_ema(table)
    return Last(table), stage.model(best["alpha"], best["name"], best["kind"])


def _best_ema(ema_selection: DataFrame) -> pd.Series:
    """Return the row of the average with the best score: the best EMA of the run."""
    return _measurable(ema_selection, SCORES[0], "no average of the weights").iloc[0]


def _measurable(rows: DataFrame, column: str, what: str) -> DataFrame:
    """Return the rows that could be measured, the best first.

    Raises:
        DataError: There is none.
    """
    finite = rows[np.isfinite(rows[column])].sort_values(column, kind="stable")
    if finite.empty:
        raise DataError(NOTHING_MEASURED.format(what))
    return finite


def score_candidates(
    stage: Stage,
    search_history: DataFrame,
    ema_selection: DataFrame,
    previous: DataFrame,
) -> Iterator[DataFrame | Last[DataFrame]]:
    """Yield, again with each more, a row for each baseline and for the best of each search.

    Args:
        stage: What is combined, and how it is measured.
        search_history: Every evaluation of the searches.
        ema_selection: Scores of the averages: the best of them is a baseline.
        previous: Rows that an interrupted run left, which are not measured again.
    """
    rows = candidate_rows(stage, search_history, ema_selection)
    known, table = [previous, ema_selection], previous
    for table in _with_scores(stage, rows, known, "score candidates"):
        yield table
    yield Last(table)


def candidate_rows(
    stage: Stage, search_history: DataFrame, ema_selection: DataFrame
) -> list[dict[str, Any]]:
    """Return what is selected among: the baselines, then the best of each search.

    The mean of the search means of one method is among them too: what one search owes to its own
    noise cancels in part. A candidate that no search measured has no fitness.
    """
    padded, num = stage.members.padded, stage.parameters.selection.num_candidates
    of_initial = search_history["kind"] == "initial"
    searched = search_history[of_initial].groupby("name")["fitness"].mean()
    last, ema = padded(stage.initial["last"]), _best_ema(ema_selection)
    baselines = [("last", "last", last), ("best_ema", ema["name"], ema["alpha"])]
    rows: list[tuple[Any, ...]] = []
    for model, name, alpha in baselines:
        fitness = searched.get(name, np.nan)
        rows.append((name, "baseline", model, "baseline", NO_SEED, alpha, fitness))
    searches = search_history[~of_initial]
    searches = _measurable(searches, "fitness", "nothing that the searches proposed")
    for _, of_search in searches.groupby("search", sort=True):
        for found in _best_of(of_search, num).itertuples():
            about = found.name, found.kind, None, found.method, found.seed
            rows.append((*about, padded(np.array(found.alpha)), found.fitness))
    means = searches[searches["kind"] == "mean"].sort_values("search")
    for method, several in means.groupby("method", sort=False):
        if len(several) > 1:
            alpha = padded(np.mean(list(several["alpha"]), axis=0))
            name = f"{method!s}, mean of {len(several)} means"
            rows.append((name, "mean", None, str(method), NO_SEED, alpha, np.nan))
    return [dict(zip(CANDIDATE, row, strict=True)) for row in rows]


def _best_of(of_search: DataFrame, num: int) -> DataFrame:
    """Return the ``num`` best rows of a search, its search mean always among them."""
    is_mean = of_search["kind"] == "mean"
    by_fitness = of_search[~is_mean].sort_values("fitness", kind="stable")
    return pd.concat([of_search[is_mean], by_fitness.head(num - is_mean.sum())])


def _with_scores(
    stage: Stage, rows: list[dict[str, Any]], known: Sequence[DataFrame], title: str
) -> Iterator[DataFrame]:
    """Yield the rows that have scores, again with each more, until all have.

    Args:
        stage: What is combined, and how it is measured.
        rows: Each with its ``name`` and coefficients ``alpha``.
        known: Tables that were yielded before: what they have is not measured again.
        title: Of the progress.
    """
    selection = stage.parameters.selection
    included = {"window", "generator", "references", "fitness", "seed"}
    depends_on = stage.parameters.model_dump(mode="json", include=included)
    depends_on["selection"] = {"num_images": selection.num_images}
    origin = stage.origin(depends_on, stage.members.rows)
    measured_by = {
        "metric": stage.metric,
        "split": SELECTION_SPLIT,
        "num_images": selection.num_images,
    }
    scores = _known_scores(rows, [t for t in known if t.attrs.get(ORIGIN) == origin])

    def table() -> DataFrame:
        found = DataFrame([rows[n] | measured_by | scores[n] for n in sorted(scores)])
        found.attrs[ORIGIN] = origin
        return found

    yield table()
    alphas = np.stack([row["alpha"] for row in rows])
    for place, score in measured(stage, alphas, scores, title, "model"):
        values = (score.fitness, score.frechet)
        scores[place] = dict(zip(SCORES, values, strict=True))
        yield table()


def _known_scores(
    rows: list[dict[str, Any]], known: Sequence[DataFrame]
) -> dict[int, dict[str, float]]:
    """Return scores, by the place of the row, of names whose coefficients are the same."""
    found = {
        (old["name"], tuple(old["alpha"])): {name: old[name] for name in SCORES}
        for table in known
        for old in table.to_dict("records")
    }
    keys = [(row["name"], tuple(row["alpha"])) for row in rows]
    return {place: found[key] for place, key in enumerate(keys) if key in found}


def measured(
    stage: Stage, alphas: np.ndarray, known: Collection[int], title: str, unit: str
) -> Iterator[tuple[int, Score]]:
    """Yield number and score, by which weights are selected, of those that are not known.

    Args:
        stage: What is combined, and how it is measured.
        alphas: Coefficients over all members, a row for each.
        known: Numbers of those that are not measured.
        title: Of the progress.
        unit: Of what it counts.
    """
    if left := len(alphas) - len(known):
        parameters = stage.parameters
        num_images = parameters.selection.num_images
        request = Request("choice", num_images, parameters.seed)
        faults = []
        with stage.measuring(SELECTION_SPLIT) as measure:
            found = measure(alphas, request, frozenset(known))
            for place, score in track(found, title, unit, total=left):
                faults += [score.fault] if score.fault else []
                yield place, score
        tell_faults(title, len(faults), left, faults)


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
    split, with noise that selected neither; the test split has no say. Where one cannot be
    measured, the next best is in its place.

    Raises:
        DataError: No candidate, or no baseline, can be measured.
    """
    is_baseline = candidate_scores["baseline"].notna()
    measure = _measure_again(stage, num_seeds)
    found, ours = _best_again(candidate_scores[~is_baseline], measure, "no candidate")
    best, theirs = _best_again(candidate_scores[is_baseline], measure, "no baseline")
    return Decision(found, best, (ours[0], theirs[0]), (ours[1], theirs[1]))


def _best_again(
    rows: DataFrame, measure: Callable[[pd.Series], Pair], what: str
) -> tuple[pd.Series, Pair]:
    """Return the best of the rows by score that can be measured again, and its values."""
    for _, row in _measurable(rows, SCORES[0], what).iterrows():
        with suppress(MeasureError):
            return row, measure(row)
    raise DataError(NOTHING_MEASURED.format(what))


def _measure_again(stage: Stage, num_seeds: int) -> Callable[[pd.Series], Pair]:
    """Return what gives the fitness of a row by seed, and distances by the second extractor."""
    parameters, spaces = stage.parameters, stage.spaces(SELECTION_SPLIT)
    evaluator, source = Evaluator(spaces), stage.task.source()
    real, *checks = (space.references[0] for space in spaces)

    def measure(row: pd.Series) -> Pair:
        values: Pair = [], []
        weights = stage.weights.state_dict(np.array(row["alpha"]))
        seeds = range(parameters.seed, parameters.seed + num_seeds)
        for seed in track(
            seeds, f"decide on the validation split: {row['name']}", "seed"
        ):
            request = Request("decision", parameters.selection.num_images, seed)
            batches = source.batches(weights, request)
            found, *others = evaluator.features(batches, request.num_images)
            values[0].append(scored(found, real, parameters.fitness).fitness)
            for check, other in zip(checks, others, strict=True):
                values[1].append(check.frechet_distance(other))
        return values

    return measure


def best_rows(candidate_scores: DataFrame) -> DataFrame:
    """Return the best row of each search, and each baseline, by score."""
    scores = _measurable(candidate_scores, SCORES[0], "no candidate")
    of_search = scores["method"] + " " + scores["seed"].astype(str)
    best = scores.groupby(scores["baseline"].fillna(of_search), sort=False).head(1)
    return best.reset_index(drop=True)
