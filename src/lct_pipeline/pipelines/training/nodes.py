"""Nodes of the training stage."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from lct_pipeline.datasets.autoencoder import StoredAutoencoder
from lct_pipeline.datasets.shards import ShardStore
from lct_pipeline.datasets.tensor_file import CheckpointStore, TensorFile
from lct_pipeline.errors import ParameterError, TrainingError
from lct_pipeline.lazy import pd
from lct_pipeline.parameters import (
    Runtime,
    Sampling,
    Training,
    first_difference,
    parameters_digest,
)
from lct_pipeline.pipelines.splits import indices_of
from lct_pipeline.reporting.progress import track

if TYPE_CHECKING:
    from torch import Tensor

    from lct_pipeline.core.training_loop import StepMetrics, Trainer

logger = logging.getLogger(__name__)


def train_model(
    latents: ShardStore,
    latent_manifest: pd.DataFrame,
    latent_normalisation: TensorFile,
    previous_training_state: TensorFile | None,
    parameters: Training,
    runtime: Runtime,
) -> Iterator[tuple[dict[str, TensorFile], pd.DataFrame, TensorFile]]:
    """Train, or continue; yield checkpoints, metrics and state at each checkpoint interval.

    The state is saved last: a run that is killed between two of them repeats the steps since the
    last one and writes the same checkpoints again.
    """
    from lct_pipeline.models.device import choose_device

    device = choose_device(runtime.device)
    shape = list(latent_normalisation.tensors["mean"].shape)
    description = describe_model(parameters, shape)
    trainer = _trainer(description, parameters, device)
    origin = {
        "parameters": parameters.model_dump(mode="json"),
        "latents": latents.fingerprint,
    }
    if previous_training_state is not None:
        _continue(trainer, previous_training_state, origin)
        if trainer.step >= parameters.num_steps:
            logger.info("All %d training steps are already done.", trainer.step)
            yield {}, pd.DataFrame(), previous_training_state
            return
    read_batch = batch_reader(
        latents, latent_manifest, latent_normalisation, parameters, device
    )
    recorder = _MetricsRecorder(parameters.batch_size)
    for metrics in _tracked_steps(trainer, read_batch, recorder, parameters):
        if _is_checkpoint(metrics.step, parameters):
            state = TensorFile(
                trainer.state_tensors(), {"step": metrics.step, **origin}
            )
            checkpoints = _checkpoints(trainer, metrics, description, parameters)
            yield checkpoints, recorder.take_rows(), state


def _tracked_steps(
    trainer: Trainer,
    read_batch: Callable[[int], Tensor],
    recorder: _MetricsRecorder,
    parameters: Training,
) -> Iterator[StepMetrics]:
    """Yield the steps behind a progress bar, recording their metrics."""
    from lct_pipeline.core.training_loop import NonFiniteLossError, training_steps

    num_weights = sum(p.numel() for p in trainer.model.parameters())
    device = next(trainer.model.parameters()).device
    logger.info("Training %.2f M weights on %s.", num_weights / 1e6, device)
    progress = track(
        training_steps(trainer, read_batch, parameters.num_steps),
        "train",
        "step",
        total=parameters.num_steps,
        initial=trainer.step,
    )
    try:
        for metrics in progress:
            recorder.add(metrics)
            if metrics.step % parameters.metrics_interval == 0:
                progress.set_postfix_str(recorder.close_row(), refresh=False)
            yield metrics
    except NonFiniteLossError as error:
        raise TrainingError(_explain(error.step, error.level, parameters)) from error


def describe_model(parameters: Training, sample_shape: list[int]) -> dict[str, Any]:
    """Return what a checkpoint says about its network: enough to build it again."""
    network, noise = parameters.network, parameters.noise
    return {
        "kind": network.kind,
        "sample_shape": sample_shape,
        "norm": network.norm,
        "dropout": network.dropout,
        network.kind: getattr(network, network.kind).model_dump(mode="json"),
        "sigma_data": noise.sigma_data,
        "sigma_min": noise.sigma_min,
        "sigma_max": noise.sigma_max,
    }


def _trainer(description: dict[str, Any], parameters: Training, device: Any) -> Trainer:
    from lct_pipeline.core.training_loop import NoiseSchedule, Objective, Trainer
    from lct_pipeline.models.denoiser import build_model

    noise = parameters.noise.model_dump(exclude={"sigma_data"})
    try:
        model = build_model(description, seed=parameters.seed)
    except ValueError as error:
        raise ParameterError(
            f"training.network does not fit the latents: {error}"
        ) from error
    return Trainer(
        model.to(device).train(),
        schedule=NoiseSchedule(num_steps=parameters.num_steps, **noise),
        objective=Objective(
            sigma_data=parameters.noise.sigma_data, **parameters.objective.model_dump()
        ),
        learning_rate=parameters.learning_rate,
        weight_decay=parameters.weight_decay,
        ema_rates=parameters.ema_rates,
        seed=parameters.seed,
    )


def _continue(trainer: Trainer, state: TensorFile, origin: dict[str, Any]) -> None:
    """Load a state, unless it is that of other parameters or another autoencoder."""
    difference = first_difference(
        state.metadata["parameters"], origin["parameters"], "training"
    )
    if difference:
        raise ParameterError(
            f"this run was started with other parameters ({difference}). Give the old value to "
            "continue it, or another name: --params=run_id=<name>."
        )
    old_images, old_autoencoder = state.metadata["latents"].rsplit("-", 1)
    new_images, new_autoencoder = origin["latents"].rsplit("-", 1)
    if old_autoencoder != new_autoencoder:
        raise ParameterError(
            "this run was started on latents of another autoencoder. Give the run another name: "
            "--params=run_id=<name>."
        )
    if old_images != new_images:
        logger.warning(
            "The images changed since step %d; training goes on.", trainer.step
        )
    trainer.load_state(state.tensors, state.metadata["step"])
    logger.info("Continuing after step %d.", trainer.step)


def batch_reader(
    latents: ShardStore,
    latent_manifest: pd.DataFrame,
    latent_normalisation: TensorFile,
    parameters: Training,
    device: Any,
) -> Callable[[int], Tensor]:
    """Return the function from a step to its normalised latents ``(B, C, H, W)``."""
    import torch

    from lct_pipeline.core.randomness import derived_generator
    from lct_pipeline.core.training_loop import EpochOrder
    from lct_pipeline.pipelines.generation import normalisation_of

    indices = indices_of(latent_manifest, "train")
    order = EpochOrder(len(indices), parameters.batch_size, parameters.seed)
    normalisation = normalisation_of(latent_normalisation).to(device)

    def read_batch(step: int) -> Tensor:
        chosen = indices[order.batch(step)]
        means, stds = latents.gather("mean", chosen), latents.gather("std", chosen)
        seed = parameters.seed
        if parameters.resample_posterior:
            generator = derived_generator(seed, "posterior", step)
            noise = torch.randn(means.shape, generator=generator)
        else:  # the same sample of an image each time it is seen
            noise = torch.stack(
                [
                    torch.randn(
                        means.shape[1:],
                        generator=derived_generator(seed, "posterior", i),
                    )
                    for i in chosen.tolist()
                ]
            )
        return normalisation.normalise((means + stds * noise).to(device))

    return read_batch


class _MetricsRecorder:
    """Means of the steps' metrics over intervals, with images per second."""

    def __init__(self, batch_size: int) -> None:
        self._batch_size = batch_size
        self._open: list[StepMetrics] = []
        self._rows: list[dict[str, Any]] = []
        self._since = time.perf_counter()

    def add(self, metrics: StepMetrics) -> None:
        """Take the metrics of a step."""
        self._open.append(metrics)

    def close_row(self) -> str:
        """End an interval and return what a progress bar shows of it."""
        now = time.perf_counter()
        rate = len(self._open) * self._batch_size / (now - self._since)
        steps = pd.DataFrame([asdict(m) for m in self._open])
        last = self._open[-1]
        names = ("loss", "consistency_loss", "diffusion_loss")
        losses = {name: float(steps[name].mean()) for name in names}
        self._rows.append({**asdict(last), **losses, "images_per_second": rate})
        self._open, self._since = [], now
        return f"{rate:.0f} img/s, loss {losses['loss']:.3g}, N {last.num_levels}, c {last.c:.2g}"

    def take_rows(self) -> pd.DataFrame:
        """Return the rows since the last call; their columns are those of training_metrics."""
        rows, self._rows = self._rows, []
        return pd.DataFrame(rows)


