"""Where the features of a candidate come from: this project's models, or a function of the user."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from torch import Tensor

from lct_pipeline.core.randomness import derived_seed
from lct_pipeline.datasets.decoder import Decoder
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import DataError
from lct_pipeline.evaluation.extractors import extractor_of
from lct_pipeline.evaluation.generator import (
    Generator,
    SamplingPlan,
    build_generator,
    deployed_plan,
)
from lct_pipeline.models.features.extractors import FeatureExtractor
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


class FunctionSource:
    """A function of the user: ``generate(weights, *, num_images, seed)`` yields batches."""

    def __init__(self, function: Callable[..., Iterable[Tensor]]) -> None:
        self._function = function
        self._weights: Mapping[str, Tensor] = {}

    def load(self, weights: Mapping[str, Tensor]) -> None:
        """Keep a state dict."""
        self._weights = weights

    def batches(self, num_images: int, seed: int, purpose: str) -> Iterable[Tensor]:
        """Yield what the function yields, with a seed for the purpose."""
        return self._function(
            self._weights, num_images=num_images, seed=derived_seed(seed, purpose)
        )


@dataclass(frozen=True)
class SourceTask:
    """All that a process needs to make a source and measure it; can be sent to another one."""

    network: dict[str, Any] | None
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
            return FunctionSource(
                imported(self.parameters.generator, "combination.generator")
            )
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
            fitness.second_sigma,
            fitness.renoise,
        )
        return ModelSource(generator, plan)

    def built_extractor(self) -> FeatureExtractor | None:
        """Return the extractor that is searched by; None where the source gives features."""
        if self.extractor is None:
            return None
        return extractor_of(self.extractor, self.runtime)
