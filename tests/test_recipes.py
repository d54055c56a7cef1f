"""Every recipe under conf/: its values, its header, and what it is compared with."""

from __future__ import annotations

import math
import re

import pytest
import torch
import yaml
from configuration import CONF, loader, recipe, values

from lct_pipeline.core.losses import paper_c
from lct_pipeline.datasets.autoencoder import PIXELS
from lct_pipeline.models.denoiser import build_network
from lct_pipeline.parameters import Encoding, Training, flatten
from lct_pipeline.training.task import describe_model
from lct_pipeline.training.trainer import first_num_levels, level_schedule

RECIPES = sorted(path.parent.name for path in CONF.glob("*/parameters.yml"))
TRAINABLE = [recipe for recipe in RECIPES if recipe != "smoke"]
BASELINES = [recipe for recipe in RECIPES if recipe.endswith("_ilct")]
SECOND_STAGES = ["digits_distillation", "digits_truncated"]
HEADER = {"source", "differs", "command", "data", "hardware", "expect"}
ILCT = {  # what sLCT's five techniques replaced
    "training.objective.loss": "pseudo_huber",
    "training.objective.c_schedule": "constant",
    "training.objective.diffusion_weight": 0.0,
    "training.objective.coupling": "independent",
    "training.network.norm": "group_norm",
}


def text_of(name: str) -> str:
    return (CONF / name / "parameters.yml").read_text()


def header_of(name: str) -> dict[str, str]:
    """Return the header's fields: `# name: text`, continued by indented comments."""
    fields: dict[str, str] = {}
    field = ""
    for line in text_of(name).splitlines():
        if not line.startswith("#"):
            break
        if found := re.match(r"# (\w+): +(.*)", line):
            field = found[1]
            fields[field] = found[2]
        else:
            fields[field] += "\n" + line.lstrip("# ")
    return fields


def latent_shape(encoding: Encoding, image_size: int) -> list[int]:
    if encoding.autoencoder == PIXELS:
        return [3, image_size, image_size]
    if encoding.autoencoder is not None:  # Stable Diffusion's
        return [4, image_size // 8, image_size // 8]
    side = image_size // 2 ** (len(encoding.trained.block_channels) - 1)
    return [encoding.trained.latent_channels, side, side]


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_is_valid_and_its_network_fits_its_latents(name: str) -> None:
    parameters = recipe(name)
    shape = latent_shape(parameters.encoding, parameters.ingestion.image_size)
    description = describe_model(parameters.training, shape, {})
    with torch.device("meta"):
        network = build_network(description)
        x, c_noise = torch.empty(2, *shape), torch.empty(2)
        if name not in BASELINES:  # which differ in the norm
            assert network(x, c_noise).shape == x.shape
    assert loader(name)["catalog"]["checkpoints"]["path"].startswith("data/06_models/")


@pytest.mark.parametrize("name", RECIPES)
def test_a_recipe_holds_only_what_differs(name: str) -> None:
    base, own = flatten(values("base")), flatten(yaml.safe_load(text_of(name)))
    assert [key for key, value in own.items() if value == base[key]] == []


@pytest.mark.parametrize("name", TRAINABLE)
def test_a_header_says_where_from_how_and_what_to_expect(name: str) -> None:
    header = header_of(name)
    assert next(iter(header)) == name
    assert header.keys() >= HEADER
    assert all(header.values())
    assert re.search(rf"kedro run --env={name}\b(?!_)", header["command"])
    asks_for_images = "ingestion.source=" in header["command"]
    assert asks_for_images != name.startswith("digits")


@pytest.mark.parametrize("name", TRAINABLE)
def test_the_raw_checkpoints_of_a_recipes_window_are_kept(name: str) -> None:
    parameters = recipe(name)
    training, window = parameters.training, parameters.combination.window
    assert window <= training.checkpoint_window
    assert training.num_steps * window / training.checkpoint_interval >= 10


@pytest.mark.parametrize("name", BASELINES)
def test_a_baseline_differs_in_the_five_techniques_alone(name: str) -> None:
    compared = name.removesuffix("_ilct")
    own = flatten(recipe(name).model_dump())
    other = flatten(recipe("base" if compared == "digits" else compared).model_dump())
    assert {k: v for k, v in own.items() if v != other[k]} == ILCT


@pytest.mark.parametrize("name", ["celebahq256", "ffhq256", "lsun_church256"])
def test_a_recipe_of_the_paper_says_all_that_differs_from_it(name: str) -> None:
    said = header_of(name)["differs"]
    for topic in (
        *("Precision", "encoding.precision", "Statistics", "Length", "Flips"),
        *("not finite", "Several GPUs", "renoise=[fresh]", "Recall", "VGG16"),
    ):
        assert topic in said


def test_the_papers_three_data_sets_and_the_small_ones_have_a_baseline() -> None:
    small = ["cifar10", "clothing128", "digits"]
    data_sets = ["celebahq256", "ffhq256", "lsun_church256", *small]
    assert sorted(f"{name}_ilct" for name in data_sets) == BASELINES


@pytest.mark.parametrize("name", SECOND_STAGES)
def test_a_second_stage_has_the_network_and_latents_of_its_first(name: str) -> None:
    parameters = recipe(name)
    run, command = parameters.training.init_from.run, header_of(name)["command"]
    (line,) = [line for line in command.splitlines() if f"run_id={run}" in line]
    env = re.search(r"--env=(\w+)", line)
    first = recipe(env[1] if env else "base")
    assert first.ingestion == parameters.ingestion
    assert first.encoding == parameters.encoding
    assert first.training.network == parameters.training.network


def test_the_truncated_stage_goes_on_with_the_grid_and_the_c_of_the_first() -> None:
    def levels_and_c(training: Training, step: int) -> tuple[int, float]:
        N, s0 = level_schedule(training).num_levels(step), first_num_levels(training)
        return N, paper_c(N, s0=s0, dimension=32)

    first, second = recipe("base").training, recipe("digits_truncated").training
    end = levels_and_c(first, first.num_steps - 1)
    assert end == (20, pytest.approx(math.exp(-1.15 * math.log(20) - 0.85)))
    assert levels_and_c(second, 0) == levels_and_c(second, second.num_steps - 1) == end


@pytest.mark.parametrize(
    ("name", "num_images", "epochs"),
    [
        ("celebahq256", 27_000, 1400),
        ("ffhq256", 70_000, 1400),
        ("lsun_church256", 120_000, 1800),
    ],
)
def test_the_papers_recipes_are_as_long_as_its_epochs(
    name: str, num_images: int, epochs: int
) -> None:
    training = recipe(name).training
    assert training.num_steps == num_images // training.batch_size * epochs
