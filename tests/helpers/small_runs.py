"""What the tests of the combination share: two runs, and the nodes of the stage on them.

The tiny one is of another trainer: its model scales and shifts noise, what it generates are
features, and an evaluation takes a millisecond. The other one is of this project: pixels by a small
network, with averages, all of random weights.
"""

from __future__ import annotations

from collections.abc import Generator, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from configuration import recipe
from describing import described
from torch import Tensor

from conftest import changed
from lct_pipeline.combination import fitness
from lct_pipeline.combination.fitness import Fitness
from lct_pipeline.combination.stage import Stage
from lct_pipeline.core.metrics.frechet import feature_statistics
from lct_pipeline.core.randomness import derived_generator
from lct_pipeline.datasets.autoencoder import StoredAutoencoder
from lct_pipeline.datasets.checkpoints import (
    CheckpointCatalog,
    CheckpointHeader,
    CheckpointsDataset,
)
from lct_pipeline.datasets.decoder import Decoder
from lct_pipeline.datasets.parts import opened
from lct_pipeline.datasets.reference import Reference
from lct_pipeline.datasets.results import CombinationResult
from lct_pipeline.datasets.splits import SPLITS
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.evaluation.feature_spaces import extractor_of
from lct_pipeline.evaluation.references import CHECK
from lct_pipeline.models.autoencoder import PixelAutoencoder
from lct_pipeline.models.denoiser import build_model
from lct_pipeline.models.features.classifier import SmallClassifier
from lct_pipeline.parameters import Combination, Parameters
from lct_pipeline.pipelines.baselines.nodes import select_best_ema
from lct_pipeline.pipelines.cataloging.nodes import index_checkpoints
from lct_pipeline.pipelines.combination.nodes import (
    measure_landscape,
    score_candidates,
    search_combination,
    select_combination,
)

STEPS = (10, 20, 30, 40)
D = 3  # features
SMALL: dict[str, Any] = {
    "window": 1.0,
    "fitness.num_images": 12,
    "search.methods": ("cma",),
    "search.num_seeds": 1,
    "search.num_evaluations": 12,
    "search.population": 3,
    "search.initial_ema_rates": (0.9,),
    "search.initial_sigma_rels": (),
    "search.gradient.num_images": 4,
    "selection.num_images": 12,
}
FEATURES = {
    "generator": "small_runs:generate",
    "references": "small_runs:references",
}

SHAPE = (3, 8, 8)
NETWORK = described(sample_shape=SHAPE)
CLASSIFIERS = ("classifier", "check_rotation_classifier")
PIXEL_CHECKPOINTS = {
    f"step-{step:07d}-{track}": CheckpointHeader(step, network=NETWORK, **about)
    for track, steps, about in [
        ("raw", STEPS, {"kind": "raw"}),
        ("ema-0.9", STEPS[-1:], {"kind": "ema", "ema_rate": 0.9}),
        ("power-0.1", STEPS[1::2], {"kind": "power", "ema_width": 0.1}),
    ]
    for step in steps
}

NO_ROWS = pd.DataFrame()
generated: list[tuple[int, int]] = []  # num_images and seed of each call of `generate`


def weights(step: int) -> dict[str, Tensor]:
    random = torch.Generator().manual_seed(step)
    return {
        "scale": 1 + torch.randn(D, generator=random) / 4,
        "shift": torch.randn(D, generator=random),
        "frozen": torch.tensor([1.0, 1 / 3]),
        "steps": torch.tensor(step),
    }


def generate(
    weights: dict[str, Tensor], *, num_images: int, seed: int
) -> Iterator[Tensor]:
    generated.append((num_images, seed))
    noise = torch.randn(num_images, D, generator=torch.Generator().manual_seed(seed))
    yield from (noise * weights["scale"] + weights["shift"]).split(5)


def references(split: str) -> Tensor:
    seed = ("train", "validation", "test").index(split)
    return torch.randn(40, D, generator=torch.Generator().manual_seed(seed)) / 2


@dataclass(frozen=True)
class Run:
    """A run with checkpoints, and all else that the nodes of the stage take."""

    catalog: CheckpointCatalog
    decoder: Decoder | None
    reference: Reference
    parameters: Parameters
    base: dict[str, Any]  # changes of the combination's parameters

    def combination(self, changes: dict[str, Any] | None = None) -> Combination:
        """Return the parameters with some values replaced, by dotted name."""
        return changed(self.parameters.combination, {**self.base, **(changes or {})})

    def search(
        self,
        changes: dict[str, Any] | None = None,
        previous: pd.DataFrame = NO_ROWS,
        **other: Any,
    ) -> Generator[pd.DataFrame]:
        """Search as the node does; ``other`` replaces other parameter groups."""
        return opened_each(search_combination(*self.inputs(changes, **other), previous))

    def history(self, changes: dict[str, Any] | None = None) -> pd.DataFrame:
        """Return the history of a whole search."""
        return last_of(self.search(changes))

    def emas(
        self,
        changes: dict[str, Any] | None = None,
        previous: pd.DataFrame = NO_ROWS,
    ) -> tuple[pd.DataFrame, TensorFile]:
        """Select the best EMA as the node does."""
        inputs = self.inputs(changes)
        table, best = select_best_ema(*inputs, self.parameters.evaluation, previous)
        return opened(table)[0], best

    def score(
        self,
        history: pd.DataFrame,
        changes: dict[str, Any] | None = None,
        previous: pd.DataFrame = NO_ROWS,
    ) -> Generator[pd.DataFrame]:
        """Score candidates as the node does."""
        emas, inputs = self.emas(changes)[0], self.inputs(changes)
        return opened_each(score_candidates(*inputs, history, emas, previous))

    def select(
        self,
        candidate_scores: pd.DataFrame,
        changes: dict[str, Any] | None = None,
        **other: Any,
    ) -> tuple[pd.DataFrame, TensorFile, CombinationResult]:
        """Select and report as the node does."""
        return select_combination(
            *self.inputs(changes, **other),
            other.get("evaluation", self.parameters.evaluation),
            candidate_scores,
        )

    def landscape(
        self,
        candidate_scores: pd.DataFrame,
        combination: CombinationResult,
        changes: dict[str, Any] | None = None,
    ) -> pd.DataFrame:
        """Measure the landscape as the node does."""
        return measure_landscape(*self.inputs(changes), candidate_scores, combination)

    def stage(self, changes: dict[str, Any] | None = None, **other: Any) -> Stage:
        """Return what the nodes build of their inputs."""
        return Stage(*self.inputs(changes, **other))

    def inputs(self, changes: dict[str, Any] | None = None, **other: Any) -> Any:
        """Return the inputs that all nodes of the stage begin with."""
        sampling = other.get("sampling", self.parameters.sampling)
        runtime = other.get("runtime", self.parameters.runtime)
        models = (self.catalog, self.decoder, self.reference)
        return (*models, self.combination(changes), sampling, runtime)


