"""A run is one thing: two of them side by side, and what is not of a run is refused."""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pandas as pd
import pytest
from PIL import Image, ImageDraw

from conftest import listing, run_stages
from lct_pipeline.datasets.checkpoints import BELONGINGS
from lct_pipeline.errors import user_error_in

QUICKLY: dict[str, Any] = {
    "evaluation": {"num_images": 24, "num_seeds": 1, "num_selection_images": 16},
    "combination": {
        "search": {"methods": ["random"], "num_evaluations": 8, "num_seeds": 1},
        "num_line_points": 3,
        "landscape_size": 2,
    },
}


def photographs(folder: Path) -> Path:
    """Write 100 images of coloured discs, and a file that is none."""
    folder.mkdir()
    for number in range(100):
        image = Image.new("RGB", (50, 40), (2 * number, 90, 255 - 2 * number))
        box = (number % 9, 3, 20 + number % 9, 25)
        ImageDraw.Draw(image).ellipse(box, (200, 2 * number, 30))
        image.save(folder / f"{number}.jpg", quality=95)
    (folder / "notes.jpg").write_text("this is not a picture")
    return folder


def files_of(project: Path, *names: str) -> dict[str, Any]:
    """Return size and time of change of all files of some runs, by name of the run."""
    found = listing(project / "data")
    return {
        path: about
        for path, about in found.items()
        if set(names) & set(path.split("/"))
    }


def refusal(run: Callable[[], Any]) -> str:
    with pytest.raises(Exception) as caught:
        run()
    fault = user_error_in(caught.value)
    assert fault is not None, caught.value
    return str(fault)


