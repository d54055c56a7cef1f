"""What a model card says."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
import yaml
from exporting import MODELS, STORY
from making_runs import row

from lct_pipeline.export.model_card import model_card, public_name

ROWS = [
    row("last", 5.2, 0.3),
    row("last", 4.2, 0.1, nfe=2),
    row("last", 0.5, 0.1, metric="classifier_precision"),
    row("last", 9.0, 0.1, metric="classifier_density"),
    row("real_validation_images", 1.2, None),
]


def card(model: str = "classes", **changes: Any) -> str:
    return model_card(replace(STORY, **changes), MODELS[model].pipeline(), "0" * 64)


def header(text: str) -> dict[str, Any]:
    return yaml.safe_load(text.split("---")[1])


def of_source(source: str) -> dict[str, Any]:
    ingestion = {"source": source, "image_size": 16}
    return {"parameters": {**STORY.parameters, "ingestion": ingestion}}


def test_the_header_has_what_the_hub_reads() -> None:
    found = header(card(rows=ROWS, licence="mit"))
    assert (found["library_name"], found["license"]) == ("diffusers", "mit")
    (result,) = found["model-index"][0]["results"]
    metrics = result["metrics"]
    assert [m["value"] for m in metrics] == [5.2, 4.2, 0.5]
    assert metrics[0]["type"] == "classifier_frechet_distance"
    assert "2 steps" in metrics[1]["name"]
    assert "2,000 images against 385 of the test split" in metrics[0]["name"]


def test_values_stand_with_their_protocol() -> None:
    text = card(rows=ROWS)
    generated, real = text.split("images of |")[1:]
    assert generated.startswith(" Frechet distance | Classifier precision |")
    assert "| Last checkpoint, 1 step | 5.2 ± 0.3 |" in generated
    assert "| Last checkpoint, 2 steps | 4.20 ± 0.10 |" in generated
    assert "| Real images | 1.20 |" in real
    assert "a second step did not" not in text
    assert "a second step did not" in card(rows=ROWS, two_step_improves=False)


def test_a_model_that_was_not_evaluated_says_so() -> None:
    text = card()
    assert "this model was not evaluated" in text
    assert "model-index" not in header(text)


def test_a_missing_licence_is_asked_for() -> None:
    assert "Licence: not given yet" in card()
    assert "license" not in header(card())
    assert "not given yet" not in card(licence="mit")


@pytest.mark.parametrize(
    ("model", "texts"),
    [
        ("classes", ["latents of shape 4x8x8, 3 classes", "class_labels='2'"]),
        (
            "pixels",
            ["weights, pixels.", "noise level 80 and 0.5, with the first noise"],
        ),
        ("heun", ["A diffusion model", "in a few evaluations", "- 3 steps: Heun"]),
    ],
)
def test_a_card_says_what_the_model_is_and_takes(model: str, texts: list[str]) -> None:
    found = " ".join(card(model).split())
    assert all(text in found for text in texts)


def test_a_data_set_of_the_hub_is_linked_and_a_folder_is_told_by_its_last_part() -> (
    None
):
    assert header(card(**of_source("hf://datasets/a/b")))["datasets"] == ["a/b"]
    text = card(**of_source("/home/me/photos"))
    assert "datasets" not in header(text)
    assert "images: `photos`" in text
    assert "/home/me" not in text
    assert public_name("https://b.org/a.tar") == "https://b.org/a.tar"
