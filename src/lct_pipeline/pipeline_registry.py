"""The pipelines that people run, by name."""

from kedro.pipeline import Pipeline, pipeline

from lct_pipeline.pipelines import (
    cataloging,
    combination,
    comparison,
    encoding,
    evaluation,
    ingestion,
    references,
    statistics,
    training,
)


def register_pipelines() -> dict[str, Pipeline]:
    """Return each pipeline with all that it needs from stages before it.

    ``encode`` and ``train`` work from nothing; ``combine`` and ``evaluate`` on what ``train`` left.
    ``catalog`` takes checkpoints that another trainer wrote, ``compare`` images that anybody made.
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
    return {
        "__default__": train + after_train + after_combine,
        "ingest": ingestion.create_pipeline(),
        "encode": encode,
        "statistics": statistics.create_pipeline(),
        "train": train,
        "catalog": cataloging.create_import_pipeline(),
        "combine": combine,
        "evaluate": evaluate,
        "compare": comparison.create_pipeline(),
    }
