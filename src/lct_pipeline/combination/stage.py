"""What all nodes of the stage build from their inputs: weights, source and references."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import ExitStack, closing, contextmanager, suppress
from dataclasses import dataclass
from functools import cache, cached_property
from typing import Any

import numpy as np
from pandas import DataFrame

from lct_pipeline.combination.fitness import Measurer
from lct_pipeline.combination.sources import (
    FunctionSource,
    SourceTask,
    batch_fault,
)
from lct_pipeline.combination.weights import (
    CombinedWeights,
    Members,
    initial_alphas,
    members_of,
)
from lct_pipeline.datasets.checkpoints import CheckpointCatalog
from lct_pipeline.datasets.decoder import Decoder
from lct_pipeline.datasets.reference import Reference
from lct_pipeline.datasets.tensors import SAID, TensorFile
from lct_pipeline.datasets.weight_metadata import without_progress
from lct_pipeline.errors import DataError, MeasureError
from lct_pipeline.evaluation.feature_spaces import (
    FeatureSpace,
    RealImages,
    extractor_of,
    real_images,
    real_images_of,
)
from lct_pipeline.evaluation.references import CHECK
from lct_pipeline.models.features.base import FeatureExtractor
from lct_pipeline.models.importing import imported
from lct_pipeline.parameters import Combination, Runtime, Sampling

# three splits that are three, each with noise of its own: nothing is selected by the last
SEARCH_SPLIT, SELECTION_SPLIT, TEST_SPLIT = "train", "validation", "test"
ORIGIN = "origin"  # attribute of a table: all that its values depend on
LEAST = 6  # real images: density and coverage take the fifth neighbour


@dataclass(frozen=True)
class Stage:
    """The inputs that the nodes of the stage share."""

    catalog: CheckpointCatalog
    decoder: Decoder | None
    reference: Reference
    parameters: Combination
    sampling: Sampling
    runtime: Runtime

    def __post_init__(self) -> None:
        """Refuse a decoder that the weights do not belong to."""
        if self.decoder is not None:
            self.catalog.check(**self.decoder.digests)

    @cached_property
    def members(self) -> Members:
        """Return the checkpoints that coefficients run over."""
        return members_of(self.catalog.rows, self.parameters.window)

    @cached_property
    def initial(self) -> dict[str, np.ndarray]:
        """Return what searches start from; of fewer than two checkpoints nothing."""
        search, window = self.parameters.search, self.members.window
        if len(window) < 2:
            return {}
        rates, widths = search.initial_ema_rates, search.initial_sigma_rels
        return initial_alphas(window["step"].tolist(), rates, widths)

    @cached_property
    def weights(self) -> CombinedWeights:
        """Return what makes combinations of all members."""
        return CombinedWeights(
            self.members.rows, self.catalog.store, self.parameters.memory_mib
        )

    @cached_property
    def task(self) -> SourceTask:
        """Return what a process needs to generate and extract."""
        about = self.catalog.store.header(self.members.window["name"].iloc[-1])
        gives_features = self.parameters.references is not None
        return SourceTask(
            network=about.network,
            decoder=self.decoder,
            extractor=None if gives_features else self.reference.extractor,
            parameters=self.parameters,
            sampling=self.sampling,
            runtime=self.runtime,
            said=without_progress(about.said or {}),
        )

    @cached_property
    def extractor(self) -> FeatureExtractor:
        """Return the extractor that is searched by."""
        return self.task.built_extractor()

    @property
    def metric(self) -> str:
        """Return the name of the Frechet distance."""
        return self.extractor.frechet_name

    def real(self, split: str) -> RealImages:
        """Return what is compared with, by the extractor that is searched by.

        Raises:
            DataError: The function of the user gives no features of as many real images.
        """
        if self.parameters.references is None:
            return real_images(self.reference.statistics, split)
        path = self.parameters.references
        features = imported(path, "combination.references")(split)
        fault = batch_fault(features, gives_features=True)
        if fault is None and len(features) < LEAST:
            fault = f"{len(features)} of them"
        if fault:
            raise DataError(
                f"combination.references must return float features (N, D) of at least {LEAST} "
                f"real images; it gave {fault}."
            )
        return real_images_of(features, "combination.references")

    def spaces(self, split: str) -> list[FeatureSpace]:
        """Return the space that is searched in, and one in which nothing is, where there is one."""
        spaces = [FeatureSpace(self.extractor, (self.real(split),))]
        if self.parameters.references is None:
            check = extractor_of(self.reference.check_extractor, self.runtime)
            real = real_images(self.reference.statistics, split, CHECK)
            spaces.append(FeatureSpace(check, (real,)))
        return spaces

    def measurer(self, most: int, split: str) -> Measurer:
        """Return what measures candidates against a split, at most so many at a time."""
        return Measurer(self.weights, self.task, self.real(split), most)

    @contextmanager
    def measuring(self, split: str) -> Iterator[Callable[..., Iterator[Any]]]:
        """Give :meth:`Measurer.measure`, for which nothing is read before it is first called."""
        with ExitStack() as stack:

            @cache
            def measurer() -> Measurer:
                self._check_generator()
                most = self.parameters.search.population
                return stack.enter_context(closing(self.measurer(most, split)))

            yield lambda *candidates: measurer().measure(*candidates)

    def _check_generator(self) -> None:
        """See whether a function of the user minds its seed, where the last weights work."""
        if self.parameters.generator is not None:
            source = self.task.source()
            assert isinstance(source, FunctionSource)
            place = self.members.window_size - 1
            last = self.weights.state_dict(np.eye(len(self.members.rows))[place])
            with suppress(MeasureError):
                source.check_seed(last, self.parameters.fitness.num_images)

    def model(self, alpha: Any, name: str, kind: str, **about: Any) -> TensorFile:
        """Return the weights of coefficients over all members, and what is said of them."""
        network = self.task.network
        described = None if network is None else network.as_json()
        metadata = {"network": described, "name": name, "kind": kind, **about}
        if self.task.said:
            metadata[SAID] = self.task.said
        return TensorFile(self.weights.state_dict(np.array(alpha)), metadata)

    def origin(self, combination: dict[str, Any], rows: DataFrame) -> dict[str, Any]:
        """Return all that measurements depend on.

        Args:
            combination: Parameters of this group that they depend on.
            rows: Rows of the checkpoint index that are combined.
        """
        sampled = {"guidance", "diffusion", "batch_size"}  # noise is drawn by batches
        has_own = self.parameters.references is not None
        return {
            "combination": combination,
            "sampling": self.sampling.model_dump(mode="json", include=sampled),
            "autoencoder": self.decoder.autoencoder.digest if self.decoder else None,
            "references": None if has_own else self.reference.statistics.metadata,
            "checkpoints": list(rows["digest"]),
        }
