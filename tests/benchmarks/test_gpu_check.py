"""The check of a GPU, tried at tiny size on the CPU."""

from __future__ import annotations

import json
import math
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from configuration import CONF, loader

from benchmarks.gpu import check, setting, speed
from conftest import ROOT

STEPS = [
    "step, float32",
    "step, bfloat16",
    "step, bfloat16, uncoupled",
    "step, bfloat16, one average, AdamW",
    "step, written plainly",
    "step, bfloat16, compiled",
    "step, float16, compiled",
]
Results = dict[str, dict[str, Any]]


def run(out: Path, *arguments: str) -> tuple[int, Results]:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("sys.argv", ["check.py", "--tiny", f"--out={out}", *arguments])
        status = check.main()
    return status, json.loads((out / "results.json").read_text())


@pytest.fixture(scope="module")
def out(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("gpu")


@pytest.fixture(scope="module")
def results(out: Path) -> Results:
    """Return all figures, on latents of images; tests of training compile a network."""
    images = np.random.default_rng(0).integers(0, 256, (20, 40, 40, 3), np.uint8)
    np.save(out / "images.npy", images)
    compiled: list[torch.nn.Module] = []
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(setting.Setting, "compile", lambda _, net: compiled.append(net))
        status, results = run(out, f"--source={out / 'images.npy'}")
    assert status == 0 and len(compiled) == 2
    return results


def test_all_is_measured(results: Results, out: Path) -> None:
    assert list(results) == [measurement.name for measurement in check.MEASUREMENTS]
    assert set(STEPS) < set(results)
    for figures in results.values():
        numbers = [value for value in figures.values() if isinstance(value, float)]
        assert all(math.isfinite(number) for number in numbers)
    assert results["machine"]["GPU"] == "none"
    assert len((out / "profile.txt").read_text().splitlines()) == 25


def test_rates_are_positive(results: Results) -> None:
    rates = [
        value
        for figures in results.values()
        for name, value in figures.items()
        if name.endswith(("/s", ", ms", ", s", " candidate"))
        and not name.startswith(("waited", "coupling"))
    ]
    assert len(rates) > 50
    assert all(rate > 0 for rate in rates)


def test_float32_on_the_cpu_is_the_reference_itself(results: Results) -> None:
    for name, error in results["against the CPU"].items():
        if "float32" in name or "TF32" in name:
            assert error == 0, name
        elif "float16" in name:
            low, high = (1e-4, 0.1) if "bfloat16" in name else (1e-5, 0.01)
            assert low < error < high, name


def test_one_seed_gives_one_dropout_mask(results: Results) -> None:
    apart = results["dropout masks"]
    assert apart["one seed, largest difference"] == 0
    assert apart["two seeds, largest difference"] > 1e-3


def test_every_norm_works_on_the_cpu(results: Results) -> None:
    norms = {k: v for k, v in results["norms"].items() if not k.startswith("measured")}
    assert len(norms) == 8
    assert set(norms.values()) == {"works"}


def test_the_temporal_difference_falls_and_rounding_does_not(results: Results) -> None:
    found = results["rounding"]
    coarse, fine = (
        {name: found[f"N = {n}, {name}"] for name in ("difference", "bfloat16")}
        for n in (20, 640)
    )
    assert coarse["difference"] > 5 * fine["difference"]
    assert coarse["bfloat16"] < 2 * fine["bfloat16"]
    assert found["N = 640, bfloat16"] > 4 * found["N = 640, float16"] > 0


def test_a_step_is_of_one_batch_and_coupled_where_it_is_to_be(results: Results) -> None:
    for step in STEPS:
        figures = results[step]
        assert figures["images/s"] == pytest.approx(8000 / figures["step, ms"])
    name = "coupling beside it, ms"
    assert results["step, bfloat16"][name] > 0
    assert results["step, bfloat16, uncoupled"][name] == 0


def test_the_device_combines_as_the_product_does(results: Results) -> None:
    assert results["combination"]["largest difference from the product"] < 1e-4
    # weights, their nine averages, two moments and a step each
    weights = results["combination"]["weights"]
    assert results["state to disk"]["GB"] == pytest.approx(48e-9 * weights, rel=1e-3)


def test_a_failure_is_recorded_and_the_others_go_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def fail(_: setting.Setting) -> setting.Figures:
        raise ValueError("no such kernel")

    measurements = (
        check.Measurement("one", fail, 0),
        check.Measurement("other", check.machine, 0),
    )
    monkeypatch.setattr(check, "MEASUREMENTS", measurements)
    status, results = run(tmp_path)
    assert status == 1
    assert results["one"]["failed"] == "ValueError: no such kernel"
    assert results["other"]["torch"] == torch.__version__
    status, results = run(tmp_path, "--only=other", "--seconds=0")
    assert (status, results) == (0, {"other": {"skipped": "no time"}})


def test_latents_of_a_file_are_taken_at_their_standard_deviation(
    tmp_path: Path,
) -> None:
    z = np.random.default_rng(0).normal(3, 2, (16, 4, 8, 8)).astype(np.float32)
    np.savez(tmp_path / "latents.npz", z)
    np.savez(tmp_path / "images.npz", np.zeros((2, 8, 8, 3), np.uint8))
    source = str(tmp_path / "latents.npz")
    where = setting.Setting(torch.device("cpu"), True, source, tmp_path)
    assert where.latents.std() == pytest.approx(0.5)
    assert where.latents.mean() == pytest.approx(0, abs=1e-6)
    assert setting.stored_latents(str(tmp_path / "images.npz")) is None


def test_the_papers_step_has_the_operations_that_were_counted(tmp_path: Path) -> None:
    where = setting.Setting(torch.device("cpu"), False, None, tmp_path)
    assert speed.step_flops(where) == pytest.approx(14.49e12, rel=1e-3)


def test_the_training_recipe_is_valid(tmp_path: Path) -> None:
    shutil.copytree(CONF / "base", tmp_path / "base")
    (tmp_path / "h100").mkdir()
    recipe = ROOT / "benchmarks" / "gpu" / "recipe.yml"
    shutil.copy(recipe, tmp_path / "h100" / "parameters.yml")
    assert loader("h100", tmp_path).checked.runtime.compile