def _is_checkpoint(step: int, parameters: Training) -> bool:
    return (
        step % parameters.checkpoint_interval == 0
        or step == parameters.num_steps
        or _ends_stage(step, parameters)
    )


def _ends_stage(step: int, parameters: Training) -> bool:
    """Return whether a stage of the curriculum, or the run, ends with this step."""
    from lct_pipeline.core.schedules import curriculum

    if step == parameters.num_steps:
        return True
    noise = {"s0": parameters.noise.s0, "s1": parameters.noise.s1}
    before, after = (
        curriculum(s, num_steps=parameters.num_steps, **noise) for s in (step - 1, step)
    )
    return before != after


def _checkpoints(
    trainer: Trainer,
    metrics: StepMetrics,
    description: dict[str, Any],
    parameters: Training,
) -> dict[str, TensorFile]:
    """Return the raw weights and, where a stage ends, those of every EMA track."""
    step = metrics.step
    about = {
        "step": step,
        "num_images": step * parameters.batch_size,
        "num_levels": metrics.num_levels,
        "ends_stage": _ends_stage(step, parameters),
        "loss": metrics.loss,
        "network": description,
        "parameters_digest": parameters_digest(parameters.model_dump(mode="json")),
    }
    network = trainer.model.network
    raw = TensorFile(network.state_dict(), {**about, "kind": "raw", "ema_rate": None})
    checkpoints = {f"step-{step:07d}-raw": raw}
    if _ends_stage(step, parameters):
        for rate in parameters.ema_rates:
            tensors = trainer.ema.state_dict(rate, network)
            ema = TensorFile(tensors, {**about, "kind": "ema", "ema_rate": rate})
            checkpoints[f"step-{step:07d}-ema-{rate}"] = ema
    return checkpoints


