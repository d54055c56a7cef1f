"""Extractors beside those of the references, and what they find in the real images."""

from __future__ import annotations

import hashlib
from pathlib import Path

from pandas import DataFrame

from lct_pipeline.datasets.reference import Reference
from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import DataError
from lct_pipeline.evaluation.extractors import described, digest_of, extractor_of
from lct_pipeline.evaluation.feature_spaces import FeatureSpace, feature_space
from lct_pipeline.evaluation.protocol import FORMATS, PAPER_EXTRACTOR
from lct_pipeline.evaluation.references import CHECK, measured
from lct_pipeline.parameters import Runtime
from lct_pipeline.parameters.evaluation import Evaluation, Extractor, Features

GIVEN = "given"  # begins the names of somebody else's statistics


def further_references(
    images: ShardStore,
    image_manifest: DataFrame,
    given: TensorFile | None,
    previous: TensorFile | None,
    parameters: Evaluation,
    features: Features,
    runtime: Runtime,
) -> TensorFile:
    """Return what the further extractors find in the real images, and what others found in theirs.

    Images are stored as the protocol says. ``given``, where there is one, is kept as ``given.mu``
    and ``given.sigma``.
    """
    stored = _further(parameters, features, runtime)
    found = measured(
        images,
        image_manifest,
        {prefix: extractor_of(file, runtime) for prefix, file in stored.items()},
        _digests(stored, parameters, features),
        previous,
        features,
        transform=FORMATS[parameters.protocol].store,
    )
    tensors = {n: t for n, t in found.tensors.items() if not n.startswith(GIVEN)}
    metadata = {k: v for k, v in found.metadata.items() if k != GIVEN}
    if given is not None:
        tensors |= {f"{GIVEN}.{name}": tensor for name, tensor in given.tensors.items()}
        metadata[GIVEN] = given.metadata
    return TensorFile(tensors, metadata)


def _digests(
    stored: dict[str, TensorFile], parameters: Evaluation, features: Features
) -> dict[str, str]:
    """Return what the figures of each extractor depend on, beside the images."""
    made = f"{FORMATS[parameters.protocol].file_format} {features.num_retained}"
    return {
        prefix: hashlib.sha256(f"{digest_of(file)} {made}".encode()).hexdigest()
        for prefix, file in stored.items()
    }


def _given(further: TensorFile) -> TensorFile | None:
    """Return somebody else's statistics again."""
    if GIVEN not in further.metadata:
        return None
    names = ("mu", "sigma")
    tensors = {name: further.tensors[f"{GIVEN}.{name}"] for name in names}
    return TensorFile(tensors, further.metadata[GIVEN])


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


def feature_spaces_of(
    reference: Reference,
    further: TensorFile,
    parameters: Evaluation,
    features: Features,
    runtime: Runtime,
) -> list[FeatureSpace]:
    """Return all feature spaces; somebody else's statistics are for the first of them.

    The paper's protocol leaves out the extractors of search and selection: what they know of real
    images is not of JPEG files.

    Raises:
        DataError: The further references are of other parameters.
    """
    found = _further(parameters, features, runtime)
    path = parameters.reference.path
    asked = (
        None if path is None else Path(path).name,
        _digests(found, parameters, features),
    )
    about = further.metadata
    if asked != (about.get(GIVEN, {}).get("path"), about["extractors"]):
        raise DataError(
            "the further references were measured for other values of evaluation.extractors, "
            "evaluation.reference or evaluation.protocol: run `kedro run --pipeline=evaluate`."
        )
    more = [(stored, further, prefix) for prefix, stored in found.items()]
    usual = [
        (reference.extractor, reference.statistics, ""),
        (reference.check_extractor, reference.statistics, CHECK),
    ]
    of_paper = parameters.protocol == "slct_paper"
    split = "all" if of_paper else parameters.split
    return [
        feature_space(
            extractor_of(stored, runtime),
            references,
            split,
            prefix,
            _given(further) if number == 0 else None,
        )
        for number, (stored, references, prefix) in enumerate(
            more if of_paper else usual + more
        )
    ]
