"""How values are made, and what has to agree where two of them are compared."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import partial
from importlib.metadata import version
from typing import Any

from pandas import DataFrame
from torch import Tensor

from lct_pipeline.models.autoencoder import to_uint8
from lct_pipeline.models.features.base import through_jpeg
from lct_pipeline.reporting.words import value_table

logger = logging.getLogger(__name__)

LIBRARIES = ("torch", "numpy", "Pillow", "clean-fid")  # that change pixels or features


@dataclass(frozen=True)
class ImageFormat:
    """What happens to images between the decoder and the feature extractor.

    Attributes:
        quantisation: How floats become 8 bits.
        file_format: What they are then stored as.
        quantise: Maps float images in [-1, 1], and what made them, to uint8.
        store: Maps uint8 images, real ones too, to what is read from their files.
    """

    quantisation: str
    file_format: str
    quantise: Callable[[Tensor, str], Tensor] = to_uint8
    store: Callable[[Tensor], Tensor] = lambda images: images


CLEAN = ImageFormat("rounded", "lossless")
# sLCT: clamped, times 255, truncated, JPEG files of Pillow's default quality, pytorch-fid
SLCT_PAPER = ImageFormat(
    "truncated", "JPEG, quality 75", partial(to_uint8, truncated=True), through_jpeg
)
# of files that are given; what datasets/decoding.py does where clean-fid does not
FILES = ImageFormat("as given", "as given, upright, over white, 16 bits to 8")
FORMATS = {"clean": CLEAN, "slct_paper": SLCT_PAPER}
PAPER_EXTRACTOR = "inception_pytorch"
PAPER_NUM_IMAGES = 50_176  # 50,000 in batches of 256, all of them used


def protocol_columns(**made: Any) -> dict[str, Any]:
    """Return what has to agree where two values are compared, with a digest that stands for it.

    The digest has eight hexadecimal digits: the same for comparable values alone.

    Args:
        made: Fields of :class:`~lct_pipeline.datasets.results.EvaluationRow`, which explains them.
    """
    text = json.dumps(made, sort_keys=True)
    return {"protocol": hashlib.sha256(text.encode()).hexdigest()[:8], **made}


def library_versions() -> str:
    """Return the versions of the libraries that change pixels or features, as one line."""
    return ", ".join(f"{name} {version(name)}" for name in LIBRARIES)


def by_protocol(table: DataFrame) -> Iterator[tuple[str, DataFrame]]:
    """Yield a headline and the rows of each protocol: only these may be compared."""
    for _, rows in table.groupby("protocol", sort=False):
        yield headline(next(rows.itertuples())), rows


def log_by_protocol(table: DataFrame) -> None:
    """Log what a person looks for at the end of a run, a table for each protocol."""
    for title, rows in by_protocol(table):
        texts = DataFrame.from_dict(value_table(rows.itertuples()), orient="index")
        logger.info("%s:\n%s", title, texts.to_string(na_rep=""))


def headline(row: Any) -> str:
    """Return in words how the value of a row was made: an ``EvaluationRow``, or one of a table."""
    resize = "" if row.resize == "none" else f" ({row.resize})"
    stored = ", as JPEG" if row.file_format == SLCT_PAPER.file_format else ""
    return (
        f"{row.extractor}{resize}, {row.num_generated:,} images against "
        f"{row.num_real:,} of {row.reference}{stored} [{row.protocol}]"
    )
