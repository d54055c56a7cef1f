"""The training node: what it trains, and what it refuses to continue."""

from __future__ import annotations

from typing import Any

import pandas as pd
import pytest
import torch
from describing import NETWORKS

from conftest import DIFFUSION, SmokeResults
from lct_pipeline.core import training_loop
from lct_pipeline.core.objectives import LossParts, batch_loss
from lct_pipeline.datasets.parts import Last
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import ParameterError, TrainingError
from lct_pipeline.pipelines.training.nodes import train_model


def of_kind(kind: str, **sizes: Any) -> dict[str, Any]:
    return {"network.kind": kind, f"network.{kind}": NETWORKS[kind] | sizes}


AS_IT_RAN: dict[str, Any] = {
    "num_steps": 60,
    "batch_size": 32,
    "checkpoint_interval": 5,
    "metrics_interval": 5,
    "ema.snapshot_interval": 20,
}


def test_metrics_cover_the_run_with_the_curriculum(results: SmokeResults) -> None:
    metrics = results.catalog.load("training_metrics")
    assert metrics["step"].tolist() == list(range(5, 61, 5))
    assert metrics["num_levels"].tolist() == [4] * 4 + [8] * 4 + [16] * 4
    assert (metrics["images_per_second"] > 0).all()
    assert metrics["loss"].notna().all()


def test_a_loss_that_is_not_finite_names_step_level_and_last_good_checkpoint(
    results: SmokeResults,
) -> None:
    changes = {"optimizer.learning_rate": 1e30, "checkpoint_interval": 1}
    steps = []
    with pytest.raises(TrainingError) as caught:
        for piece in results.train({**changes, "checkpoint_window": 1.0}):
            steps.append(piece.step)
    last = steps[-1]
    message = str(caught.value)
    assert f"is not finite at step {last}, at noise level t = " in message
    assert f"Last good checkpoint: step-{last:07d}-raw." in message
    assert "t = nan" not in message
    # before the window of raw checkpoints none is kept, and none is named
    with pytest.raises(TrainingError, match="checkpoint: none was written yet"):
        list(results.train(changes))


def test_a_finished_run_is_not_trained_again(results: SmokeResults) -> None:
    load = results.catalog.load
    state = load("previous_training_state")
    (outputs,) = train_model(
        load("latents"),
        load("latent_manifest"),
        load("latent_normalisation"),
        load("init_from_checkpoints"),
        state,
        load("checkpoints"),
        load("decoder"),
        results.parameters.training,
        results.parameters.sampling,
        results.parameters.runtime,
    )
    *parts, draw = outputs
    assert all(isinstance(value, Last) for value in parts)
    checkpoints, metrics, same = (value.value for value in parts)
    assert checkpoints == {} and metrics.equals(pd.DataFrame()) and same is state
    assert titles(draw()) == ["N = 4, step 20", "N = 8, step 40", "N = 16, step 60"]


def titles(figure: Any) -> list[str]:
    return [axis.get_title() for axis in figure.axes]


@pytest.mark.parametrize(
    ("changes", "difference"),
    [
        ({"seed": 7}, r"training\.seed: 0 -> 7"),
        (
            {"objective.c_schedule": "fitted"},
            r"training\.objective\.c_schedule: 'paper' -> 'fitted'",
        ),
        ({"num_steps": 90}, r"training\.num_steps: 60 -> 90"),
    ],
    ids=str,
)
def test_other_parameters_on_a_run_are_refused_with_both_values(
    results: SmokeResults, changes: dict[str, Any], difference: str
) -> None:
    state = results.catalog.load("previous_training_state")
    with pytest.raises(ParameterError, match=rf"{difference}.*run_id"):
        list(results.train({**AS_IT_RAN, **changes}, state))


def test_another_autoencoder_on_a_run_is_refused(results: SmokeResults) -> None:
    state = results.catalog.load("previous_training_state")
    images, _ = state.metadata["latents"].rsplit("-", 1)
    other = TensorFile(state.tensors, {**state.metadata, "latents": f"{images}-0000"})
    with pytest.raises(ParameterError, match="another autoencoder"):
        list(results.train(AS_IT_RAN, other))


