"""The key numbers of a run, for a table of all of them."""

from __future__ import annotations

from dataclasses import dataclass

from lct_pipeline.datasets.results import EvaluationRow
from lct_pipeline.errors import DataError
from lct_pipeline.runs.reading import Run


@dataclass(frozen=True)
class Summary:
    """A run in one line.

    Args:
        name: Of the run.
        started: When it was last worked on, UTC.
        status: Of its last session; ``other version`` where another version of the project made
            it, ``unreadable`` where its evaluation is damaged.
        error: Why that failed or cannot be read.
        recipe: Folder of ``conf/`` that it was run with.
        source: Where its images are from.
        num_images: In the training split; None where that is not known.
        num_steps: The last step of which there is a checkpoint.
        planned_steps: How many there were to be.
        figures: Frechet distance by model: ``value`` and ``std`` over seeds.
        num_evaluations: How many network evaluations the values are at: one, or the fewest there
            are.
        protocol: Digest of how the values were made; only equal ones may be compared.
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
    status, error, rows = run.status, run.last.get("error"), list[EvaluationRow]()
    try:
        rows = key_rows(run.rows)
    except DataError as problem:
        status, error = "unreadable", str(problem)
    if not run.is_of_this_version:
        status, error = "other version", "its parameters are not those of this one"
    return Summary(
        name=run.name,
        started=run.started,
        status=status,
        error=error,
        recipe=run.recipe,
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


def key_rows(rows: list[EvaluationRow]) -> list[EvaluationRow]:
    """Return the Frechet distances of the trained models, all by one protocol.

    That of the test split where there are several, at one evaluation or the fewest there are.
    """
    distances = ("fid", "_frechet_distance")
    found = [row for row in rows if row.nfe and row.metric.endswith(distances)]
    on_test = [row for row in found if row.reference == "the test split"]
    same = [row for row in found if row.protocol == (on_test or found)[0].protocol]
    fewest = min((row.nfe for row in same), default=0)
    return [row for row in same if row.nfe == fewest]


def headline_of(row: EvaluationRow) -> str:
    """Return in words how a row was made."""
    from lct_pipeline.evaluation.protocol import headline  # which torch comes with

    return headline(row)
