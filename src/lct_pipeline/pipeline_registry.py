"""The pipelines that people run, by name."""

from kedro.pipeline import Pipeline, pipeline

from lct_pipeline.pipelines import (
    cataloging,
    combination,
    encoding,
    evaluation,
    ingestion,
    references,
    statistics,
    training,
)


def register_pipelines() -> dict[str, Pipeline]:
    """Return each pipeline with all that it needs from stages before it.

    ``train`` works from nothing; ``combine`` and ``evaluate`` work on what it left.
    """
    train = (
        ingestion.create_pipeline()
        + encoding.create_pipeline()
        + statistics.create_pipeline()
        + training.create_pipeline()
        + cataloging.create_pipeline()
    )
    combine = references.create_pipeline() + combination.create_pipeline()
    evaluate = references.create_pipeline() + evaluation.create_pipeline()
    # what is combined in the same run is evaluated; `evaluate` alone takes what there is
    after_combine = pipeline(
        evaluate, inputs={"combined_model_if_any": "combined_model"}
    )
    return {
        "__default__": train + combine + after_combine,
        "ingest": ingestion.create_pipeline(),
        "encode": encoding.create_pipeline(),
        "statistics": statistics.create_pipeline(),
        "train": train,
        "combine": combine,
        "evaluate": evaluate,
    }
