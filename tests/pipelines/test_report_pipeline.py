"""The report of the smoke recipe, through Kedro, as files and in a browser."""

import re
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from conftest import SmokeResults, run_stages
from lct_pipeline.datasets.run_records import TRAIN_NODE
from lct_pipeline.errors import DataError
from lct_pipeline.evaluation.sample_pictures import panel_key
from lct_pipeline.reporting.page import MAX_BYTES
from lct_pipeline.reporting.words import row_text

CHROMIUM = shutil.which("chromium")


@pytest.fixture(scope="module")
def report(results: SmokeResults) -> str:
    return (results.project / "data/08_reporting/report.html").read_text()


def test_a_whole_run_ends_with_its_report(results: SmokeResults, report: str) -> None:
    own = results.project / "data/08_reporting/tested/report.html"
    assert own.read_text() == report
    assert len(report) < MAX_BYTES
    assert not re.search(r"(src|href)=\"(?!data:)|url\(|https?://", report)


def test_its_figures_are_those_of_the_evaluation(
    results: SmokeResults, report: str
) -> None:
    for row in results.catalog.load("evaluation").rows:
        assert f">{row_text(row)}<" in report


def test_it_has_the_record_up_to_itself(report: str) -> None:
    # the node before the report, by its name or among the quick ones
    assert "conclude_evaluation" in report or "others together" in report
    assert TRAIN_NODE in report
    assert "running" in report
    assert "training.noise.s1" in report


def test_samples_of_all_models_come_from_the_same_noise(results: SmokeResults) -> None:
    file = results.catalog.load("sample_panels")
    panels = file.metadata["panels"]
    models = ["last", "best_ema", "combined"]
    assert [(p["model"], p["nfe"]) for p in panels] == [
        *((model, nfe) for nfe in (1, 2) for model in models),
        ("gaussian_latents", 0),
        ("real_test_images", 0),
    ]
    for panel in panels:
        assert file.tensors[panel_key(panel)].shape == (16, 3, 32, 32)


def test_the_report_alone_works_on_what_there_is(
    project: Path, results: SmokeResults, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(project)
    file = project / "data/08_reporting/report.html"
    shutil.copytree(results.project / "data", project / "data", dirs_exist_ok=True)
    models = project / "data/06_models/tested"
    (models / "combination.json").unlink()
    (models / "search_history.parquet").unlink()
    shutil.rmtree(project / "data/08_reporting/tested/combination_report.parquet")
    run_stages(project, "report", run_id="tested")
    text = file.read_text()
    assert "No combination yet." in text
    assert row_text(results.catalog.load("evaluation").rows[0]) in text


def test_a_run_that_is_not_there_has_no_report(
    smoke_run_copy: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(smoke_run_copy)
    with pytest.raises(DataError, match="run misspelt has left nothing"):
        run_stages(smoke_run_copy, "report", run_id="misspelt")
    assert not (smoke_run_copy / "data/08_reporting/misspelt/report.html").exists()


@pytest.fixture(scope="module")
def browser() -> Iterator[Any]:
    api = pytest.importorskip("playwright.sync_api")
    if CHROMIUM is None:
        pytest.skip("there is no chromium")
    with api.sync_playwright() as playwright:
        options = ["--no-sandbox", "--disable-gpu"]
        browser = playwright.chromium.launch(executable_path=CHROMIUM, args=options)
        yield browser
        browser.close()


@pytest.mark.parametrize("scheme", ["light", "dark"])
def test_it_fits_a_phone_and_follows_its_colours(
    browser: Any, results: SmokeResults, scheme: str
) -> None:
    size = {"width": 390, "height": 844}
    page = browser.new_page(viewport=size, color_scheme=scheme)
    asked: list[str] = []
    page.on("request", lambda request: asked.append(request.url))
    page.goto((results.project / "data/08_reporting/report.html").as_uri())
    page.evaluate("document.querySelectorAll('details').forEach(d => d.open = true)")
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    assert page.evaluate("[...document.images].every(i => i.naturalWidth > 0)")
    shade = page.evaluate("getComputedStyle(document.body).backgroundColor")
    assert shade == {"light": "rgb(255, 255, 255)", "dark": "rgb(20, 22, 26)"}[scheme]
    assert not [url for url in asked if url.startswith("http")]
    page.close()
