"""Classifiers that are fitted to the training images, for their features."""

from __future__ import annotations

import logging
from typing import Any

import pandas as pd
import torch
from pandas import DataFrame
from torch import Tensor

from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.datasets.splits import indices_of, usable_rows
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.models.device import choose_device
from lct_pipeline.models.features.classifier import SmallClassifier, fit_classifier
from lct_pipeline.parameters import Runtime
from lct_pipeline.parameters.evaluation import Features, TrainedClassifier
from lct_pipeline.progress import track_losses

logger = logging.getLogger(__name__)

LEARNING_RATE = 5e-3  # peak of a one-cycle schedule


def fitted_classifier(
    previous: TensorFile | None,
    images: ShardStore,
    image_manifest: DataFrame,
    labels: Tensor | None,
    parameters: Features,
    runtime: Runtime,
    *,
    name: str,
    seed: int,
) -> TensorFile:
    """Return a classifier of the training images, fitted now unless it is already.

    Args:
        previous: What was fitted before.
        images: All images.
        image_manifest: Which of them are for training.
        labels: Their classes, ``(N,)``; None fits rotations instead.
        parameters: How large and how long.
        runtime: Where.
        name: What its distances are named after.
        seed: Seed of its weights and batches.
    """
    if previous is not None and previous.metadata["images"] == images.fingerprint:
        logger.info("The %s is already fitted.", _words(name))
        return previous
    settings = parameters.classifier
    shape = {
        "num_classes": 4 if labels is None else int(labels.max()) + 1,
        "width": settings.width,
        "num_features": settings.num_features,
    }
    torch.manual_seed(seed)
    classifier = SmallClassifier(**shape).to(choose_device(runtime.device))
    indices = indices_of(image_manifest, "train")
    _fit(classifier, images, indices, labels, settings, name, seed)
    about = {"name": name, "images": images.fingerprint, **shape}
    return TensorFile(dict(classifier.state_dict()), about)


def _fit(
    classifier: SmallClassifier,
    images: ShardStore,
    indices: Any,
    labels: Tensor | None,
    settings: TrainedClassifier,
    name: str,
    seed: int,
) -> None:
    losses = fit_classifier(
        classifier,
        lambda batch: images.gather("images", indices[batch.numpy()]),
        labels,
        len(indices),
        num_steps=settings.num_steps,
        batch_size=settings.batch_size,
        learning_rate=LEARNING_RATE,
        seed=seed,
    )
    track_losses(losses, f"fit {_words(name)}", settings.num_steps)


def training_labels(image_manifest: DataFrame) -> Tensor | None:
    """Return the training images' classes, ``(N,)``; None where there are not two."""
    labels = usable_rows(image_manifest, "train")["label"]
    if labels.isna().any() or labels.nunique() < 2:
        return None
    codes, _ = pd.factorize(labels, sort=True)
    return torch.from_numpy(codes.astype("int64"))


def _words(name: str) -> str:
    return name.replace("_", " ")
