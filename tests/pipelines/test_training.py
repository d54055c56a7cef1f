from __future__ import annotations

import itertools
from typing import Any

import pandas as pd
import pytest
import torch

from conftest import SmokeResults
from lct_pipeline.datasets.tensor_file import TensorFile
from lct_pipeline.errors import ParameterError, TrainingError
from lct_pipeline.parameters import Training
from lct_pipeline.pipelines.training.nodes import train_model


def _train(
    results: SmokeResults, parameters: Training, state: TensorFile | None = None
) -> Any:
    catalog = results.catalog
    return train_model(
        catalog.load("latents"),
        catalog.load("latent_manifest"),
        catalog.load("latent_normalisation"),
        state,
        parameters,
        results.parameters.runtime,
    )


def test_continued_after_an_interruption_it_ends_bit_for_bit_the_same(
    results: SmokeResults,
) -> None:
    parameters = results.parameters.training
    pieces = list(_train(results, parameters))
    whole = {name: file for piece in pieces for name, file in piece[0].items()}
    last_state = results.catalog.load("previous_training_state")
    first = list(itertools.islice(_train(results, parameters), 5))
    continued = list(_train(results, parameters, first[-1][2]))
    assert continued[-1][2].metadata["step"] == parameters.num_steps
    for name, tensor in last_state.tensors.items():
        assert torch.equal(continued[-1][2].tensors[name], tensor), name
    for checkpoints, _, _ in continued:
        for name, checkpoint in checkpoints.items():
            for key, tensor in checkpoint.tensors.items():
                assert torch.equal(whole[name].tensors[key], tensor), (name, key)


def test_the_last_checkpoint_and_every_stage_end_have_all_ema_tracks(
    results: SmokeResults,
) -> None:
    index = results.catalog.load("checkpoint_index")
    tracks = index[index["kind"] == "ema"].groupby("step")["ema_rate"].apply(set)
    assert tracks.index.tolist() == [20, 40, 60]
    assert all(rates == {0.9, 0.95} for rates in tracks)


def test_metrics_cover_the_run_with_the_curriculum(results: SmokeResults) -> None:
    metrics = results.catalog.load("training_metrics")
    assert metrics["step"].tolist() == list(range(5, 61, 5))
    assert metrics["num_levels"].tolist() == [4] * 4 + [8] * 4 + [16] * 4
    assert (metrics["images_per_second"] > 0).all()
    assert metrics["loss"].notna().all()


def test_a_loss_that_is_not_finite_names_step_level_and_last_good_checkpoint(
    results: SmokeResults,
) -> None:
    parameters = results.parameters.training.model_copy(update={"learning_rate": 1e25})
    with pytest.raises(TrainingError, match=r"step \d+.*t = .*step-\d+-raw|none was"):
        list(_train(results, parameters))


def test_a_finished_run_is_not_trained_again(results: SmokeResults) -> None:
    state = results.catalog.load("previous_training_state")
    ((checkpoints, metrics, same),) = _train(
        results, results.parameters.training, state
    )
    assert checkpoints == {} and metrics.equals(pd.DataFrame()) and same is state


def test_another_seed_on_a_run_is_refused_with_both_values(
    results: SmokeResults,
) -> None:
    state = results.catalog.load("previous_training_state")
    parameters = results.parameters.training.model_copy(update={"seed": 7})
    with pytest.raises(ParameterError, match=r"training\.seed: 0 -> 7.*run_id"):
        list(_train(results, parameters, state))


def test_another_autoencoder_on_a_run_is_refused(results: SmokeResults) -> None:
    state = results.catalog.load("previous_training_state")
    images, _ = state.metadata["latents"].rsplit("-", 1)
    metadata = {**state.metadata, "latents": f"{images}-0000"}
    with pytest.raises(ParameterError, match="another autoencoder"):
        list(
            _train(
                results,
                results.parameters.training,
                TensorFile(state.tensors, metadata),
            )
        )


@pytest.mark.parametrize(
    "change",
    [
        {"loss": "pseudo_huber"},
        {"adaptive_c": False},
        {"diffusion_weight": 0.0},
        {"optimal_transport": False},
    ],
    ids=str,
)
def test_each_technique_can_be_switched_and_changes_the_weights(
    results: SmokeResults, change: dict[str, Any]
) -> None:
    base = results.parameters.training.model_copy(update={"num_steps": 24})
    objective = base.objective.model_copy(update=change)
    other = base.model_copy(update={"objective": objective})
    ends = [list(_train(results, parameters))[-1][2] for parameters in (base, other)]
    name = next(n for n in ends[0].tensors if n.startswith("network.output.weight"))
    assert not torch.equal(ends[0].tensors[name], ends[1].tensors[name])


def test_the_u_net_trains_on_the_same_latents(results: SmokeResults) -> None:
    base = results.parameters.training
    size = base.network.unet.model_copy(
        update={
            "width": 16,
            "multipliers": (1, 2),
            "num_blocks": 1,
            "attention_sizes": (2,),
            "head_width": 8,
        }
    )
    network = base.network.model_copy(update={"kind": "unet", "unet": size})
    parameters = base.model_copy(update={"network": network, "num_steps": 3})
    *_, (checkpoints, _, _) = _train(results, parameters)
    (name,) = [n for n in checkpoints if n.endswith("raw")]
    assert checkpoints[name].metadata["network"]["unet"]["width"] == 16