@pytest.fixture(scope="module")
def made(smoke_run: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Return a folder with ``discs``, and a project with runs of digits and of these."""
    folder = tmp_path_factory.mktemp("made")
    project = shutil.copytree(smoke_run, folder / "project")
    source = {"source": str(photographs(folder / "discs"))}
    run_stages(project, "train", run_id="photos", ingestion=source)
    return folder


@pytest.fixture
def two_runs(made: Path, tmp_path: Path) -> Path:
    """Return a copy of the project with the two runs, ``tested`` and ``photos``."""
    return shutil.copytree(made / "project", tmp_path / "project")


def test_each_of_two_runs_is_gone_on_with_by_its_name_alone(two_runs: Path) -> None:
    data = two_runs / "data"
    shared = listing(data / "02_intermediate") | listing(data / "04_feature")
    every = ("evaluate", "combine", "export", "report", "statistics")
    evaluation = {"evaluation": QUICKLY["evaluation"]}
    for name, other, pipelines, values in (
        ("photos", "tested", every, QUICKLY),
        ("tested", "photos", ("evaluate", "export"), evaluation),
    ):
        before = files_of(two_runs, other)
        for pipeline in pipelines:
            run_stages(two_runs, pipeline, run_id=name, **values)
        assert files_of(two_runs, other) == before
    assert listing(data / "02_intermediate") | listing(data / "04_feature") == shared
    extractors = {"photos": "rotation_classifier", "tested": "classifier"}
    for name, num_real in (("photos", 21), ("tested", 385)):
        card = (data / "06_models" / name / "export" / "README.md").read_text()
        path = data / "08_reporting" / name / "evaluation.json"
        rows = json.loads(path.read_text())["rows"]
        assert {row["num_real"] for row in rows if row["nfe"]} == {num_real}
        assert extractors[name] in {row["extractor"] for row in rows}
        models = {row["model"] for row in rows if row["nfe"]}
        was_combined = name == "tested"  # before its evaluation
        assert models == {"last", "best_ema", *(["combined"] * was_combined)}
        assert ("discs" in card) is (name == "photos")


def test_the_index_says_what_the_weights_belong_to(smoke_run: Path) -> None:
    models = smoke_run / "data/06_models/tested"
    index = pd.read_parquet(models / "checkpoint_index.parquet")
    (decoder,) = (smoke_run / "data/04_feature").glob("*/decoder.json")
    said = json.loads(decoder.read_text())
    (digests,) = index[[*BELONGINGS]].drop_duplicates().to_dict("records")
    assert {name: digests[name] for name in said} == said
    assert len(digests["images"]) == 64
    assert digests["extractor"]


@pytest.mark.parametrize(
    ("pipeline", "given", "expected"),
    [
        ("evaluate", {"training": {"batch_size": 7}}, r"training\.batch_size: 32 -> 7"),
        (
            "train",
            {"ingestion": {"image_size": 16}},
            r"ingestion.image_size=32, not 16",
        ),
        (
            "export",
            {"encoding": {"seed": 9}},
            r"its autoencoder and normalisation would",
        ),
        ("combine", {"features": {"seed": 9}}, r"its extractor would be others"),
    ],
)
def test_what_is_given_and_is_not_the_runs_is_refused_before_anything_is_written(
    smoke_run: Path, pipeline: str, given: dict[str, Any], expected: str
) -> None:
    message = refusal(lambda: run_stages(smoke_run, pipeline, run_id="tested", **given))
    assert re.search(expected, message), message
    assert "run_id=<name>" in message


def test_a_copy_of_the_images_elsewhere_is_taken_where_it_is_shown_to_be_the_same(
    two_runs: Path, made: Path, tmp_path: Path
) -> None:
    moved = {"source": str(shutil.copytree(made / "discs", tmp_path / "moved"))}
    run = {"run_id": "photos", "ingestion": moved, **QUICKLY}
    assert "its images would be others" in refusal(
        lambda: run_stages(two_runs, "evaluate", **run)
    )
    run_stages(two_runs, "encode", ingestion=moved)
    before = files_of(two_runs, "photos")
    run_stages(two_runs, "report", **run)
    assert files_of(two_runs, "photos").keys() > before.keys()


def test_other_images_in_the_same_place_are_not_those_of_a_finished_run(
    two_runs: Path, made: Path
) -> None:
    new = made / "discs" / "new.png"
    Image.new("RGB", (32, 32)).save(new)
    source = {"source": str(made / "discs")}
    models = two_runs / "data/06_models/photos"
    before = listing(models)
    run = {"run_id": "photos", "ingestion": source}
    message = refusal(lambda: run_stages(two_runs, "train", **run))
    new.unlink()
    assert "run photos belongs to other images" in message
    assert listing(models) == before


def test_another_autoencoder_in_the_place_of_the_runs_is_refused(
    smoke_run_copy: Path,
) -> None:
    (path,) = (smoke_run_copy / "data/04_feature").glob("*/decoder.json")
    path.write_text(
        json.dumps({**json.loads(path.read_text()), "autoencoder": "0" * 64})
    )
    for pipeline in ("export", "evaluate"):
        message = refusal(lambda: run_stages(smoke_run_copy, pipeline, run_id="tested"))  # noqa: B023
        assert "run tested belongs to other weights of the autoencoder" in message


def test_files_and_code_that_a_record_alone_names_are_neither_read_nor_run(
    two_runs: Path,
) -> None:
    message = refusal(lambda: run_stages(two_runs, "train", run_id="photos"))
    given = r"give it again: `kedro run --pipeline=train --env=smoke --params=run_id=photos,"
    assert re.search(given + r"ingestion\.source=\S+discs`", message)
    (path,) = (two_runs / "data/08_reporting/tested/records").glob("*.json")
    record = json.loads(path.read_text())
    record["parameters"]["features"]["extractor"]["kind"] = "os:getcwd"
    path.write_text(json.dumps(record))
    sets = {"generated": str(two_runs), "reference": str(two_runs)}
    forged: dict[str, Any] = {"run_id": "tested", "comparison": sets}
    message = refusal(lambda: run_stages(two_runs, "compare", **forged))
    assert "features.extractor.kind=os:getcwd stands in the record" in message
    message = refusal(lambda: run_stages(two_runs, "combine", run_id="tested"))
    assert (
        "features.extractor.kind=os:getcwd stands in the record of run tested"
        in message
    )


def test_what_is_missing_is_told_before_anything_is_computed(
    smoke_run: Path,
) -> None:
    new = {"training": {"seed": 5}}
    message = refusal(lambda: run_stages(smoke_run, "evaluate", **new))
    command = "`kedro run --pipeline=train --env=smoke --params=training.seed=5`"
    assert re.search(
        rf"checkpoint_index of run \S+ is not there. Run {command} first", message
    )
    message = refusal(lambda: run_stages(smoke_run, "export", run_id="tesetd"))
    assert "There is no run 'tesetd'; there are: tested." in message
    new["training"] |= {"init_from": {"run": "teacher"}}
    message = refusal(lambda: run_stages(smoke_run, "train", **new))
    assert "training.init_from.run=teacher: there are no checkpoints" in message
