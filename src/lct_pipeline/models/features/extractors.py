"""Feature extractors of the distances by their kinds."""

from __future__ import annotations

import torch

from lct_pipeline.models.features.base import FeatureExtractor
from lct_pipeline.models.features.custom import custom_extractor
from lct_pipeline.models.features.dinov2 import dinov2_extractor
from lct_pipeline.models.features.inception import (
    inception_extractor,
    inception_pytorch_extractor,
)
from lct_pipeline.parameters.evaluation import Extractor

KNOWN = {
    "inception": inception_extractor,
    "inception_pytorch": inception_pytorch_extractor,
    "dinov2": dinov2_extractor,
}


def build_extractor(extractor: Extractor, device: torch.device) -> FeatureExtractor:
    """Return the extractor of a kind, all but a classifier that is trained here.

    Raises:
        ParameterError: A function that it names cannot be imported.
        DataError: A file or a package that it needs is missing, or a file is damaged.
    """
    if extractor.kind in KNOWN:
        return KNOWN[extractor.kind](extractor.path, device)
    return custom_extractor(extractor, device)
