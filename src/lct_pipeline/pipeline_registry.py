"""The pipelines that people run, by name."""

from kedro.pipeline import Pipeline

from lct_pipeline.pipelines import (
    baselines,
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

STAGES = {  # by namespace, which groups tasks in kedro viz and on a schedule; in order of work
    "ingestion": ingestion.create_pipeline,
    "encoding": encoding.create_pipeline,
    "training": training.create_pipeline,
    "statistics": statistics.create_pipeline,
    "cataloging": cataloging.create_pipeline,
    "references": references.create_pipeline,
    "baselines": baselines.create_pipeline,
    "combination": combination.create_pipeline,
    "evaluation": evaluation.create_pipeline,
    "comparison": comparison.create_pipeline,
    "export": export.create_pipeline,
    "report": report.create_pipeline,
}


def register_pipelines() -> dict[str, Pipeline]:
    """Return each pipeline with all that it needs from stages before it.

    ``encode`` and ``train`` work from nothing; ``combine`` and ``evaluate`` on what ``train`` left.
    ``catalog`` takes checkpoints that another trainer wrote, ``compare`` images that anybody made.
    ``export`` writes a model for use elsewhere.
    What trains or evaluates ends with the report; ``report`` alone writes it of what there is.
    """
    encode = ("ingestion", "encoding")
    train = (*encode, "statistics", "training", "cataloging")
    measured = ("references", "baselines")
    combine, evaluate = (*measured, "combination"), (*measured, "evaluation")
    imported = _named("cataloging", cataloging.create_import_pipeline())
    return {
        "__default__": _joined(*train, *combine, *evaluate, "report"),
        "ingest": _joined("ingestion"),
        "encode": _joined(*encode),
        "statistics": _joined("statistics"),
        "train": _joined(*train, "report"),
        "catalog": imported,
        "combine": _joined(*combine),
        "evaluate": _joined(*evaluate, "report"),
        "compare": _joined("comparison"),
        "export": _joined("export"),
        "report": _joined("report"),
    }


def _joined(*stages: str) -> Pipeline:
    return sum((_named(stage, STAGES[stage]()) for stage in stages), Pipeline([]))


def _named(stage: str, nodes: Pipeline) -> Pipeline:
    """Return the nodes of a stage under its name; names of data stay as they are."""
    return Pipeline(nodes, namespace=stage, prefix_datasets_with_namespace=False)
