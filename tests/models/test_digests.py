from __future__ import annotations

import hashlib
from pathlib import Path

import pytest
import torch

from lct_pipeline.models.digests import (
    digest_of_digests,
    file_digest,
    tensors_digest,
)

TENSORS = {"a": torch.arange(6.0).reshape(2, 3), "b": torch.tensor(0.0)}


def test_the_digest_of_a_file_is_that_of_its_bytes(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_bytes(b"\x00\x01" * 700_000)
    assert file_digest(path) == hashlib.sha256(path.read_bytes()).hexdigest()


def test_the_digest_of_tensors_is_that_of_names_types_shapes_and_values() -> None:
    text = b"a torch.float32 (2, 3);" + TENSORS["a"].numpy().tobytes()
    text += b"b torch.float32 ();" + TENSORS["b"].numpy().tobytes()
    assert tensors_digest(TENSORS) == hashlib.sha256(text).hexdigest()


def test_order_and_memory_layout_do_not_matter() -> None:
    other = {"b": TENSORS["b"], "a": TENSORS["a"].T.contiguous().T}
    assert tensors_digest(other) == tensors_digest(TENSORS)


@pytest.mark.parametrize(
    "change",
    [
        {"a": TENSORS["a"].reshape(3, 2)},
        {"a": TENSORS["a"].double()},
        {"b": torch.tensor(-0.0)},
        {"a": TENSORS["a"] + 1e-6},
        {"c": torch.zeros(1)},
    ],
    ids=["shape", "type", "sign of zero", "value", "one more"],
)
def test_any_change_changes_the_digest(change: dict[str, torch.Tensor]) -> None:
    assert tensors_digest(TENSORS | change) != tensors_digest(TENSORS)


def test_a_digest_of_digests_goes_by_all_of_them_in_their_order() -> None:
    assert digest_of_digests(["a", "b"]) == hashlib.sha256(b"a\nb\n").hexdigest()
    assert digest_of_digests(["b", "a"]) != digest_of_digests(["a", "b"])
