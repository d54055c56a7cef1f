"""Types and bounds of the parameters, and the messages for what is refused."""

from __future__ import annotations

import re
from typing import Any

import configuration
import pytest
from hostile import ADDRESS, CANARY, ENVIRONMENT
from pydantic import ValidationError

from conftest import put
from lct_pipeline.errors import ParameterError
from lct_pipeline.parameters import (
    Parameters,
    check_parameters,
    differences,
    first_difference,
    outside_values,
    parameters_digest,
)
from lct_pipeline.parameters.evaluation import Extractor


@pytest.fixture
def values() -> dict[str, Any]:
    return configuration.values()


def refusal(values: dict[str, Any]) -> str:
    with pytest.raises(ParameterError) as caught:
        check_parameters(values)
    return str(caught.value)


def test_values_in_range_are_taken_and_cannot_be_changed(
    values: dict[str, Any],
) -> None:
    parameters = check_parameters(values)
    assert parameters.training.noise.s1 == values["training"]["noise"]["s1"]
    with pytest.raises(ValidationError, match="frozen"):
        parameters.training.noise.s0 = 3  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        parameters.run_id = "x"  # type: ignore[misc]
    assert hash(parameters.training) == hash(check_parameters(values).training)


@pytest.mark.parametrize(
    ("key", "known"),
    [
        ("trainning", "run_id, runtime, ingestion, encoding, training"),
        ("training.lerning_rate", "num_steps, batch_size, precision"),
        ("training.optimizer.lerning_rate", "name, learning_rate, weight_decay"),
        ("ingestion.splits.train", "validation, test"),
        ("combination.num_images", "window, memory_mib, generator, references"),
    ],
)
def test_an_unknown_key_is_named_with_those_that_there_are(
    values: dict[str, Any], key: str, known: str
) -> None:
    put(values, key, 1)
    message = refusal(values)
    assert re.search(rf"  {key}: no such parameter; (did.*\? )?there are: ", message)
    assert known in message


def test_an_unknown_key_in_a_list_is_named_too(values: dict[str, Any]) -> None:
    put(values, "evaluation.extractors", [{"kind": "classifier", "evil": 1}])
    expected = r"evaluation\.extractors\.0\.evil: no such parameter; .*there are: kind"
    assert re.search(expected, refusal(values))


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("training.num_steps", 0, "greater than 0"),
        ("training.batch_size", 1, "greater than or equal to 2"),
        ("training.precision", "float16", "'float32' or 'bfloat16'"),
        ("training.init_from.run", "../elsewhere", "pattern"),
        ("training.optimizer.learning_rate", float("nan"), "finite"),
        ("training.network.dropout", 1.0, "less than 1"),
        ("training.network.mlp.width", 30, "multiple of 4"),
        ("ingestion.image_size", 33, "multiple of 8"),
        ("cataloging.step", r"step-\d+", "needs a group in parentheses"),
        ("cataloging.step", r"step-(\d+", "not a regular expression: missing )"),
        ("cataloging.source", "", "at least 1 character"),
        ("combination.generator", "my_model.generate", "pattern"),
        ("combination.search.methods", [], "at least 1 item"),
        ("features.extractor.kind", "inceptoin", "give classifier, inception,"),
        ("run_id", "../elsewhere", "pattern"),
        ("run_id", "", "at least 1"),
    ],
)
def test_a_wrong_value_is_named_with_what_is_allowed(
    values: dict[str, Any], key: str, value: Any, allowed: str
) -> None:
    put(values, key, value)
    message = refusal(values)
    assert f"  {key}={value!r}: " in message
    assert allowed in message


def test_an_element_out_of_range_is_named_by_its_place(values: dict[str, Any]) -> None:
    put(values, "training.ema.rates", [0.9, 1.0])
    put(values, "training.ema.sigma_rels", [0.29])
    message = refusal(values)
    assert "  training.ema.rates.1=1.0: " in message
    assert "  training.ema.sigma_rels.0=0.29: " in message


DIFFUSION = {"training.objective.kind": "diffusion"}
DISTILLATION = {
    "training.objective.kind": "distillation",
    "training.init_from.run": "teacher",
    "training.noise.schedule": "continuous",
}
TRUNCATED = {
    "training.objective.kind": "truncated",
    "training.init_from.run": "first",
    "training.objective.truncation.level": 80.0,
}
UNEVEN = {"block_channels": [8, 18]}
CMA = {"combination.search.methods": ["cma"]}
NO_WEIGHT = {"frechet_weight": 0.0, "kernel_weight": 0.0}


