"""Node of the comparison."""

from __future__ import annotations

from lct_pipeline.lazy_types import EvaluationResult, ImageSource, TensorFile
from lct_pipeline.parameters import Runtime
from lct_pipeline.parameters.data import Ingestion
from lct_pipeline.parameters.evaluation import Comparison, Features


def compare_images(
    generated: ImageSource | None,
    reference: ImageSource | None,
    statistics: TensorFile | None,
    parameters: Comparison,
    ingestion: Ingestion,
    features: Features,
    runtime: Runtime,
) -> EvaluationResult:
    """Return, and log, the values of one set of images against another, or against statistics."""
    from lct_pipeline.evaluation import comparing, protocol

    found = comparing.compared(
        generated, reference, statistics, parameters, ingestion, features, runtime
    )
    protocol.log_by_protocol(found.table())
    return found.result()
