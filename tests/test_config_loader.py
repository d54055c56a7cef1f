"""Recipes, values from the command line, and names that follow from parameters."""

from pathlib import Path
from typing import Any

import pytest
import yaml
from configuration import CONF, loader, values

NAMED = ("images", "latents", "checkpoints", "reference")


def nested(key: str, value: Any) -> dict[str, Any]:
    for part in reversed(key.split(".")):
        value = {part: value}
    return value


def paths(catalog: dict[str, Any]) -> dict[str, str]:
    """Return the paths of datasets that are named after different groups."""
    return {name: catalog[name]["path"] for name in NAMED}


@pytest.fixture(scope="module")
def named(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a configuration with all parameters and one name for each stage."""
    folder = tmp_path_factory.mktemp("named")
    base = folder / "conf" / "base"
    base.mkdir(parents=True)
    for path in (CONF / "base").glob("parameters_*.yml"):
        (base / path.name).symlink_to(path)
    groups = {
        "images": "ingestion",
        "latents": "ingestion,encoding",
        "checkpoints": "ingestion,encoding,training",
        "reference": "ingestion,features",
    }
    catalog = {name: {"path": f"${{name_of:{key}}}"} for name, key in groups.items()}
    (base / "catalog.yml").write_text(yaml.safe_dump(catalog))
    return folder / "conf"


@pytest.fixture(scope="module")
def names(named: Path) -> dict[str, str]:
    return paths(loader(conf=named)["catalog"])


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
    named: Path, names: dict[str, str], key: str, value: Any, changed: set[str]
) -> None:
    after = paths(loader(conf=named, **nested(key, value))["catalog"])
    assert {name for name in NAMED if names[name] != after[name]} == changed


@pytest.mark.parametrize(
    ("key", "value"),
    [
        ("training.noise.sigma_min", "2.0e-3"),
        ("training.optimizer.weight_decay", 0),
        ("ingestion.image_size", 32.0),
    ],
)
def test_the_same_value_written_otherwise_gives_the_same_name(
    named: Path, names: dict[str, str], key: str, value: Any
) -> None:
    assert paths(loader(conf=named, **nested(key, value))["catalog"]) == names


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
    named: Path, source: str, readable: str
) -> None:
    found = paths(loader(conf=named, ingestion={"source": source})["catalog"])["images"]
    name, digest = found.rsplit("-", 1)
    assert name == readable
    assert len(digest) == 8


def test_a_run_lies_under_the_name_that_it_was_given() -> None:
    own, given = paths(loader()["catalog"]), paths(loader(run_id="mine")["catalog"])
    assert given["checkpoints"] == "data/06_models/mine/checkpoints"
    assert own.pop("checkpoints").startswith("data/06_models/digits-")
    assert own.items() <= given.items()


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


def test_a_wrong_parameter_is_told_when_a_name_is_made(named: Path) -> None:
    with pytest.raises(Exception, match=r"ingestion\.image_size=33"):
        loader(conf=named, ingestion={"image_size": 33})["catalog"]
