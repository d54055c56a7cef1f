"""The parameters of the combination stage: checkpoints, fitness, searches, selection, charts."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Literal

from pydantic import Field, NonNegativeFloat, NonNegativeInt, PositiveFloat, PositiveInt

from lct_pipeline.parameters.types import (
    AtLeastTwo,
    Group,
    ImportPath,
    PositiveShare,
    Rate,
    Width,
)

Method = Literal["evolution", "cma", "random", "gradient"]


class Fitness(Group):
    """What a search minimises: a distance to the training images, of images made as deployed."""

    nfe: PositiveInt | None
    """Evaluations that the model will be used with; null: the fewest."""
    intermediate_sigma: PositiveFloat
    """Noise level of the second evaluation, where nfe is 2."""
    renoise: Literal["fresh", "same", "coupled"]
    """Noise of the second evaluation: the same as of the first, fresh, or coupled."""
    num_images: AtLeastTwo
    """Images of an evaluation. With 400, searches fitted the noise and gained nothing."""
    frechet_weight: NonNegativeFloat
    """Weight of the Frechet distance in the fitness, a sum of it and the kernel distance."""
    kernel_weight: NonNegativeFloat
    """Weight of the kernel distance in that sum; 0: it is not measured."""

    def faults(self) -> Iterator[str]:
        """Something has to be measured."""
        if self.frechet_weight == self.kernel_weight == 0:
            yield "frechet_weight or kernel_weight must be above 0"


class Gradient(Group):
    """The search along the derivative of the fitness."""

    step_size: PositiveFloat
    """Size of the first step, over the square root of the number of checkpoints; falls to 0."""
    num_images: AtLeastTwo
    """Images of each step, from new noise."""


class Search(Group):
    """Searches over coefficients: which, how often, with which budget."""

    methods: tuple[Method, ...] = Field(min_length=1)
    """Kinds of search. gradient takes one step and our own models, and found much more with the
    same budget; evolution and cma take any; random is to compare with."""
    num_seeds: PositiveInt
    """Searches of each method, with seeds from `seed` on."""
    num_evaluations: PositiveInt
    """Budget of each search: passes of the network in units of one evaluation, the start and the
    search mean at the end counted in; a gradient costs four."""
    population: AtLeastTwo
    """Candidates of a generation, and survivors of the evolutionary search; half of those
    breed."""
    initial_ema_rates: tuple[Rate, ...] = Field(min_length=1)
    """Rates of the exponential averages that the start holds, projected on the checkpoints."""
    initial_sigma_rels: tuple[Width, ...]
    """Relative widths of the power-function averages (EDM2) that the start holds."""
    gradient: Gradient

    def faults(self) -> Iterator[str]:
        """The budget has to hold the start."""
        profiles = len(self.initial_ema_rates) + len(self.initial_sigma_rels)
        least = profiles + 3  # uniform, last, search mean
        if self.num_evaluations < least:
            yield (
                f"num_evaluations must be at least {least}: the initial rates and widths, uniform "
                "average, the last checkpoint, and the search mean at the end"
            )
        if len(set(self.methods)) < len(self.methods):
            yield "methods must not name one twice; num_seeds repeats them"


class Selection(Group):
    """Scores on the validation split, by which weights are selected."""

    num_candidates: PositiveInt
    """Candidates of each search that are measured again: among the best of many noisy evaluations
    some are there by luck."""
    num_images: AtLeastTwo
    """Images of an evaluation: of averages, candidates, and of the decision between the best
    candidate and the best baseline."""


class Combination(Group):
    """LCSC. The authors published neither their search nor its settings: all values are ours.

    Searched on the training images, selected by the validation split; the test split is only
    reported; each with noise of its own.
    """

    window: PositiveShare
    """Share of the training steps, at the end, whose checkpoints are combined."""
    memory_mib: PositiveInt
    """Memory of the combinations that are made together, MiB (1,024: 24 of 10 M weights)."""
    generator: ImportPath | None
    """package.module:function that generates with another trainer's checkpoints; null: this
    project's models. See docs/other_checkpoints.md."""
    references: ImportPath | None
    """package.module:function with real features, where the generator gives features."""
    fitness: Fitness
    search: Search
    selection: Selection
    num_line_points: NonNegativeInt
    """Points of the chart from the best EMA to the combination; 0: none."""
    landscape_size: NonNegativeInt
    """Side of the grid of points of the chart over three checkpoints; 0: none."""
    seed: NonNegativeInt
    """Seed of the first search; its noise differs from that of selection and report."""

    def faults(self) -> Iterator[str]:
        """Custom generators and the gradient search have their needs."""
        if self.references is not None and self.generator is None:
            yield (
                "references are features of real images for a generator of your own that gives "
                "features: name it as generator"
            )
        through_one = self.generator is None and self.fitness.nfe in (None, 1)
        if "gradient" in self.search.methods and not through_one:
            yield (
                "the gradient search goes through one evaluation of this project's own models: "
                "search.methods=[evolution] takes any generator and any number of evaluations"
            )
