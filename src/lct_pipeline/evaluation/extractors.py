"""Which feature extractor is used: trained here, or pretrained and known by its digest."""

from __future__ import annotations

from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import DataError
from lct_pipeline.models.device import choose_device
from lct_pipeline.models.features.base import FeatureExtractor
from lct_pipeline.models.features.classifier import classifier_extractor
from lct_pipeline.models.features.extractors import build_extractor
from lct_pipeline.parameters import Runtime
from lct_pipeline.parameters.evaluation import Extractor

TRAINED_HERE = "classifier"  # the kind of extractor that is trained on the run's images
FEATURES_AS_GIVEN = FeatureExtractor(
    name="", digest="", resize="none", extract=lambda features: features
)  # of a source that makes features and no images


def described(extractor: Extractor, runtime: Runtime) -> TensorFile:
    """Return the file that stands for a pretrained extractor: what it is, and its digest.

    Raises:
        DataError: Its weights are not there.
    """
    digest = build_extractor(extractor, choose_device(runtime.device)).digest
    about = {"extractor": extractor.model_dump(mode="json"), "digest": digest}
    return TensorFile({}, about)


def extractor_of(stored: TensorFile, runtime: Runtime) -> FeatureExtractor:
    """Return the extractor of a ``feature_extractor`` or ``check_extractor`` file.

    Raises:
        DataError: The weights that it names are not there any more, or are other ones.
    """
    device, about = choose_device(runtime.device), stored.metadata
    if "extractor" not in about:
        return classifier_extractor(stored.tensors, about, device)
    extractor = build_extractor(Extractor.model_validate(about["extractor"]), device)
    if extractor.digest != about["digest"]:
        raise DataError(
            f"the weights of the feature extractor {extractor.name} changed since references were "
            "measured with them. Run again from the start of the stage, which measures anew."
        )
    return extractor
