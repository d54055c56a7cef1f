"""What a model card says."""

from __future__ import annotations

import ast
import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import yaml
from exporting import MODELS, STORY
from hostile import HOSTILE, RENDERERS, Shown, steers_no_terminal
from making_runs import row

from lct_pipeline.export.model_card import model_card, public_name
from lct_pipeline.plain_text import printable

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
    (found,) = re.findall(r"\A---\n(.*?)\n---\n", text, re.DOTALL)
    return yaml.safe_load(found)


def of_source(source: str, autoencoder: str | None = None) -> dict[str, Any]:
    ingestion = {"source": source, "image_size": 16}
    given = {"ingestion": ingestion, "encoding": {"autoencoder": autoencoder}}
    return {"parameters": {**STORY.parameters, **given}}


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
    assert header(card(**of_source("hf://datasets/a/b@1")))["datasets"] == ["a/b"]
    assert "datasets" not in header(card(**of_source("/home/me/photos")))
    assert public_name("https://u:p@b.org/a.tar?x=1") == "https://b.org/a.tar"


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        ("/home/me/photos", "photos"),
        ("../me/photos/", "photos"),
        ("C:\\me\\photos", "photos"),
        ("file:///home/me/photos", "photos"),
        ("/home/me/{a,b}/{000..009}.tar", "{000..009}.tar"),
        ("..", "images"),
    ],
)
def test_a_path_is_told_by_its_last_part(given: str, shown: str) -> None:
    text = card(**of_source(given, given))
    assert f"images: {shown}\n" in text and f"autoencoder: {shown}\n" in text
    assert "me/" not in text and "me\\" not in text


def test_an_autoencoder_of_the_hub_is_told_by_its_id(folder: Path) -> None:
    assert "autoencoder: me/vae\n" in card(**of_source("digits", "me/vae"))
    (folder / "me" / "vae").mkdir(parents=True)
    assert "autoencoder: vae\n" in card(**of_source("digits", "me/vae"))


def of_names(name: str) -> str:
    """Return a card of which every name is this one."""
    model = MODELS["classes"].pipeline()
    model.denoiser.register_to_config(class_names=[name, "b", "c"])
    made = {"extractor": name, "reference": name, "resize": name}
    metrics = (f"{name}_fid", f"{name}_frechet_distance")
    rows = [row("last", 1.5, metric=metric, **made) for metric in metrics]
    names = dict.fromkeys(("run", "model", "weights", "licence", "commit"), name)
    story = replace(STORY, rows=rows, **names, **of_source(name, name))
    return model_card(story, model, "0" * 64)


@pytest.mark.parametrize("knows_headers", [True, False])
def test_names_stand_in_a_card_as_they_are_whatever_shows_it(
    knows_headers: bool,
) -> None:
    evil = HOSTILE.replace("/", "").replace("\\", "")  # which would end a path
    cards = [of_names(name) for name in ("name", evil)]
    assert steers_no_terminal(cards[1])
    results = header(cards[1])["model-index"][0]["results"]
    assert results[0]["metrics"][0]["value"] == 1.5
    texts = [text.split("\n---\n", 1)[1] if knows_headers else text for text in cards]
    for render in RENDERERS:
        plain, shown = (Shown(render(text)) for text in texts)
        assert shown.tags == plain.tags
        assert f"Run {printable(evil)} of lct_pipeline" in shown.text
    (label,) = re.findall("class_labels=(.*), generator", cards[1])
    assert ast.literal_eval(label) == evil
