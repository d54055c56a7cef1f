"""Atomic writes and tensors that carry their own digest."""

from pathlib import Path

import pytest
import torch

from lct_pipeline.datasets.files import (
    DIGEST_KEY,
    atomic_path,
    read_header,
    read_tensors,
    tensors_digest,
    write_tensors,
)
from lct_pipeline.errors import DataError


def tensors() -> dict[str, torch.Tensor]:
    return {
        "weight": torch.arange(6, dtype=torch.float32).reshape(2, 3),
        "count": torch.tensor(7, dtype=torch.int64),
        "half": torch.tensor([0.5, -1.5], dtype=torch.float16),
        "pixels": torch.tensor([[0, 255]], dtype=torch.uint8),
    }


@pytest.fixture
def file(tmp_path: Path) -> Path:
    path = tmp_path / "state.safetensors"
    write_tensors(path, tensors(), {"step": 3, "note": "é", "rows": [{"a": None}]})
    return path


def flip(path: Path, position: int) -> None:
    content = bytearray(path.read_bytes())
    content[position] ^= 1
    path.write_bytes(content)


def test_tensors_and_metadata_come_back_as_written(file: Path) -> None:
    found, metadata = read_tensors(file)
    assert metadata == {"step": 3, "note": "é", "rows": [{"a": None}]}
    assert found.keys() == tensors().keys()
    for name, expected in tensors().items():
        assert found[name].dtype == expected.dtype
        assert torch.equal(found[name], expected)


def test_views_and_tied_tensors_are_written_as_independent_values(
    tmp_path: Path,
) -> None:
    path = tmp_path / "tied.safetensors"
    base = torch.arange(6.0).reshape(2, 3)
    write_tensors(path, {"a": base, "b": base, "transposed": base.T}, {})
    found, _ = read_tensors(path)
    assert torch.equal(found["a"], base)
    assert torch.equal(found["b"], base)
    assert torch.equal(found["transposed"], base.T)


def test_equal_content_is_written_as_equal_bytes(tmp_path: Path) -> None:
    metadata = {"fingerprint": "x", "rows": [1], "step": 2, "kind": "raw"}
    for number in range(20):
        write_tensors(tmp_path / str(number), tensors(), metadata)
    assert len({(tmp_path / str(number)).read_bytes() for number in range(20)}) == 1


