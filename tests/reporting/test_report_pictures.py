"""Images as data URIs."""

import base64
import io

import numpy as np
import torch
from PIL import Image

from lct_pipeline.reporting.pictures import LARGEST_SIDE, Picture, strip


def opened(picture: Picture) -> np.ndarray:
    _, _, data = picture.uri.partition(",")
    return np.array(Image.open(io.BytesIO(base64.b64decode(data))))


def test_a_strip_shows_the_images_unchanged_with_gaps() -> None:
    images = torch.randint(0, 256, (5, 3, 8, 8), dtype=torch.uint8)
    picture = strip(images, 2, 2)
    sheet = opened(picture)
    assert (picture.width, picture.height, picture.pixelated) == (17, 17, True)
    third = images[2].permute(1, 2, 0).numpy()
    assert np.array_equal(sheet[9:, :8, :3], third)
    assert not sheet[8, :, 3].any()  # transparent


def test_large_images_are_made_smaller() -> None:
    picture = strip(torch.zeros(1, 3, 300, 300, dtype=torch.uint8), 4)
    assert opened(picture).shape[:2] == (LARGEST_SIDE, LARGEST_SIDE)
    assert picture.uri.startswith("data:image/webp") and not picture.pixelated
