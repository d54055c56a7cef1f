"""``python -m lct_pipeline.sample``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from click.testing import CliRunner, Result
from diffusers.utils import dynamic_modules_utils
from exporting import MODELS
from PIL import Image

from lct_pipeline.export.pictures import MAX_GRID
from lct_pipeline.sample import main


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return MODELS["pixels"].write(tmp_path_factory.mktemp("model") / "export")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(dynamic_modules_utils, "HF_MODULES_CACHE", str(tmp_path / "m"))


def sample(*arguments: object) -> Result:
    return CliRunner().invoke(main, [*map(str, arguments)])


def individual(model: Path, out: Path, *more: str) -> np.ndarray:
    done = sample("--model", model, "--individual", out, "--device=cpu", *more)
    assert done.exit_code == 0, done.output
    return np.stack([np.asarray(Image.open(p)) for p in sorted(out.iterdir())])


def test_images_do_not_depend_on_the_batch_size(folder: Path, tmp_path: Path) -> None:
    once = individual(folder, tmp_path / "a", "--num-images=7")
    parts = individual(folder, tmp_path / "b", "--num-images=7", "--batch-size=3")
    other = individual(folder, tmp_path / "c", "--num-images=7", "--seed=1")
    assert once.shape == (7, 8, 8, 3)
    # a matrix product of another size may round differently
    assert np.abs(once.astype(int) - parts).max() <= 1
    assert np.abs(once.astype(int) - other).max() > 1
    assert not list(tmp_path.glob("*.png"))


@pytest.mark.parametrize(
    ("num", "side", "text"),
    [(9, 3, "9 images in"), (MAX_GRID + 10, 16, f"has the first {MAX_GRID}")],
)
def test_a_grid_has_so_many_images_at_most(
    folder: Path, tmp_path: Path, num: int, side: int, text: str
) -> None:
    out = tmp_path / "new" / "grid.png"
    arguments = [f"--num-images={num}", "--batch-size=100", "--device=cpu"]
    done = sample("--model", folder.parent, *arguments, "--out", out)
    assert Image.open(out).size == (side * 52 - 4, side * 52 - 4)
    assert text in done.output


def test_a_class_is_given_by_name(tmp_path: Path) -> None:
    model = MODELS["classes"].write(tmp_path / "model")
    cats = individual(model, tmp_path / "a", "--num-images=3", "--label=cat")
    same = individual(model, tmp_path / "b", "--num-images=3", "--label=2")
    plain = individual(
        model, tmp_path / "c", "--num-images=3", "--label=cat", "--guidance=1"
    )
    assert not np.array_equal(cats, same)  # "2" is the name of another class
    assert not np.array_equal(cats, plain)


@pytest.mark.parametrize(
    ("argument", "message"),
    [
        ("--num-images=0", "'--num-images': 0 is not in the range"),
        ("--steps=0", "'--steps': 0 is not in the range"),
        ("--steps=3", "1 and 2 steps, not for 3"),
        ("--label=cat", "no classes"),
        ("--guidance=2", "no classes"),
        ("--out=grid.jpg", "--out=grid.jpg: give a file name ending in .png"),
        ("--individual=full", "--individual=full: give a new or empty folder"),
    ],
)
def test_what_does_not_fit_is_refused_in_one_message(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    argument: str,
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.png").touch()
    done = sample("--model", folder, argument)
    assert done.exit_code > 0
    assert message in done.output
    assert not (tmp_path / "grid.png").exists()


@pytest.mark.parametrize(
    ("made", "message"),
    [
        ("checkpoints/", "--pipeline=export --params=run_id=mine"),
        ("other/", "no model_index.json there"),
        ("model_index.json", "cannot be loaded"),
    ],
)
def test_a_folder_that_is_no_exported_model_is_told_how_to_make_one(
    tmp_path: Path, made: str, message: str
) -> None:
    path = tmp_path / "mine" / made
    path.parent.mkdir(parents=True)
    path.mkdir() if made.endswith("/") else path.write_text("{}")
    assert message in sample("--model", tmp_path / "mine").output


def test_help_loads_nothing_heavy() -> None:
    script = "import sys, lct_pipeline.sample; print('torch' in sys.modules)"
    command = [sys.executable, "-c", script]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"
