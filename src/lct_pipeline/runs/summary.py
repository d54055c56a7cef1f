"""The key numbers of a run, for a table of all of them."""

from __future__ import annotations

from dataclasses import dataclass

from lct_pipeline.datasets.results import EvaluationRow
from lct_pipeline.errors import DataError
from lct_pipeline.runs.reading import Run

MODELS = ("last", "best_ema", "combined")


@dataclass(frozen=True)
class Summary:
    """A run in one line.

    Args:
        name: Of the run.
        started: When it was last worked on, UTC.
        status: Of its last session; ``unreadable`` where another version of the project wrote its
            evaluation, or it is damaged.
        error: Why that failed or cannot be read.
        recipe: Folder of ``conf/`` that it was run with.
        source: Where its images are from.
        num_images: In the training split; None where that is not known.
        num_steps: The last step of which there is a checkpoint.
        planned_steps: How many there were to be.
        figures: Frechet distance by model: ``value`` and ``std`` over seeds.
        num_evaluations: How many network evaluations the figures are at: one, or the fewest there
            are.
        protocol: Digest of how the figures were made; only equal ones may be compared.
        headline: That in words.
        minutes: How long all sessions took together.
        mebibytes: What its own folders hold.
    """

    name: str
    started: str
    status: str
    error: str | None
    recipe: str | None
    source: str | None
    num_images: int | None
    num_steps: int | None
    planned_steps: int | None
    figures: dict[str, dict[str, float | None]]
    num_evaluations: int | None
    protocol: str | None
    headline: str | None
    minutes: float
    mebibytes: float


def summarise(run: Run) -> Summary:
    """Return the key numbers of a run; what cannot be read of it is its error."""
    parameters = run.last.get("parameters", {})
    status, error = run.status, run.last.get("error")
    try:
        rows = key_rows(run.rows)
    except DataError as problem:  # damaged, or of another version
        status, error, rows = "unreadable", str(problem), []
    return Summary(
        name=run.name,
        started=run.started,
        status=status,
        error=error,
        recipe=recipe_of(run),
        source=parameters.get("ingestion", {}).get("source"),
        num_images=run.images_by_split().get("train"),
        num_steps=run.num_steps,
        planned_steps=parameters.get("training", {}).get("num_steps"),
        figures={r.model: {"value": r.value, "std": r.std} for r in rows},
        num_evaluations=rows[0].nfe if rows else None,
        protocol=rows[0].protocol if rows else None,
        headline=headline_of(rows[0]) if rows else None,
        minutes=run.seconds / 60,
        mebibytes=run.num_bytes / 2**20,
    )


def recipe_of(run: Run) -> str | None:
    """Return the folder of ``conf/`` that a run was last run with."""
    if not run.records:
        return None
    env = run.last["env"]
    return "base" if env in (None, "local") else env


def key_rows(rows: list[EvaluationRow]) -> list[EvaluationRow]:
    """Return the Frechet distances of the trained models, all by one protocol.

    That of the test split where there are several, at one evaluation or the fewest there are.
    """
    found = [r for r in rows if r.model in MODELS and is_frechet(r.metric)]
    if not found:
        return []
    on_test = [row for row in found if row.reference == "the test split"]
    protocol = (on_test or found)[0].protocol
    same = [row for row in found if row.protocol == protocol]
    fewest = min(row.nfe for row in same)
    return [row for row in same if row.nfe == fewest]


def is_frechet(metric: str) -> bool:
    """Return whether a metric is a Frechet distance, of any extractor."""
    return metric == "fid" or metric.endswith("_frechet_distance")


def headline_of(row: EvaluationRow) -> str:
    """Return in words how a row was made."""
    from lct_pipeline.evaluation.protocol import headline  # which torch comes with

    return headline(row)
