"""What stages leave as types: to JSON and back, and what is refused."""

import json
import re
from pathlib import Path
from typing import Any

import pytest
from making_runs import combination, row, scores

from lct_pipeline.datasets.atomic import ResultDataset
from lct_pipeline.datasets.results import (
    CombinationResult,
    EvaluationResult,
    Gain,
    Result,
)
from lct_pipeline.errors import DataError

NAN = float("nan")
EVALUATION = EvaluationResult(
    rows=[
        row("combined", 4.8, nfe=2, intermediate_sigma=0.3, renoise="same"),
        row("last", 8.4, None, nfe=5, solver="heun"),
        row("real_validation_images", 5.3, None, standard_error=0.5),
    ]
)
SAVED: dict[str, Result] = {"combination": combination(), "evaluation": EVALUATION}


def as_json(result: Result) -> Any:
    return json.loads(result.model_dump_json())


@pytest.mark.parametrize("result", SAVED.values(), ids=SAVED)
def test_a_result_comes_back_from_json(result: Result) -> None:
    assert type(result).of(as_json(result)) == result


@pytest.mark.parametrize("name", SAVED)
def test_a_file_loads_as_the_type_that_was_saved(tmp_path: Path, name: str) -> None:
    path = tmp_path / "run" / f"{name}.json"
    dataset = ResultDataset(filepath=str(path), result=name, latest=True)
    dataset.save(SAVED[name])
    assert dataset.load() == SAVED[name]
    assert json.loads(path.read_text()) == as_json(SAVED[name])
    assert (tmp_path / path.name).read_text() == path.read_text()


def test_a_missing_file_is_none_where_it_may_be_missing(tmp_path: Path) -> None:
    settings = {"filepath": str(tmp_path / "evaluation.json"), "result": "evaluation"}
    assert ResultDataset(**settings, optional=True).load() is None
    with pytest.raises(Exception, match=r"evaluation\.json is not there"):
        ResultDataset(**settings).load()


def test_an_error_that_is_not_known_is_null() -> None:
    gain = Gain(share=0.1, standard_error=NAN, outcome="one seed")
    value = row("real_validation_images", 2.0, NAN, standard_error=NAN)
    assert as_json(gain)["standard_error"] is None
    assert gain.model_dump(mode="json") == as_json(gain)
    for name in ("std", "standard_error"):
        assert as_json(value)[name] is None
    assert Gain.of(as_json(gain)) == gain
    assert type(value).of(as_json(value)) == value


@pytest.mark.parametrize(
    ("place", "changes"),
    [
        ("kept", {"kept": "last"}),
        ("best_baseline", {"best_baseline": "uniform"}),
        ("scores.search", {"scores": {}}),
        ("alpha.1", {"alpha": [0.5, "x"]}),
        ("seeds.7.final", {"seeds": {"7": {**scores(5.0, test=5.0), "final": 1}}}),
    ],
)
def test_what_another_version_wrote_is_refused_with_the_place(
    place: str, changes: dict[str, Any]
) -> None:
    message = re.escape(f"CombinationResult.{place} is not as this version writes it")
    with pytest.raises(DataError, match=message):
        CombinationResult.of(as_json(combination()) | changes)


def test_a_missing_key_is_refused_with_its_name() -> None:
    value = as_json(combination())
    del value["gain"]
    message = r"CombinationResult\.gain is not as .* \(Field required\)"
    with pytest.raises(DataError, match=message):
        CombinationResult.of(value)
    with pytest.raises(DataError, match="EvaluationResult is not as this version"):
        EvaluationResult.of([])


@pytest.mark.parametrize(("best", "name"), [("last", "last"), ("best_ema", "EMA 0.9")])
def test_the_baseline_is_the_best_one(best: str, name: str) -> None:
    found = combination(best_baseline=best)
    assert found.baseline.name == name
    assert found.baseline is found.baselines[found.best_baseline]
