"""What parameters name outside of a run: read before a node reads anything."""

from __future__ import annotations

from typing import Any

import torch

from lct_pipeline.evaluation.references import further_extractors
from lct_pipeline.models.features.extractors import build_extractor
from lct_pipeline.models.importing import imported
from lct_pipeline.parameters import Parameters
from lct_pipeline.parameters.evaluation import TRAINED_HERE

_SOURCES = ("image_source", "external_checkpoints")
_FILES = ("compared_statistics", "given_autoencoder", "given_reference")


def check_given(parameters: Parameters, pipeline: Any, catalog: Any) -> None:
    """Read the files, functions and networks that a pipeline will be given, and look at sources.

    Raises:
        UserError: One is missing, damaged, or of another kind than is needed.
    """
    inputs = pipeline.inputs()
    for name in sorted(inputs & {*_SOURCES}):
        catalog.get(name).check()
    if "params:combination" in inputs:
        for name in ("generator", "references"):
            if path := getattr(parameters.combination, name):
                imported(path, f"combination.{name}")
    for name in sorted(inputs & {*_FILES}):
        catalog.load(name)
    made, features = pipeline.all_outputs(), parameters.features
    extractors = [features.extractor] if made & {"reference", "comparison"} else []
    if "further_references" in made:
        extractors += further_extractors(parameters.evaluation, features)
    for extractor in extractors:
        if extractor.kind != TRAINED_HERE:
            build_extractor(extractor, torch.device("cpu"))