@pytest.mark.parametrize(
    ("group", "changes", "rule"),
    [
        ("ingestion.splits", {"validation": 0.5, "test": 0.5}, "share for training"),
        ("training.noise", {"sigma_min": 80.0}, "sigma_min must be below sigma_max"),
        ("training.noise", {"s0": 200}, "s1 must be at least s0"),
        ("encoding.trained", {"kind": "AutoencoderKL", **UNEVEN}, "multiples of 4"),
        ("encoding.trained", UNEVEN, "must be multiples of 4, each must divide"),
        ("encoding.trained", {"block_channels": [8, 64]}, "the one before"),
        ("encoding.trained", {"latent_channels": 3}, "latent_channels the last"),
        ("training.ema", {"rates": [], "sigma_rels": []}, "at least one rate or width"),
        ("training", {**DIFFUSION, **CMA}, "coupling=independent"),
        ("training", {**DISTILLATION, "training.init_from.run": None}, "init_from.run"),
        ("training", DISTILLATION, "noise.schedule=index"),
        ("training", TRUNCATED, "between sigma_min and sigma_max"),
        ("training", TRUNCATED | {"training.batch_size": 3}, "batch_size of 4 or more"),
        ("combination.fitness", NO_WEIGHT, "must be above 0"),
        ("evaluation", {"num_images": 7}, "num_images must be at least 8"),
        ("evaluation.reference", {"path": "a.npz"}, "give protocol"),
        (
            "evaluation.neighbours",
            {"num_images": 4},
            "must not be more than num_images",
        ),
        ("combination.search", {"methods": ["cma", "cma"]}, "must not name one twice"),
        ("combination", {"references": "mine:real"}, "name it as generator"),
        ("combination", {"fitness.nfe": 2}, "any generator and any number of"),
        ("combination", {"generator": "mine:generate"}, "this project's own models"),
        (
            "sampling.diffusion",
            {"sampler": "heun", "num_evaluations": [4]},
            "odd numbers",
        ),
        ("comparison", {"reference": "a", "statistics.path": "b"}, "not both"),
    ],
)
def test_values_that_do_not_go_together_are_named_with_the_rule(
    values: dict[str, Any], group: str, changes: dict[str, Any], rule: str
) -> None:
    put(values, "comparison.statistics.protocol", "theirs")
    put(values, "comparison.statistics.num_images", 9)
    for name, value in changes.items():
        is_full = name.startswith(("training.", "combination."))
        put(values, name if is_full else f"{group}.{name}", value)
    (line,) = refusal(values).splitlines()[1:]
    assert line.startswith(f"  {group}: ")
    assert rule in line
    assert len(line) < 200  # the rule, not all values of the group


def test_all_faults_are_told_at_once(values: dict[str, Any]) -> None:
    put(values, "training.num_steps", 0)
    put(values, "evaluation.sed", 0)
    del values["runtime"], values["training"]["network"]["unet"]["head_width"]
    head, *lines = refusal(values).splitlines()
    assert head.endswith("nothing was run:")
    assert len(lines) == 4
    assert {"  runtime: missing", "  training.network.unet.head_width: missing"} <= {
        *lines
    }


def test_checkpoints_of_others_need_a_name_for_the_run(values: dict[str, Any]) -> None:
    put(values, "cataloging.source", "theirs")
    (line,) = refusal(values).splitlines()[1:]
    assert line == "  cataloging.source: give the run a name: --params=run_id=<name>"
    assert check_parameters({**values, "run_id": "a"}).cataloging.source == "theirs"


@pytest.mark.parametrize("kind", ["a.b:c", "net.onnx", "nets/one.pt"])
def test_extractors_are_named_by_a_word_too(values: dict[str, Any], kind: str) -> None:
    put(values, "features.extractor", kind)
    put(values, "evaluation.extractors", [kind, {"kind": kind, "size": 64}])
    parameters = check_parameters(values)
    assert parameters.features.extractor == Extractor(kind=kind)
    assert parameters.evaluation.extractors[1].size == 64


def test_a_further_extractor_is_none_that_is_trained_here(
    values: dict[str, Any],
) -> None:
    put(values, "evaluation.extractors", ["inception", "classifier"])
    (line,) = refusal(values).splitlines()[1:]
    assert line.startswith("  evaluation.extractors.1='classifier': classifier is")
    assert "features.extractor alone: give inception, inception_pytorch, di" in line


