"""Nodes of the combination stage (LCSC)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import pandas as pd

from lct_pipeline.datasets.autoencoder import StoredAutoencoder
from lct_pipeline.datasets.tensor_file import (
    CheckpointMatrix,
    CheckpointStore,
    TensorFile,
)
from lct_pipeline.errors import DataError, ParameterError
from lct_pipeline.parameters import Combination, Runtime, Sampling, first_difference
from lct_pipeline.pipelines.evaluation.nodes import extractor_of
from lct_pipeline.reporting.progress import track

if TYPE_CHECKING:
    from lct_pipeline.core.search import EvolutionarySearch
    from lct_pipeline.pipelines.generation import Generator

logger = logging.getLogger(__name__)


@dataclass(frozen=True)
class Candidate:
    """One thing to evaluate: a row of the search history without its fitness."""

    kind: str  # initial, child or control
    name: str
    control: str | None  # which control of the table it stands for
    alpha: np.ndarray | None  # None for a checkpoint that is not a combination


def window_of(checkpoint_index: pd.DataFrame, window: float) -> pd.DataFrame:
    """Return the raw checkpoints of the last share ``window`` of the training steps.

    Raises:
        DataError: There are fewer than two.
    """
    raw = checkpoint_index[checkpoint_index["kind"] == "raw"].sort_values("step")
    chosen = raw[raw["step"] > raw["step"].max() * (1 - window)].reset_index(drop=True)
    if len(chosen) < 2:
        raise DataError(
            f"a combination needs at least 2 raw checkpoints, and the window has {len(chosen)}: "
            "raise combination.window or lower training.checkpoint_interval."
        )
    return chosen


def search_combination(
    checkpoint_index: pd.DataFrame,
    checkpoints: CheckpointStore,
    autoencoder: StoredAutoencoder,
    latent_normalisation: TensorFile,
    feature_extractor: TensorFile,
    reference_statistics: TensorFile,
    previous_search_state: TensorFile | None,
    parameters: Combination,
    sampling: Sampling,
    runtime: Runtime,
) -> Iterator[tuple[pd.DataFrame, TensorFile]]:
    """Search, or continue; yield the history's new rows and the state after each generation."""
    window = window_of(checkpoint_index, parameters.window)
    origin = {
        "parameters": parameters.model_dump(mode="json"),
        "digests": list(window["digest"]),
    }
    search, number = _new_search(window, parameters), 0
    if previous_search_state is not None:
        number = _continue(search, previous_search_state, origin)
    if search.stop and previous_search_state is not None:
        logger.info("All %d evaluations are already done.", search.num_evaluated)
        yield pd.DataFrame(), previous_search_state
        return
    evaluator = _Evaluator.build(
        window,
        checkpoints,
        autoencoder,
        latent_normalisation,
        feature_extractor,
        reference_statistics,
        parameters,
        sampling,
        runtime,
    )
    controls = _controls(checkpoint_index, window) if search.generation == 0 else []
    total = parameters.search.num_evaluations
    nothing: list[int] = []
    with track(
        nothing, "search", "evaluation", total=total, initial=search.num_evaluated
    ) as bar:
        while not search.stop:
            candidates = _candidates(search, window, parameters)
            rows = evaluator.rows(candidates + controls, search.generation, number)
            number += len(rows)
            controls = []
            fitness = np.array([row["fitness"] for row in rows[: len(candidates)]])
            search.tell(
                np.stack([c.alpha for c in candidates if c.alpha is not None]), fitness
            )
            bar.update(len(candidates))
            bar.set_postfix_str(f"best {search.best[1]:.3g}", refresh=False)
            yield pd.DataFrame(rows), _state(search, number, origin)


def _new_search(window: pd.DataFrame, parameters: Combination) -> EvolutionarySearch:
    from lct_pipeline.core.search import EvolutionarySearch, SearchSettings

    alphas = np.stack([alpha for _, alpha in _initial(window, parameters)])
    settings = parameters.search.model_dump(exclude={"initial_ema_rates"})
    return EvolutionarySearch(alphas, SearchSettings(seed=parameters.seed, **settings))


def _initial(
    window: pd.DataFrame, parameters: Combination
) -> list[tuple[str, np.ndarray]]:
    """Return names and coefficients of the initial population."""
    from lct_pipeline.core.ema import ema_profile

    num = len(window)
    steps = window["step"].to_numpy()
    profiles = [
        (f"EMA {rate}", ema_profile(steps, rate))
        for rate in parameters.search.initial_ema_rates
    ]
    return [*profiles, ("uniform", np.full(num, 1 / num)), ("last", np.eye(num)[-1])]