def _explain(step: int, level: float, parameters: Training) -> str:
    last = step - step % parameters.checkpoint_interval
    good = f"step-{last:07d}-raw" if last > 0 else "none was written yet"
    return (
        f"training stopped: the loss is not finite at step {step}, at noise level t = {level:.4g}. "
        f"Last good checkpoint: {good}. A lower training.learning_rate usually helps; nothing that "
        "was saved is lost."
    )


def draw_stage_samples(
    checkpoints: CheckpointStore,
    autoencoder: StoredAutoencoder,
    latent_normalisation: TensorFile,
    sampling: Sampling,
    runtime: Runtime,
) -> Any:
    """Draw one-step samples from the same noise at the end of each stage of the curriculum."""
    from lct_pipeline.pipelines.generation import build_generator
    from lct_pipeline.reporting.sample_grids import draw_panels

    network = checkpoints.header(checkpoints.names()[0])["network"]
    generator = build_generator(
        network, autoencoder, latent_normalisation, sampling, runtime
    )
    panels = {
        f"N = {header['num_levels']}, step {header['step']}": generator.grid(
            checkpoints.read(name).tensors, num_evaluations=1, seed=0
        )
        for name, header in checkpoints.headers().items()
        if header["kind"] == "raw" and header["ends_stage"]
    }
    return draw_panels(
        panels, "One-step samples at the end of each stage, from the same noise"
    )
