"""How two runs differ."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from made_results import row
from making_runs import make_record, make_run

from conftest import git
from lct_pipeline.runs.diff import Result, compare
from lct_pipeline.runs.reading import find_run


def compared(project: Path, **changes: Any) -> Any:
    make_run(project, "a", make_record(), rows=[row("last", 3.0)])
    make_run(project, "b", make_record(**changes), rows=[row("last", 2.0)])
    return compare(find_run(project, "a"), find_run(project, "b"))


def test_each_difference_is_in_its_group(tmp_path: Path) -> None:
    changes = {
        "parameters.training.num_steps": 80,
        "parameters.runtime.num_threads": 2,
        "inputs.image_source": "0" * 64,
        "dirty": True,
        "versions.torch": "2.14.0",
        "python": "3.12.0",
        "device": "cuda",
    }
    found = compared(tmp_path, **changes)
    assert found.parameters == {"training.num_steps": (60, 80)}
    assert found.runtime == {"runtime.num_threads": (1, 2)}
    assert found.data == {"fingerprint": ("f" * 64, "0" * 64)}
    assert found.code == {"dirty": (False, True)}
    assert found.versions == {
        "python": ("3.11.7", "3.12.0"),
        "torch": ("2.13.0", "2.14.0"),
    }
    assert found.device == {"device": ("cpu", "cuda")}


def test_what_an_interrupted_run_does_not_know_is_no_difference(tmp_path: Path) -> None:
    assert compared(tmp_path, inputs={}).data == {}


def test_git_tells_what_changed_in_sources_and_recipes(repository: Path) -> None:
    (repository / "src").mkdir()
    (repository / "src" / "code.py").write_text("a = 1\n")
    (repository / "notes.txt").write_text("not of interest")
    git(repository, "add", "--all")
    git(repository, "commit", "--quiet", "--message=second")
    make_run(
        repository, "a", make_record(commit=git(repository, "rev-parse", "HEAD~1"))
    )
    make_run(repository, "b", make_record(commit=git(repository, "rev-parse", "HEAD")))
    changes = compare(find_run(repository, "a"), find_run(repository, "b")).changes
    assert changes is not None
    assert "src/code.py" in changes[0]
    assert not any("notes" in line for line in changes)


@pytest.mark.parametrize("commit", ["b" * 40, None])
def test_a_commit_from_elsewhere_has_no_statistics(
    repository: Path, commit: str | None
) -> None:
    assert compared(repository, commit=commit).changes is None


def result(a: float, b: float, **changes: Any) -> Result:
    values = {
        "model": "last",
        "nfe": 1,
        "metric": "classifier_frechet_distance",
        "extractor": "classifier",
        "values": (a, b),
        "stds": (0.3, 0.4),
        "protocols": ("1", "1"),
    }
    return Result(**{**values, **changes})


def test_a_difference_is_beyond_the_noise_of_both() -> None:
    assert result(3.0, 4.01).is_beyond_noise  # 2 * sqrt(0.3^2 + 0.4^2) = 1
    assert not result(3.0, 3.99).is_beyond_noise
    assert result(3.0, 9.0, stds=(0.3, None)).is_beyond_noise is None


@pytest.mark.parametrize(
    ("metric", "better"),
    [
        ("fid", "A"),
        ("fid_infinity", "A"),
        ("classifier_kernel_distance", "A"),
        ("precision", "B"),
        ("inception_score", "B"),
    ],
)
def test_less_is_better_of_distances_alone(metric: str, better: str) -> None:
    assert result(1.0, 2.0, metric=metric).better == better
    assert result(1.0, 1.0, metric=metric).better is None


def test_results_are_of_the_values_of_both_and_trained_models_come_first(
    tmp_path: Path,
) -> None:
    a = [
        row("gaussian_latents", 9.0, nfe=0),
        row("last", 3.0),
        row("x", 1),
    ]
    b = [row("last", 2.0), row("gaussian_latents", 8.0, nfe=0)]
    make_run(tmp_path, "a", make_record(), rows=a)
    make_run(tmp_path, "b", make_record(), rows=b)
    found = compare(find_run(tmp_path, "a"), find_run(tmp_path, "b")).results
    assert [r.model for r in found] == ["last", "gaussian_latents"]
    assert [r.difference for r in found] == [-1.0, -1.0]