def test_only_what_may_be_lacking_has_a_default() -> None:
    def defaults(group: Any, path: str = "") -> list[str]:
        found = []
        for name, field in group.model_fields.items():
            if not field.is_required():
                found.append(path + name)
            elif hasattr(field.annotation, "model_fields"):
                found += defaults(field.annotation, f"{path}{name}.")
        return found

    may_lack = ("path", "size", "mean", "std")  # extractors are also given in a list
    of_extractors = [f"features.extractor.{name}" for name in may_lack]
    of_earlier_runs = [
        "runtime.wait_minutes"
    ]  # which have none, and can be gone on with
    assert defaults(Parameters) == ["run_id", *of_earlier_runs, *of_extractors]


def test_a_search_budget_too_small_for_its_start_is_refused(
    values: dict[str, Any],
) -> None:
    search = values["combination"]["search"]
    num_averages = len(search["initial_ema_rates"]) + len(search["initial_sigma_rels"])
    put(values, "combination.search.num_evaluations", num_averages + 3)
    check_parameters(values)
    put(values, "combination.search.num_evaluations", num_averages + 2)
    assert f"num_evaluations must be at least {num_averages + 3}" in refusal(values)


def test_a_diffusion_model_is_not_searched_by_gradient(values: dict[str, Any]) -> None:
    put(values, "training.objective.kind", "diffusion")
    put(values, "training.objective.coupling", "independent")
    (line,) = refusal(values).splitlines()[1:]
    assert "give combination.search.methods=[cma], or evolution" in line
    put(values, "combination.search.methods", ["cma"])
    put(values, "combination.fitness.nfe", 2)
    put(values, "combination.generator", "a.package.of_mine:generate")
    check_parameters(values)


def test_a_digest_stands_for_values_and_not_for_the_order_of_keys() -> None:
    digest = parameters_digest({"a": {"x": 1, "y": 2}, "b": 3})
    assert digest == parameters_digest({"b": 3, "a": {"y": 2, "x": 1}})
    assert len(digest) == 8
    for other in ({"a": 2}, {"b": 1}, {"a": {"a": 1}}, {"a": None}):
        assert parameters_digest(other) != parameters_digest({"a": 1})


def test_differences_are_of_both_sides_by_dotted_name_and_lists_are_values() -> None:
    a, b = {"x": 1, "y": {"z": [1, 2]}}, {"x": 1, "y": {"z": [1, 3]}, "w": 4}
    assert differences(a, b) == {"y.z": ([1, 2], [1, 3]), "w": (None, 4)}
    assert first_difference(a, b) == "y.z: [1, 2] -> [1, 3]"
    assert first_difference(a, a) is None


@pytest.mark.parametrize("value", [7, 750.0, True])
def test_text_that_yaml_read_as_something_else_is_refused(
    values: dict[str, Any], value: Any
) -> None:
    assert "in quotes" in refusal(values | {"run_id": value})


def test_values_that_name_files_or_code_are_known(values: dict[str, Any]) -> None:
    assert outside_values(check_parameters(values)) == {}
    values["ingestion"].update(source="photos", labels="a.csv")
    values["encoding"].update(autoencoder="some/vae", lpips_path="a.pth")
    values["features"]["extractor"] = {"kind": "mine:network", "path": "b.pt"}
    values["evaluation"]["extractors"] = ["inception", {"kind": "c.onnx"}]
    values["cataloging"]["source"] = "runs"
    values["run_id"] = "mine"
    assert outside_values(check_parameters(values)) == {
        "ingestion.source": "photos",
        "ingestion.labels": "a.csv",
        "encoding.autoencoder": "some/vae",
        "encoding.lpips_path": "a.pth",
        "features.extractor.kind": "mine:network",
        "features.extractor.path": "b.pt",
        "evaluation.extractors.1.kind": "c.onnx",
        "cataloging.source": "runs",
    }


@pytest.mark.parametrize(
    "value",
    [
        ADDRESS,
        f"s3://{CANARY}@bucket",
        f"https://u:'{CANARY} \\@h",
        *ENVIRONMENT.values(),
    ],
)
def test_a_secret_is_refused_and_not_repeated(
    values: dict[str, Any], value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    for variable, secret in ENVIRONMENT.items():
        monkeypatch.setenv(variable, secret)
    put(values, "encoding.autoencoder", value)
    said = refusal(values)
    assert "\n  encoding.autoencoder: has a password or a token" in said
    put(values, "ingestion.image_size", value)
    assert CANARY not in said + refusal(values)


def test_what_only_looks_like_a_secret_is_taken(values: dict[str, Any]) -> None:
    for value in ("hf://datasets/a/b@c", "a?#@b/{0..9}.tar", "https://h:80/a.zip"):
        put(values, "ingestion.source", value)
        assert check_parameters(values).ingestion.source == value
