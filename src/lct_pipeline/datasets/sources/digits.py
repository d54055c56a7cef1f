"""The built-in images."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np

from lct_pipeline.datasets.sources.base import (
    ImageSource,
    RawImage,
    SourceOptions,
    digest_of,
)
from lct_pipeline.datasets.sources.labels import choose_labels

BUILT_IN = "digits"


class DigitsSource(ImageSource):
    """The 1,797 scanned handwritten digits, 8x8 grey, that scikit-learn ships."""

    def __init__(self, options: SourceOptions) -> None:
        from sklearn.datasets import load_digits

        digits = load_digits()
        pixels = (digits.images * (255 / 16)).round().astype(np.uint8)
        names = [f"digit-{number:04d}" for number in range(len(pixels))]
        labels = choose_labels(names, map(str, digits.target), options)
        self._images = list(map(RawImage, names, pixels, labels))
        self.fingerprint = digest_of(f"{i.digest}:{i.label!r}" for i in self._images)

    def __len__(self) -> int:
        """Number of digits."""
        return len(self._images)

    def read(self, start: int, stop: int) -> Iterator[RawImage]:
        """Yield the digits in scikit-learn's order."""
        yield from self._images[start:stop]