def test_returned_digest_stands_in_the_header(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    digest = write_tensors(path, tensors(), {"step": 1})
    assert read_header(path)[0] == {"step": 1, DIGEST_KEY: digest}


def test_header_gives_entries_and_the_place_of_the_data(tmp_path: Path) -> None:
    path = tmp_path / "a.safetensors"
    write_tensors(path, {"x": torch.tensor([1.5, 2.5])}, {})
    _, entries, offset = read_header(path)
    assert entries == {"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    assert path.read_bytes()[offset:] == torch.tensor([1.5, 2.5]).numpy().tobytes()


def test_digest_does_not_depend_on_the_order_of_names() -> None:
    backwards = dict(reversed(tensors().items()))
    assert tensors_digest(backwards) == tensors_digest(tensors())


@pytest.mark.parametrize(
    "other",
    [
        {"y": torch.zeros(4)},
        {"x": torch.zeros(2, 2)},
        {"x": torch.zeros(4, dtype=torch.int32)},
        {"x": torch.tensor([0.0, 0, 0, 1])},
        {"x": torch.tensor([0.0, 0, 0, -0.0])},
    ],
    ids=["name", "shape", "type", "value", "sign of zero"],
)
def test_digest_changes_with(other: dict[str, torch.Tensor]) -> None:
    assert tensors_digest(other) != tensors_digest({"x": torch.zeros(4)})


def test_a_missing_file_is_named(tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"gone\.safetensors is missing"):
        read_tensors(tmp_path / "gone.safetensors")


def test_a_truncated_file_is_refused_with_both_lengths(file: Path) -> None:
    size = file.stat().st_size
    file.write_bytes(file.read_bytes()[:-3])
    message = rf"state\.safetensors is truncated: {size - 3} bytes.* {size}\. Remove"
    with pytest.raises(DataError, match=message):
        read_tensors(file)


def test_bytes_after_the_data_are_refused(file: Path) -> None:
    file.write_bytes(file.read_bytes() + b"\0")
    with pytest.raises(DataError, match=r"state\.safetensors"):
        read_tensors(file)


@pytest.mark.parametrize("content", [b"", b"1234567", b"[" * 30, b"\xff" * 30])
def test_a_file_of_another_kind_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"state\.safetensors is not a readable"):
        read_tensors(file)


def test_a_header_that_is_no_object_is_refused(file: Path) -> None:
    file.write_bytes(len(b"[1]").to_bytes(8, "little") + b"[1]")
    with pytest.raises(DataError, match=r"state\.safetensors is not a readable"):
        read_tensors(file)


def test_any_flipped_byte_of_the_data_is_refused(file: Path) -> None:
    offset = read_header(file)[2]
    for position in range(offset, file.stat().st_size):
        flip(file, position)
        with pytest.raises(DataError, match=r"state\.safetensors was altered"):
            read_tensors(file)
        flip(file, position)
    read_tensors(file)


def test_any_flipped_byte_of_the_tensor_entries_is_refused(file: Path) -> None:
    offset = read_header(file)[2]
    content = file.read_bytes()
    metadata = content.index(b'{"__metadata__":{') + len(b'{"__metadata__":{')
    entries = [*range(8, metadata), *range(content.index(b'},"count"'), offset)]
    blanks = [p for p in entries if content[p : p + 1] == b" "]
    for position in set(entries) - set(blanks):
        flip(file, position)
        with pytest.raises(DataError, match=r"state\.safetensors"):
            read_tensors(file)
        flip(file, position)


def test_a_successful_write_replaces_the_old_file(tmp_path: Path) -> None:
    target = tmp_path / "deep" / "a.txt"
    for text in ("old", "new"):
        with atomic_path(target) as temporary:
            temporary.write_text(text)
    assert target.read_text() == "new"
    assert [path.name for path in target.parent.iterdir()] == ["a.txt"]


def test_readers_see_the_old_file_until_the_write_is_done(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with atomic_path(target) as temporary:
        temporary.write_text("new")
        assert target.read_text() == "old"
        assert temporary.name.startswith(".tmp-")
        assert temporary.parent == target.parent


def test_a_failed_write_leaves_the_old_file_and_nothing_else(tmp_path: Path) -> None:
    target = tmp_path / "a.txt"
    target.write_text("old")
    with pytest.raises(ZeroDivisionError), atomic_path(target) as temporary:
        temporary.write_text("half")
        raise ZeroDivisionError
    assert target.read_text() == "old"
    assert list(tmp_path.iterdir()) == [target]


def test_a_failed_write_of_a_folder_leaves_the_old_folder(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    target.mkdir()
    (target / "old").touch()
    with pytest.raises(ZeroDivisionError), atomic_path(target) as temporary:
        temporary.mkdir()
        (temporary / "half").touch()
        raise ZeroDivisionError
    assert [path.name for path in target.iterdir()] == ["old"]
    assert list(tmp_path.iterdir()) == [target]


def test_a_folder_is_replaced_as_a_whole(tmp_path: Path) -> None:
    target = tmp_path / "folder"
    for name in ("old", "new"):
        with atomic_path(target) as temporary:
            temporary.mkdir()
            (temporary / name).touch()
    assert [path.name for path in target.iterdir()] == ["new"]
    assert list(tmp_path.iterdir()) == [target]


def test_tensors_that_cannot_be_written_leave_the_old_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_tensors: object, path: Path, _metadata: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    before = file.read_bytes()
    monkeypatch.setattr("safetensors.torch.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        write_tensors(file, {"a": torch.ones(3)}, {})
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]
