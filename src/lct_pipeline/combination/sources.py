"""Where the features of a candidate come from: this project's models, or a function of the user."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from typing import Any, Protocol

import torch
from torch import Tensor

from lct_pipeline.core.randomness import derived_seed
from lct_pipeline.datasets.decoder import Decoder
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import DataError
from lct_pipeline.evaluation.feature_spaces import FEATURES_AS_GIVEN, extractor_of
from lct_pipeline.evaluation.generator import Generator, SamplingPlan, build_generator
from lct_pipeline.evaluation.plans import deployed_plan
from lct_pipeline.models.denoiser import ModelDescription
from lct_pipeline.models.features.base import FeatureExtractor
from lct_pipeline.models.importing import imported
from lct_pipeline.parameters import Combination, Runtime, Sampling

Weights = Mapping[str, Tensor]  # a state dict


@dataclass(frozen=True)
class Request:
    """How weights are measured: on which noise, and on how many images."""

    purpose: str  # with the seed: the same two are the same noise, and labels
    num_images: int
    seed: int
    gradients: bool = False


class Source(Protocol):
    """Makes images, or features at once, with the weights that it is given."""

    def batches(self, weights: Weights, request: Request) -> Iterable[Tensor]:
        """Yield batches of uint8 images ``(B, 3, H, W)`` or of float features ``(B, D)``."""


@dataclass(frozen=True)
class ModelSource:
    """A model of this project, sampled as it will be deployed."""

    generator: Generator
    plan: SamplingPlan

    def batches(self, weights: Weights, request: Request) -> Iterable[Tensor]:
        """Yield batches of images.

        Raises:
            DataError: The weights are of another network.
        """
        try:
            self.generator.load(weights)
        except RuntimeError as error:
            reason = str(error).splitlines()[-1].strip()
            raise DataError(
                f"the checkpoints do not fit the network of the run: {reason}"
            ) from error
        return self.generator.images(
            request.num_images, self.plan, seed=request.seed, purpose=request.purpose
        )


@dataclass(frozen=True)
class FunctionSource:
    """A function of the user: ``generate(weights, *, num_images, seed)`` yields batches.

    Attributes:
        function: The function.
        gives_features: Whether it yields features and not images.
    """

    function: Callable[..., Iterable[Tensor]]
    gives_features: bool

    def batches(self, weights: Weights, request: Request) -> Iterator[Tensor]:
        """Yield what the function yields, with a seed for the purpose.

        Raises:
            DataError: It is something else, or of another number of images.
        """
        total, seed = 0, derived_seed(request.seed, request.purpose)
        for batch in self.function(weights, num_images=request.num_images, seed=seed):
            fault = batch_fault(batch, gives_features=self.gives_features)
            if fault:
                raise DataError(
                    "combination.generator must yield batches of uint8 images (B, 3, H, W), or, "
                    f"with combination.references, of float features (B, D); it gave {fault}."
                )
            total += len(batch)
            if total > request.num_images:
                break
            yield batch
        if total != request.num_images:
            raise DataError(
                f"combination.generator gave {total} images where {request.num_images} were asked "
                "for."
            )


def batch_fault(found: Any, *, gives_features: bool) -> str | None:
    """Return what a value is instead of a batch; None where it is one.

    A batch is uint8 images ``(B, 3, H, W)``, or finite float features ``(B, D)``.
    """
    if not isinstance(found, Tensor):
        return type(found).__name__
    is_images = found.dtype == torch.uint8 and found.ndim == 4 and found.shape[1] == 3
    is_features = found.ndim == 2 and found.is_floating_point()
    if not (is_features if gives_features else is_images):
        return f"{found.dtype} of shape {tuple(found.shape)}"
    return None if found.isfinite().all() else "values that are not finite"


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
        network, settings = self.network, self.parameters.fitness
        if network is None:
            raise DataError(
                "these checkpoints are of another trainer: name a function that generates with "
                "them as combination.generator; see docs/other_checkpoints.md."
            )
        deployed = settings.nfe, settings.intermediate_sigma, settings.renoise
        return ModelSource(
            build_generator(network, self.decoder, self.sampling, self.runtime),
            deployed_plan(network, self.sampling, *deployed),
        )

    def built_extractor(self) -> FeatureExtractor:
        """Return the extractor that is searched by."""
        if self.extractor is None:
            return FEATURES_AS_GIVEN
        return extractor_of(self.extractor, self.runtime)
