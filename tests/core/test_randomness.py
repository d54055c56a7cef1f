from __future__ import annotations

import itertools

import pytest
import torch
from torch import nn

from lct_pipeline.core.randomness import (
    derived_generator,
    derived_seed,
    draw_seed,
    seeded_dropout,
)

CPU = torch.device("cpu")


def test_seeds_are_in_range_and_differ_by_seed_purpose_and_step() -> None:
    purposes = itertools.product((0, 1), ("training", "dropout"), range(50))
    seeds = [derived_seed(seed, purpose, step) for seed, purpose, step in purposes]
    assert len(set(seeds)) == len(seeds)
    assert all(0 <= seed < 2**63 for seed in seeds)


def test_a_derived_generator_draws_the_same_whatever_was_drawn_before() -> None:
    first = torch.randn(5, generator=derived_generator(3, "training", 7))
    torch.randn(100)
    derived_generator(3, "training", 6).seed()
    second = torch.randn(5, generator=derived_generator(3, "training", 7))
    assert torch.equal(first, second)


def test_drawn_seeds_are_in_range_and_follow_their_generator() -> None:
    first, second = (derived_generator(3, "dropout") for _ in range(2))
    seeds = [draw_seed(first) for _ in range(200)]
    assert [draw_seed(second) for _ in range(200)] == seeds
    assert len(set(seeds)) == 200
    assert all(0 <= seed < 2**63 for seed in seeds)
    assert max(seeds) > 2**62  # of all sizes
    assert draw_seed(derived_generator(4, "dropout")) not in seeds


def test_equal_dropout_seeds_draw_equal_masks_and_others_do_not() -> None:
    dropout, ones = nn.Dropout(0.5), torch.ones(256)
    before = torch.get_rng_state()
    masks = []
    for seed in (11, 11, 12):
        with seeded_dropout(seed, CPU):
            masks.append(dropout(ones))
    assert torch.equal(masks[0], masks[1])
    assert not torch.equal(masks[0], masks[2])
    assert 0 < (masks[0] == 0).sum() < 256
    with pytest.raises(RuntimeError, match="inside"), seeded_dropout(1, CPU):
        raise RuntimeError("inside")
    assert torch.equal(torch.get_rng_state(), before)
