"""What generated images are compared with: extractors, and what they find in real images."""

from __future__ import annotations

import hashlib
import logging
import math
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pandas as pd
import torch
from pandas import DataFrame
from torch import Tensor

from lct_pipeline.commands import command
from lct_pipeline.core.metrics.feature_sets import FeatureReducer
from lct_pipeline.core.randomness import derived_generator
from lct_pipeline.core.sample_quality import feature_batches, random_subset
from lct_pipeline.datasets.parts import Last
from lct_pipeline.datasets.reference import Parts, Reference
from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.datasets.splits import SPLITS, indices_of, usable_rows
from lct_pipeline.datasets.tensors import TensorFile, content_digest
from lct_pipeline.errors import DataError
from lct_pipeline.evaluation.feature_spaces import (
    FeatureSpace,
    described,
    external_images,
    extractor_of,
    real_images,
)
from lct_pipeline.evaluation.protocol import FORMATS, PAPER_EXTRACTOR
from lct_pipeline.models.device import choose_device
from lct_pipeline.models.features.base import FeatureExtractor
from lct_pipeline.models.features.classifier import SmallClassifier, fit_classifier
from lct_pipeline.parameters import Runtime
from lct_pipeline.parameters.evaluation import (
    TRAINED_HERE,
    Evaluation,
    Extractor,
    Features,
)
from lct_pipeline.progress import track, track_losses

logger = logging.getLogger(__name__)

LEARNING_RATE = 5e-3  # of a classifier: peak of a one-cycle schedule
# begin the names of what the check extractor finds, and of third-party statistics
CHECK, GIVEN = "check.", "given"


@dataclass(frozen=True)
class RealSplits:
    """All real images of a run, what says which split they are in, and how they are measured."""

    images: ShardStore
    manifest: DataFrame
    features: Features
    runtime: Runtime

    def reference(
        self, previous: Mapping[str, TensorFile]
    ) -> Iterator[Parts | Last[Parts]]:
        """Yield the extractor, the check extractor and what both find in the real images.

        What was made before in the same way is yielded as it is.
        """
        seed, wanted = self.features.seed, self.features.extractor
        if wanted.kind == TRAINED_HERE:
            labels = self._training_labels()
            name = "rotation_classifier" if labels is None else "classifier"
            known = previous.get("extractor")
            extractor = self._classifier(known, labels, name=name, seed=seed)
        else:
            extractor = described(wanted, self.runtime)
        yield {"extractor": extractor}
        # by which nothing is searched: what fits the first extractor alone shows in its
        # distances. It has another seed, so it is another one even where both are of rotations
        known, name = previous.get("check_extractor"), "check_rotation_classifier"
        check_extractor = self._classifier(known, None, name=name, seed=seed + 1)
        yield {"check_extractor": check_extractor}
        stored = {"": extractor, CHECK: check_extractor}
        digests = {p: content_digest(f.tensors, f.metadata) for p, f in stored.items()}
        statistics = self.measured(stored, digests, previous.get("statistics"))
        yield Last({"statistics": statistics})

    def _training_labels(self) -> Tensor | None:
        """Return the training images' classes, ``(N,)``; None where there are not two."""
        labels = usable_rows(self.manifest, "train")["label"]
        if labels.isna().any() or labels.nunique() < 2:
            return None
        codes, _ = pd.factorize(labels, sort=True)
        return torch.from_numpy(codes.astype("int64"))

    def _classifier(
        self,
        previous: TensorFile | None,
        labels: Tensor | None,
        *,
        name: str,
        seed: int,
    ) -> TensorFile:
        """Return a classifier of the training images, trained now unless it is already.

        Args:
            previous: What was trained before.
            labels: Classes, ``(N,)``; None trains on rotations instead.
            name: What its distances are named after.
            seed: Seed of its weights and batches.
        """
        title, images = name.replace("_", " "), self.images
        if previous is not None and previous.metadata["images"] == images.fingerprint:
            logger.info("The %s is already trained.", title)
            return previous
        settings = self.features.classifier
        shape = {
            "num_classes": 4 if labels is None else int(labels.max()) + 1,
            "width": settings.width,
            "num_features": settings.num_features,
        }
        torch.manual_seed(seed)
        classifier = SmallClassifier(**shape).to(choose_device(self.runtime.device))
        indices = indices_of(self.manifest, "train")
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
        track_losses(losses, f"train {title}", settings.num_steps)
        about = {"name": name, "images": images.fingerprint, **shape}
        return TensorFile(dict(classifier.state_dict()), about)

    def measured(
        self,
        extractors: Mapping[str, TensorFile],
        digests: Mapping[str, str],
        previous: TensorFile | None,
        store: Callable[[Tensor], Tensor] = lambda images: images,
    ) -> TensorFile:
        """Return the statistics of all splits by each extractor; those that are there are reused.

        ``<prefix><split>.mu`` and ``.cov`` are those of all images of a split, ``.features`` of a
        random ``num_retained`` at most. The metadata has the number of images by split.

        Args:
            extractors: By the prefix of the names of what they find.
            digests: Of each extractor, and of whatever else its values depend on.
            previous: What was measured before.
            store: What is done to the images first, such as writing them to JPEG files.
        """
        places = {split: indices_of(self.manifest, split) for split in SPLITS}
        common = {
            "images": self.images.fingerprint,
            "num_images": {split: len(indices) for split, indices in places.items()},
            "kept": [self.features.num_retained, self.features.seed],
        }
        known: dict[str, str] = {}
        if previous is not None and common.items() <= previous.metadata.items():
            known = previous.metadata["extractors"]
            if known == digests:
                logger.info("The references are already measured.")
                return previous
        tensors: dict[str, Tensor] = {}
        for prefix, stored in extractors.items():
            if previous is not None and known.get(prefix) == digests[prefix]:
                own = tuple(f"{prefix}{split}." for split in SPLITS)
                there = previous.tensors.items()
                tensors |= {name: t for name, t in there if name.startswith(own)}
                continue
            extractor = extractor_of(stored, self.runtime)
            for split, indices in places.items():
                found = self._measure(indices, split, extractor, store)
                tensors |= {f"{prefix}{split}.{key}": t for key, t in found.items()}
        return TensorFile(tensors, {**common, "extractors": dict(digests)})

    def _measure(
        self,
        indices: Any,
        split: str,
        extractor: FeatureExtractor,
        store: Callable[[Tensor], Tensor],
    ) -> dict[str, Tensor]:
        """Return ``mu``, ``cov`` and ``features`` of a split, by one extractor."""
        batch_size, num_retained = self.features.batch_size, self.features.num_retained
        generator = derived_generator(self.features.seed, "kept features", split)
        kept = random_subset(len(indices), num_retained, generator)
        batches = track(
            self.images.batches("images", batch_size, indices),
            f"{extractor.name} features of {split}".replace("_", " "),
            "batch",
            total=math.ceil(len(indices) / batch_size),
        )
        reducer = FeatureReducer(kept, num_blocks=1)
        for features in feature_batches(map(store, batches), extractor.extract):
            reducer.update(features)
        found = reducer.result()
        mu, cov, _ = found.statistics
        return {"mu": mu, "cov": cov, "features": found.kept}


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
    stored, digests = _further(parameters, real.features, real.runtime)
    store = FORMATS[parameters.protocol].store
    found = real.measured(stored, digests, previous, store)
    tensors = {n: t for n, t in found.tensors.items() if not n.startswith(GIVEN)}
    metadata = {k: v for k, v in found.metadata.items() if k != GIVEN}
    if given is not None:
        tensors |= {f"{GIVEN}.{name}": tensor for name, tensor in given.tensors.items()}
        metadata[GIVEN] = given.metadata
    return TensorFile(tensors, metadata)


