"""About how long the stages of a session take.

The time of a stage is counts, which parameters give, times seconds of one step or one image, which
are measured for a moment with networks of random weights. What depends on the number of images, or
is small, is not in it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Collection
from functools import cached_property, partial
from typing import Any

import torch
from torch import Tensor

from lct_pipeline.combination.search_run import GRADIENT_PASSES
from lct_pipeline.core.batches import BatchPreparation, Ranks
from lct_pipeline.core.preconditioning import Denoiser
from lct_pipeline.datasets.autoencoder import StoredAutoencoder
from lct_pipeline.datasets.decoder import Decoder
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.evaluation.generator import Generator, build_generator
from lct_pipeline.evaluation.plans import first_plan
from lct_pipeline.evaluation.references import LEARNING_RATE
from lct_pipeline.models.autoencoder import (
    PixelAutoencoder,
    build_autoencoder,
    encode,
    fit_autoencoder,
    place,
    to_float,
)
from lct_pipeline.models.denoiser import ModelDescription, build_model
from lct_pipeline.models.device import choose_device
from lct_pipeline.models.features.classifier import SmallClassifier, fit_classifier
from lct_pipeline.parameters import Parameters
from lct_pipeline.parameters.evaluation import TRAINED_HERE
from lct_pipeline.training.task import describe_model
from lct_pipeline.training.trainer import build_trainer, level_schedule

SHAPE = {"kind", "block_channels", "latent_channels"}  # of a trained autoencoder
NUM_MODELS = 3  # that are evaluated: last, best EMA, combination
NUM_STEPS = 20  # of a fit of which the first step is done
LONG_ENOUGH = 0.05  # seconds of what is measured
MOST_WEIGHTS = 20_000_000  # of a network that is tried out: larger ones take their time


def works(p: Parameters) -> list[tuple[str, str, str, float]]:
    """Return what takes long: stage, what it makes, a unit of :class:`Units`, and how many."""
    search, selection = p.combination.search, p.combination.selection
    averages = *p.training.ema.rates, *p.training.ema.sigma_rels
    num_averages = len(averages) + len(p.evaluation.posthoc_sigma_rels)
    start = len(search.initial_ema_rates) + len(search.initial_sigma_rels) + 3
    by_gradient = search.num_seeds * ("gradient" in search.methods)
    num_searches = search.num_seeds * len(search.methods)
    evaluations = by_gradient * start
    evaluations += (num_searches - by_gradient) * search.num_evaluations
    gradients = by_gradient * (search.num_evaluations - start) / GRADIENT_PASSES
    is_diffusion = p.training.objective.kind == "diffusion"
    nfes = sorted(p.sampling.diffusion.num_evaluations) if is_diffusion else [1, 2]
    plans = len(p.sampling.intermediate_sigmas) * len(p.sampling.renoise)
    swept = NUM_MODELS * plans * p.evaluation.num_selection_images * (not is_diffusion)
    final = NUM_MODELS * p.evaluation.num_seeds * p.evaluation.num_images
    charts = p.combination.num_line_points + p.combination.landscape_size**2
    chosen = num_searches * selection.num_candidates + 2 * p.evaluation.num_seeds
    images = p.combination.fitness.num_images
    fitted = p.encoding.autoencoder is None
    return [
        (
            "encoding",
            "autoencoder",
            "autoencoder",
            fitted * p.encoding.trained.num_steps,
        ),
        ("training", "training_state", "training", p.training.num_steps),
        ("references", "reference", "classifier", 2 * p.features.classifier.num_steps),
        ("baselines", "ema_selection", "image", num_averages * selection.num_images),
        ("combination", "search_history", "image", evaluations * images),
        ("combination", "search_history", "gradient", gradients * images),
        ("combination", "candidate_scores", "image", chosen * selection.num_images),
        ("combination", "landscape", "image", charts * selection.num_images),
        ("evaluation", "two_step_selection", "image", swept),
        ("evaluation", "two_step_selection", "network", swept),
        ("evaluation", "evaluation", "image", final * len(nfes)),
        ("evaluation", "evaluation", "network", final * sum(n - nfes[0] for n in nfes)),
    ]


class Units:
    """Seconds of a step or of an image, each measured when it is first asked for.

    Attributes:
        p: The parameters.
        device: Where networks compute.
    """

    def __init__(self, p: Parameters) -> None:
        self.p, self.device = p, choose_device(p.runtime.device)
        side, most = p.ingestion.image_size, p.sampling.batch_size
        self._images = torch.zeros(most, 3, side, side, dtype=torch.uint8)

    @property
    def can_be_measured(self) -> bool:
        """Whether all networks are small ones that are made here."""
        p = self.p
        is_ours = p.encoding.autoencoder in (None, "pixels")
        extractor = p.features.extractor.kind == TRAINED_HERE
        if not (is_ours and extractor and p.combination.generator is None):
            return False
        description = self._description
        with torch.device("meta"):
            weights = build_model(description).network.parameters()
        return sum(w.numel() for w in weights) <= MOST_WEIGHTS

    def _autoencoder(self) -> Any:
        if self.p.encoding.autoencoder == "pixels":
            return place(PixelAutoencoder(), self.device)
        trained = self.p.encoding.trained
        model = build_autoencoder(**trained.model_dump(include=SHAPE))
        return place(model, self.device)

    @cached_property
    def _description(self) -> ModelDescription:
        z, _ = encode(self._autoencoder(), self._images[:1])
        return describe_model(self.p.training, z.shape[1:], {})

    @cached_property
    def _classifier(self) -> SmallClassifier:
        c = self.p.features.classifier
        made = SmallClassifier(10, width=c.width, num_features=c.num_features)
        return made.to(self.device)

    @cached_property
    def _generator(self) -> Generator:
        shape, sigma_data = self._description.sample_shape, self._description.sigma_data
        unit = {"mean": torch.zeros(shape), "std": torch.ones(shape)}
        normalisation = TensorFile(unit, {"sigma_data": sigma_data})
        decoder = Decoder(StoredAutoencoder(self._autoencoder(), ""), normalisation)
        return build_generator(
            self._description, decoder, self.p.sampling, self.p.runtime
        )

    def _features(self, images: Tensor) -> Tensor:
        return self._classifier.features(to_float(images.to(self.device)))

    @cached_property
    def training(self) -> float:
        """A step of the model."""
        p, description = self.p.training, self._description
        ranks = Ranks(0, 1, self.device)
        needs_first_stage = p.objective.kind in ("distillation", "truncated")
        first: Denoiser | None = build_model(description) if needs_first_stage else None
        trainer = build_trainer(
            description,
            p,
            None if first is None else first.to(self.device).eval(),
            ranks,
            gradient_accumulation=self.p.runtime.gradient_accumulation,
            compiled=False,
        )
        x = torch.randn(p.batch_size, *description.sample_shape, device=self.device)
        schedule, coupling = level_schedule(p), p.objective.coupling

        def step(num: int) -> None:
            read = partial(lambda num, _: (x[:num], None), num)
            prepare = BatchPreparation(read, schedule, coupling, 0, ranks)
            trainer.train_step(prepare(trainer.step), 0.0)

        return p.batch_size * seconds_each(step, p.batch_size)

    def _read(self, indices: Tensor) -> Tensor:
        return self._images[indices % len(self._images)]

    @cached_property
    def autoencoder(self) -> float:
        """A step of the autoencoder."""
        model, settings = self._autoencoder(), self.p.encoding.trained
        rest = settings.model_dump(exclude=SHAPE) | {"num_steps": NUM_STEPS}

        def work(num: int) -> None:
            fit = {**rest, "batch_size": num}
            next(fit_autoencoder(model, self._read, num, **fit, seed=0))

        return settings.batch_size * seconds_each(work, settings.batch_size)

    @cached_property
    def classifier(self) -> float:
        """A step of a feature extractor."""
        most, read = self.p.features.classifier.batch_size, self._read

        def work(num: int) -> None:
            sizes = {"num_steps": NUM_STEPS, "batch_size": num}
            rate = LEARNING_RATE
            fit = fit_classifier(
                self._classifier, read, None, num, **sizes, learning_rate=rate, seed=0
            )
            next(fit)

        return most * seconds_each(work, most)

    @cached_property
    def image(self) -> float:
        """An image in the fewest evaluations, and its features."""
        generator, sampling = self._generator, self.p.sampling
        plan = first_plan(self._description, sampling)

        def work(num: int) -> None:
            for images in generator.images(num, plan, seed=0, purpose="estimate"):
                self._features(images).cpu()

        with torch.no_grad():
            return seconds_each(work, sampling.batch_size)

    @cached_property
    def gradient(self) -> float:
        """An image, its features, and the derivative of these by the weights."""
        num_features = self.p.features.classifier.num_features

        def work(num: int) -> None:
            self._generator.gradients(
                torch.ones(num, num_features),
                self._classifier.requires_grad_(False).features,
                seed=0,
                purpose="estimate",
            )

        return self.image + seconds_each(work, self.p.sampling.batch_size)

    @cached_property
    def network(self) -> float:
        """An evaluation of the network."""
        shape, model = self._description.sample_shape, self._generator.model

        def work(num: int) -> None:
            x = torch.randn(num, *shape, device=self.device)
            model(x, torch.ones(num, device=self.device)).cpu()

        with torch.no_grad():
            return seconds_each(work, self.p.sampling.batch_size)


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


def estimated(p: Parameters, made: Collection[str]) -> dict[str, float] | None:
    """Return about how many seconds each stage takes to make what is going to be made.

    None where that would take long to find out: of networks that are large, or not made here. What
    is drawn for it are numbers of its own.
    """
    wanted = [work for work in works(p) if work[1] in made and work[3]]
    if not wanted:
        return {}
    with torch.random.fork_rng(devices=[]):
        units = Units(p)
        if not units.can_be_measured:
            return None
        found: dict[str, float] = {}
        for stage, _, unit, num in wanted:
            found[stage] = found.get(stage, 0.0) + num * getattr(units, unit)
    return found
