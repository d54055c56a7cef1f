"""Nodes of the combination stage (LCSC)."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from typing import TYPE_CHECKING, Any

import numpy as np

from lct_pipeline.datasets.autoencoder import StoredAutoencoder
from lct_pipeline.datasets.tensor_file import (
    CheckpointStore,
    TensorFile,
)
from lct_pipeline.errors import DataError, ParameterError
from lct_pipeline.lazy import pd
from lct_pipeline.parameters import Combination, Runtime, Sampling, first_difference
from lct_pipeline.pipelines.combination.fitness import (
    Candidate,
    Evaluator,
    WindowWeights,
    fitness_on_validation,
)
from lct_pipeline.pipelines.references.nodes import extractor_of
from lct_pipeline.reporting.progress import track

if TYPE_CHECKING:
    from lct_pipeline.core.search import EvolutionarySearch

logger = logging.getLogger(__name__)


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
    from lct_pipeline.pipelines.generation import build_generator

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
    weights = WindowWeights(window, checkpoints, parameters.block_size)
    generator = build_generator(
        weights.network, autoencoder, latent_normalisation, sampling, runtime
    )
    extractor = extractor_of(feature_extractor, runtime)
    fitness_of = fitness_on_validation(
        generator, extractor, reference_statistics, parameters
    )
    evaluator = Evaluator(weights, generator, fitness_of, extractor.frechet_name)
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
    settings = parameters.search.model_dump(
        exclude={"initial_ema_rates", "initial_widths"}
    )
    return EvolutionarySearch(alphas, SearchSettings(seed=parameters.seed, **settings))


def _initial(
    window: pd.DataFrame, parameters: Combination
) -> list[tuple[str, np.ndarray]]:
    """Return names and coefficients of the initial population."""
    from lct_pipeline.core.ema_profiles import Profile, posthoc_coefficients, raw_basis

    num, search = len(window), parameters.search
    steps = [int(step) for step in window["step"]]
    basis = raw_basis(steps)
    targets = [
        *((f"EMA {r}", Profile.rate(steps[-1], r)) for r in search.initial_ema_rates),
        *((f"power {w}", Profile.power(steps[-1], w)) for w in search.initial_widths),
    ]
    profiles = [(name, posthoc_coefficients(basis, p)) for name, p in targets]
    return [*profiles, ("uniform", np.full(num, 1 / num)), ("last", np.eye(num)[-1])]


def _candidates(
    search: EvolutionarySearch, window: pd.DataFrame, parameters: Combination
) -> list[Candidate]:
    alphas = search.ask()
    if search.num_evaluated == search.settings.num_evaluations - 1:
        return [Candidate("mean", "mean of the survivors", None, alphas[0])]
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
    ema = checkpoint_index["kind"].ne("raw") & checkpoint_index["step"].eq(last_step)
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


def choose_models(
    search_history: pd.DataFrame,
    checkpoint_index: pd.DataFrame,
    checkpoints: CheckpointStore,
    parameters: Combination,
) -> tuple[dict[str, Any], TensorFile]:
    """Return the combination and its weights.

    The combination is the last thing that the search evaluated: the mean of the survivors.
    """
    window = window_of(checkpoint_index, parameters.window)
    searched = search_history[search_history["kind"] != "control"]
    chosen = searched.iloc[-1]
    controls = (
        search_history[search_history["control"].notna()]
        .sort_values("fitness", kind="stable")
        .groupby("control", sort=False)
        .first()
    )
    combination = {
        "alpha": [float(a) for a in chosen["alpha"]],
        "steps": window["step"].tolist(),
        "checkpoints": window["name"].tolist(),
        "digests": window["digest"].tolist(),
        "name": chosen["name"],
        "metric": chosen["metric"],
        "split": chosen["split"],
        "fitness": float(chosen["fitness"]),
        "best_single_fitness": float(searched["fitness"].min()),
        "num_evaluations": len(searched),
        "controls": {
            name: {"name": row["name"], "fitness": float(row["fitness"])}
            for name, row in controls.iterrows()
        },
        "parameters": parameters.model_dump(mode="json"),
    }
    weights = WindowWeights(window, checkpoints, parameters.block_size)
    about = {"kind": "combined", "combination": combination}
    return combination, weights.model(chosen, about)
