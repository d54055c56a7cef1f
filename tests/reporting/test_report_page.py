"""The page: whole, in part, and what may not be in it."""

import re
from html.parser import HTMLParser
from typing import Any

import pandas as pd
import pytest
import torch
from made_results import combination, row
from report_results import everything, ingestion, metrics, panels, record, rows

from lct_pipeline.reporting.charts import search_chart, stages, thinned
from lct_pipeline.reporting.headline import score_groups
from lct_pipeline.reporting.page import MAX_BYTES, page
from lct_pipeline.reporting.pictures import strip
from lct_pipeline.reporting.results import Results
from lct_pipeline.reporting.svg import Plot, Scale, scale_of
from lct_pipeline.reporting.tables import baseline_table

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

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.append((tag, dict(attrs)))

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag

    def handle_data(self, data: str) -> None:
        if "style" not in self.open:
            self.text += data

    def values(self, name: str) -> list[str]:
        return [v for _, attrs in self.tags if (v := attrs.get(name)) is not None]


@pytest.fixture(scope="module")
def whole() -> str:
    return page(everything())


def test_the_page_is_well_formed_and_has_all_sections(whole: str) -> None:
    ids = Reader(whole).values("id")
    assert ids == [
        "scores",
        "samples",
        "evaluation",
        "combination",
        "training",
        "data",
        "copying",
        "record",
    ]


def test_the_page_needs_nothing_else(whole: str) -> None:
    reader = Reader(whole)
    for link in reader.values("src") + reader.values("href"):
        assert link.startswith("data:image/")
    assert not re.search(r"url\(|@import|https?://", whole)
    assert not {"script", "link", "iframe"} & {tag for tag, _ in reader.tags}


def test_the_page_follows_the_device(whole: str) -> None:
    assert "prefers-color-scheme: dark" in whole
    assert 'name="viewport" content="width=device-width' in whole


def test_the_first_lines_say_what_was_made_how_good_and_whether_it_helped(
    whole: str,
) -> None:
    text = " ".join(
        Reader(whole).text.partition("Samples from the same noise")[0].split()
    )
    for words in (
        "A generator of images: photos",
        "32 \N{MULTIPLICATION SIGN} 32 pixels",
        "1.9 million weights",
        "100 steps of 128 images",
        "from 2 training images, in 1 min 1 s on CPU",
        "Combining checkpoints helped",
        "5.2 ± 0.4",
        "6.3 ± 0.4",
        "60.4 ± 0.9",
        "not FID",
    ):
        assert words in text, words


def test_it_says_what_images_there_are_and_why_others_are_not_used(whole: str) -> None:
    text = " ".join(Reader(whole).text.split())
    for words in (
        "2 train, 2 validation, 2 test images",
        "1 \N{MULTIPLICATION SIGN} cut <short>",
        "1 \N{MULTIPLICATION SIGN} exact copy of another image",
    ):
        assert words in text, words


def test_every_figure_is_that_of_the_evaluation(whole: str) -> None:
    shown = [float(v) for v in Reader(whole).values("data-value")]
    for each in rows():
        assert shown.count(each.value) >= 2  # in the bars and in the table


def test_bars_stand_on_one_scale_from_zero() -> None:
    groups = score_groups(rows(), None)
    bars = [bar for group in groups for bar in group.bars]
    longest = 60.4 + 0.9
    for bar in bars:
        assert bar.percent == pytest.approx(100 * bar.value / longest)
        assert bar.percent + bar.spread <= 100.0001
    assert [g.model for g in groups][:3] == ["last", "best_ema", "combined"]
    assert [bar.label for bar in groups[2].bars] == ["1 step", "2 steps"]


def test_another_extractor_is_no_bar() -> None:
    other = row("combined", 1.0, metric="fid", extractor_digest="0" * 64)
    assert score_groups([*rows(), other], None) == score_groups(rows(), None)


def test_the_combination_stands_beside_both_baselines(whole: str) -> None:
    assert "Beside its baselines" in Reader(whole).text
    report = everything().combination_report
    assert report is not None
    table = baseline_table(report, combination(selected="EMA 0.9"))
    assert table.columns == ["validation split", "test split", "found by"]
    found = [
        (line.title, [cell.text for cell in line.cells], line.css)
        for line in table.lines
    ]
    assert found == [
        ("gradient 0, mean", ["5.40", "5.20", "gradient"], "s-combined"),
        ("EMA 0.9", ["6.40", "6.30", "Best EMA"], "s-combined"),
        ("last", ["8.50", "8.40", "Last checkpoint"], ""),
    ]


@pytest.mark.parametrize(
    ("changes", "note"),
    [
        ({}, "3 checkpoints, with coefficients that a search found"),
        (
            {"is_selected": False, "selected": "EMA 0.9"},
            "the search's gain was gone on new noise: EMA 0.9 in its place",
        ),
    ],
    ids=["selected", "not selected"],
)
def test_a_note_says_what_the_combined_model_is(
    changes: dict[str, Any], note: str
) -> None:
    groups = score_groups(rows(), combination(**changes))
    assert [group.note for group in groups if group.model == "combined"] == [note]


EVIL = '<script>alert("x")</script>'


