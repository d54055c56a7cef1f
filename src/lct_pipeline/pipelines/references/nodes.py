"""Nodes of the references: what generated images are compared with."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.datasets.tensor_file import TensorFile
from lct_pipeline.lazy import pd
from lct_pipeline.parameters import Features, Runtime
from lct_pipeline.pipelines.splits import indices_of
from lct_pipeline.reporting.progress import track, track_losses

if TYPE_CHECKING:
    from torch import Tensor

    from lct_pipeline.models.features import FeatureExtractor

logger = logging.getLogger(__name__)


def prepare_extractor(
    images: ShardStore,
    image_manifest: pd.DataFrame,
    previous_extractor: TensorFile | None,
    parameters: Features,
    runtime: Runtime,
) -> TensorFile:
    """Return the extractor of all distances: Inception by name, or a classifier fitted here."""
    if parameters.extractor == "inception":
        from lct_pipeline.models.features import inception_folder

        return TensorFile(
            {}, {"folder": str(inception_folder(parameters.inception_path))}
        )
    if previous_extractor is not None and previous_extractor.metadata["images"] == (
        images.fingerprint
    ):
        logger.info("The classifier is already fitted.")
        return previous_extractor
    return _fit_classifier(images, image_manifest, parameters, runtime)


def _fit_classifier(
    images: ShardStore,
    image_manifest: pd.DataFrame,
    parameters: Features,
    runtime: Runtime,
) -> TensorFile:
    import torch

    from lct_pipeline.models.classifier import SmallClassifier, fit_classifier
    from lct_pipeline.models.device import choose_device

    settings = parameters.classifier
    indices = indices_of(image_manifest, "train")
    labels, num_classes = _labels(image_manifest)
    torch.manual_seed(parameters.seed)
    classifier = SmallClassifier(
        num_classes, width=settings.width, num_features=settings.num_features
    ).to(choose_device(runtime.device))
    losses = fit_classifier(
        classifier,
        lambda batch: images.gather("images", indices[batch.numpy()]),
        labels,
        len(indices),
        num_steps=settings.num_steps,
        batch_size=settings.batch_size,
        learning_rate=settings.learning_rate,
        seed=parameters.seed,
    )
    track_losses(losses, "fit classifier", settings.num_steps)
    about = {
        "task": "rotation" if labels is None else "label",
        "num_classes": num_classes,
        "width": settings.width,
        "num_features": settings.num_features,
        "images": images.fingerprint,
    }
    return TensorFile(dict(classifier.state_dict()), about)


def _labels(image_manifest: pd.DataFrame) -> tuple[Tensor | None, int]:
    """Return the training images' classes and their number; None and 4 without labels."""
    import torch

    usable = image_manifest[
        image_manifest["index"].notna() & (image_manifest["split"] == "train")
    ]
    if usable["label"].isna().any() or usable["label"].nunique() < 2:
        return None, 4
    codes, names = pd.factorize(usable["label"], sort=True)
    return torch.from_numpy(codes.astype("int64")), len(names)


def extractor_of(stored: TensorFile, runtime: Runtime) -> FeatureExtractor:
    """Return the extractor of a ``feature_extractor`` file."""
    from pathlib import Path

    from lct_pipeline.models.device import choose_device
    from lct_pipeline.models.features import classifier_extractor, inception_extractor

    device = choose_device(runtime.device)
    if "folder" in stored.metadata:
        return inception_extractor(Path(stored.metadata["folder"]), device)
    return classifier_extractor(stored.tensors, stored.metadata, device)


def measure_references(
    images: ShardStore,
    image_manifest: pd.DataFrame,
    feature_extractor: TensorFile,
    parameters: Features,
    runtime: Runtime,
) -> TensorFile:
    """Return mean and covariance of the features of the validation and of the test split."""
    from lct_pipeline.core.frechet import feature_statistics
    from lct_pipeline.core.sample_quality import features_of

    extractor = extractor_of(feature_extractor, runtime)
    tensors: dict[str, Tensor] = {}
    for split in ("validation", "test"):
        indices = indices_of(image_manifest, split)
        batches = images.batches("images", parameters.batch_size, indices)
        features = features_of(
            track(batches, f"features of {split}", "batch"), extractor.extract
        )
        statistics = feature_statistics(features)
        tensors |= {
            f"{split}.mu": statistics.mu,
            f"{split}.cov": statistics.cov,
            f"{split}.features": features,
        }
    return TensorFile(tensors, {"extractor": extractor.name})
