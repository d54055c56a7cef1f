"""What stages leave for people and for later stages, as types: read, and written, as JSON."""

from __future__ import annotations

import math
from typing import Annotated, Any, Literal, Self

from pydantic import BaseModel, BeforeValidator, ConfigDict, ValidationError

from lct_pipeline.core.metrics.paired import Outcome, PairedGain
from lct_pipeline.errors import DataError

BaselineName = Literal["last", "best_ema"]


def _known(value: Any) -> Any:
    """Return a number, or None for one that is not known: JSON has no NaN."""
    return None if isinstance(value, float) and math.isnan(value) else value


Known = Annotated[float | None, BeforeValidator(_known)]


class Result(BaseModel):
    """A frozen value that JSON holds; keys that are not known are refused."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    @classmethod
    def of(cls, value: Any) -> Self:
        """Return the result that JSON says.

        Raises:
            DataError: It says something else: another version of the project wrote it.
        """
        try:
            return cls.model_validate(value)
        except ValidationError as error:
            problem = error.errors()[0]
            place = ".".join([cls.__name__, *map(str, problem["loc"])])
            raise DataError(
                f"{place} is not as this version writes it ({problem['msg']}): run the stage that "
                "makes it again."
            ) from error


class EvaluationRow(Result):
    """A value of a model or control, with how it was made.

    Attributes:
        model: ``last``, ``best_ema``, ``combined``, or a control.
        nfe: Evaluations of the network; 0 without a model.
        intermediate_sigma: Level of the second evaluation of a consistency model.
        renoise: Noise of it.
        solver: Of a diffusion model.
        metric: Name of the metric.
        value: Mean over seeds.
        std: Standard deviation over seeds; None of one.
        standard_error: Of the value of one seed, where the metric tells it.
        subset_std: Standard deviation over subsets of 1,000 images, as it is published beside a
            kernel distance; None of other metrics, and of fewer images.
        by_seed: Value of each seed, so that models can be compared on common noise.
        protocol: Digest of what has to agree where two values are compared, which is all that
            follows up to ``kept_real``.
        extractor: Name of the feature extractor.
        extractor_digest: Of its weights.
        resize: How images are resized for it.
        quantisation: How generated images became 8 bits.
        file_format: What images were stored as.
        reference: Which real images, or whose statistics of them.
        reference_digest: Of the real images, or of the statistics.
        num_generated: Number of generated images of one seed.
        num_real: Number of real images.
        kept_generated: Of how many generated images there are features, not moments alone: for
            kernel distance, precision, recall, density and coverage.
        kept_real: Of how many real images there are features.
        seeds: Of the noise.
        versions: Of libraries that change pixels or features.
    """

    model: str
    nfe: int
    intermediate_sigma: float | None = None
    renoise: str | None = None
    solver: str | None = None
    metric: str
    value: float
    std: Known
    standard_error: Known
    subset_std: Known = None
    by_seed: list[float] | None = None
    protocol: str
    extractor: str
    extractor_digest: str
    resize: str
    quantisation: str
    file_format: str
    reference: str
    reference_digest: str
    num_generated: int
    num_real: int
    kept_generated: int
    kept_real: int
    seeds: list[int]
    versions: str


class Scores(Result):
    """How far a model's images are from real ones, on three splits, each with its own noise.

    Attributes:
        search: Mean fitness on the training images; None of what no search measured.
        selection: Fitness on the validation split, by which it was selected.
        decision: Fitness on the validation split with new noise, by seed; None of what was not
            compared.
        test: Frechet distance to the test split, by which nothing is selected.
    """

    search: float | None
    selection: float
    decision: list[float] | None
    test: float


class Baseline(Result):
    """What a combination has to beat: its name in tables, and its scores."""

    name: str
    scores: Scores


class Gain(Result):
    """By how much the combination is better; see ``core.metrics.paired.PairedGain``."""

    share: float
    standard_error: Known
    outcome: Outcome

    @classmethod
    def of_pair(cls, gain: PairedGain) -> Self:
        """Return a gain as JSON holds it."""
        return cls(**vars(gain), outcome=gain.outcome)


class CombinationResult(Result):
    """The combination that was found, what it was compared with, and which of them is the model.

    Attributes:
        name: Of the best candidate of all searches.
        method: That found it.
        alpha: Its coefficients, ``(K,)``.
        steps: Training steps of the K checkpoints.
        checkpoints: Their names.
        digests: Their digests.
        metric: Name of the Frechet distance.
        scores: Of the candidate.
        baselines: The last checkpoint and the best EMA.
        best_baseline: The better of them by the validation split.
        seeds: Scores of the best of each search by the same method, by its seed.
        gain: Over the best baseline, on the validation split with noise that selected nothing.
        check_gain: The same by the extractor by which nothing is searched, where there is one.
        is_selected: Whether the combination is the combined model, and not the best baseline.
        selected: Name of what is.
        verdict: For people.
        parameters: Of the combination.
    """

    name: str
    method: str
    alpha: list[float]
    steps: list[int]
    checkpoints: list[str]
    digests: list[str]
    metric: str
    scores: Scores
    baselines: dict[BaselineName, Baseline]
    best_baseline: BaselineName
    seeds: dict[str, Scores]
    gain: Gain
    check_gain: Gain | None
    is_selected: bool
    selected: str
    verdict: str
    parameters: dict[str, Any]

    @property
    def baseline(self) -> Baseline:
        """Return the best baseline."""
        return self.baselines[self.best_baseline]


class EvaluationResult(Result):
    """All rows of an evaluation."""

    rows: list[EvaluationRow]
