"""Where the features of a candidate come from: this project's models, or a function of the user."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Protocol

from lct_pipeline.datasets.autoencoder import StoredAutoencoder
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import DataError
from lct_pipeline.models.importing import imported
from lct_pipeline.parameters import Combination, Runtime, Sampling
from lct_pipeline.pipelines.references.nodes import extractor_of

if TYPE_CHECKING:
    from torch import Tensor

    from lct_pipeline.evaluation.generator import Generator, SamplingPlan
    from lct_pipeline.models.features.extractors import FeatureExtractor


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
        from lct_pipeline.core.randomness import derived_seed

        return self._function(
            self._weights, num_images=num_images, seed=derived_seed(seed, purpose)
        )


@dataclass(frozen=True)
class SourceTask:
    """All that a process needs to make a source and measure it; can be sent to another one."""

    network: dict[str, Any] | None
    autoencoder: StoredAutoencoder | None
    latent_normalisation: TensorFile | None
    extractors: tuple[TensorFile, ...]
    parameters: Combination
    sampling: Sampling
    runtime: Runtime

    def source(self) -> Source:
        """Return the source.

        Raises:
            DataError: Neither a network nor an autoencoder is known, and no function is named.
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
        if self.autoencoder is None or self.latent_normalisation is None:
            raise DataError(
                "there is no autoencoder: run `kedro run --pipeline=encode` first."
            )
        from lct_pipeline.evaluation.generator import build_generator, deployed_plan

        generator = build_generator(
            self.network,
            self.autoencoder,
            self.latent_normalisation,
            self.sampling,
            self.runtime,
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

    def built_extractors(self) -> list[FeatureExtractor]:
        """Return the feature extractors, the one that is searched by first."""
        return [extractor_of(stored, self.runtime) for stored in self.extractors]
