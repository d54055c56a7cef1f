"""How an exported model generates: the levels that its run chose, for each number of steps."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import pairwise
from typing import Any

from diffusers import ConfigMixin, SchedulerMixin
from diffusers.configuration_utils import register_to_config
from torch import Tensor

from lct_pipeline.core.preconditioning import Model
from lct_pipeline.core.samplers import SamplingPlan, guided, sample_by_plan


class LatentScheduler(SchedulerMixin, ConfigMixin):
    """Consistency multistep sampling, or a solver of diffusion models; one step is one evaluation.

    Args:
        model: ``consistency`` or ``diffusion``.
        plans: A :class:`SamplingPlan` as a mapping, for each number of steps that was evaluated.
        guidance: Weight of classifier-free guidance; 1 is none.
        boundary: Level at which a consistency model is the identity.
        sigma_min: Smallest level of a solver's grid.
        sigma_max: Level of pure noise.
        rho: Exponent of the grid's spacing.
        lowest_level: Level below which the model was not trained.
    """

    config_name = "scheduler_config.json"
    order = 1

    @register_to_config
    def __init__(
        self,
        model: str,
        plans: list[dict[str, Any]],
        guidance: float,
        boundary: float,
        sigma_min: float,
        sigma_max: float,
        rho: float,
        lowest_level: float,
    ) -> None:
        numbers = [int(plan["num_evaluations"]) for plan in plans]
        self.default_steps = max(numbers) if model == "diffusion" else min(numbers)

    def plan(
        self, num_steps: int | None, sigmas: Sequence[float] | None = None
    ) -> SamplingPlan:
        """Return the plan for a number of steps, or for custom levels.

        Those are taken with the kind of new noise that the run chose for its largest number.

        Raises:
            ValueError: There is none, or the levels are not those of this model.
        """
        if sigmas is not None:
            return self._custom_plan(num_steps, tuple(sigmas))
        num_steps = self.default_steps if num_steps is None else num_steps
        chosen = {plan["num_evaluations"]: plan for plan in self.config.plans}
        if num_steps in chosen:
            values = chosen[num_steps]
            return SamplingPlan(**{**values, "sigmas": tuple(values["sigmas"])})
        if self.config.model == "consistency":
            raise ValueError(
                f"this model's run chose levels for {' and '.join(map(str, sorted(chosen)))} "
                f"steps, not for {num_steps}: give the levels of {num_steps} evaluations yourself, "
                f"as sigmas=[{self.config.sigma_max}, ...]."
            )
        solver = self.config.plans[0]["solver"]
        if num_steps < 1 or (
            solver == "heun" and (num_steps < 3 or num_steps % 2 == 0)
        ):
            raise ValueError(
                f"num_inference_steps={num_steps}: these are network evaluations, of which Heun "
                "takes an odd number from 3 on, DPM-Solver++ any."
            )
        return SamplingPlan(num_steps, solver=solver)

    def _custom_plan(
        self, num_steps: int | None, sigmas: tuple[float, ...]
    ) -> SamplingPlan:
        high = self.config.sigma_max
        low = max(self.config.lowest_level, self.config.sigma_min)
        falls = all(a > b for a, b in pairwise(sigmas))
        if self.config.model != "consistency":
            raise ValueError("sigmas are given to consistency models alone.")
        if not sigmas or sigmas[0] != high or sigmas[-1] < low or not falls:
            raise ValueError(
                f"sigmas={list(sigmas)}: they decrease from {high} to {low} at the least."
            )
        if num_steps not in (None, len(sigmas)):
            raise ValueError(
                f"{len(sigmas)} sigmas are not those of {num_steps} steps."
            )
        renoise = self.config.plans[-1]["renoise"]
        return SamplingPlan(len(sigmas), sigmas, renoise)

    def sample(
        self,
        model: Model,
        noises: Sequence[Tensor],
        plan: SamplingPlan,
        labels: Tensor | None = None,
        *,
        guidance: float | None = None,
        null_class: int = 0,
    ) -> Tensor:
        """Return normalised latents ``(B, C, H, W)`` of unit noise for each evaluation."""
        weight = self.config.guidance if guidance is None else guidance
        if labels is not None:
            model = guided(model, weight, null_class=null_class)
        names = ("boundary", "sigma_min", "sigma_max", "rho")
        levels = {name: getattr(self.config, name) for name in names}
        return sample_by_plan(model, noises, plan, labels=labels, **levels)