def _candidates(
    search: EvolutionarySearch, window: pd.DataFrame, parameters: Combination
) -> list[Candidate]:
    alphas = search.ask()
    if search.generation > 0:
        names = [
            f"generation {search.generation}, child {i}" for i in range(len(alphas))
        ]
        return [
            Candidate("child", n, None, a) for n, a in zip(names, alphas, strict=True)
        ]
    controls = {"uniform": "uniform average", "last": "last checkpoint"}
    names = [name for name, _ in _initial(window, parameters)]
    return [
        Candidate("initial", name, controls.get(name, "best EMA"), alpha)
        for name, alpha in zip(names, alphas, strict=False)
    ]


def _controls(checkpoint_index: pd.DataFrame, window: pd.DataFrame) -> list[Candidate]:
    """Return what the search is compared with beside its start: checkpoints and EMA tracks."""
    single = [
        Candidate("control", name, "best single checkpoint", one_hot)
        for name, one_hot in zip(window["name"], np.eye(len(window)), strict=True)
    ]
    last_step = window["step"].max()
    ema = checkpoint_index["kind"].eq("ema") & checkpoint_index["step"].eq(last_step)
    tracks = [
        Candidate("control", name, "best EMA", None)
        for name in checkpoint_index["name"][ema]
    ]
    return single + tracks


def _state(
    search: EvolutionarySearch, number: int, origin: dict[str, Any]
) -> TensorFile:
    import torch

    tensors = {
        name: torch.from_numpy(np.array(v)) for name, v in search.state().items()
    }
    return TensorFile(tensors, {"num_rows": number, **origin})


def _continue(
    search: EvolutionarySearch, state: TensorFile, origin: dict[str, Any]
) -> int:
    """Load a state, unless it is of other parameters or checkpoints; return its rows so far."""
    old = {
        "combination": state.metadata["parameters"],
        "checkpoints": state.metadata["digests"],
    }
    new = {"combination": origin["parameters"], "checkpoints": origin["digests"]}
    difference = first_difference(old, new)
    if difference:
        raise ParameterError(
            f"this search was started with other values ({difference}). Give the old value to "
            "continue it, or remove the folder `search` of the run to start it anew."
        )
    search.load_state({name: tensor.numpy() for name, tensor in state.tensors.items()})
    logger.info("Continuing after %d evaluations.", search.num_evaluated)
    return int(state.metadata["num_rows"])


class _Evaluator:
    """Turns candidates into rows of the history: weights, images, features, distance."""

    def __init__(
        self,
        store: CheckpointStore,
        matrix: CheckpointMatrix,
        steps: np.ndarray,
        generator: Generator,
        fitness: Any,
        parameters: Combination,
        metric: str,
    ) -> None:
        from lct_pipeline.core.linear_combination import WeightLayout

        self._store, self._matrix, self._steps = store, matrix, steps
        self._generator, self._fitness = generator, fitness
        self._block_size = parameters.block_size
        self._metric = metric
        self._layout = WeightLayout(matrix.shapes)

    @classmethod
    def build(
        cls,
        window: pd.DataFrame,
        checkpoints: CheckpointStore,
        autoencoder: StoredAutoencoder,
        latent_normalisation: TensorFile,
        feature_extractor: TensorFile,
        reference_statistics: TensorFile,
        parameters: Combination,
        sampling: Sampling,
        runtime: Runtime,
    ) -> _Evaluator:
        """Prepare what is the same for all candidates: noise, references, networks."""
        from lct_pipeline.core.frechet import FeatureStatistics
        from lct_pipeline.core.sample_quality import features_of, frechet_fitness
        from lct_pipeline.pipelines.generation import build_generator

        network = checkpoints.header(window["name"].iloc[0])["network"]
        generator = build_generator(
            network, autoencoder, latent_normalisation, sampling, runtime
        )
        extractor = extractor_of(feature_extractor, runtime)
        tensors = reference_statistics.tensors
        num_real = len(tensors["validation.features"])
        reference = FeatureStatistics(
            tensors["validation.mu"], tensors["validation.cov"], num_real
        )
        count = parameters.num_images or num_real

        def fitness() -> float:
            images = generator.images(
                count, num_evaluations=1, seed=parameters.seed, purpose="search"
            )
            return frechet_fitness(features_of(images, extractor.extract), reference)

        matrix = checkpoints.matrix(list(window["name"]), list(window["digest"]))
        steps = window["step"].to_numpy()
        metric = extractor.frechet_name
        return cls(checkpoints, matrix, steps, generator, fitness, parameters, metric)

    def rows(
        self, candidates: list[Candidate], generation: int, first: int
    ) -> list[dict[str, Any]]:
        """Return one row per candidate, with its fitness."""
        from lct_pipeline.core.linear_combination import combine

        combined = [c.alpha for c in candidates if c.alpha is not None]
        weights = iter(
            combine(self._matrix, np.stack(combined), block_size=self._block_size)
        )
        rows = []
        for number, candidate in enumerate(candidates, start=first):
            if candidate.alpha is None:
                self._generator.load(self._store.read(candidate.name).tensors)
            else:
                others = self._generator.model.network.state_dict()
                self._generator.load(self._layout.unflatten(next(weights), others))
            rows.append(
                {
                    "evaluation": number,
                    "generation": generation,
                    "kind": candidate.kind,
                    "control": candidate.control,
                    "name": candidate.name,
                    "fitness": self._fitness(),
                    "metric": self._metric,
                    "split": "validation",
                    "alpha": None
                    if candidate.alpha is None
                    else candidate.alpha.tolist(),
                }
            )
        return rows


