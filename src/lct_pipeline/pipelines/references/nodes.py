"""Node of the references stage."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from lct_pipeline.lazy_types import DataFrame, ShardStore, TensorFile
from lct_pipeline.parameters import Runtime
from lct_pipeline.parameters.evaluation import Features


def prepare_reference(
    images: ShardStore,
    image_manifest: DataFrame,
    previous_reference: dict[str, TensorFile],
    parameters: Features,
    runtime: Runtime,
) -> Iterator[Any]:
    """Yield two feature extractors, trained here or named, and what both find in real images."""
    from lct_pipeline.evaluation.references import RealSplits

    real = RealSplits(images, image_manifest, parameters, runtime)
    yield from real.reference(previous_reference)
