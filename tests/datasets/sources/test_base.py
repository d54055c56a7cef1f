"""Names of entries: images, hidden ones, and those that lead outside."""

import pytest

from lct_pipeline.datasets.sources.base import is_image_name, readable, refused_name


@pytest.mark.parametrize(
    ("name", "expected"),
    [
        ("a.jpg", True),
        ("a/b.TIFF", True),
        ("./a.png", True),
        ("../a.png", True),  # an entry, which is refused by its name
        ("a.png.txt", False),
        ("png", False),
        (".a.png", False),
        ("a/.b/c.png", False),
        ("__MACOSX/a/._b.png", False),
    ],
)
def test_images_are_told_by_their_suffix_unless_hidden(
    name: str, expected: bool
) -> None:
    assert is_image_name(name) is expected


@pytest.mark.parametrize("name", ["a/b.png", "a..b/c...png", "C/x.png", "ab:c.png"])
def test_names_that_stay_inside_are_not_refused(name: str) -> None:
    assert refused_name(name) is None


@pytest.mark.parametrize(
    ("name", "reason"),
    [
        ("../../escaped.png", "'..'"),
        ("a/../../b.png", "'..'"),
        ("a\\..\\b.png", "'..'"),
        ("/etc/absolute.png", "absolute"),
        ("\\\\host\\share.png", "absolute"),
        ("C:/windows.png", "drive letter"),
        ("c:relative.png", "drive letter"),
        ("x" * 501 + ".png", "505 characters"),
    ],
)
def test_names_that_lead_outside_or_have_no_end_are_refused(
    name: str, reason: str
) -> None:
    assert reason in str(refused_name(name))


def test_any_name_can_be_written_as_utf_8() -> None:
    assert readable("bücher/☃.png") == "bücher/☃.png"
    assert readable("\udcff\udc00x").encode() == b"\\udcff\\udc00x"
    assert len(readable("x" * 10_000)) == 500
