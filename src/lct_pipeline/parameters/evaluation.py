"""Parameters of everything that is measured: feature extractors, protocols and final numbers."""

from __future__ import annotations

import re
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, model_validator

from lct_pipeline.parameters.types import (
    Count,
    Group,
    Positive,
    PositiveFloat,
    Text,
    Width,
)

Side = Annotated[int, Field(ge=8)]
Triple = tuple[float, float, float]
PositiveTriple = tuple[PositiveFloat, PositiveFloat, PositiveFloat]


class TrainedClassifier(Group):
    """The small classifier whose features stand in where Inception is not at hand."""

    width: int = Field(ge=8, multiple_of=8)
    num_features: Positive
    num_steps: Positive
    batch_size: Positive


KINDS = ("classifier", "inception", "inception_pytorch", "dinov2")
OWN_KIND = re.compile(r".+:\w+|.+\.(pt|pth|ts|onnx)")


def _known(kind: str) -> str:
    """Refuse what names no feature extractor."""
    if kind in KINDS or OWN_KIND.fullmatch(kind):
        return kind
    raise ValueError(
        f"not known: give {', '.join(KINDS)}, the import path package.module:name of a function "
        "that returns a network, or a TorchScript (.pt, .pth, .ts) or .onnx file"
    )


class Extractor(Group):
    """A network whose features are compared; the last three are for networks of one's own."""

    kind: Annotated[Text, AfterValidator(_known)]
    path: Text | None = None
    size: Side | None = None
    mean: Triple = (0.0, 0.0, 0.0)
    std: PositiveTriple = (1.0, 1.0, 1.0)


def _by_kind(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


AnyExtractor = Annotated[Extractor, BeforeValidator(_by_kind)]


class Features(Group):
    """The feature extractor of search, choices and evaluation, and what is kept of real images."""

    extractor: AnyExtractor
    classifier: TrainedClassifier
    num_retained: Annotated[
        int, Field(ge=6)
    ]  # density and coverage: the fifth neighbour
    batch_size: Positive
    seed: Count


class ReferenceStatistics(Group):
    """Mean and covariance of real images that somebody else measured."""

    path: Text | None
    protocol: Text | None
    num_images: Positive | None

    @model_validator(mode="after")
    def _is_described(self) -> ReferenceStatistics:
        if self.path is not None and None in (self.protocol, self.num_images):
            raise ValueError(
                "statistics of others say nothing about themselves: give protocol (extractor, "
                "resizing, file format, in words) and num_images with path"
            )
        return self


class Neighbours(Group):
    """The figure of generated images beside the nearest training images."""

    num_images: Count
    num_shown: Positive
    num_neighbours: Positive

    @model_validator(mode="after")
    def _shown_are_among_them(self) -> Neighbours:
        if 0 < self.num_images < self.num_shown:
            raise ValueError("num_shown must not be more than num_images")
        return self


class Evaluation(Group):
    """What is chosen on the validation split, and the final numbers."""

    protocol: Literal["clean", "slct_paper"]
    split: Literal["test", "train", "all"]
    extractors: tuple[AnyExtractor, ...]
    reference: ReferenceStatistics
    num_images: Count
    num_seeds: Positive
    num_selection_images: Count
    posthoc_sigma_rels: tuple[Width, ...]
    neighbours: Neighbours
    seed: Count

    @model_validator(mode="after")
    def _images_have_a_fifth_neighbour(self) -> Evaluation:
        if 0 < self.num_images < 8:
            raise ValueError(
                "num_images must be at least 8 (density and coverage take the fifth neighbour, a "
                "quarter of the images two), or 0 for as many as the split has"
            )
        return self


class Comparison(Group):
    """Two sets of images, or one and statistics, that `--pipeline=compare` compares."""

    generated: Text | None
    reference: Text | None
    statistics: ReferenceStatistics

    @model_validator(mode="after")
    def _have_one_reference(self) -> Comparison:
        if self.reference is not None and self.statistics.path is not None:
            raise ValueError("give reference or statistics, not both")
        return self
