"""How fast a training step is, beside the same step as the sLCT authors wrote it; and measuring.

    python -m benchmarks.training_speed [--threads 2] [--blocks 12] [--block-steps 20]

Both steps have the same network, batch, latents (normal ones), averages and threads, and take turns
in blocks of this one process. The averages are the authors' seven; a row has the recipe's. Theirs,
written plainly, couples by an exact plan in the main thread, copies the weights into a target,
updates each average weight by weight in Python, waits for four values (``PlainStep`` of
benchmarks/gpu/speed.py), and embeds the level of each sample. Nothing is compiled in either.
The second table has what a search measures and an evaluation sees in a second, by an autoencoder,
a network and a classifier of the default sizes and random weights.
"""

from __future__ import annotations

import lct_pipeline  # noqa: F401  # before torch: it says how threads wait

# isort: split
import argparse
import inspect
import time
from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from unittest import mock

import pandas as pd
import torch
from torch import Tensor

from benchmarks.gpu.speed import PlainStep
from lct_pipeline.combination.fitness import Fitness
from lct_pipeline.combination.sources import Request, SourceTask
from lct_pipeline.config_loader import LctConfigLoader
from lct_pipeline.core.batches import BatchPreparation, EpochOrder, Ranks
from lct_pipeline.core.training_loop import training_steps
from lct_pipeline.datasets.autoencoder import StoredAutoencoder
from lct_pipeline.datasets.decoder import Decoder
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.evaluation.feature_spaces import real_images_of
from lct_pipeline.models import mlp
from lct_pipeline.models.autoencoder import build_autoencoder
from lct_pipeline.models.denoiser import build_model
from lct_pipeline.models.features.classifier import SmallClassifier
from lct_pipeline.parameters import Parameters
from lct_pipeline.settings import CONFIG_LOADER_ARGS
from lct_pipeline.training.task import describe_model
from lct_pipeline.training.trainer import build_trainer, level_schedule

CONF = Path(__file__).parents[1] / "conf"
SHAPES = {"base": (2, 4, 4), "cifar10": (4, 8, 8)}  # of the recipes' latents
HERE = Ranks(0, 1, torch.device("cpu"))
NUM_LATENTS = 2048
WARM_UP = 10  # steps
# of the averages that their training keeps
RATES = (0.999, 0.9999, 0.99993, 0.99994, 0.9999432189950708, 0.99995, 0.99997)
AUTHORS = {"rates": RATES, "sigma_rels": ()}


