"""Extractors beside those of the references, and what they find in the real images."""

from __future__ import annotations

import hashlib

from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.evaluation.judges import Judge, judge_of
from lct_pipeline.evaluation.protocol import FORMATS, PAPER_EXTRACTOR
from lct_pipeline.lazy_types import DataFrame
from lct_pipeline.parameters import Runtime
from lct_pipeline.parameters.evaluation import Evaluation, Extractor, Features
from lct_pipeline.pipelines.references.extractors import (
    described,
    digest_of,
    extractor_of,
)
from lct_pipeline.pipelines.references.nodes import CHECK, measured


def measure_further_references(
    images: ShardStore,
    image_manifest: DataFrame,
    previous_further_references: TensorFile | None,
    parameters: Evaluation,
    features: Features,
    runtime: Runtime,
) -> TensorFile:
    """Return what the further extractors find in the real images, stored as the protocol says."""
    image_format = FORMATS[parameters.protocol]
    stored = _further(parameters, features, runtime)
    made = f"{image_format.file_format} {features.num_kept}"
    digests = {
        prefix: hashlib.sha256(f"{digest_of(file)} {made}".encode()).hexdigest()
        for prefix, file in stored.items()
    }
    return measured(
        images,
        image_manifest,
        {prefix: extractor_of(file, runtime) for prefix, file in stored.items()},
        digests,
        previous_further_references,
        features,
        transform=image_format.store,
    )


def _further(
    parameters: Evaluation, features: Features, runtime: Runtime
) -> dict[str, TensorFile]:
    """Return the extractors beside those of the references, by the prefix of what they find."""
    wanted = list(parameters.extractors)
    if parameters.protocol == "slct_paper":
        of_paper = _of_the_paper([*wanted, features.extractor])
        wanted = [of_paper, *(other for other in wanted if other != of_paper)]
    return {
        f"{n}.": described(extractor, runtime) for n, extractor in enumerate(wanted)
    }


def _of_the_paper(given: list[Extractor]) -> Extractor:
    """Return the paper's extractor as it is given, which may say where its weights are."""
    known = (extractor for extractor in given if extractor.kind == PAPER_EXTRACTOR)
    return next(known, Extractor(kind=PAPER_EXTRACTOR))


def judges_of(
    feature_extractor: TensorFile,
    check_extractor: TensorFile,
    reference_statistics: TensorFile,
    further_references: TensorFile,
    given_reference: TensorFile | None,
    parameters: Evaluation,
    features: Features,
    runtime: Runtime,
) -> list[Judge]:
    """Return all judges; somebody else's statistics are for the first of them.

    By the paper's protocol the extractors of search and choices do not judge: what they know of
    real images is not of JPEG files.
    """
    further = [
        (stored, further_references, prefix)
        for prefix, stored in _further(parameters, features, runtime).items()
    ]
    usual = [
        (feature_extractor, reference_statistics, ""),
        (check_extractor, reference_statistics, CHECK),
    ]
    of_paper = parameters.protocol == "slct_paper"
    split = "all" if of_paper else parameters.split
    return [
        judge_of(
            extractor_of(stored, runtime),
            references,
            split,
            prefix,
            given_reference if number == 0 else None,
        )
        for number, (stored, references, prefix) in enumerate(
            further if of_paper else usual + further
        )
    ]
