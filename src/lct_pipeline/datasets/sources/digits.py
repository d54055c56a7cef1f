"""The built-in images."""

from __future__ import annotations

import hashlib
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
        self._images = (digits.images * (255 / 16)).round().astype(np.uint8)
        self._names = [f"digit-{number:04d}" for number in range(len(self._images))]
        self._labels = choose_labels(self._names, map(str, digits.target), options)
        content = hashlib.sha256(self._images.tobytes()).hexdigest()
        self.fingerprint = digest_of([BUILT_IN, content, self._labels.digest])

    def __len__(self) -> int:
        """Number of digits."""
        return len(self._images)

    def read(self, start: int, stop: int) -> Iterator[RawImage]:
        """Yield the digits in scikit-learn's order."""
        for number in range(start, min(stop, len(self))):
            label = self._labels[number]
            yield RawImage(self._names[number], self._images[number], label)
