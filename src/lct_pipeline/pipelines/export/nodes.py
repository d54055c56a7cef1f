"""Node of the export stage."""

from __future__ import annotations

from lct_pipeline.lazy_types import (
    CheckpointCatalog,
    Decoder,
    ExportedModel,
    RunFolder,
)
from lct_pipeline.parameters import Sampling
from lct_pipeline.parameters.runtime import Export


def export_model(
    run_folder: RunFolder,
    checkpoint_index: CheckpointCatalog,
    decoder: Decoder,
    parameters: Export,
    sampling: Sampling,
) -> ExportedModel:
    """Return the model that is chosen, as diffusers takes it, and what its card tells."""
    from lct_pipeline.pipelines.export.model import exported_model

    return exported_model(run_folder, checkpoint_index, decoder, parameters, sampling)
