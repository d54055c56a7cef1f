"""Where the features of a candidate come from: this project's models, or a function of the user."""

from __future__ import annotations

import inspect
import logging
import traceback
from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any, Protocol

import torch
from torch import Tensor

from lct_pipeline.core.randomness import derived_seed
from lct_pipeline.datasets.decoder import Decoder
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import DataError, MeasureError, UserError
from lct_pipeline.evaluation.feature_spaces import FEATURES_AS_GIVEN, extractor_of
from lct_pipeline.evaluation.generator import Generator, SamplingPlan, build_generator
from lct_pipeline.evaluation.plans import deployed_plan
from lct_pipeline.models.denoiser import ModelDescription
from lct_pipeline.models.features.base import FeatureExtractor
from lct_pipeline.models.importing import imported
from lct_pipeline.parameters import Combination, Runtime, Sampling

logger = logging.getLogger(__name__)

Weights = Mapping[str, Tensor]  # a state dict
NOT_FINITE = "values that are not finite"
# what a function raises where other weights would not help
NOT_OF_WEIGHTS = (
    UserError,
    MemoryError,
    ImportError,
    torch.OutOfMemoryError,
    torch.AcceleratorError,
)


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
        function: The function; one that has an argument ``metadata`` gets ``said``.
        gives_features: Whether it yields features and not images.
        said: What the checkpoints say beside their tensors.
    """

    function: Callable[..., Iterable[Tensor]]
    gives_features: bool
    said: Mapping[str, str] = field(default_factory=dict)

    def batches(self, weights: Weights, request: Request) -> Iterator[Tensor]:
        """Yield what the function yields, with a seed for the purpose.

        Raises:
            DataError: It is something else, or of another number of images.
            MeasureError: The function fails with these weights, or its features are not finite.
        """
        total = 0
        for batch in self._made(weights, request):
            fault = batch_fault(batch, gives_features=self.gives_features)
            if fault == NOT_FINITE:
                raise MeasureError(f"combination.generator gave {fault}.")
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

    def check_seed(self, weights: Weights, num_images: int) -> None:
        """Compare first batches: of one seed they are the same, of another they are not.

        Raises:
            DataError: Of one seed they differ, more than rounding does.
        """

        def first(seed: int) -> Tensor:
            batches = self.batches(weights, Request("seed check", num_images, seed))
            return next(batches).double()

        one, again, other = first(0), first(0), first(1)
        if one.shape != again.shape or _apart(one, again) > _apart(one, other) / 2:
            raise DataError(
                "combination.generator gives other images for the same seed: candidates would be "
                "compared by luck. Draw all noise, labels and prompts from its argument seed."
            )
        if _apart(one, other) == 0:
            logger.warning(
                "combination.generator gives the same images for two seeds: what is selected on "
                "them is not confirmed on others. Draw noise, labels and prompts from seed."
            )

    def _made(self, weights: Weights, request: Request) -> Iterator[Any]:
        """Yield what the function yields; what it raises, other weights may not."""
        seed = derived_seed(request.seed, request.purpose)
        try:
            takes = inspect.signature(self.function).parameters
            given = {"metadata": self.said} if "metadata" in takes else {}
            num_images = request.num_images
            yield from self.function(weights, num_images=num_images, seed=seed, **given)
        except NOT_OF_WEIGHTS:
            raise
        except Exception as error:
            frames = traceback.extract_tb(error.__traceback__)
            own = [f for f in frames if "site-packages" not in f.filename] or frames
            raise MeasureError(
                f"combination.generator raised {type(error).__name__}: {error} "
                f"({own[-1].filename}, line {own[-1].lineno})."
            ) from error


def _apart(one: Tensor, other: Tensor) -> float:
    """Return the mean distance of values of as many samples as both have."""
    num = min(len(one), len(other))
    return (one[:num] - other[:num]).abs().mean().item()


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
    return None if found.float().isfinite().all() else NOT_FINITE


@dataclass(frozen=True)
class SourceTask:
    """All that a process needs to make a source and measure it; can be sent to another one."""

    network: ModelDescription | None
    decoder: Decoder | None
    extractor: TensorFile | None  # None where the source gives features
    parameters: Combination
    sampling: Sampling
    runtime: Runtime
    said: Mapping[str, str] = field(default_factory=dict)

    def source(self) -> Source:
        """Return the source.

        Raises:
            DataError: No network or no decoder is known, and no function is named.
        """
        if self.parameters.generator is not None:
            function = imported(self.parameters.generator, "combination.generator")
            return FunctionSource(function, self.extractor is None, self.said)
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