def test_other_images_on_a_run_are_told_and_trained_on(
    results: SmokeResults, caplog: pytest.LogCaptureFixture
) -> None:
    (*_, piece) = results.train({"num_steps": 4})
    _, autoencoder = piece.state.metadata["latents"].rsplit("-", 1)
    metadata = {**piece.state.metadata, "latents": f"0000-{autoencoder}"}
    with caplog.at_level("WARNING", logger="lct_pipeline"):
        list(results.train({"num_steps": 4}, TensorFile(piece.state.tensors, metadata)))
    assert "The images changed since step 4" in caplog.text


def weights_after(results: SmokeResults, change: dict[str, Any]) -> torch.Tensor:
    return list(results.train(change))[-1].state.tensors["network.output.weight"]


@pytest.fixture(scope="module")
def unchanged(results: SmokeResults) -> torch.Tensor:
    return weights_after(results, {})


@pytest.mark.parametrize(
    "change",
    [
        {"objective.loss": "pseudo_huber"},
        {"objective.c_schedule": "constant"},
        {"objective.c_schedule": "fitted"},
        {"objective.residual": "sum"},
        {"objective.diffusion_weight": 0.0},
        {"objective.diffusion_threshold": 0.5},
        {"objective.coupling": "independent"},
        DIFFUSION,
        {"noise.schedule": "continuous"},
        {"resample_posterior": False},
        {"network.norm": "layer_norm"},
        {"network.dropout": 0.3},
        {"optimizer.name": "adamw"},
        {"optimizer.warmup_steps": 6},
        {"optimizer.clip_norm": 0.01},
        {"precision": "bfloat16"},
    ],
    ids=str,
)
def test_each_technique_can_be_switched_and_changes_the_weights(
    results: SmokeResults, unchanged: torch.Tensor, change: dict[str, Any]
) -> None:
    other = weights_after(results, change)
    assert not torch.equal(unchanged, other)
    assert other.isfinite().all()


@pytest.mark.parametrize("kind", ["unet", "dit"])
def test_other_networks_train_on_the_same_latents(
    results: SmokeResults, kind: str
) -> None:
    changes = {**of_kind(kind, width=16), "num_steps": 3}
    *_, (checkpoints, _, _) = results.train(changes)
    (name,) = [n for n in checkpoints if n.endswith("raw")]
    description = checkpoints[name].metadata["network"]
    assert description[kind]["width"] == 16


def test_a_network_that_does_not_fit_the_latents_is_refused(
    results: SmokeResults,
) -> None:
    with pytest.raises(ParameterError, match=r"training\.network does not fit"):
        list(results.train(of_kind("dit", patch_size=3)))


def test_in_bfloat16_losses_are_near_and_losses_and_weights_stay_float32(
    results: SmokeResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    kinds: set[torch.dtype] = set()

    def recorded(parts: LossParts, **counts: Any) -> torch.Tensor:
        kinds.update(values.dtype for values in parts)
        return batch_loss(parts, **counts)

    lively = {"optimizer.name": "adamw", "optimizer.learning_rate": 0.01}
    exact = list(results.train(lively))
    monkeypatch.setattr(training_loop, "batch_loss", recorded)
    coarse = list(results.train({**lively, "precision": "bfloat16"}))
    losses = [pd.concat([p.rows for p in pieces])["loss"] for pieces in (exact, coarse)]
    assert losses[1].to_numpy() == pytest.approx(losses[0].to_numpy(), rel=0.03)
    assert not losses[1].equals(losses[0])
    tensors = coarse[-1].state.tensors
    kinds |= {t.dtype for name, t in tensors.items() if name != "fitted_c"}
    assert kinds == {torch.float32}


def test_the_record_says_what_was_trained(results: SmokeResults) -> None:
    checkpoints = results.catalog.load("checkpoints")
    last = checkpoints.read("step-0000060-raw")
    assert results.catalog.load("training_record") == {
        "run": "tested",
        "network": last.metadata["network"],
        "num_weights": sum(tensor.numel() for tensor in last.tensors.values()),
        "num_steps": 60,
        "num_checkpoints": len(checkpoints.names()),
    }
