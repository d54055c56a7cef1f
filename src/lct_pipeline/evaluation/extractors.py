"""Which feature extractor is used: fitted here, or one that is there, known by its digest."""

from __future__ import annotations

from typing import Any

from lct_pipeline.datasets.tensors import TensorFile, content_digest
from lct_pipeline.errors import DataError
from lct_pipeline.models.device import choose_device
from lct_pipeline.models.features.extractors import (
    FeatureExtractor,
    build_extractor,
    classifier_extractor,
)
from lct_pipeline.parameters import Runtime
from lct_pipeline.parameters.evaluation import Extractor

FITTED = "classifier"  # the kind of extractor that is fitted to the training images
FEATURES_AS_GIVEN = FeatureExtractor(
    name="",
    frechet_name="frechet_distance",
    kernel_name="kernel_distance",
    score_name=None,
    digest="",
    resize="none",
    extract=lambda features: features,
    differentiate=None,
    classify=None,
)  # of a source that makes features and no images


def described(extractor: Extractor, runtime: Runtime) -> TensorFile:
    """Return the file that stands for an extractor that is there: what it is, and its digest.

    Raises:
        DataError: Its weights are not there.
    """
    description = extractor.model_dump(mode="json")
    built = _built(description, choose_device(runtime.device))
    return TensorFile({}, {"extractor": description, "digest": built.digest})


def extractor_of(stored: TensorFile, runtime: Runtime) -> FeatureExtractor:
    """Return the extractor of a ``feature_extractor`` or ``check_extractor`` file.

    Raises:
        DataError: The weights that it names are not there any more, or are other ones.
    """
    device = choose_device(runtime.device)
    if "extractor" not in stored.metadata:
        return classifier_extractor(stored.tensors, stored.metadata, device)
    extractor = _built(stored.metadata["extractor"], device)
    if extractor.digest != stored.metadata["digest"]:
        raise DataError(
            f"the weights of the feature extractor {extractor.name} changed since references were "
            "measured with them. Run again from the start of the stage, which measures anew."
        )
    return extractor


def _built(description: dict[str, Any], device: Any) -> FeatureExtractor:
    mean, std = (tuple(description[name]) for name in ("mean", "std"))
    kind, path, size = (description[name] for name in ("kind", "path", "size"))
    return build_extractor(kind, path, size, mean, std, device)


def digest_of(stored: TensorFile) -> str:
    """Return the digest of all that an extractor's features depend on."""
    return content_digest(stored.tensors, stored.metadata)
