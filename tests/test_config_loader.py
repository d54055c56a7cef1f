"""Recipes, values from the command line, and names that follow from parameters."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from configuration import CONF, loader, values

from lct_pipeline.config_loader import name_of
from lct_pipeline.errors import ParameterError

NAMED = {
    "images": ("ingestion",),
    "latents": ("ingestion", "encoding"),
    "checkpoints": ("ingestion", "encoding", "training"),
    "reference": ("ingestion", "features"),
}


def nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def names(**changes: Any) -> dict[str, str]:
    """Return the names that follow from different groups of parameters."""
    values = loader(**changes).checked.model_dump()
    return {name: name_of(values, *groups) for name, groups in NAMED.items()}


def test_base_holds_all_values() -> None:
    text = {
        key: value
        for path in (CONF / "base").glob("parameters_*.yml")
        for key, value in yaml.safe_load(path.read_text()).items()
    }
    assert values() == text


def test_a_recipe_of_one_nested_value_keeps_all_others(tmp_path: Path) -> None:
    (tmp_path / "base").symlink_to(CONF / "base")
    (tmp_path / "mine").mkdir()
    recipe = {"training": {"network": {"mlp": {"num_blocks": 9}}}}
    (tmp_path / "mine" / "parameters.yml").write_text(yaml.safe_dump(recipe))
    expected = values()
    expected["training"]["network"]["mlp"]["num_blocks"] = 9
    assert loader(conf=tmp_path, env="mine")["parameters"] == expected


def test_values_of_the_command_line_win_over_a_recipe_and_keep_the_rest() -> None:
    found = loader(env="smoke", **nested("training.noise.s0", 5))["parameters"]
    expected = values("smoke")
    assert expected["training"]["noise"]["s0"] == 4
    expected["training"]["noise"]["s0"] = 5
    assert found == expected


@pytest.mark.parametrize(
    ("key", "value", "changed"),
    [
        ("ingestion.image_size", 64, set(NAMED)),
        ("encoding.trained.kl_weight", 0.5, {"latents", "checkpoints"}),
        ("training.network.mlp.width", 64, {"checkpoints"}),
        ("features.classifier.width", 8, {"reference"}),
        ("cataloging.kind", "ema", set()),
        ("combination.search.population", 4, set()),
        ("sampling.batch_size", 5, set()),
        ("evaluation.num_images", 50, set()),
        ("runtime.num_processes", 2, set()),
    ],
)
def test_a_name_changes_with_the_values_of_its_groups_alone(
    key: str, value: Any, changed: set[str]
) -> None:
    before, after = names(), names(**nested(key, value))
    assert {name for name in NAMED if before[name] != after[name]} == changed


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("training.noise.sigma_min", "2.0e-3"),
        ("training.optimizer.weight_decay", 0),
        ("ingestion.image_size", 32.0),
    ],
)
def test_the_same_value_written_otherwise_gives_the_same_name(
    key: str, value: Any
) -> None:
    assert names(**nested(key, value)) == names()


@pytest.mark.parametrize(
    ("source", "readable"),
    [
        ("digits", "digits"),
        ("/data/my faces & more.zip", "my-faces-more"),
        ("data/01_raw/celeba", "celeba"),
        ("...", "images"),
    ],
)
def test_names_start_with_the_readable_name_of_the_source(
    source: str, readable: str
) -> None:
    name, digest = names(ingestion={"source": source})["images"].rsplit("-", 1)
    assert name == readable
    assert len(digest) == 8


def test_a_run_lies_under_the_name_that_it_was_given() -> None:
    own, given = loader()["catalog"], loader(run_id="mine")["catalog"]
    assert given["checkpoints"]["path"] == "data/06_models/mine/checkpoints"
    assert (
        own["checkpoints"]["path"]
        == f"data/06_models/{names()['checkpoints']}/checkpoints"
    )
    for name in ("images", "latents"):
        assert names()[name] in own[name]["path"] == given[name]["path"]


def test_parameters_stand_in_the_catalog() -> None:
    changes = {"ingestion": {"source": "a.zip"}, "encoding": {"autoencoder": "b"}}
    catalog = loader(**changes)["catalog"]
    assert catalog["image_source"]["source"] == "a.zip"
    assert catalog["given_autoencoder"]["source"] == "b"


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("step", r"^a{2}/step-(\d+)\.pt$"),
        ("names", r"^(?!ema\.).*\$"),
        ("entry", "0"),
        ("pattern", "*/[ab]-*.pt"),
    ],
)
def test_how_checkpoints_of_others_are_read_stands_in_the_catalog(
    key: str, value: str
) -> None:
    cataloging = {"source": "theirs", key: value}
    catalog = loader(run_id="mine", cataloging=cataloging)["catalog"]
    assert catalog["external_checkpoints"]["source"] == "theirs"
    assert catalog["external_checkpoints"][key] == value
    assert catalog["previous_checkpoints"]["path"] == catalog["checkpoints"]["path"]


def test_a_wrong_parameter_is_told_when_a_name_is_made() -> None:
    with pytest.raises(Exception, match=r"ingestion\.image_size=33"):
        loader(ingestion={"image_size": 33})["catalog"]


@pytest.mark.parametrize("env", ["../elsewhere", "/tmp", "..", "a/b"])
def test_a_recipe_is_a_folder_of_conf_alone(env: str) -> None:
    with pytest.raises(ParameterError, match=f"--env='{env}': give the name"):
        loader(env)
