"""Types and bounds of the parameters, and the messages for what is refused."""

import copy
from pathlib import Path
from typing import Any

import pytest
import yaml
from pydantic import ValidationError

from lct_pipeline.errors import ParameterError
from lct_pipeline.parameters import (
    Parameters,
    check_parameters,
    differences,
    first_difference,
    parameters_digest,
)
from lct_pipeline.parameters.evaluation import Extractor

BASE = Path(__file__).parents[1] / "conf" / "base"


@pytest.fixture
def values() -> dict[str, Any]:
    found: dict[str, Any] = {}
    for path in BASE.glob("parameters_*.yml"):
        found.update(yaml.safe_load(path.read_text()))
    return copy.deepcopy(found)


def put(values: dict[str, Any], key: str, value: Any) -> None:
    *groups, last = key.split(".")
    for group in groups:
        values = values[group]
    values[last] = value


def refusal(values: dict[str, Any]) -> str:
    with pytest.raises(ParameterError) as caught:
        check_parameters(values)
    return str(caught.value)


def test_values_in_range_are_taken(values: dict[str, Any]) -> None:
    parameters = check_parameters(values)
    assert parameters.training.noise.s1 == values["training"]["noise"]["s1"]
    assert parameters.run_id is None


@pytest.mark.parametrize(
    ("key", "known"),
    [
        ("trainning", "run_id, runtime, ingestion, encoding, training"),
        ("training.lerning_rate", "num_steps, batch_size, precision"),
        ("training.optimizer.lerning_rate", "name, learning_rate, weight_decay"),
        ("training.ema.rate", "rates, sigma_rels, snapshot_interval"),
        ("training.objective.truncation.t", "level"),
        ("runtime.processes", "num_processes, gradient_accumulation, compile"),
        ("training.noise.sigmamax", "sigma_min, sigma_max, sigma_data"),
        ("training.network.mlp.depth", "width, num_blocks"),
        ("ingestion.splits.train", "validation, test"),
        ("cataloging.glob", "source, pattern, step, entry, names, strip_prefix, kind"),
        ("combination.search.budget", "num_evaluations, population"),
        (
            "combination.num_images",
            "window, memory_mib, generator, references, fitness",
        ),
        ("features.classifier.widht", "width, num_features"),
    ],
)
def test_an_unknown_key_is_named_with_those_that_there_are(
    values: dict[str, Any], key: str, known: str
) -> None:
    put(values, key, 1)
    message = refusal(values)
    assert f"  {key}: no such parameter; there are: " in message
    assert known in message


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("training.num_steps", "many", "integer"),
        ("training.optimizer.learning_rate", "fast", "number"),
        ("training.ema.rates", 0.9, "tuple"),
        ("training.network.conditional", "perhaps", "boolean"),
        ("runtime.compile", "perhaps", "boolean"),
        ("encoding.autoencoder", 7, "string"),
        ("training", None, "dictionary"),
        ("ingestion.splits", [0.1, 0.2], "dictionary"),
    ],
)
def test_a_wrong_type_is_named_with_value_and_type(
    values: dict[str, Any], key: str, value: Any, allowed: str
) -> None:
    put(values, key, value)
    message = refusal(values)
    assert f"  {key}={value!r}: " in message
    assert allowed in message


@pytest.mark.parametrize(
    ("key", "value", "allowed"),
    [
        ("training.num_steps", 0, "greater than 0"),
        ("training.batch_size", 1, "greater than or equal to 2"),
        ("training.optimizer.learning_rate", 0.0, "greater than 0"),
        ("training.optimizer.learning_rate", float("nan"), "finite"),
        ("training.optimizer.learning_rate", float("inf"), "finite"),
        ("training.optimizer.weight_decay", -0.1, "greater than or equal to 0"),
        ("training.optimizer.name", "sgd", "'radam' or 'adamw'"),
        ("training.optimizer.clip_norm", 0.0, "greater than 0"),
        ("training.precision", "float16", "'float32' or 'bfloat16'"),
        ("training.init_from.run", "../elsewhere", "pattern"),
        ("training.network.dropout", 1.0, "less than 1"),
        ("training.network.kind", "transformer", "'mlp', 'unet' or 'dit'"),
        ("training.network.label_dropout", 1.0, "less than 1"),
        ("training.noise.schedule", "linear", "'index' or 'continuous'"),
        ("training.noise.continuous.q", 1.0, "greater than 1"),
        ("training.objective.kind", "gan", "'consistency', 'diffusion'"),
        ("training.objective.loss", "l1", "'cauchy', 'pseudo_huber'"),
        (
            "training.objective.c_schedule",
            "adaptive",
            "'paper', 'fitted' or 'constant'",
        ),
        ("training.objective.coupling", True, "'independent', 'batch' or 'process'"),
        ("training.network.mlp.width", 30, "multiple of 4"),
        ("training.ema.snapshot_interval", 0, "greater than 0"),
        ("ingestion.image_size", 33, "multiple of 8"),
        ("ingestion.max_problem_share", 1.5, "less than or equal to 1"),
        ("cataloging.step", r"step-\d+", "needs a group in parentheses"),
        ("cataloging.step", r"step-(\d+", "not a regular expression: missing )"),
        ("cataloging.names", "*bias", "not a regular expression: nothing to repeat"),
        ("cataloging.source", "", "at least 1 character"),
        ("cataloging.kind", "average", "'raw' or 'ema'"),
        ("combination.window", 0, "greater than 0"),
        ("combination.generator", "my_model.generate", "pattern"),
        ("combination.references", ":real", "pattern"),
        ("combination.fitness.num_images", 1, "greater than or equal to 2"),
        ("combination.search.methods", [], "at least 1 item"),
        ("combination.search.initial_ema_rates", [], "at least 1 item"),
        ("combination.selection.num_candidates", 0, "greater than 0"),
        ("runtime.device", "tpu", "'auto', 'cpu', 'cuda' or 'mps'"),
        ("runtime.num_threads", -1, "greater than or equal to 0"),
        ("runtime.num_processes", 0, "greater than 0"),
        ("runtime.gradient_accumulation", 0, "greater than 0"),
        ("features.num_retained", 5, "greater than or equal to 6"),
        ("features.extractor.kind", "inceptoin", "give classifier, inception,"),
        ("evaluation.seed", -1, "greater than or equal to 0"),
        ("export.model", "", "at least 1 character"),
        ("run_id", "../elsewhere", "pattern"),
        ("run_id", "", "pattern"),
    ],
)
def test_a_value_out_of_range_is_named_with_what_is_allowed(
    values: dict[str, Any], key: str, value: Any, allowed: str
) -> None:
    put(values, key, value)
    message = refusal(values)
    assert f"  {key}={value!r}: " in message
    assert allowed in message


