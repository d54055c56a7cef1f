"""Which pictures of a sample are images."""

from pathlib import Path

import pytest
from made_sources import options, read, write_folder, write_tar, write_zip

from lct_pipeline.datasets.sources import open_source
from lct_pipeline.errors import DataError

WRITE = {"images": write_folder, "images.zip": write_zip, "images.tar": write_tar}


def source(tmp_path: Path, kind: str, *endings: str) -> Path:
    """Return a source of four samples with all of these endings, and one with the first alone."""
    names = [f"a/{n}.{ending}" for n in range(4) for ending in endings]
    files = {name: name.encode() for name in [*names, f"a/9.{endings[0]}"]}
    return WRITE[kind](tmp_path / kind, files)


@pytest.mark.parametrize("kind", WRITE)
@pytest.mark.parametrize(
    ("endings", "column", "chosen"),
    [
        (("jpg", "seg.png"), None, ["jpg"]),
        (("jpg", "seg.png"), ".JPG", ["jpg"]),
        (("jpg", "seg.png"), "seg.png", ["seg.png"]),
        (("input.jpg", "target.jpg"), "target.jpg", ["target.jpg"]),
        (("jpg", "png"), "png; jpg", ["jpg", "png"]),
        (("jpg",), None, ["jpg"]),
        (("final.jpg",), None, ["final.jpg"]),
        (tuple(f"{n}.jpg" for n in range(9)), None, [f"{n}.jpg" for n in range(9)]),
    ],
)
def test_images_are_those_of_an_ending(
    tmp_path: Path,
    kind: str,
    endings: tuple[str, ...],
    column: str | None,
    chosen: list[str],
) -> None:
    path = source(tmp_path, kind, *endings)
    found = read(path, image_column=column)
    expected = {f"a/{n}.{ending}" for n in range(4) for ending in chosen}
    expected |= {f"a/9.{endings[0]}"} & {f"a/9.{ending}" for ending in chosen}
    assert {image.name for image in found} == expected
    assert all(image.content == image.name.encode() for image in found)
    assert read(path, 2, 3, image_column=column) == found[2:3]


@pytest.mark.parametrize("kind", WRITE)
@pytest.mark.parametrize(
    ("endings", "column"),
    [
        (("input.jpg", "target.jpg"), None),
        (("jpg", "png"), None),
        (("jpg", "seg.png"), "webp"),
    ],
)
def test_what_may_be_several_is_refused(
    tmp_path: Path, kind: str, endings: tuple[str, ...], column: str | None
) -> None:
    path = str(source(tmp_path, kind, *endings))
    with pytest.raises(
        DataError, match=rf"{endings[0]} \(5\), {endings[1]} \(4\).*set"
    ):
        open_source(path, options(image_column=column))


def test_shards_are_left_with_the_images_alone(tmp_path: Path) -> None:
    for shard in range(2):
        names = [f"{shard}{n}.{end}" for n in range(3) for end in ("seg.png", "jpg")]
        files = {name: name.encode() for name in names}
        write_tar(tmp_path / "shards" / f"{shard}.tar", files | {"x.cls": b"1"})
    found = read(tmp_path / "shards")
    assert [raw.content for raw in found] == [
        f"{shard}{n}.jpg".encode() for shard in range(2) for n in range(3)
    ]
    assert read(tmp_path / "shards", 2, 4) == found[2:4]