def tiny_run(folder: Path, states: dict[int, dict[str, Tensor]] | None = None) -> Run:
    """Return a run of another trainer, its checkpoints by step."""
    states = states or {step: weights(step) for step in STEPS}
    dataset = CheckpointsDataset(path=str(folder / "run" / "checkpoints"))
    for step, tensors in states.items():
        about = CheckpointHeader(step).as_metadata()
        dataset.save({f"step-{step:07d}-raw": TensorFile(tensors, about)})
    store, nothing = dataset.load(), TensorFile({})
    return Run(
        CheckpointCatalog(index_checkpoints(store, recipe().features), store),
        None,
        Reference(nothing, nothing, nothing),
        recipe(),
        {**SMALL, **FEATURES},
    )


def pixel_run(folder: Path) -> Run:
    """Return a run of this project, with averages beside its checkpoints."""
    dataset = CheckpointsDataset(path=str(folder / "run" / "checkpoints"))
    for name, about in PIXEL_CHECKPOINTS.items():
        dataset.save({name: TensorFile(pixel_weights(name), about.as_metadata())})
    store = dataset.load()
    extractors = [classifier(name, seed) for seed, name in enumerate(CLASSIFIERS)]
    normalisation = TensorFile(
        {"mean": torch.zeros(SHAPE), "std": torch.ones(SHAPE)}, {"sigma_data": 0.5}
    )
    return Run(
        CheckpointCatalog(index_checkpoints(store, recipe().features), store),
        Decoder(StoredAutoencoder(PixelAutoencoder().eval(), "none"), normalisation),
        Reference(*extractors, real_images(*extractors)),
        recipe(),
        SMALL,
    )


def pixel_weights(name: str) -> dict[str, Tensor]:
    """Return random weights, those of one name always the same."""
    random = derived_generator(0, name)
    return {
        key: tensor + torch.randn(tensor.shape, generator=random) / 10
        for key, tensor in build_model(NETWORK).network.state_dict().items()
    }


def classifier(name: str, seed: int) -> TensorFile:
    size = {"num_classes": 2, "width": 8, "num_features": 6}
    with torch.random.fork_rng():
        torch.manual_seed(seed)
        model = SmallClassifier(2, width=8, num_features=6)
    return TensorFile(model.state_dict(), {"name": name, **size})


def real_images(*extractors: TensorFile) -> TensorFile:
    """Return what the extractors find in random images, by split."""
    runtime, tensors = recipe().runtime, {}
    for prefix, stored in zip(("", CHECK), extractors, strict=True):
        for split in SPLITS:
            random = derived_generator(0, split)
            images = torch.randint(256, (40, *SHAPE), generator=random).byte()
            features = extractor_of(stored, runtime).extract(images)
            found = feature_statistics(features)
            tensors[f"{prefix}{split}.mu"] = found.mu
            tensors[f"{prefix}{split}.cov"] = found.cov
            tensors[f"{prefix}{split}.features"] = features
    about = {"num_images": dict.fromkeys(SPLITS, 40), "images": "random"}
    return TensorFile(tensors, about)


def counted(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Return a list to which each evaluation from now on adds its request."""
    found: list[Any] = []

    class Counting(Fitness):
        def measure(self, weights: Any, request: Any) -> Any:
            found.append(request)
            return super().measure(weights, request)

    monkeypatch.setattr(fitness, "Fitness", Counting)
    return found


def opened_each(outputs: Iterator[Any]) -> Generator[pd.DataFrame]:
    """Yield what a node yields, without the mark of the last value."""
    for value in outputs:
        yield opened(value)[0]


def last_of(outputs: Iterator[pd.DataFrame]) -> pd.DataFrame:
    """Return the table when all is measured."""
    *_, table = outputs
    return table


# coefficients, named by how well the tiny run generates with them
GOOD, MIDDLE, BAD = [0.2, 0.0, -0.2, 1.0], [0.0, 0.0, 0.0, 1.0], [2.0, -1.0, 0.0, 0.0]


def candidate_scores(**rows: tuple[str, float, list[float]]) -> pd.DataFrame:
    """Return candidates: method, score and coefficients by name; baselines by their own names."""
    table = [
        {
            "name": name,
            "kind": "baseline" if method == "baseline" else "candidate",
            "baseline": name if method == "baseline" else None,
            "method": method,
            "seed": -1 if method == "baseline" else 0,
            "alpha": alpha,
            "search_fitness": score + 1,
            "selection_fitness": score,
            "selection_frechet": score + 2,
        }
        for name, (method, score, alpha) in rows.items()
    ]
    return pd.DataFrame(table)