def test_an_element_out_of_range_is_named_by_its_place(values: dict[str, Any]) -> None:
    put(values, "training.ema.rates", [0.9, 1.0])
    assert "  training.ema.rates.1=1.0: " in refusal(values)
    put(values, "training.ema.sigma_rels", [0.29])
    assert "  training.ema.sigma_rels.0=0.29: " in refusal(values)


@pytest.mark.parametrize(
    ("group", "changes", "rule"),
    [
        ("ingestion.splits", {"validation": 0.5, "test": 0.5}, "share for training"),
        ("training.noise", {"sigma_min": 80.0}, "sigma_min must be below sigma_max"),
        ("training.noise", {"s0": 200}, "s1 must be at least s0"),
        ("encoding.trained", {"block_channels": [8, 18]}, "multiples of 4"),
        ("training.ema", {"rates": [], "sigma_rels": []}, "at least one rate or width"),
        ("training", {"objective.kind": "diffusion"}, "coupling=independent"),
        ("training", {"objective.kind": "distillation"}, "training.init_from.run"),
        ("training", {"objective.kind": "truncated"}, "training.init_from.run"),
        (
            "training",
            {
                "objective.kind": "distillation",
                "init_from.run": "teacher",
                "noise.schedule": "continuous",
            },
            "noise.schedule=index",
        ),
        (
            "training",
            {
                "objective.kind": "truncated",
                "init_from.run": "first",
                "objective.truncation.level": 80.0,
            },
            "between sigma_min and sigma_max",
        ),
        (
            "combination.fitness",
            {"frechet_weight": 0.0, "kernel_weight": 0.0},
            "frechet_weight or kernel_weight must be above 0",
        ),
        ("evaluation", {"num_images": 7}, "num_images must be at least 8"),
        (
            "evaluation.reference",
            {"path": "a.npz", "protocol": None, "num_images": 9},
            "statistics of others say nothing about themselves: give protocol",
        ),
        (
            "evaluation.neighbours",
            {"num_images": 4, "num_shown": 8},
            "num_shown must not be more than num_images",
        ),
        (
            "combination.search",
            {"methods": ["cma", "random", "cma"]},
            "methods must not name one twice",
        ),
        ("combination", {"references": "mine:real"}, "name it as generator"),
        (
            "combination",
            {"search.methods": ["cma", "gradient"], "fitness.nfe": 2},
            "takes any generator and any number of evaluations",
        ),
        (
            "combination",
            {"search.methods": ["gradient"], "generator": "mine:generate"},
            "this project's own models",
        ),
    ],
)
def test_values_that_do_not_go_together_are_named_with_the_rule(
    values: dict[str, Any], group: str, changes: dict[str, Any], rule: str
) -> None:
    for name, value in changes.items():
        put(values, f"{group}.{name}", value)
    (line,) = refusal(values).splitlines()[1:]
    assert line.startswith(f"  {group}: ")
    assert rule in line
    assert len(line) < 200  # the rule, not all values of the group


def test_a_missing_group_is_named(values: dict[str, Any]) -> None:
    del values["sampling"]
    assert "  sampling: missing" in refusal(values).splitlines()


def test_a_missing_value_is_named(values: dict[str, Any]) -> None:
    del values["training"]["network"]["unet"]["head_width"]
    assert "  training.network.unet.head_width: missing" in refusal(values)


