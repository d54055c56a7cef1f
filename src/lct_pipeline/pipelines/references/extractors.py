"""Which feature extractor is used: fitted here, or one that is there, known by its digest."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from lct_pipeline.datasets.files import content_digest
from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import DataError
from lct_pipeline.evaluation.classifiers import (
    fitted_classifier,
    training_labels,
)
from lct_pipeline.lazy_types import DataFrame
from lct_pipeline.parameters import Runtime
from lct_pipeline.parameters.evaluation import Extractor, Features

if TYPE_CHECKING:
    from lct_pipeline.models.features.extractors import FeatureExtractor

FITTED = "classifier"  # the kind of extractor that is fitted to the training images


def prepare_extractor(
    images: ShardStore,
    image_manifest: DataFrame,
    previous_extractor: TensorFile | None,
    parameters: Features,
    runtime: Runtime,
) -> TensorFile:
    """Return the extractor that is searched, chosen and judged by; a classifier is fitted here."""
    if parameters.extractor.kind != FITTED:
        return described(parameters.extractor, runtime)
    labels = training_labels(image_manifest)
    return fitted_classifier(
        previous_extractor,
        images,
        image_manifest,
        labels,
        parameters,
        runtime,
        name="rotation_classifier" if labels is None else "classifier",
        seed=parameters.seed,
    )


def prepare_check_extractor(
    images: ShardStore,
    image_manifest: DataFrame,
    previous_check_extractor: TensorFile | None,
    parameters: Features,
    runtime: Runtime,
) -> TensorFile:
    """Return an extractor by which nothing is searched or chosen: a classifier of rotations.

    What fits the first extractor alone shows in its distances. It has another seed, so it is
    another one even where the first is a classifier of rotations too.
    """
    return fitted_classifier(
        previous_check_extractor,
        images,
        image_manifest,
        None,
        parameters,
        runtime,
        name="check_rotation_classifier",
        seed=parameters.seed + 1,
    )


def described(extractor: Extractor, runtime: Runtime) -> TensorFile:
    """Return the file that stands for an extractor that is there: what it is, and its digest.

    Raises:
        DataError: Its weights are not there.
    """
    from lct_pipeline.models.device import choose_device

    description = extractor.model_dump(mode="json")
    built = _built(description, choose_device(runtime.device))
    return TensorFile({}, {"extractor": description, "digest": built.digest})


def extractor_of(stored: TensorFile, runtime: Runtime) -> FeatureExtractor:
    """Return the extractor of a ``feature_extractor`` or ``check_extractor`` file.

    Raises:
        DataError: The weights that it names are not there any more, or are other ones.
    """
    from lct_pipeline.models.device import choose_device
    from lct_pipeline.models.features.extractors import classifier_extractor

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
    from lct_pipeline.models.features.extractors import build_extractor

    mean, std = (tuple(description[name]) for name in ("mean", "std"))
    kind, path, size = (description[name] for name in ("kind", "path", "size"))
    return build_extractor(kind, path, size, mean, std, device)


def digest_of(stored: TensorFile) -> str:
    """Return the digest of all that an extractor's features depend on."""
    return content_digest(stored.tensors, stored.metadata)
