"""Parameters of the export."""

from __future__ import annotations

from lct_pipeline.parameters.types import Group, Text


class Export(Group):
    """Which model is exported, and what is written beside it."""

    model: Text
    """Model. best: the combination where it was selected, else the best baseline; or combined,
    best_ema, last, or the name of a checkpoint."""
    license: Text | None
    """Licence of the weights, for the model card, such as apache-2.0; null: it says that one is
    missing, since the images have a say in it."""
    onnx: bool
    """Whether to write generator.onnx too, one step from noise to image (extra onnx)."""
