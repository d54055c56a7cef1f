"""Single files of other trainers: formats, entries, names, types, and what is refused."""

from __future__ import annotations

import argparse
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import save_file
from torch import Tensor

from lct_pipeline.datasets.weight_files import (
    WeightSelection,
    as_float32,
    open_weights,
)
from lct_pipeline.errors import DataError

WEIGHTS = {"in.weight": torch.randn(3, 2), "in.bias": torch.randn(3)}
OTHER = {"in.weight": torch.zeros(3, 2), "in.bias": torch.zeros(3)}
DDIM = [  # what DDIM's trainer saves: model, optimizer, epoch, step, average
    WEIGHTS,
    {"state": {0: {"step": torch.tensor(3.0)}}, "param_groups": [{"lr": 0.1}]},
    7,
    900,
    OTHER,
]
NESTED = {"epoch": 7, "model": WEIGHTS, "ema": {"decay": 0.9, "shadow": OTHER}}


def read(
    path: Path,
    entry: str | None = None,
    names: str | None = None,
    strip_prefix: str | None = None,
) -> dict[str, Tensor]:
    return open_weights((path,), WeightSelection(entry, names, strip_prefix))


def saved(folder: Path, content: Any, **options: Any) -> Path:
    path = folder / "model-5.pt"
    torch.save(content, path, **options)
    return path


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return one.keys() == other.keys() and all(
        torch.equal(one[name], other[name]) for name in one
    )


def test_a_safetensors_file_is_read(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "a.safetensors")
    assert same(read(tmp_path / "a.safetensors"), WEIGHTS)


@pytest.mark.parametrize("zipped", [True, False])
def test_a_torch_file_is_read(tmp_path: Path, zipped: bool) -> None:
    path = saved(tmp_path, WEIGHTS, _use_new_zipfile_serialization=zipped)
    assert same(read(path), WEIGHTS)


def test_parameters_come_without_gradients(tmp_path: Path) -> None:
    path = saved(tmp_path, dict(torch.nn.Linear(2, 3).named_parameters()))
    assert not any(tensor.requires_grad for tensor in read(path).values())


@pytest.mark.parametrize("suffix", ["safetensors", "bin"])
def test_shards_are_put_together(tmp_path: Path, suffix: str) -> None:
    parts = [tmp_path / f"{n}.{suffix}" for n in (1, 2)]
    for path, name in zip(parts, WEIGHTS, strict=True):
        write = save_file if suffix == "safetensors" else torch.save
        write({name: WEIGHTS[name]}, path)
    paths = (tmp_path / "model.index.json", *parts)
    assert same(open_weights(paths, WeightSelection(None, None, None)), WEIGHTS)


@pytest.mark.parametrize(
    ("content", "entry", "expected"),
    [
        (NESTED, "model", WEIGHTS),
        (NESTED, "ema.shadow", OTHER),
        (DDIM, "0", WEIGHTS),
        (DDIM, "4", OTHER),
        ({"states": DDIM}, "states.4", OTHER),
    ],
)
def test_an_entry_leads_to_a_state_dict(
    tmp_path: Path, content: Any, entry: str, expected: dict[str, Tensor]
) -> None:
    assert same(read(saved(tmp_path, content), entry), expected)


@pytest.mark.parametrize(
    ("content", "entry", "entries"),
    [
        (NESTED, None, "These entries are: model, ema.shadow. Give one"),
        (NESTED, "ema", "'decay' is of type float. These entries are: model, ema.sh"),
        (NESTED, "modle", "has no entry 'modle'. These entries are: model, ema.shadow"),
        (NESTED, "model.in", "has no entry 'model.in'. These"),
        (NESTED, "epoch", "is no flat mapping of names to tensors: it is of type int"),
        (DDIM, None, "it is of type list. These entries are: 0, 4. Give one"),
        (DDIM, "9", "has no entry '9'. These entries are: 0, 4."),
        (DDIM, "x", "has no entry 'x'. These entries are: 0, 4."),
        (WEIGHTS, "model", "The file itself is one: leave cataloging.entry null."),
        ({**WEIGHTS, "n": 1}, None, "'n' is of type int. None of its entries is one"),
        ({}, None, "it is empty. None of its entries is one: leave others out"),
    ],
)
def test_a_file_that_is_nested_otherwise_says_its_entries(
    tmp_path: Path, content: Any, entry: str | None, entries: str
) -> None:
    path = saved(tmp_path, content)
    with pytest.raises(DataError) as caught:
        read(path, entry)
    assert entries in str(caught.value)
    assert str(path) in str(caught.value)


