"""The parameters of the combination stage: checkpoints, fitness, searches, choice, figures."""

from __future__ import annotations

from typing import Annotated, Literal

from pydantic import Field, model_validator

from lct_pipeline.parameters.types import (
    Count,
    Group,
    ImportPath,
    NonNegativeFloat,
    Positive,
    PositiveFloat,
    Rate,
    Width,
)

Method = Literal["evolution", "cma", "random", "gradient"]


class Fitness(Group):
    """What a search minimises: a distance to the training images, of images made as deployed."""

    nfe: Positive | None
    intermediate_sigma: PositiveFloat
    renoise: Literal["fresh", "same", "coupled"]
    num_images: Annotated[int, Field(ge=2)]
    frechet_weight: NonNegativeFloat
    kernel_weight: NonNegativeFloat

    @model_validator(mode="after")
    def _measures_something(self) -> Fitness:
        if self.frechet_weight == self.kernel_weight == 0:
            raise ValueError("frechet_weight or kernel_weight must be above 0")
        return self


class Gradient(Group):
    """Gradient search."""

    step_size: PositiveFloat
    num_images: Annotated[int, Field(ge=2)]


class Search(Group):
    """Searches over coefficients: which, how often, with which budget."""

    methods: tuple[Method, ...] = Field(min_length=1)
    num_seeds: Positive
    num_evaluations: Positive
    population: Annotated[int, Field(ge=2)]
    initial_ema_rates: tuple[Rate, ...] = Field(min_length=1)
    initial_sigma_rels: tuple[Width, ...]
    gradient: Gradient

    @model_validator(mode="after")
    def _budget_holds_the_start(self) -> Search:
        profiles = len(self.initial_ema_rates) + len(self.initial_sigma_rels)
        least = profiles + 3  # uniform, last, search mean
        if self.num_evaluations < least:
            raise ValueError(
                f"num_evaluations must be at least {least}: the initial rates and widths, uniform "
                "average, the last checkpoint, and the search mean at the end"
            )
        return self

    @model_validator(mode="after")
    def _methods_differ(self) -> Search:
        if len(set(self.methods)) < len(self.methods):
            raise ValueError("methods must not name one twice; num_seeds repeats them")
        return self


class Selection(Group):
    """Scores on the validation split, by which weights are selected."""

    num_candidates: Positive
    num_images: Annotated[int, Field(ge=2)]


class Combination(Group):
    """LCSC: which checkpoints are combined, how the search runs, and how it is guarded."""

    window: Annotated[float, Field(gt=0, le=1)]
    memory_mib: Positive
    generator: ImportPath | None
    references: ImportPath | None
    fitness: Fitness
    search: Search
    selection: Selection
    num_line_points: Count
    landscape_size: Count
    seed: Count

    @model_validator(mode="after")
    def _references_belong_to_a_generator(self) -> Combination:
        if self.references is not None and self.generator is None:
            raise ValueError(
                "references are features of real images for a generator of your own that gives "
                "features: name it as generator"
            )
        return self

    @model_validator(mode="after")
    def _gradient_goes_through_one_step(self) -> Combination:
        if "gradient" not in self.search.methods:
            return self
        if self.generator is not None or self.fitness.nfe not in (None, 1):
            raise ValueError(
                "the gradient search goes through one evaluation of this project's own models: "
                "search.methods=[evolution] takes any generator and any number of evaluations"
            )
        return self
