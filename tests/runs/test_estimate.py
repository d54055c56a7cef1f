"""About how long a session takes: counts of the parameters times what is measured for a moment."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest
import torch
from configuration import recipe

from conftest import changed
from lct_pipeline.runs import estimate
from lct_pipeline.runs.estimate import estimated, seconds_each, works

COMBINATION = {"search_history", "candidate_scores", "landscape"}
MADE = {output for _, output, *_ in works(recipe("smoke"))}


@pytest.mark.parametrize(
    ("fixed", "each", "most", "tried_at_most", "found"),
    [
        (0.0, 1.0, 64, 2, 1.0),
        (0.01, 0.0, 64, 64, 0.01 / 64),
        (0.0, 0.004, 64, 16, 0.004),
        (0.01, 0.0, 1, 1, 0.01),
    ],
)
def test_a_unit_is_measured_on_as_many_as_do_not_take_long(
    monkeypatch: pytest.MonkeyPatch,
    fixed: float,
    each: float,
    most: int,
    tried_at_most: int,
    found: float,
) -> None:
    now, tried = [0.0], []

    def work(num: int) -> None:
        tried.append(num)
        now[0] += fixed + each * num

    clock = SimpleNamespace(perf_counter=lambda: now[0])
    monkeypatch.setattr(estimate, "time", clock)
    assert seconds_each(work, most) == pytest.approx(found)
    assert max(tried) == tried_at_most


def test_counts_are_those_of_the_parameters(monkeypatch: pytest.MonkeyPatch) -> None:
    for unit in ("training", "fit", "image"):
        monkeypatch.setattr(estimate.Trial, unit, lambda _: 1.0)
    # of conf/smoke: steps; 9 averages of 32 images; 3 models, 2 seeds of 64 images in 1 and 2
    # evaluations, 2 x 2 plans of 32
    assert estimated(recipe("smoke"), MADE - COMBINATION) == {
        "encoding": 8,
        "training": 60,
        "baselines": 9 * 32,
        "evaluation": 3 * (2 * 2 * 64 + 2 * 2 * 32),
    }
    # 3 seeds of 4 methods, 20 evaluations of 64 images
    searches = changed(recipe("smoke"), {"combination.search.num_seeds": 3})
    assert estimated(searches, {"search_history"}) == {"combination": 12 * 20 * 64}
    assert estimated(recipe("smoke"), {"report"}) == {}


def test_small_networks_are_tried_out_and_numbers_of_others_stay() -> None:
    before = torch.get_rng_state()
    found = estimated(recipe("smoke"), MADE)
    assert found is not None and all(0 < seconds < 3600 for seconds in found.values())
    assert torch.equal(before, torch.get_rng_state())


@pytest.mark.parametrize(
    "change",
    [
        {"encoding.autoencoder": "given"},
        {"training.network.kind": "dit", "training.network.dit.patch_size": 3},
        {"training.network.mlp": {"width": 4096, "num_blocks": 9}},
    ],
    ids=str,
)
def test_networks_that_are_large_or_given_or_do_not_fit_are_not_tried_out(
    change: dict[str, Any],
) -> None:
    assert estimated(changed(recipe("smoke"), change), MADE) is None
