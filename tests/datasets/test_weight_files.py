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

from lct_pipeline.datasets.weight_files import WeightSelection, open_weights
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


def test_files_of_all_formats_are_read(tmp_path: Path) -> None:
    save_file(WEIGHTS, tmp_path / "a.safetensors")
    assert same(read(tmp_path / "a.safetensors"), WEIGHTS)
    parameters = {n: torch.nn.Parameter(t) for n, t in WEIGHTS.items()}
    for zipped in (True, False):
        path = saved(tmp_path, parameters, _use_new_zipfile_serialization=zipped)
        found = read(path)
        assert same(found, WEIGHTS)
        assert not any(tensor.requires_grad for tensor in found.values())


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
        ({"states": DDIM}, "states.4", OTHER),
    ],
)
def test_an_entry_leads_to_a_state_dict(
    tmp_path: Path, content: Any, entry: str, expected: dict[str, Tensor]
) -> None:
    assert same(read(saved(tmp_path, content), entry), expected)


@pytest.mark.parametrize(
    ("content", "entry", "fault", "entries"),
    [
        (NESTED, None, "'epoch' is of type int", "model, ema.shadow"),
        (NESTED, "ema", "'decay' is of type float", "model, ema.shadow"),
        (NESTED, "modle", "nothing is there", "model, ema.shadow"),
        (NESTED, "model.in", "nothing is there", "model, ema.shadow"),
        (NESTED, "epoch", "it is of type int", "model, ema.shadow"),
        (DDIM, None, "it is of type list", "0, 4"),
        (DDIM, "9", "nothing is there", "0, 4"),
        (DDIM, "x", "nothing is there", "0, 4"),
        (WEIGHTS, "model", "nothing is there", "null"),
        ({**WEIGHTS, "n": 1}, None, "'n' is of type int", "none"),
        ({}, None, "it is empty", "none"),
    ],
)
def test_a_file_that_is_nested_otherwise_says_its_entries(
    tmp_path: Path, content: Any, entry: str | None, fault: str, entries: str
) -> None:
    path = saved(tmp_path, content)
    with pytest.raises(DataError) as caught:
        read(path, entry)
    message = str(caught.value)
    assert fault in message and f"Entries that are one: {entries}." in message
    assert str(path) in message and f"cataloging.entry={entry}" in message


def test_names_choose_tensors_and_a_prefix_is_removed_then(tmp_path: Path) -> None:
    wrapped = {f"module.{name}": tensor for name, tensor in WEIGHTS.items()}
    average = {f"ema.{name}": tensor for name, tensor in OTHER.items()}
    path = saved(tmp_path, {**wrapped, **average, "step": 7})
    assert same(read(path, names="^module"), wrapped)
    assert same(read(path, names="^module", strip_prefix="module."), WEIGHTS)
    assert same(read(path, names="^ema", strip_prefix="ema."), OTHER)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"names": "^out"}, r"names=\^out: no name .* in\.weight, in\.bias, ema\.in\."),
        ({"names": "phase"}, "'phase' is complex"),
        (
            {"names": "in", "strip_prefix": "module."},
            r"strip_prefix='module\.'; the first is 'in\.weight'",
        ),
        (
            {"names": "in", "strip_prefix": "ema."},
            r"without .*'ema\.' two tensors have the same",
        ),
    ],
    ids=str,
)
def test_a_selection_that_gives_no_state_dict_is_refused(
    tmp_path: Path, options: dict[str, str], message: str
) -> None:
    phase = torch.zeros(2, dtype=torch.complex64)
    more = {"ema.in.bias": torch.zeros(3), "phase": phase}
    path = saved(tmp_path, {**WEIGHTS, **more})
    with pytest.raises(DataError, match=rf"model-5\.pt.*{message}"):
        read(path, **options)


@pytest.mark.parametrize(
    ("tensor", "message"),
    [
        (
            torch.ones(2).to(torch.float8_e4m3fn),
            r"is torch\.float8_e4m3fn: .*quantised",
        ),
        (
            torch.eye(2).to_sparse(),
            r"is torch\.sparse_coo and not dense: .*to_dense\(\)",
        ),
        (torch.ones(2, device="meta"), "is on the device meta, without values"),
        (torch.ones(2, dtype=torch.complex64), r"is complex.*torch\.view_as_real"),
    ],
    ids=range(4),
)
def test_a_tensor_that_has_no_place_in_a_sum_is_named(
    tmp_path: Path, tensor: Tensor, message: str
) -> None:
    with pytest.raises(DataError, match=rf"model-5\.pt .* 'odd' {message}"):
        read(saved(tmp_path, {**WEIGHTS, "odd": tensor}))


def test_tied_tensors_and_views_are_read_as_they_are_seen(tmp_path: Path) -> None:
    base = torch.arange(12.0).view(3, 4)
    tied = {
        "a": base,
        "b": base,
        "c": base.T,
        "d": base[:, 1],
        "e": base[0].expand(2, 4),
    }
    assert same(read(saved(tmp_path, tied)), tied)


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
    message = rf"model-5\.pt holds Python objects \(.*{name}.*\).*run code.*torch\.sav"
    with pytest.raises(DataError, match=message):
        read(path, "model")


@pytest.mark.parametrize("name", ["a.pt", "b.safetensors"])
@pytest.mark.parametrize("damage", ["cut", "empty", "text", "gone"])
def test_a_damaged_file_is_named(tmp_path: Path, name: str, damage: str) -> None:
    path = tmp_path / name
    torch.save(WEIGHTS, path) if name == "a.pt" else save_file(WEIGHTS, path)
    content = path.read_bytes()
    damaged = {"cut": content[: len(content) // 2], "empty": b"", "text": b"hello " * 9}
    path.write_bytes(damaged[damage]) if damage in damaged else path.unlink()
    message = rf"{name} cannot be read .* damaged, cut short"
    with pytest.raises(DataError, match=message):
        read(path)


@pytest.mark.parametrize("dtype", [torch.bfloat16, torch.float16, torch.float64])
def test_floating_tensors_become_float32_and_others_are_kept(
    tmp_path: Path, dtype: torch.dtype
) -> None:
    others = {
        "count": torch.tensor(3),
        "mask": torch.tensor([True, False]),
        "table": torch.arange(4, dtype=torch.int32),
    }
    values = torch.tensor([0.0, -1.5, 3.25])
    found = read(saved(tmp_path, {"a": values.to(dtype), **others}))
    assert same(found, {"a": values, **others})
    assert all(found[name].dtype == t.dtype for name, t in others.items())


@pytest.mark.parametrize("value", [float("nan"), float("inf"), 1e300])
def test_values_that_are_not_finite_are_named(tmp_path: Path, value: float) -> None:
    weights = {"a": torch.zeros(2), "b": torch.tensor([0, value], dtype=torch.float64)}
    with pytest.raises(DataError, match=r"model-5\.pt: tensor 'b' .* NaN or infinite"):
        read(saved(tmp_path, weights))
