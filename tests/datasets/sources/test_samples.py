"""Which pictures of a sample are images."""

from pathlib import Path

import pytest
from made_sources import WRITE, read, write_tar

from lct_pipeline.errors import DataError

NUMBERED = [f"{n}.jpg" for n in range(9)]


@pytest.mark.parametrize("kind", WRITE)
@pytest.mark.parametrize(
    ("endings", "column", "chosen"),
    [
        (["jpg", "seg.png"], None, ["jpg"]),
        (["jpg", "seg.png"], ".JPG", ["jpg"]),
        (["jpg", "seg.png"], "webp", None),
        (["input.jpg", "target.jpg"], "target.jpg", ["target.jpg"]),
        (["input.jpg", "target.jpg"], None, None),
        (["jpg", "png"], "png; jpg", ["jpg", "png"]),
        (["jpg", "png"], None, None),
        (["final.jpg"], None, ["final.jpg"]),
        (NUMBERED, None, NUMBERED),  # cat.0.jpg, cat.1.jpg, ...: no endings
    ],
)
def test_images_are_those_of_an_ending_and_what_may_be_several_is_refused(
    tmp_path: Path,
    kind: str,
    endings: list[str],
    column: str | None,
    chosen: list[str] | None,
) -> None:
    names = [f"a/{n}.{ending}" for n in range(4) for ending in endings]
    files = {name: name.encode() for name in [*names, f"a/9.{endings[0]}"]}
    path = WRITE[kind](tmp_path / kind, files)
    if chosen is None:
        with pytest.raises(DataError, match=rf"{endings[0]} \(5\), {endings[1]} \(4\)"):
            read(path, image_column=column)
        return
    found = read(path, image_column=column)
    expected = {name for name in files if name[4:] in chosen}
    assert {image.name for image in found} == expected
    assert all(image.content == image.name.encode() for image in found)
    assert read(path, 2, 3, image_column=column) == found[2:3]


def test_shards_are_left_with_the_images_alone(tmp_path: Path) -> None:
    for shard in range(2):
        names = [f"{shard}{n}.{end}" for n in range(3) for end in ("seg.png", "jpg")]
        files = {name: name.encode() for name in names}
        write_tar(tmp_path / "shards" / f"{shard}.tar", files)
    found = read(tmp_path / "shards")
    expected = [b"%d%d.jpg" % (shard, n) for shard in range(2) for n in range(3)]
    assert [raw.content for raw in found] == expected
    assert read(tmp_path / "shards", 2, 4) == found[2:4]