def test_all_faults_are_told_at_once(values: dict[str, Any]) -> None:
    put(values, "training.num_steps", 0)
    put(values, "evaluation.sed", 0)
    del values["runtime"]
    lines = refusal(values).splitlines()
    assert len(lines) == 4
    assert lines[0].endswith("nothing was run:")


def test_a_run_name_of_digits_is_text(values: dict[str, Any]) -> None:
    assert check_parameters({**values, "run_id": 7}).run_id == "7"


def test_a_place_in_a_list_is_text(values: dict[str, Any]) -> None:
    put(values, "cataloging.entry", 0)
    assert check_parameters(values).cataloging.entry == "0"
    put(values, "cataloging.entry", None)
    assert check_parameters(values).cataloging.entry is None


def test_checkpoints_of_others_need_a_name_for_the_run(values: dict[str, Any]) -> None:
    put(values, "cataloging.source", "theirs")
    (line,) = refusal(values).splitlines()[1:]
    assert line == ("  cataloging.source: give the run a name: --params=run_id=<name>")
    assert check_parameters({**values, "run_id": "a"}).cataloging.source == "theirs"


def test_parameters_cannot_be_changed(values: dict[str, Any]) -> None:
    parameters = check_parameters(values)
    with pytest.raises(ValidationError, match="frozen"):
        parameters.training.noise.s0 = 3  # type: ignore[misc]
    with pytest.raises(ValidationError, match="frozen"):
        parameters.run_id = "x"  # type: ignore[misc]
    assert hash(parameters.training) == hash(check_parameters(values).training)


@pytest.mark.parametrize(
    "kind", ["inception", "mine:features", "a.b:c", "net.onnx", "nets/one.pt"]
)
def test_extractors_are_named_by_a_word_too(values: dict[str, Any], kind: str) -> None:
    put(values, "features.extractor", kind)
    put(values, "evaluation.extractors", [kind, {"kind": kind, "path": None}])
    parameters = check_parameters(values)
    assert parameters.features.extractor == Extractor(kind=kind)
    assert parameters.evaluation.extractors == (Extractor(kind=kind),) * 2


def test_no_value_but_the_run_name_and_what_an_extractor_may_lack_has_a_default() -> (
    None
):
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
    assert defaults(Parameters) == ["run_id", *of_extractors]


def test_digest_does_not_depend_on_the_order_of_keys() -> None:
    assert parameters_digest({"a": {"x": 1, "y": 2}, "b": 3}) == parameters_digest(
        {"b": 3, "a": {"y": 2, "x": 1}}
    )


@pytest.mark.parametrize("other", [{"a": 2}, {"b": 1}, {"a": {"a": 1}}, {"a": None}])
def test_digest_changes_with_a_value(other: dict[str, Any]) -> None:
    assert parameters_digest(other) != parameters_digest({"a": 1})
    assert len(parameters_digest(other)) == 8


def test_differences_are_of_both_sides_by_dotted_name_and_lists_are_values() -> None:
    a, b = {"x": 1, "y": {"z": [1, 2]}}, {"x": 1, "y": {"z": [1, 3]}, "w": 4}
    assert differences(a, b) == {"y.z": ([1, 2], [1, 3]), "w": (None, 4)}
    assert differences(a, a) == {}


@pytest.mark.parametrize(
    ("old", "new", "expected"),
    [
        ({"a": 1}, {"a": 1}, None),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 2]}}, None),
        ({"a": 1}, {"a": 2}, "a: 1 -> 2"),
        ({"a": 0, "b": {"c": "x", "d": 1}}, {"a": 0, "b": {"c": "y", "d": 2}}, "b.c"),
        ({"a": {"b": [1, 2]}}, {"a": {"b": [1, 3]}}, "a.b: [1, 2] -> [1, 3]"),
        ({"a": 1}, {"a": 1, "b": 2}, "b: None -> 2"),
        ({"a": 1, "b": 2}, {"a": 1}, "b: 2 -> None"),
    ],
)
def test_the_first_difference_is_told_with_its_key(
    old: dict[str, Any], new: dict[str, Any], expected: str | None
) -> None:
    found = first_difference(old, new)
    assert (found is None) == (expected is None)
    assert (found or "").startswith(expected or "")


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
    put(values, "combination.search.methods", ["gradient"])
    (line,) = refusal(values).splitlines()[1:]
    assert "give combination.search.methods=[cma], or evolution" in line
    put(values, "combination.search.methods", ["cma"])
    check_parameters(values)


@pytest.mark.parametrize(
    ("methods", "key", "value"),
    [
        (["gradient"], "fitness.nfe", 1),
        (["cma"], "fitness.nfe", 2),
        (["cma", "evolution", "random"], "generator", "my_model:generate"),
        (["cma"], "generator", "a.package.of_mine:generate"),
    ],
    ids=str,
)
def test_what_a_search_can_go_through_is_taken(
    values: dict[str, Any], methods: list[str], key: str, value: Any
) -> None:
    put(values, "combination.search.methods", methods)
    put(values, f"combination.{key}", value)
    check_parameters(values)
