"""Extractors beside those of the references, and what they find in the real images."""

from __future__ import annotations

import hashlib
from pathlib import Path

from lct_pipeline.datasets.reference import Reference
from lct_pipeline.datasets.tensors import TensorFile, content_digest
from lct_pipeline.errors import DataError
from lct_pipeline.evaluation.extractors import described, extractor_of
from lct_pipeline.evaluation.feature_spaces import (
    FeatureSpace,
    external_images,
    real_images,
)
from lct_pipeline.evaluation.protocol import FORMATS, PAPER_EXTRACTOR
from lct_pipeline.evaluation.references import CHECK, RealSplits
from lct_pipeline.parameters import Runtime
from lct_pipeline.parameters.evaluation import Evaluation, Extractor, Features

GIVEN = "given"  # begins the names of third-party statistics


def further_references(
    real: RealSplits,
    given: TensorFile | None,
    previous: TensorFile | None,
    parameters: Evaluation,
) -> TensorFile:
    """Return what the further extractors find in the real images, and what others found in theirs.

    Images are stored as the protocol says. ``given``, where there is one, is kept as ``given.mu``
    and ``given.sigma``.
    """
    stored = _further(parameters, real.features, real.runtime)
    digests = _digests(stored, parameters, real.features)
    store = FORMATS[parameters.protocol].store
    found = real.measured(stored, digests, previous, store)
    tensors = {n: t for n, t in found.tensors.items() if not n.startswith(GIVEN)}
    metadata = {k: v for k, v in found.metadata.items() if k != GIVEN}
    if given is not None:
        tensors |= {f"{GIVEN}.{name}": tensor for name, tensor in given.tensors.items()}
        metadata[GIVEN] = given.metadata
    return TensorFile(tensors, metadata)


def _further(
    parameters: Evaluation, features: Features, runtime: Runtime
) -> dict[str, TensorFile]:
    """Return the extractors beside those of the references, by the prefix of what they find.

    The paper's is taken as it is given, which may say where its weights are.
    """
    wanted = list(parameters.extractors)
    if parameters.protocol == "slct_paper":
        known = (e for e in [*wanted, features.extractor] if e.kind == PAPER_EXTRACTOR)
        of_paper = next(known, Extractor(kind=PAPER_EXTRACTOR))
        wanted = [of_paper, *(other for other in wanted if other != of_paper)]
    return {
        f"{n}.": described(extractor, runtime) for n, extractor in enumerate(wanted)
    }


def _digests(
    stored: dict[str, TensorFile], parameters: Evaluation, features: Features
) -> dict[str, str]:
    """Return what the values of each extractor depend on, beside the images."""
    made = f"{FORMATS[parameters.protocol].file_format} {features.num_retained}"
    found = {}
    for prefix, file in stored.items():
        digest = f"{content_digest(file.tensors, file.metadata)} {made}"
        found[prefix] = hashlib.sha256(digest.encode()).hexdigest()
    return found


def feature_spaces_of(
    reference: Reference,
    further: TensorFile,
    parameters: Evaluation,
    features: Features,
    runtime: Runtime,
) -> list[FeatureSpace]:
    """Return all feature spaces; third-party statistics are for the first of them.

    The paper's protocol leaves out the extractors of search and selection: what they know of real
    images is not of JPEG files.

    Raises:
        DataError: The further references are of other parameters.
    """
    stored, given = _further(parameters, features, runtime), further.metadata.get(GIVEN)
    path = parameters.reference.path and Path(parameters.reference.path).name
    digests = _digests(stored, parameters, features)
    if (path, digests) != (given and given["path"], further.metadata["extractors"]):
        raise DataError(
            "the further references were measured for other values of evaluation.extractors, "
            "evaluation.reference or evaluation.protocol: run `kedro run --pipeline=evaluate`."
        )
    found = [(file, further, prefix) for prefix, file in stored.items()]
    split = "all"
    if parameters.protocol != "slct_paper":
        of_search = (reference.extractor, reference.statistics, "")
        check = (reference.check_extractor, reference.statistics, CHECK)
        found, split = [of_search, check, *found], parameters.split
    spaces = [
        FeatureSpace(
            extractor_of(file, runtime),
            (real_images(statistics, split, prefix),),
            real_images(statistics, "validation", prefix),
        )
        for file, statistics, prefix in found
    ]
    if given is not None:
        names = ("mu", "sigma")
        tensors = {name: further.tensors[f"{GIVEN}.{name}"] for name in names}
        spaces[0] = spaces[0].beside(external_images(TensorFile(tensors, given)))
    return spaces
