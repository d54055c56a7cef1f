"""Parameters of all that is measured: temporal differences, sampling, extractors, protocols."""

from __future__ import annotations

import re
from collections.abc import Iterator
from typing import Annotated, Any, Literal

from pydantic import (
    AfterValidator,
    BeforeValidator,
    Field,
    NonNegativeInt,
    PositiveFloat,
    PositiveInt,
)

from lct_pipeline.parameters.types import (
    AtLeastTwo,
    FilePath,
    Group,
    Outside,
    Text,
    Width,
)

Triple = tuple[float, float, float]
PositiveTriple = tuple[PositiveFloat, PositiveFloat, PositiveFloat]


class Statistics(Group):
    """Temporal differences f(x_t, t) - f(x_r, r) of the model, at the end of each stage."""

    num_td_levels: AtLeastTwo
    """Pairs of levels, evenly over the stage's grid; the paper's figure 1 has 21."""
    num_td_images: NonNegativeInt
    """Training images that are measured; 0: all. Their values at one level are held in memory: 16
    KiB an image at 4x32x32."""


class DiffusionSampling(Group):
    """How models of objective.kind=diffusion generate."""

    sampler: Literal["heun", "dpm_solver"]
    """Sampler. dpm_solver: DPM-Solver++(2M); or heun (EDM)."""
    num_evaluations: tuple[PositiveInt, ...] = Field(min_length=1)
    """Evaluations of the network for an image; the model is measured with each."""

    def faults(self) -> Iterator[str]:
        """Heun's method takes two evaluations a step."""
        odd = all(n >= 3 and n % 2 == 1 for n in self.num_evaluations)
        if self.sampler == "heun" and not odd:
            yield "heun evaluates twice a step but once in the last: give odd numbers from 3 on"


class Sampling(Group):
    """How trained models generate."""

    intermediate_sigmas: tuple[PositiveFloat, ...] = Field(min_length=1)
    """Noise levels tried for the second evaluation, on the validation split; the best is used. The
    paper's best was 0.53."""
    renoise: tuple[Literal["fresh", "same", "coupled"], ...] = Field(min_length=1)
    """Noise tried for the second evaluation: fresh, or the same as of the first."""
    guidance: PositiveFloat
    """Scale of classifier-free guidance, of conditional models; 1: none."""
    diffusion: DiffusionSampling
    batch_size: PositiveInt
    """Images generated at a time."""
    grid_size: PositiveInt
    """Side of a sample grid: grid_size x grid_size images."""


class TrainedClassifier(Group):
    """The small classifier whose features stand in where Inception is not at hand.

    A second one, of rotations and with the seed after, is the check extractor.
    """

    width: int = Field(ge=8, multiple_of=8)
    """Channels of the first convolution."""
    num_features: PositiveInt
    """Features that are compared."""
    num_steps: PositiveInt
    """Steps of its training."""
    batch_size: PositiveInt
    """Images a step of its training."""


TRAINED_HERE = "classifier"  # the kind that is trained on the images of a run
KINDS = (TRAINED_HERE, "inception", "inception_pytorch", "dinov2")
NETWORK_FILE = re.compile(r".+\.(pt|pth|ts|onnx)")
IMPORT_PATH = re.compile(r".+:\w+")
UNCHANGED = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)  # mean and standard deviation


def _known(kind: str) -> str:
    """Refuse what names no feature extractor."""
    is_custom = NETWORK_FILE.fullmatch(kind) or IMPORT_PATH.fullmatch(kind)
    if kind in KINDS or is_custom:
        return kind
    raise ValueError(
        f"not known: give {', '.join(KINDS)}, the import path package.module:name of a function "
        "that returns a network, or a TorchScript (.pt, .pth, .ts) or .onnx file"
    )


class Extractor(Group):
    """A network whose features are compared; the last three are for custom networks."""

    kind: Annotated[Text, AfterValidator(_known), Outside(KINDS)]
    """Network. classifier: a small one, trained here; inception: clean-fid's, gives FID;
    inception_pytorch: pytorch-fid's; dinov2; package.module:name of a function that returns a
    network; a TorchScript or .onnx file."""
    path: FilePath | None = None
    """Weights: inception-2015-12-05.pt, pt_inception-2015-12-05-6726825d.pth, a folder or hub id
    of DINOv2, or what the function is given; null: the usual place."""
    size: Annotated[int, Field(ge=8)] | None = None
    """Side to which images are resized for a custom network; null: as they are."""
    mean: Triple = UNCHANGED[0]
    """Mean subtracted from images in [0, 1], for a custom network."""
    std: PositiveTriple = UNCHANGED[1]
    """Standard deviation by which they are then divided, for a custom network."""

    @property
    def is_file(self) -> bool:
        """Return whether the kind is a file with a network inside."""
        return NETWORK_FILE.fullmatch(self.kind) is not None

    def faults(self) -> Iterator[str]:
        """A known network resizes and normalises by itself, and a file has its weights inside."""
        is_changed = (self.size, self.mean, self.std) != (None, *UNCHANGED)
        if self.kind in KINDS and is_changed:
            yield (
                f"{self.kind} resizes and normalises as it must: size, mean and std are for custom "
                "networks"
            )
        if self.is_file and self.path is not None:
            yield (
                f"path={self.path!r} is for a function; {self.kind} has its weights inside"
            )


