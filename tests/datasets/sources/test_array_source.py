"""Images in NumPy arrays."""

from pathlib import Path
from typing import Any

import numpy as np
import pytest
from made_sources import fingerprint, labels, options, read, traced

from lct_pipeline.datasets.sources import open_source
from lct_pipeline.errors import DataError

RNG = np.random.default_rng(0)
GREY = RNG.integers(0, 256, (20, 9, 11), np.uint8)
COLOUR = RNG.integers(0, 256, (20, 9, 11, 3), np.uint8)
FORMS = [
    (GREY, GREY),
    (GREY[..., None], GREY),
    (GREY[:, None], GREY),
    (COLOUR, COLOUR),
    (COLOUR.transpose(0, 3, 1, 2), COLOUR),
]


def write_npz(path: Path, compressed: bool, **arrays: Any) -> Path:
    (np.savez_compressed if compressed else np.savez)(path, **arrays)
    return path


def pixels(source: Path, *bounds: int, **changes: Any) -> np.ndarray:
    return np.stack([raw.content for raw in read(source, *bounds, **changes)])


@pytest.mark.parametrize(("stored", "expected"), FORMS)
def test_each_form_gives_the_same_pixels(
    tmp_path: Path, stored: np.ndarray, expected: np.ndarray
) -> None:
    stored = np.ascontiguousarray(stored)
    np.save(tmp_path / "a.npy", stored)
    sources = [
        tmp_path / "a.npy",
        write_npz(tmp_path / "b.npz", False, images=stored),
        write_npz(tmp_path / "c.npz", True, images=stored),
    ]
    for source in sources:
        np.testing.assert_array_equal(pixels(source), expected)
        np.testing.assert_array_equal(pixels(source, 7, 12), expected[7:12])
        np.testing.assert_array_equal(pixels(source, 19, 99), expected[19:])


def test_names_are_numbers_behind_the_file_or_the_key(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", GREY)
    assert read(tmp_path / "a.npy", 3, 4)[0].name == "a.npy[3]"
    path = write_npz(tmp_path / "b.npz", False, photos=GREY)
    assert read(path, 3, 4)[0].name == "photos[3]"


@pytest.mark.parametrize(
    ("arrays", "key"),
    [
        ({"x": GREY, "label": np.arange(20)}, None),
        ({"images": GREY, "other": COLOUR}, None),
        ({"arr_0": GREY, "arr_1": COLOUR}, None),
        ({"other": COLOUR, "x": GREY}, "x"),
    ],
)
def test_the_array_is_the_one_named_or_the_only_or_usual_one(
    tmp_path: Path, arrays: dict[str, np.ndarray], key: str | None
) -> None:
    path = write_npz(tmp_path / "a.npz", False, **arrays)
    np.testing.assert_array_equal(pixels(path, image_column=key), GREY)


@pytest.mark.parametrize(("keys", "chosen"), [("xy", None), ("x", "z"), ("", None)])
def test_an_array_that_cannot_be_meant_is_refused_with_those_there_are(
    tmp_path: Path, keys: str, chosen: str | None
) -> None:
    path = write_npz(tmp_path / "a.npz", False, **dict.fromkeys(keys, GREY))
    there = ", ".join(keys) or "none"
    with pytest.raises(DataError, match=f"has the arrays {there}: set .*image_column"):
        open_source(str(path), options(image_column=chosen))


@pytest.mark.parametrize(
    "values",
    [
        np.arange(20) % 3,
        (np.arange(20) % 3).astype(np.uint8)[:, None],
        np.array(list("012" * 7)[:20]),
    ],
)
@pytest.mark.parametrize("compressed", [False, True])
def test_labels_stand_in_another_array(
    tmp_path: Path, values: np.ndarray, compressed: bool
) -> None:
    path = write_npz(tmp_path / "a.npz", compressed, x=GREY, label=values)
    assert labels(path, labels="column")[:4] == ["0", "1", "2", "0"]
    assert labels(path) == labels(path, labels="none") == [None] * 20
    assert fingerprint(path, labels="column") != fingerprint(path)


@pytest.mark.parametrize(
    "values", [np.arange(19), np.zeros(20), np.zeros((20, 2), int)]
)
def test_other_arrays_are_no_labels(tmp_path: Path, values: np.ndarray) -> None:
    path = write_npz(tmp_path / "a.npz", False, x=GREY, label=values)
    with pytest.raises(DataError, match="labels are 20 whole numbers or texts"):
        open_source(str(path), options(labels="column"))


def test_labels_that_are_not_there_are_refused(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", GREY)
    with pytest.raises(DataError, match="no such array; there are: no arrays beside"):
        open_source(str(tmp_path / "a.npy"), options(labels="column"))
    path = write_npz(tmp_path / "b.npz", False, x=GREY)
    with pytest.raises(DataError, match=r"'label'.*there are: x"):
        open_source(str(path), options(labels="column"))


@pytest.mark.parametrize(
    ("array", "message"),
    [
        (GREY / 255, r"float64, shape \(20, 9, 11\).*255 \* images"),
        (GREY.astype(np.int32), "int32"),
        (GREY > 9, "bool"),
        (np.asfortranarray(GREY), "Fortran order: save np.ascontiguousarray"),
        (GREY[0, 0], r"shape \(11,\).*Images are \(N, H, W\)"),
        (np.zeros((5, 8, 8, 4), np.uint8), "Images are"),
        (np.zeros((5, 0, 8), np.uint8), "Images are"),
        (GREY[:0], "Images are"),
        (np.zeros((1, 1, 2**20 + 1), np.uint8), "exceed ingestion.max_mib=1"),
    ],
)
def test_arrays_that_are_no_images_are_refused(
    tmp_path: Path, array: np.ndarray, message: str
) -> None:
    np.save(tmp_path / "a.npy", array)
    with pytest.raises(DataError, match=message):
        open_source(str(tmp_path / "a.npy"), options(max_mib=1))


def test_objects_are_never_unpickled(tmp_path: Path) -> None:
    np.save(tmp_path / "a.npy", np.array([print] * 3), allow_pickle=True)
    with pytest.raises(DataError, match="object"):
        open_source(str(tmp_path / "a.npy"), options())
    path = write_npz(tmp_path / "b.npz", False, x=GREY, label=np.array([print] * 20))
    with pytest.raises(DataError, match="object"):
        open_source(str(path), options(labels="column"))


@pytest.mark.parametrize("compressed", [False, True])
def test_images_are_in_memory_one_at_a_time(tmp_path: Path, compressed: bool) -> None:
    images = np.zeros((500, 200, 200), np.uint8)  # 20 MB
    path = write_npz(tmp_path / "a.npz", compressed, x=images)
    del images
    source = open_source(str(path), options())
    assert traced(lambda: sum(1 for _ in source.read(0, 500)))[1] < 2