def choose_models(
    search_history: pd.DataFrame,
    search_state: TensorFile,
    checkpoint_index: pd.DataFrame,
    checkpoints: CheckpointStore,
    parameters: Combination,
) -> tuple[dict[str, Any], TensorFile, dict[str, TensorFile]]:
    """Return the chosen combination, its weights, and the weights of the controls."""
    window = window_of(checkpoint_index, parameters.window)
    best = (
        search_history[search_history["kind"] != "control"]
        .nsmallest(1, "fitness")
        .iloc[0]
    )
    controls = (
        search_history[search_history["control"].notna()]
        .sort_values("fitness", kind="stable")
        .groupby("control", sort=False)
        .first()
    )
    combination = {
        "alpha": [float(a) for a in best["alpha"]],
        "sum": float(np.sum(best["alpha"])),
        "steps": window["step"].tolist(),
        "checkpoints": window["name"].tolist(),
        "digests": window["digest"].tolist(),
        "metric": best["metric"],
        "split": best["split"],
        "fitness": float(best["fitness"]),
        "found_in_evaluation": int(best["evaluation"]),
        "num_evaluations": int((search_history["kind"] != "control").sum()),
        "controls": {
            name: {"name": row["name"], "fitness": float(row["fitness"])}
            for name, row in controls.iterrows()
        },
        "parameters": parameters.model_dump(mode="json"),
    }
    weights = _WeightsOf(window, checkpoints, parameters)
    combined = weights.of(best, {"kind": "combined", "combination": combination})
    best_ema = weights.of(controls.loc["best EMA"], {"kind": "best_ema"})
    last = weights.of(controls.loc["last checkpoint"], {"kind": "last"})
    return combination, combined, {"best_ema": best_ema, "last": last}


class _WeightsOf:
    """Gives the weights of a row of the search history as a model file."""

    def __init__(
        self,
        window: pd.DataFrame,
        checkpoints: CheckpointStore,
        parameters: Combination,
    ) -> None:
        self._store = checkpoints
        self._names = list(window["name"])
        self._matrix = checkpoints.matrix(self._names, list(window["digest"]))
        self._block_size = parameters.block_size

    def of(self, row: Any, about: dict[str, Any]) -> TensorFile:
        """Return a checkpoint as it is, or the combination of the row's coefficients."""
        from lct_pipeline.core.linear_combination import WeightLayout, combine

        header = self._store.header(self._names[-1])
        metadata = {"network": header["network"], "name": row["name"], **about}
        if row["alpha"] is None:
            return TensorFile(self._store.read(row["name"]).tensors, metadata)
        alphas = np.array(row["alpha"])[None]
        weights = combine(self._matrix, alphas, block_size=self._block_size)[0]
        others = self._store.read(self._names[-1]).tensors
        return TensorFile(
            WeightLayout(self._matrix.shapes).unflatten(weights, others), metadata
        )
