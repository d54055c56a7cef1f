"""Parameters of the export."""

from __future__ import annotations

from lct_pipeline.parameters.types import Group, Text


class Export(Group):
    """Which model is exported, and what is written beside it."""

    model: Text
    license: Text | None
    onnx: bool
