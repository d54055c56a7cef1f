"""Where the features of a candidate come from: this project's models, or a function of the user."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from lct_pipeline.core.randomness import derived_seed
from lct_pipeline.datasets.decoder import Decoder
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import DataError
from lct_pipeline.evaluation.extractors import FEATURES_AS_GIVEN, extractor_of
from lct_pipeline.evaluation.generator import (
    Generator,
    SamplingPlan,
    build_generator,
    deployed_plan,
)
from lct_pipeline.models.description import ModelDescription
from lct_pipeline.models.features.base import FeatureExtractor
from lct_pipeline.models.importing import imported
from lct_pipeline.parameters import Combination, Runtime, Sampling


class Source(Protocol):
    """Makes images, or features at once, with the weights it is given."""

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take a state dict."""

    def batches(self, num_images: int, seed: int, purpose: str) -> Iterable[Tensor]:
        """Yield batches of uint8 images ``(B, 3, H, W)`` or of float features ``(B, D)``.

        The same seed and purpose give the same noise, and labels, whatever the weights.
        """


@dataclass(frozen=True)
class ModelSource:
    """A model of this project, sampled as it will be deployed."""

    generator: Generator
    plan: SamplingPlan

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Take a state dict of the network."""
        try:
            self.generator.load(weights)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise DataError(
                f"the checkpoints do not fit the network of the run: {reason}"
            ) from error

    def batches(self, num_images: int, seed: int, purpose: str) -> Iterable[Tensor]:
        """Yield batches of uint8 images."""
        return self.generator.images(num_images, self.plan, seed=seed, purpose=purpose)


@dataclass
class FunctionSource:
    """A function of the user: ``generate(weights, *, num_images, seed)`` yields batches.

    Attributes:
        function: The function.
        gives_features: Whether it yields features and not images.
    """

    function: Callable[..., Iterable[Tensor]]
    gives_features: bool
    weights: Mapping[str, Tensor] = field(default_factory=dict)

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Keep a state dict."""
        self.weights = weights

    def batches(self, num_images: int, seed: int, purpose: str) -> Iterator[Tensor]:
        """Yield what the function yields, with a seed for the purpose.

        Raises:
            DataError: It is something else, or of another number of images.
        """
        total, seed = 0, derived_seed(seed, purpose)
        for batch in self.function(self.weights, num_images=num_images, seed=seed):
            self._check(batch)
            total += len(batch)
            if total > num_images:
                break
            yield batch
        if total != num_images:
            raise DataError(
                f"combination.generator gave {total} images where {num_images} were asked for."
            )

    def _check(self, batch: Any) -> None:
        found = type(batch).__name__
        if isinstance(batch, Tensor):
            found = f"{batch.dtype} of shape {tuple(batch.shape)}"
            is_images = batch.dtype == torch.uint8 and batch.shape[1:2] == (3,)
            is_features = batch.is_floating_point() and batch.ndim == 2
            if is_features and not batch.isfinite().all():
                found, is_features = "values that are not finite", False
            if is_features if self.gives_features else is_images and batch.ndim == 4:
                return
        raise DataError(
            "combination.generator must yield batches of uint8 images (B, 3, H, W), or, with "
            f"combination.references, of float features (B, D); it gave {found}."
        )


@dataclass(frozen=True)
class SourceTask:
    """All that a process needs to make a source and measure it; can be sent to another one."""

    network: ModelDescription | None
    decoder: Decoder | None
    extractor: TensorFile | None  # None where the source gives features
    parameters: Combination
    sampling: Sampling
    runtime: Runtime

    def source(self) -> Source:
        """Return the source.

        Raises:
            DataError: No network or no decoder is known, and no function is named.
        """
        if self.parameters.generator is not None:
            function = imported(self.parameters.generator, "combination.generator")
            return FunctionSource(function, gives_features=self.extractor is None)
        if self.network is None:
            raise DataError(
                "these checkpoints are of another trainer: name a function that generates with "
                "them as combination.generator; see docs/other_checkpoints.md."
            )
        generator = build_generator(
            self.network, self.decoder, self.sampling, self.runtime
        )
        fitness = self.parameters.fitness
        plan = deployed_plan(
            self.network,
            self.sampling,
            fitness.nfe,
            fitness.intermediate_sigma,
            fitness.renoise,
        )
        return ModelSource(generator, plan)

    def built_extractor(self) -> FeatureExtractor:
        """Return the extractor that is searched by."""
        if self.extractor is None:
            return FEATURES_AS_GIVEN
        return extractor_of(self.extractor, self.runtime)