def further_extractors(parameters: Evaluation, features: Features) -> list[Extractor]:
    """Return the extractors beside those of the references.

    The paper's is taken as it is given, which may say where its weights are.
    """
    wanted = list(parameters.extractors)
    if parameters.protocol != "slct_paper":
        return wanted
    known = (e for e in [*wanted, features.extractor] if e.kind == PAPER_EXTRACTOR)
    of_paper = next(known, Extractor(kind=PAPER_EXTRACTOR))
    return [of_paper, *(other for other in wanted if other != of_paper)]


def _further(
    parameters: Evaluation, features: Features, runtime: Runtime
) -> tuple[dict[str, TensorFile], dict[str, str]]:
    """Return the extractors beside those of the references, by the prefix of what they find.

    And digests of what their values depend on, beside the images.
    """
    wanted = further_extractors(parameters, features)
    stored = {f"{n}.": described(kind, runtime) for n, kind in enumerate(wanted)}
    made = f"{FORMATS[parameters.protocol].file_format} {features.num_retained}"
    digests = {}
    for prefix, file in stored.items():
        digest = f"{content_digest(file.tensors, file.metadata)} {made}"
        digests[prefix] = hashlib.sha256(digest.encode()).hexdigest()
    return stored, digests


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
    stored, digests = _further(parameters, features, runtime)
    given = further.metadata.get(GIVEN)
    path = parameters.reference.path and Path(parameters.reference.path).name
    if (path, digests) != (given and given["path"], further.metadata["extractors"]):
        raise DataError(
            "the further references were measured for other values of evaluation.extractors, "
            f"evaluation.reference or evaluation.protocol: run {command('evaluate')}."
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
        tensors = {name: further.tensors[f"{GIVEN}.{name}"] for name in ("mu", "sigma")}
        theirs = external_images(TensorFile(tensors, given))
        (ours,) = spaces[0].references
        theirs.require_width(len(ours.frechet.statistics.mu))
        spaces[0] = replace(spaces[0], references=(ours, theirs))
    return spaces