def test_what_comes_from_data_is_escaped() -> None:
    parameters = record()["parameters"] | {
        "ingestion": {"source": f"{EVIL}.zip", "image_size": 32}
    }
    history = everything().search_history
    assert history is not None
    html = page(
        everything(
            run=EVIL,
            records=[record(parameters=parameters, error=EVIL, status=EVIL)],
            ingestion=ingestion(problems={EVIL: 1}),
            search_history=history.assign(name=EVIL),
        )
    )
    assert "<script" not in html
    assert html.count("&lt;script&gt;") >= 5
    Reader(html)


MISSING: list[dict[str, Any]] = [
    {"combination": None, "combination_report": None, "search_history": pd.DataFrame()},
    {"evaluation": [], "distance_by_size": None, "two_step_selection": None},
    {"copying": {"num_images": 0}, "nearest_neighbours": None, "sample_panels": None},
    {"td_statistics": pd.DataFrame(), "td_summary": pd.DataFrame()},
    {"ingestion": None, "pixel_statistics": None, "latent_statistics": None},
    {"training_metrics": pd.DataFrame(), "stage_samples": None},
    {"records": []},
]


@pytest.mark.parametrize("without", MISSING)
def test_a_part_may_be_missing(without: dict[str, Any]) -> None:
    Reader(page(everything(**without)))


def test_a_missing_combination_is_said_with_its_command() -> None:
    text = Reader(page(everything(combination=None))).text
    assert "No combination yet." in text
    assert "kedro run --pipeline=combine" in text


def test_checkpoints_of_another_trainer_are_called_so() -> None:
    text = Reader(page(everything(network=None))).text
    assert "Checkpoints of another trainer, of 1.9 million weights each." in text
    assert "Combining checkpoints helped" in text


def test_a_search_that_has_only_begun_has_no_chart() -> None:
    history = everything().search_history
    assert history is not None
    assert search_chart(history[history["kind"] == "initial"]) is None


def test_an_empty_run_has_a_report_that_says_what_to_run() -> None:
    text = Reader(page(Results("nothing"))).text
    for name in ("train", "combine", "evaluate"):
        assert f"kedro run --pipeline={name}" in text
    assert "No model has been trained in this run yet." in text


def test_large_photographs_stay_below_the_limit() -> None:
    torch.manual_seed(0)
    large = panels(side=256, count=64)
    noise = torch.randint(0, 40, (64, 3, 256, 256), dtype=torch.uint8)
    noisy = {name: images // 2 + noise for name, images in large.tensors.items()}
    html = page(everything(sample_panels=type(large)(noisy, large.metadata)))
    assert len(html) < MAX_BYTES
    assert "image/webp" in html


def test_a_strip_shows_the_images_unchanged_with_gaps() -> None:
    import base64
    import io

    import numpy as np
    from PIL import Image

    images = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    picture = strip(images, 2, 2)
    _, _, data = picture.uri.partition(",")
    sheet = np.array(Image.open(io.BytesIO(base64.b64decode(data))))
    assert (picture.width, picture.height) == (17, 17)
    assert picture.pixelated
    third = images[2].permute(1, 2, 0).numpy()
    assert np.array_equal(sheet[9:, :8, :3], third)
    assert not sheet[8, :, 3].any()  # transparent


def test_stages_begin_where_the_number_of_levels_changes() -> None:
    assert stages(metrics()) == [(0, 10), (50, 20)]


def test_long_curves_are_thinned_to_their_means() -> None:
    table = pd.DataFrame({"step": range(1000), "loss": [1.0, 3.0] * 500})
    thin = thinned(table)
    assert len(thin) <= 240
    assert thin["loss"].iloc[0] == pytest.approx(table["loss"].iloc[:5].mean())


def test_a_gradient_search_is_told_by_its_last_steps_and_not_by_its_luckiest() -> None:
    history = everything().search_history
    assert history is not None
    fitness = [7.0, 9.0, 1.0, 6.0, 5.5, 5.4]
    lucky = history.assign(fitness=fitness, frechet=fitness)
    chart = search_chart(lucky)
    assert chart is not None
    assert "ends at 5.50" in chart.svg  # the median of 1.0, 6.0 and 5.5


@pytest.mark.parametrize("log", [True, False])
def test_ticks_lie_within_a_scale(log: bool) -> None:
    for low, high in ((0.002, 80.0), (1.0, 1.3), (17.0, 60_000.0)):
        scale = Scale(low, high, log)
        ticks = scale.ticks()
        assert 1 <= len(ticks) <= 7
        assert all(low * 0.999 <= tick <= high * 1.001 for tick in ticks)
        assert scale(low) == pytest.approx(0)
        assert scale(high) == pytest.approx(1)


def test_ticks_that_are_near_each_other_are_told_apart() -> None:
    svg = Plot(Scale(0, 1), Scale(1.708, 1.722), "x", "y").svg("narrow")
    labels = re.findall(r'text-anchor="end">([\d.]+)<', svg)
    assert labels == ["1.710", "1.715", "1.720"]


def test_scales_of_one_value_or_none_can_be_drawn() -> None:
    for values in ([], [2.0], [float("nan")], [0.0, 0.0]):
        for log in (True, False):
            plot = Plot(scale_of(values, log=log), scale_of(values, log=log), "x", "y")
            plot.line(values, values, "a", "<title>")
            Reader(plot.svg("one & all"))
