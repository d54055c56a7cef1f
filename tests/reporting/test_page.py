"""The page: whole, in part, and what may not be in it."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
import torch
from making_runs import combination, row
from report_results import (
    COPYING,
    NETWORK,
    history,
    ingestion,
    made_page,
    made_run,
    metrics,
    panels,
    record,
    report,
    rows,
    statistics,
)

from lct_pipeline.datasets.checkpoints import CheckpointsDataset
from lct_pipeline.datasets.results import EvaluationResult
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import DataError
from lct_pipeline.reporting.page import MAX_BYTES, page
from lct_pipeline.reporting.sentences import note, tails_sentence
from lct_pipeline.reporting.tables import baseline_table, protocols, score_bars
from lct_pipeline.reporting.words import row_text

VOID = {"meta", "img", "br", "link", "hr"}


class Reader(HTMLParser):
    """Reads a page; fails where elements are not closed in order."""

    def __init__(self, html: str) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[tuple[str, dict[str, str | None]]] = []
        self.text = ""
        self.feed(html)
        self.close()
        assert self.open == []
        self.text = " ".join(self.text.split())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += f" {data}"

    def values(self, name: str) -> list[str]:
        return [v for _, attrs in self.tags if (v := attrs.get(name)) is not None]


@pytest.fixture(scope="module")
def whole(tmp_path_factory: pytest.TempPathFactory) -> str:
    return made_page(tmp_path_factory.mktemp("whole"))


def test_the_page_is_well_formed_and_has_all_sections(whole: str) -> None:
    sections = "scores samples evaluation combination training data copying record"
    assert Reader(whole).values("id") == sections.split()


def test_the_page_needs_nothing_else_and_follows_the_device(whole: str) -> None:
    reader = Reader(whole)
    for link in reader.values("src") + reader.values("href"):
        assert link.startswith("data:image/")
    assert not re.search(r"url\(|@import|https?://", whole)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in reader.tags}
    assert "prefers-color-scheme: dark" in whole
    assert 'name="viewport" content="width=device-width' in whole


@pytest.mark.parametrize(
    "words",
    [
        "A generator of images: photos",
        "32 \N{MULTIPLICATION SIGN} 32 pixels",
        "model of 1,900,000 weights",
        "100 steps of 128 images, from 2 training images, in 1 min 1 s on CPU",
        "Combining checkpoints helped",
        "60.4 ± 0.9",
        "This is not FID",
        "By features of a small classifier",
        "Beside its baselines",
        "3,800 images a second",
        "consistency loss",
        "2 train, 2 validation, 2 test images",
        "1 \N{MULTIPLICATION SIGN} cut <short>",
        "1 \N{MULTIPLICATION SIGN} exact copy of another image",
        "28.3 dB PSNR: samples cannot be sharper",
        "N = 20, step 100",
        "Nothing looks copied",
        "1 min 1 s · 1,000 MiB",
        "ingestion.source photos/",
    ],
)
def test_it_says_what_was_made_of_what_and_how_good_it_is(
    whole: str, words: str
) -> None:
    assert words in Reader(whole).text


def test_every_value_is_that_of_the_evaluation(whole: str) -> None:
    text = Reader(whole).text
    for each in rows():
        assert text.count(row_text(each)) >= 2  # in the bars and in the table


def test_bars_stand_on_one_scale_from_zero() -> None:
    other = row("combined", 1.0, metric="fid", extractor_digest="0" * 64)
    bars = score_bars([*rows(), other])
    longest = 60.4 + 0.9
    shown = {row_text(each): each.value for each in rows()}
    for bar in (bar for of_model in bars.values() for bar in of_model):
        assert bar.percent == pytest.approx(100 * shown[bar.text] / longest)
        assert bar.percent + bar.std <= 100.0001
    assert list(bars)[:3] == ["last", "best_ema", "combined"]
    assert [bar.label for bar in bars["combined"]] == ["1 step", "2 steps"]
    assert score_bars([]) == {}


def test_the_combination_stands_beside_both_baselines() -> None:
    table = baseline_table(report(), combination(selected="EMA 0.9"))
    assert table.columns == ["candidate", "validation split", "test split", "found by"]
    assert [(line.title, line.texts, line.css) for line in table.lines] == [
        ("gradient 0, mean", ["5.40", "5.20", "gradient"], "s-combined"),
        ("EMA 0.9", ["6.40", "6.30", "Best EMA"], "s-combined"),
        ("last", ["8.50", "8.40", "Last checkpoint"], ""),
    ]


def test_a_note_says_what_the_combined_model_is() -> None:
    found = "3 checkpoints, with coefficients that a search found"
    assert note("combined", combination()) == found
    lost = combination(is_selected=False, selected="EMA 0.9")
    gone = "the search's gain was gone on new noise: EMA 0.9 in its place"
    assert note("combined", lost) == gone


def test_each_protocol_is_told_once() -> None:
    found = protocols(rows())
    assert [text.partition(";")[0] for text in found] == [
        "protocol: aaaa1111",
        "protocol: bbbb2222",
    ]
    assert "num generated: 2000; num real: 385" in found[0]


def test_heavy_tails_are_called_so() -> None:
    text = tails_sentence("latents", statistics(0.001))
    assert "0.10% of the latents lie beyond the outer fences" in text
    assert "heavy tails" in text
    assert "heavy" not in tails_sentence("latents", statistics(1e-6))


EVIL = '<script>alert("x")</script>\u202e'


def test_what_comes_from_data_is_escaped(tmp_path: Path) -> None:
    source = {"ingestion": {"source": f"{EVIL}.zip", "image_size": 32}}
    parameters = record()["parameters"] | source
    html = made_page(
        tmp_path,
        records=[record(parameters=parameters, error=EVIL, machine=EVIL)],
        ingestion=ingestion(problems={EVIL: 1}),
        search_history=history().assign(name=EVIL, split=EVIL),
        combination=combination(name=EVIL, selected=EVIL, verdict=EVIL),
        combination_report=report().assign(name=EVIL),
    )
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 8
    assert "\u202e" not in html  # which would turn what follows
    Reader(html)


@pytest.mark.parametrize(
    "without",
    [
        {
            **{"combination": None, "search_history": history()[:0]},
            **{"copying": {"num_images": 0}, "nearest_neighbours": None},
            **{"td_statistics": None, "td_box_plot": None},
        },
        {
            **{"combination": None, "search_history": history()[:2]},  # only begun
            **{"training_metrics": metrics()[:0], "stage_samples": None},
        },
        {"evaluation": None, "records": None},
        {
            **{"sample_panels": None, "combination_report": None, "ingestion": None},
            **{"pixel_statistics": None, "latent_statistics": None},
        },
    ],
    ids=", ".join,
)
def test_a_part_may_be_missing(tmp_path: Path, without: dict[str, Any]) -> None:
    Reader(made_page(tmp_path, **without))


def test_what_is_not_there_yet_is_said_with_its_command(tmp_path: Path) -> None:
    text = Reader(made_page(tmp_path / "a", combination=None)).text
    assert "No combination yet." in text and "kedro run --pipeline=combine" in text
    missing = dict.fromkeys(("evaluation", "combination", "training_metrics"))
    text = Reader(made_page(tmp_path / "b", **missing, training=None)).text
    for name in ("train", "combine", "evaluate"):
        assert f"kedro run --pipeline={name}" in text
    assert "No model has been trained in this run yet." in text


def test_a_run_that_has_left_nothing_is_none(tmp_path: Path) -> None:
    run = made_run(tmp_path, pixel_statistics=None, evaluation=None)
    with pytest.raises(DataError, match="run tested has left nothing to report"):
        page(run, ingestion(), None)


def test_an_evaluation_alone_is_enough(tmp_path: Path) -> None:
    run = made_run(tmp_path, pixel_statistics=None)
    assert "Last checkpoint, 1 step" in page(run, None, None)


@pytest.mark.parametrize(
    ("about", "words"),
    [
        ({}, "Checkpoints of another trainer, of 8 weights each."),
        ({"network": NETWORK.as_json()}, "of 8 weights (MLP"),
    ],
    ids=["of another trainer", "of a training under way"],
)
def test_without_a_record_the_checkpoints_tell_of_the_model(
    tmp_path: Path, about: dict[str, Any], words: str
) -> None:
    run = made_run(tmp_path)
    tensors = {"weight": torch.zeros(2, 3), "bias": torch.zeros(2)}
    dataset = CheckpointsDataset(path=str(run.models / "checkpoints"))
    dataset.save({"step-0000010-raw": TensorFile(tensors, {"step": 10, **about})})
    text = Reader(page(run, ingestion(), None)).text
    assert words in text
    assert "Combining checkpoints helped" in text


def test_large_photographs_stay_below_the_limit(tmp_path: Path) -> None:
    torch.manual_seed(0)
    large = panels(side=256, count=64)
    noise = torch.randint(0, 40, (64, 3, 256, 256), dtype=torch.uint8)
    noisy = {name: images // 2 + noise for name, images in large.tensors.items()}
    html = made_page(tmp_path, sample_panels=TensorFile(noisy, large.metadata))
    assert len(html) < MAX_BYTES
    assert "image/webp" in html


def test_a_second_copy_is_suspected(tmp_path: Path) -> None:
    near = COPYING | {"share_below_half": 0.2}
    assert "Some may be copies" in made_page(tmp_path, copying=near)


def test_values_of_one_seed_have_bars_too(tmp_path: Path) -> None:
    one = [row("last", 8.4, None), row("combined", 5.0, None)]
    html = made_page(tmp_path, combination=None, evaluation=EvaluationResult(rows=one))
    assert "8.40" in Reader(html).text


def test_a_diffusion_model_has_a_report_too(tmp_path: Path) -> None:
    zeros = dict.fromkeys(("consistency_loss", "td_rms", "c"), 0.0)
    html = made_page(tmp_path, training_metrics=metrics().assign(**zeros))
    assert "images per second" in html
    assert "scale c" not in html


def test_a_long_training_has_short_curves(tmp_path: Path) -> None:
    long = pd.concat([metrics()] * 1000, ignore_index=True)
    long = long.assign(step=range(len(long)), num_levels=10)
    assert len(made_page(tmp_path, training_metrics=long)) < 1_000_000
