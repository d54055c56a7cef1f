"""About how long the stages of a session take.

The time of a stage is counts, which parameters give, times seconds of one step or one image, which
are measured for a moment with networks of random weights. What depends on the number of images, or
is small, is not in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection, Iterable
from functools import cache
from typing import Any

import torch

from lct_pipeline.core.batches import BatchPreparation, Ranks
from lct_pipeline.datasets.autoencoder import StoredAutoencoder
from lct_pipeline.datasets.decoder import Decoder
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import UserError
from lct_pipeline.evaluation.generator import build_generator
from lct_pipeline.evaluation.plans import first_plan
from lct_pipeline.models.autoencoder import (
    build_autoencoder,
    encode,
    fit_autoencoder,
    place,
    to_float,
)
from lct_pipeline.models.denoiser import build_model
from lct_pipeline.models.device import choose_device
from lct_pipeline.models.features.classifier import SmallClassifier
from lct_pipeline.parameters import Parameters
from lct_pipeline.parameters.evaluation import TRAINED_HERE
from lct_pipeline.training.task import describe_model
from lct_pipeline.training.trainer import build_trainer, level_schedule

NUM_MODELS = 3  # that are evaluated: last, best EMA, combination
SHAPE = {"kind", "block_channels", "latent_channels"}  # of a trained autoencoder
LONG_ENOUGH = 0.05  # seconds of what is measured
MOST_WEIGHTS = 20_000_000  # of a network that is tried out: larger ones take their time


def works(p: Parameters) -> list[tuple[str, str, str, int]]:
    """Return what takes long: stage, what it makes, steps or images of what, and how many.

    A search has its budget in evaluations. An image in two evaluations counts as one in one.
    """
    search, selection = p.combination.search, p.combination.selection
    averages = p.training.ema.rates + p.training.ema.sigma_rels
    averages += p.evaluation.posthoc_sigma_rels + search.initial_ema_rates
    averages += search.initial_sigma_rels
    num_averages = len(averages) + 1  # and the uniform one
    searches = search.num_seeds * len(search.methods)
    evaluations = searches * search.num_evaluations
    chosen = searches * selection.num_candidates + 2 * p.evaluation.num_seeds
    charts = p.combination.num_line_points + p.combination.landscape_size**2
    plans = len(p.sampling.intermediate_sigmas) * len(p.sampling.renoise)
    swept = NUM_MODELS * plans * p.evaluation.num_selection_images
    measured = NUM_MODELS * 2 * p.evaluation.num_seeds * p.evaluation.num_images
    num_images = p.combination.fitness.num_images
    return [
        ("encoding", "autoencoder", "fit", p.encoding.trained.num_steps),
        ("training", "training_state", "training", p.training.num_steps),
        ("baselines", "ema_selection", "image", num_averages * selection.num_images),
        ("combination", "search_history", "image", evaluations * num_images),
        ("combination", "candidate_scores", "image", chosen * selection.num_images),
        ("combination", "landscape", "image", charts * selection.num_images),
        ("evaluation", "two_step_selection", "image", swept),
        ("evaluation", "evaluation", "image", measured),
    ]


def estimated(p: Parameters, made: Collection[str]) -> dict[str, float] | None:
    """Return about how many seconds each stage takes to make what is going to be made.

    None where that would take long to find out: of networks that are large, not made here, or
    do not fit.
    """
    wanted = [(stage, unit, n) for stage, output, unit, n in works(p) if output in made]
    if not wanted:
        return {}
    try:
        with torch.random.fork_rng(
            devices=[]
        ):  # a run's own numbers stay what they are
            return _tried_out(p, wanted)
    except (ValueError, RuntimeError, ArithmeticError, UserError):
        return None  # what does not fit is told by the stage that needs it


def _tried_out(
    p: Parameters, wanted: Iterable[tuple[str, str, int]]
) -> dict[str, float] | None:
    trial = Trial(p) if _is_made_here(p) else None
    if trial is None or not trial.is_small:
        return None
    unit_seconds = cache(lambda unit: getattr(trial, unit)())
    found: dict[str, float] = {}
    for stage, unit, num in wanted:
        found[stage] = found.get(stage, 0.0) + num * unit_seconds(unit)
    return found


def _is_made_here(p: Parameters) -> bool:
    return (
        p.encoding.autoencoder is None
        and p.training.init_from.run is None
        and p.features.extractor.kind == TRAINED_HERE
        and p.combination.generator is None
    )


class Trial:
    """Networks of a run, with random weights, to be timed.

    Args:
        p: The parameters.
    """

    def __init__(self, p: Parameters) -> None:
        self.p, self.device = p, choose_device(p.runtime.device)
        side, most = p.ingestion.image_size, p.sampling.batch_size
        self._images = torch.zeros(most, 3, side, side, dtype=torch.uint8)
        z, _ = encode(self._autoencoder(), self._images[:1])
        self._network = describe_model(p.training, z.shape[1:], {})

    @property
    def is_small(self) -> bool:
        """Whether the network is one that is tried out in a moment."""
        with torch.device("meta"):
            weights = build_model(self._network).network.parameters()
        return sum(w.numel() for w in weights) <= MOST_WEIGHTS

    def _autoencoder(self) -> Any:
        shape = self.p.encoding.trained.model_dump(include=SHAPE)
        return place(build_autoencoder(**shape), self.device)

    def fit(self) -> float:
        """Return the seconds of a step of the autoencoder."""
        model, settings = self._autoencoder(), self.p.encoding.trained
        rest = settings.model_dump(exclude=SHAPE) | {"num_steps": 20}

        def work(num: int) -> None:
            fit = {**rest, "batch_size": num}
            read = self._images.__getitem__
            next(fit_autoencoder(model, read, len(self._images), **fit, seed=0))

        return settings.batch_size * seconds_each(work, settings.batch_size)

    def training(self) -> float:
        """Return the seconds of a step of the model."""
        p, ranks = self.p.training, Ranks(0, 1, self.device)
        parts = self.p.runtime.gradient_accumulation
        trainer = build_trainer(
            self._network, p, None, ranks, gradient_accumulation=parts, compiled=False
        )
        shape = p.batch_size, *self._network.sample_shape
        x, schedule = torch.randn(shape, device=self.device), level_schedule(p)

        def work(num: int) -> None:
            coupling = p.objective.coupling
            prepare = BatchPreparation(
                lambda _: (x[:num], None), schedule, coupling, 0, ranks
            )
            trainer.train_step(prepare(trainer.step), 0.0)

        return p.batch_size * seconds_each(work, p.batch_size)

    @torch.no_grad()
    def image(self) -> float:
        """Return the seconds of an image in the fewest evaluations, with its features."""
        p, shape = self.p, self._network.sample_shape
        unit = {"mean": torch.zeros(shape), "std": torch.ones(shape)}
        normalisation = TensorFile(unit, {"sigma_data": self._network.sigma_data})
        decoder = Decoder(StoredAutoencoder(self._autoencoder(), ""), normalisation)
        generator = build_generator(self._network, decoder, p.sampling, p.runtime)
        of_features = p.features.classifier.model_dump(
            include={"width", "num_features"}
        )
        classifier = SmallClassifier(10, **of_features).to(self.device)
        plan = first_plan(self._network, p.sampling)

        def work(num: int) -> None:
            for images in generator.images(num, plan, seed=0, purpose="estimate"):
                classifier.features(to_float(images)).cpu()

        return seconds_each(work, p.sampling.batch_size)


def seconds_each(work: Callable[[int], Any], most: int) -> float:
    """Return the seconds of one of many, of as many at a time as do not take long."""
    num = min(2, most)
    work(num)  # the first takes longer
    while True:
        seconds = min(_seconds(work, num) for _ in range(3))
        if num == most or seconds > LONG_ENOUGH:
            return seconds / num
        num = min(8 * num, most)


def _seconds(work: Callable[[int], Any], num: int) -> float:
    started = time.perf_counter()
    work(num)
    return time.perf_counter() - started
