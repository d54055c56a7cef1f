"""``python -m lct_pipeline.sample``."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from exporting import MODELS
from PIL import Image

from lct_pipeline.sample import MAX_GRID, main


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return MODELS["pixels"].write(tmp_path_factory.mktemp("model") / "export")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from diffusers.utils import dynamic_modules_utils

    monkeypatch.setattr(dynamic_modules_utils, "HF_MODULES_CACHE", str(tmp_path / "m"))


def pictures(folder: Path) -> np.ndarray:
    return np.stack([np.asarray(Image.open(p)) for p in sorted(folder.iterdir())])


def individual(model: Path, out: Path, *more: str) -> np.ndarray:
    main(["--model", str(model), "--individual", str(out), "--device=cpu", *more])
    return pictures(out)


def test_images_do_not_depend_on_the_batch_size(folder: Path, tmp_path: Path) -> None:
    once = individual(folder, tmp_path / "a", "--num-images=7")
    parts = individual(folder, tmp_path / "b", "--num-images=7", "--batch-size=3")
    other = individual(folder, tmp_path / "c", "--num-images=7", "--seed=1")
    assert once.shape == (7, 8, 8, 3)
    # a matrix product of another size may round differently
    assert np.abs(once.astype(int) - parts).max() <= 1
    assert np.abs(once.astype(int) - other).max() > 1
    assert not list(tmp_path.glob("*.png"))


def test_a_grid_is_written_and_told(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "new" / "grid.png"
    arguments = ["--model", str(folder.parent), "--num-images=9", "--steps=2"]
    main([*arguments, "--out", str(out), "--device=cpu"])
    assert Image.open(out).size == (3 * 52 - 4 + 0, 3 * 52 - 4 + 0)
    assert capsys.readouterr().out.startswith("9 images in ")


def test_a_grid_has_so_many_images_at_most(
    folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    out = tmp_path / "grid.png"
    arguments = ["--model", str(folder), f"--num-images={MAX_GRID + 10}"]
    main([*arguments, "--out", str(out), "--device=cpu", "--batch-size=100"])
    assert Image.open(out).width == 16 * 52 - 4
    assert f"has the first {MAX_GRID}" in capsys.readouterr().out


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
    ("arguments", "message"),
    [
        (["--num-images=0"], "--num-images=0: give 1 or more"),
        (["--steps=0"], "--steps=0: give 1 or more"),
        (["--steps=3"], "1 and 2 steps, not for 3"),
        (["--label=cat"], "no classes"),
        (["--guidance=2"], "no classes"),
        (["--out=grid.jpg"], "--out=grid.jpg: give a file name ending in .png"),
        (["--individual=full"], "--individual=full: give a new or empty folder"),
    ],
    ids=str,
)
def test_what_does_not_fit_is_refused_in_one_message(
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    arguments: list[str],
    message: str,
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "a.png").touch()
    with pytest.raises(SystemExit, match=message):
        main(["--model", str(folder), *arguments])
    assert not (tmp_path / "grid.png").exists()


def test_a_run_that_was_not_exported_is_told_how(tmp_path: Path) -> None:
    (tmp_path / "mine" / "checkpoints").mkdir(parents=True)
    with pytest.raises(SystemExit, match="--pipeline=export --params=run_id=mine"):
        main(["--model", str(tmp_path / "mine")])
    with pytest.raises(SystemExit, match=r"no model_index\.json there"):
        main(["--model", str(tmp_path)])


def test_a_damaged_folder_is_told(folder: Path, tmp_path: Path) -> None:
    (tmp_path / "model_index.json").write_text("{}")
    with pytest.raises(SystemExit, match="cannot be loaded"):
        main(["--model", str(tmp_path)])


def test_help_loads_nothing_heavy() -> None:
    script = "import sys, lct_pipeline.sample; print('torch' in sys.modules)"
    source = str(Path(__file__).parents[1] / "src")
    done = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        check=True,
        env={"PYTHONPATH": source, "PATH": "/usr/bin:/bin"},
    )
    assert done.stdout.strip() == "False"
