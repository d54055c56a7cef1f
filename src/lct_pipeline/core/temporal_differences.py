"""The temporal difference d = f(x_t, t) - f(x_r, r) of a trained model, after figure 1 of sLCT.

Element-wise and signed, both terms by the same network in evaluation mode. The authors' scripts
measure the noisiest pair alone, by mistake; here the pairs spread over the whole grid. Their law
c(N) is a fit of the standard deviation of d.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import NamedTuple

import numpy as np
import torch
from torch import Tensor

from lct_pipeline.core.levels import (
    ContinuousSchedule,
    IndexSchedule,
    LevelSchedule,
    TruncatedSchedule,
    karras_sigmas,
    level_probabilities,
)
from lct_pipeline.core.objectives import Batch
from lct_pipeline.core.preconditioning import Model, at_level


class LevelPair(NamedTuple):
    """A pair t > r of a stage's grid.

    ``n`` is its index, counted from the least noisy pair; ``weight`` the share of the training's
    samples that it stands for, its neighbours that were not chosen included.
    """

    n: int
    t: float
    r: float
    weight: float


@torch.no_grad()
def temporal_differences(
    denoiser: Model, batches: Iterable[Batch], t: float, r: float
) -> Iterator[Tensor]:
    """Yield d = f(x + t eps, t) - f(x + r eps, r) of each batch, ``(B, C, H, W)``.

    Args:
        denoiser: The consistency function, in evaluation mode.
        batches: Latents and the noise they are coupled with.
        t: Upper level.
        r: Lower level; at 0, where ECT's first stage has its target, f is the identity.
    """
    for batch in batches:
        D_xt = _output(denoiser, batch, t)
        D_xr = _output(denoiser, batch, r) if r > 0 else batch.x
        yield D_xt - D_xr


def _output(denoiser: Model, batch: Batch, level: float) -> Tensor:
    levels = at_level(batch.x, level)
    return denoiser(batch.noised(levels), levels, batch.labels)


def stage_pairs(
    schedule: LevelSchedule,
    step: int,
    num_pairs: int,
    *,
    sigma_min: float,
    sigma_max: float,
    rho: float,
) -> list[LevelPair]:
    """Return pairs spread evenly over the indices of a stage's grid, both ends included.

    ECT's levels are continuous: its t are those of the Karras grid of as many intervals as its
    nominal N, its r follow from them. A truncated model has the pairs with r >= t' alone, where
    it serves both levels; there may be none.

    Args:
        schedule: The training's levels; not those of a diffusion model, which has no pairs.
        step: A training step of the stage.
        num_pairs: How many, at most; a coarser grid has all of its own.
        sigma_min: Smallest level of the grid.
        sigma_max: Largest level of the grid.
        rho: Exponent of the spacing.
    """
    truncation, base = 0.0, schedule
    if isinstance(schedule, TruncatedSchedule):
        truncation, base = schedule.truncation, schedule.schedule
    assert isinstance(base, IndexSchedule | ContinuousSchedule)
    sigmas = karras_sigmas(
        base.num_levels(step), sigma_min=sigma_min, sigma_max=sigma_max, rho=rho
    )
    t, r = sigmas[1:], sigmas[:-1]
    if isinstance(base, ContinuousSchedule):
        r = base.pairs_at(step, t).r
    probabilities = level_probabilities(sigmas, P_mean=base.P_mean, P_std=base.P_std)
    served = torch.nonzero(r >= truncation).flatten()
    places = spread_evenly(len(served), num_pairs)
    weights = interpolation_weights(probabilities[served].numpy(), places)
    return [
        LevelPair(n, t[n].item(), r[n].item(), weight)
        for n, weight in zip(served[places].tolist(), weights.tolist(), strict=True)
    ]


def spread_evenly(num_items: int, num_chosen: int) -> np.ndarray:
    """Return up to ``num_chosen`` different indices below ``num_items``, increasing, int64.

    The first and the last are among them, the gaps differ by one at most.
    """
    places = np.linspace(0, num_items - 1, min(num_items, num_chosen))
    return places.round().astype(np.int64)


def interpolation_weights(probabilities: np.ndarray, chosen: np.ndarray) -> np.ndarray:
    """Return the weights w that make sum_j w_j v_j the mean of v over all levels.

    Between the chosen levels v is taken to be linear in the index.

    Args:
        probabilities: Of all levels, ``(N,)``, up to a factor.
        chosen: Increasing indices of the levels at which v is known, ``(J,)``, with both ends.

    Returns:
        Weights of shape ``(J,)``, with sum 1.
    """
    n = np.arange(len(probabilities))
    hats = [np.interp(n, chosen, one) for one in np.eye(len(chosen))]
    weights = np.reshape(hats, (len(chosen), len(n))) @ probabilities
    return weights / probabilities.sum()


def pooled_std(means: np.ndarray, stds: np.ndarray, weights: np.ndarray) -> float:
    """Return the standard deviation of a mixture of groups.

    Args:
        means: Mean of each group, ``(J,)``.
        stds: Standard deviation of each group, ``(J,)``.
        weights: Share of each group, ``(J,)``, up to a factor.
    """
    shares = weights / weights.sum()
    mean = shares @ means
    return float(np.sqrt(shares @ (stds**2 + (means - mean) ** 2)))