def main() -> None:
    """Measure and print two tables."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--blocks", type=int, default=12)
    parser.add_argument("--block-steps", type=int, default=20)
    parser.add_argument("--evaluations", type=int, default=4, help="of a search")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)
    print(f"torch {torch.__version__}, {arguments.threads} threads\n")
    blocks = arguments.blocks, arguments.block_steps
    rows = [
        compared(recipe(name), name, averages, *blocks)
        for name, averages in (("base", AUTHORS), ("base", {}), ("cifar10", AUTHORS))
    ]
    print(shown(rows))
    print(shown(measuring(recipe("base"), arguments.evaluations)))


def recipe(name: str) -> Parameters:
    """Return the parameters of a folder of ``conf/``."""
    return LctConfigLoader(
        conf_source=str(CONF), env=name, **CONFIG_LOADER_ARGS
    ).checked


def shown(rows: list[dict[str, Any]]) -> str:
    """Return a table as text."""
    table = pd.DataFrame(rows)
    return table.to_string(index=False, float_format="{:.2f}".format) + "\n"


def compared(
    values: Parameters, name: str, averages: dict[str, Any], blocks: int, size: int
) -> dict[str, Any]:
    """Return a row: milliseconds of both steps, of wall and of CPU, and their ratio in blocks."""
    ema = values.training.ema.model_copy(update=averages)
    training = values.training.model_copy(update={"ema": ema})
    latents = random_latents(SHAPES[name])
    order = EpochOrder(NUM_LATENTS, training.batch_size, seed=0)

    def read(step: int) -> tuple[Tensor, None]:
        return latents[torch.from_numpy(order.batch(step))], None

    description = describe_model(training, SHAPES[name], {})
    trainer = build_trainer(
        description, training, None, HERE, gradient_accumulation=1, compiled=False
    )
    coupling, schedule = training.objective.coupling, level_schedule(training)
    prepare = BatchPreparation(read, schedule, coupling, 0, HERE)
    ours = training_steps(trainer, prepare, training.num_steps)
    plain = PlainStep(build_model(description).train(), len(trainer.ema.tracks))

    def theirs(step: int) -> None:
        levels = schedule.draw(step, training.batch_size, torch.default_generator, 0)
        plain(read(step)[0], levels.t, levels.r)

    ways: dict[str, tuple[Callable[[int], Any], AbstractContextManager[Any]]] = {
        "ours": (lambda step: next(ours), nullcontext()),
        "theirs": (theirs, mock.patch.object(mlp, "_distinct", of_each_sample)),
    }
    for do, within in ways.values():
        timed(do, within, WARM_UP)
    times: dict[str, list[tuple[float, float]]] = {way: [] for way in ways}
    for _ in range(blocks):
        for way, (do, within) in ways.items():
            times[way].append(timed(do, within, size))
    wall, cpu = (
        {way: [each[part] for each in found] for way, found in times.items()}
        for part in (0, 1)
    )
    ratios = [b / a for a, b in zip(wall["ours"], wall["theirs"], strict=True)]
    low, middle, high = quantiles(ratios, n=4)
    return {
        "recipe": name,
        "averages": len(trainer.ema.tracks),
        "M weights": trainer.ema.weights.vector.numel() / 1e6,
        "theirs, ms": median(wall["theirs"]),
        "ours, ms": median(wall["ours"]),
        "ratio": middle,
        "quartiles": f"{low:.2f}-{high:.2f}",
        "theirs, CPU ms": median(cpu["theirs"]),
        "ours, CPU ms": median(cpu["ours"]),
    }


def of_each_sample(c_noise: Tensor, labels: Tensor | None) -> tuple[Tensor, None]:
    """Return the level of each sample, to be embedded for itself."""
    return c_noise, None


def timed(
    do: Callable[[int], Any], within: AbstractContextManager[Any], size: int
) -> tuple[float, float]:
    """Return the milliseconds, wall and CPU, that one of ``size`` steps took."""
    with within:
        start, of_cpu = time.perf_counter(), time.process_time()
        for step in range(size):
            do(step)
        ended = time.perf_counter(), time.process_time()
    return 1e3 * (ended[0] - start) / size, 1e3 * (ended[1] - of_cpu) / size


def random_latents(shape: tuple[int, ...]) -> Tensor:
    """Return normal latents ``(N, C, H, W)`` of the standard deviation that training expects."""
    generator = torch.Generator().manual_seed(0)
    return 0.5 * torch.randn(NUM_LATENTS, *shape, generator=generator)


def measuring(values: Parameters, repeats: int) -> list[dict[str, Any]]:
    """Return what is measured in a second: by a search, with its gradient or without."""
    fitness, weights, num_images = random_fitness(values)
    rows = []
    for gradients in (False, True):
        found = []
        for number in range(repeats + 1):
            request = Request("benchmark", num_images, number, gradients)
            start = time.perf_counter()
            assert fitness.measure(weights, request).fault is None
            found.append(time.perf_counter() - start)
        seconds = median(found[1:])
        what = "evaluation with its gradient" if gradients else "evaluation"
        rows.append(
            {
                "of a search": what,
                "images": num_images,
                "a second": 1 / seconds,
                "images a second": num_images / seconds,
            }
        )
    return rows


def random_fitness(values: Parameters) -> tuple[Fitness, dict[str, Tensor], int]:
    """Return what a search measures by, a model's weights, and the images of an evaluation."""
    torch.manual_seed(0)
    description = describe_model(values.training, SHAPES["base"], {})
    trained = values.encoding.trained.model_dump()
    names = trained.keys() & inspect.signature(build_autoencoder).parameters.keys()
    autoencoder = build_autoencoder(**{name: trained[name] for name in names}).eval()
    shape = {
        "num_classes": 10,
        "width": values.features.classifier.width,
        "num_features": values.features.classifier.num_features,
    }
    classifier = SmallClassifier(**shape)
    ones = torch.ones(SHAPES["base"])
    stored = TensorFile({"mean": 0 * ones, "std": ones}, {"sigma_data": 0.5})
    task = SourceTask(
        description,
        Decoder(StoredAutoencoder(autoencoder, "random"), stored),
        TensorFile(classifier.state_dict(), {**shape, "name": "classifier"}),
        values.combination,
        values.sampling,
        values.runtime,
    )
    real = real_images_of(torch.rand(1024, shape["num_features"]), "random features")
    weights = build_model(description).network.state_dict()
    return Fitness(task, real), weights, values.combination.fitness.num_images


if __name__ == "__main__":
    main()