def _by_kind(value: Any) -> Any:
    return {"kind": value} if isinstance(value, str) else value


def _pretrained(extractor: Extractor) -> Extractor:
    """Refuse the kind of which a run has one at most."""
    if extractor.kind == TRAINED_HERE:
        raise ValueError(
            f"{TRAINED_HERE} is trained here as features.extractor alone: give "
            f"{', '.join(KINDS[1:])}, or a custom network"
        )
    return extractor


AnyExtractor = Annotated[Extractor, BeforeValidator(_by_kind)]
Pretrained = Annotated[AnyExtractor, AfterValidator(_pretrained)]


class Features(Group):
    """The feature extractor of search, selection and evaluation, and what is kept of images."""

    extractor: AnyExtractor
    classifier: TrainedClassifier
    num_retained: int = Field(ge=6)  # density and coverage take the fifth neighbour
    """Images of each set, at random, whose features are kept: kernel distance and nearest
    neighbours need features themselves, and memory must not grow with the number of images. Mean
    and covariance are of all images."""
    batch_size: PositiveInt
    """Images at a time through the extractor."""
    seed: NonNegativeInt
    """Seed of the training of the classifier, and of which features are kept."""


class ReferenceStatistics(Group):
    """Mean and covariance of features of real images that others published."""

    path: FilePath | None
    """File .npz with mu and sigma, of clean-fid or others, for features.extractor."""
    protocol: Text | None
    """Text that says how the statistics were made."""
    num_images: PositiveInt | None
    """Number of images that the statistics are of."""

    def faults(self) -> Iterator[str]:
        """A file of statistics does not say what it is."""
        if self.path is not None and None in (self.protocol, self.num_images):
            yield (
                "statistics of others say nothing about themselves: give protocol (extractor, "
                "resizing, file format, in words) and num_images with path"
            )


class Neighbours(Group):
    """The picture of generated images beside the nearest training images."""

    num_images: NonNegativeInt
    """Generated images whose nearest training images are searched; 0: no picture."""
    num_shown: PositiveInt
    """Images shown: of those, the ones nearest to a training image."""
    num_neighbours: PositiveInt
    """Training images shown beside each."""

    def faults(self) -> Iterator[str]:
        """What is shown was searched for."""
        if 0 < self.num_images < self.num_shown:
            yield "num_shown must not be more than num_images"


class Evaluation(Group):
    """What is selected on the validation split, and the final values."""

    protocol: Literal["clean", "slct_paper"]
    """How images are stored. clean: images as they are, rounded to 8 bits; slct_paper: the paper's,
    pytorch-fid on JPEG files, 8 bits by truncation, compared with all images."""
    split: Literal["test", "train", "all"]
    """Real images that generated ones are compared with. Literature mostly has train or all, which
    the models have seen."""
    extractors: tuple[Pretrained, ...]
    """Further extractors, beside that of features: inception, dinov2, {kind: ..., path: ...}."""
    reference: ReferenceStatistics
    num_images: NonNegativeInt
    """Images generated per model, NFE and seed; 0: as many as the split has. Paper: 50,176."""
    num_seeds: PositiveInt
    """Seeds of noise: values are means over them, with standard deviations."""
    num_selection_images: NonNegativeInt
    """Images generated for each sampling plan on the validation split; 0: as many as it has."""
    posthoc_sigma_rels: tuple[Width, ...]
    """Relative widths (EDM2) of averages made afterwards, that compete with those kept in
    training."""
    neighbours: Neighbours
    seed: NonNegativeInt
    """Seed of noise that the search never saw: combination has its own streams."""

    def faults(self) -> Iterator[str]:
        """Some metrics need more than a few images."""
        if 0 < self.num_images < 8:
            yield (
                "num_images must be at least 8 (density and coverage take the fifth neighbour, a "
                "quarter of the images two), or 0 for as many as the split has"
            )


class Comparison(Group):
    """Two sets of images, or one and statistics, that `--pipeline=compare` compares."""

    generated: FilePath | None
    """Folder, .zip or any other source of images."""
    reference: FilePath | None
    """Another such source, unless statistics are given."""
    statistics: ReferenceStatistics

    def faults(self) -> Iterator[str]:
        """There is one reference."""
        if self.reference is not None and self.statistics.path is not None:
            yield "give reference or statistics, not both"