def test_names_choose_tensors_and_may_leave_out_what_is_none(tmp_path: Path) -> None:
    path = saved(tmp_path, {**WEIGHTS, "out.bias": torch.zeros(1), "step": 7})
    assert same(read(path, names=r"^in\."), WEIGHTS)


def test_names_that_match_nothing_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, WEIGHTS)
    message = r"model-5\.pt: no .*cataloging\.names='\^out'; .* in\.weight, in\.bias\."
    with pytest.raises(DataError, match=message):
        read(path, names="^out")


def test_a_prefix_is_removed_after_names_have_chosen(tmp_path: Path) -> None:
    wrapped = {f"module.{name}": tensor for name, tensor in WEIGHTS.items()}
    average = {f"ema.{name}": tensor for name, tensor in OTHER.items()}
    path = saved(tmp_path, {**wrapped, **average})
    assert same(read(path, names="^module", strip_prefix="module."), WEIGHTS)
    assert same(read(path, names="^ema", strip_prefix="ema."), OTHER)


def test_a_prefix_that_no_name_has_is_refused(tmp_path: Path) -> None:
    message = r"strip_prefix='module\.'; the first is 'in\.weight'"
    with pytest.raises(DataError, match=message):
        read(saved(tmp_path, WEIGHTS), strip_prefix="module.")


def test_a_prefix_that_hides_a_difference_is_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, {**WEIGHTS, "ema.in.bias": torch.zeros(3)})
    with pytest.raises(DataError, match=r"without .*'ema\.' two tensors have the same"):
        read(path, strip_prefix="ema.")


@pytest.mark.parametrize("zipped", [True, False])
@pytest.mark.parametrize(
    ("value", "name"),
    [(argparse.Namespace(lr=1), "argparse.Namespace"), (os.system, r"\w+\.system")],
)
def test_a_file_that_needs_code_is_refused_with_what_to_do(
    tmp_path: Path, zipped: bool, value: Any, name: str
) -> None:
    content = {"model": WEIGHTS, "args": value}
    path = saved(tmp_path, content, _use_new_zipfile_serialization=zipped)
    message = (
        rf"model-5\.pt holds Python objects \(.*{name}.*\).*run code.*torch\.save\("
    )
    with pytest.raises(DataError, match=message):
        read(path, "model")


@pytest.mark.parametrize("name", ["a.pt", "b.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "empty", "text"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str, damage: str) -> None:
    path = tmp_path / name
    torch.save(WEIGHTS, path) if name == "a.pt" else save_file(WEIGHTS, path)
    content = path.read_bytes()
    damaged = {"cut": content[: len(content) // 2], "empty": b"", "text": b"hello " * 9}
    path.write_bytes(damaged[damage])
    with pytest.raises(
        DataError, match=rf"{name} cannot be read .* damaged, cut short"
    ):
        read(path)


def test_a_file_that_is_gone_is_named(tmp_path: Path) -> None:
    for name in ("a.pt", "b.safetensors"):
        with pytest.raises(DataError, match=f"{name} cannot be read"):
            read(tmp_path / name)


def test_complex_tensors_are_refused(tmp_path: Path) -> None:
    path = saved(tmp_path, {**WEIGHTS, "phase": torch.zeros(2, dtype=torch.complex64)})
    with pytest.raises(DataError, match=r"model-5\.pt: tensor 'phase' is complex"):
        read(path)
    assert same(read(path, names="^in"), WEIGHTS)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_floating_tensors_become_float32(dtype: torch.dtype) -> None:
    values = torch.tensor([0.0, -1.5, 3.25]).to(dtype)
    found = as_float32({"a": values}, Path("a.pt"))["a"]
    assert found.dtype == torch.float32
    assert found.tolist() == [0.0, -1.5, 3.25]


def test_integers_and_booleans_are_kept() -> None:
    buffers = {
        "count": torch.tensor(3),
        "mask": torch.tensor([True, False]),
        "table": torch.arange(4, dtype=torch.int32),
    }
    found = as_float32(buffers, Path("a.pt"))
    assert same(found, buffers)
    assert all(found[name].dtype == t.dtype for name, t in buffers.items())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_values_that_are_not_finite_are_named(value: float) -> None:
    weights = {"a": torch.zeros(2), "b": torch.tensor([0, value], dtype=torch.float64)}
    with pytest.raises(DataError, match=r"c-7\.pt: tensor 'b' .* NaN or infinite"):
        as_float32(weights, Path("c-7.pt"))
