"""The pipelines that people run, by name."""

from kedro.pipeline import Pipeline, pipeline

from lct_pipeline.pipelines import (
    cataloging,
    combination,
    comparison,
    encoding,
    evaluation,
    export,
    ingestion,
    references,
    report,
    statistics,
    training,
)

STAGES = (  # in the order of their work
    "ingestion",
    "encoding",
    "training",
    "statistics",
    "cataloging",
    "references",
    "combination",
    "evaluation",
    "comparison",
    "report",
    "export",
)


def register_pipelines() -> dict[str, Pipeline]:
    """Return each pipeline with all that it needs from stages before it.

    ``encode`` and ``train`` work from nothing; ``combine`` and ``evaluate`` on what ``train`` left.
    ``catalog`` takes checkpoints that another trainer wrote, ``compare`` images that anybody made.
    ``export`` writes a model for use elsewhere.
    What trains or evaluates ends with the report; ``report`` alone writes it of what there is.
    """
    encode = ingestion.create_pipeline() + encoding.create_pipeline()
    train = (
        encode
        + statistics.create_pipeline()
        + training.create_pipeline()
        + cataloging.create_pipeline()
    )
    combine = references.create_pipeline() + combination.create_pipeline()
    evaluate = references.create_pipeline() + evaluation.create_pipeline()
    # what is made in the same run is used; `combine` and `evaluate` alone take what there is
    made = ("autoencoder", "latent_normalisation")
    after_train = pipeline(combine, inputs={f"{name}_if_any": name for name in made})
    after_combine = pipeline(
        evaluate, inputs={"combined_model_if_any": "combined_model"}
    )
    whole = train + after_train + after_combine
    return {
        "__default__": whole + report.report_of(whole),
        "ingest": ingestion.create_pipeline(),
        "encode": encode,
        "statistics": statistics.create_pipeline(),
        "train": train + report.report_of(train),
        "catalog": cataloging.create_import_pipeline(),
        "combine": combine,
        "evaluate": evaluate + report.report_of(evaluate),
        "compare": comparison.create_pipeline(),
        "export": export.create_pipeline(),
        "report": report.create_pipeline(),
    }
