"""Tensors that carry their own digest, and the dataset of one file of them."""

from pathlib import Path

import pytest
import torch

from lct_pipeline.datasets.parts import Last
from lct_pipeline.datasets.tensors import (
    DIGEST_KEY,
    TensorFile,
    TensorFileDataset,
    content_digest,
    read_header,
    read_tensors,
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


def test_the_header_gives_metadata_entries_and_the_place_of_the_data(
    tmp_path: Path,
) -> None:
    path = tmp_path / "a.safetensors"
    digest = write_tensors(path, {"x": torch.tensor([1.5, 2.5])}, {"step": 1})
    metadata, entries, offset = read_header(path)
    assert metadata == {"step": 1, DIGEST_KEY: digest}
    assert entries == {"x": {"dtype": "F32", "shape": [2], "data_offsets": [0, 8]}}
    assert path.read_bytes()[offset:] == torch.tensor([1.5, 2.5]).numpy().tobytes()


@pytest.mark.parametrize("change", [-3, 1])
def test_a_file_of_another_length_is_refused_with_both(file: Path, change: int) -> None:
    size = file.stat().st_size
    file.write_bytes((file.read_bytes() + b"\0")[: size + change])
    lengths = rf"{size + change} bytes, its header promises {size}\. Remove"
    message = rf"state\.safetensors is truncated: {lengths}"
    with pytest.raises(DataError, match=message):
        read_tensors(file)


@pytest.mark.parametrize(
    "content", [b"", b"1234567", b"[" * 30, b"\xff" * 30, b"\x03" + bytes(7) + b"[1]"]
)
def test_a_file_of_another_kind_is_refused(file: Path, content: bytes) -> None:
    file.write_bytes(content)
    with pytest.raises(DataError, match=r"state\.safetensors is not a readable"):
        read_tensors(file)


def test_any_flipped_byte_of_the_data_or_of_its_entries_is_refused(file: Path) -> None:
    content = file.read_bytes()
    offset = read_header(file)[2]
    metadata = content.index(b'{"__metadata__":{') + len(b'{"__metadata__":{')
    entries = [*range(8, metadata), *range(content.index(b'},"count"'), offset)]
    # a header ends in blanks, which mean nothing
    positions = [p for p in entries if content[p : p + 1] != b" "]
    for position in [*positions, *range(offset, len(content))]:
        altered = bytearray(content)
        altered[position] ^= 1
        file.write_bytes(altered)
        with pytest.raises(DataError, match=r"state\.safetensors"):
            read_tensors(file)


def test_tensors_that_cannot_be_written_leave_the_old_file(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def fail(_tensors: object, path: Path, _metadata: object) -> None:
        Path(path).write_bytes(b"half")
        raise OSError("disk full")

    before = file.read_bytes()
    monkeypatch.setattr("lct_pipeline.datasets.tensors.save_file", fail)
    with pytest.raises(OSError, match="disk full"):
        write_tensors(file, {"a": torch.ones(3)}, {})
    assert file.read_bytes() == before
    assert list(file.parent.iterdir()) == [file]


def test_what_is_said_of_tensors_is_part_of_their_digest() -> None:
    digests = {
        content_digest(tensors(), about) for about in ({}, {"a": 1}, {"a": 2}, {"b": 1})
    }
    assert len(digests) == 4
    said = {"a": 1, "b": 2}, {"b": 2, "a": 1}
    assert content_digest(tensors(), said[0]) == content_digest(tensors(), said[1])


def test_a_tensor_file_comes_back_as_saved(tmp_path: Path) -> None:
    dataset = TensorFileDataset(filepath=str(tmp_path / "deep" / "a.safetensors"))
    assert not dataset.exists()
    dataset.save(TensorFile(tensors(), {"sigma": 0.5, "names": ["a", None]}))
    found = dataset.load()
    assert dataset.exists()
    assert found is not None
    assert found.metadata == {"sigma": 0.5, "names": ["a", None]}
    assert found.tensors.keys() == tensors().keys()
    assert all(torch.equal(found.tensors[name], t) for name, t in tensors().items())
    assert dataset.content_digest() == content_digest(found.tensors, found.metadata)


def state(step: int) -> TensorFile:
    return TensorFile({"x": torch.tensor([step])}, {"step": step})


def test_what_is_written_in_parts_exists_with_the_last_and_loads_before(
    tmp_path: Path,
) -> None:
    path = str(tmp_path / "state.safetensors")
    dataset = TensorFileDataset(filepath=path, in_parts=True, optional=True)
    parts = [state(5), state(10), Last(state(15)), state(20)]
    for number, part in enumerate(parts, 1):
        dataset.save(part)
        assert dataset.exists() == isinstance(part, Last)
        assert dataset.load() == state(5 * number)
    TensorFileDataset(filepath=path).save(state(5))  # says nothing of its end
    assert dataset.exists()
