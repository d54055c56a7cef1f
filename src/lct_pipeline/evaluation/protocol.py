"""How figures are made, and what has to agree where two of them are compared."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Callable, Iterator
from dataclasses import asdict, dataclass
from importlib.metadata import version
from typing import Any

import pandas as pd
from pandas import DataFrame
from torch import Tensor

from lct_pipeline.models.autoencoder.coding import to_uint8
from lct_pipeline.models.features.image_files import through_jpeg, truncate_to_uint8

logger = logging.getLogger(__name__)

LIBRARIES = ("torch", "numpy", "Pillow", "clean-fid")  # that change pixels or features


@dataclass(frozen=True)
class ImageFormat:
    """What happens to images between the decoder and the feature extractor.

    ``quantisation`` is how floats become 8 bits, ``file_format`` what they are then stored as:
    ``lossless`` or ``JPEG, quality 75``. Real images, which are 8 bits, are only stored.
    """

    quantisation: str
    file_format: str

    @property
    def quantise(self) -> Callable[[Tensor], Tensor]:
        """Return the function from float images in [-1, 1] to uint8."""
        return to_uint8 if self.quantisation == "rounded" else truncate_to_uint8

    @property
    def store(self) -> Callable[[Tensor], Tensor]:
        """Return the function from uint8 images to what is read from their files."""
        is_jpeg = self.file_format == SLCT_PAPER.file_format
        return through_jpeg if is_jpeg else lambda images: images


CLEAN = ImageFormat("rounded", "lossless")
# sLCT: clamped, times 255, truncated, JPEG files of Pillow's default quality, pytorch-fid
SLCT_PAPER = ImageFormat("truncated", "JPEG, quality 75")
FILES = ImageFormat("as given", "as given")  # of files that somebody else wrote
FORMATS = {"clean": CLEAN, "slct_paper": SLCT_PAPER}
PAPER_EXTRACTOR = "inception_pytorch"
PAPER_NUM_IMAGES = 50_176  # 50,000 in batches of 256, all of them used


@dataclass(frozen=True)
class Protocol:
    """What has to agree where two figures are compared; ``digest`` stands for all of it.

    Args:
        extractor: Name of the feature extractor.
        extractor_digest: Of its weights.
        resize: How images are resized for it.
        quantisation: How generated images became 8 bits.
        file_format: What images were stored as.
        reference: Which real images, or whose statistics of them.
        reference_digest: Of the real images, or of the statistics.
        num_generated: Number of generated images of one figure.
        num_real: Number of real images.
        kept_generated: Of how many generated images there are features, not moments alone: for
            kernel distance, precision, recall, density and coverage.
        kept_real: Likewise of real images.
    """

    extractor: str
    extractor_digest: str
    resize: str
    quantisation: str
    file_format: str
    reference: str
    reference_digest: str
    num_generated: int
    num_real: int
    kept_generated: int
    kept_real: int

    @property
    def digest(self) -> str:
        """Eight hexadecimal digits: the same for comparable figures alone."""
        text = json.dumps(asdict(self), sort_keys=True)
        return hashlib.sha256(text.encode()).hexdigest()[:8]

    def columns(self) -> dict[str, Any]:
        """Return what a row says about how its figure was made."""
        return {"protocol": self.digest, **asdict(self)}


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
        texts = rows.assign(text=[_with_spread(row) for _, row in rows.iterrows()])
        wide = texts.pivot(index=["model", "nfe"], columns="metric", values="text")
        wide = wide[rows["metric"].drop_duplicates()]
        wide = wide.reindex(rows["model"].drop_duplicates(), level="model")
        wide.columns = pd.Index([_short(str(metric)) for metric in wide])
        logger.info("%s:\n%s", title, wide.to_string(na_rep=""))


def _with_spread(row: pd.Series) -> str:
    """Return a figure with its standard deviation over seeds, or its error."""
    for name in ("std", "standard_error"):
        if not pd.isna(row[name]):
            return f"{row['value']:.3g} ± {row[name]:.1g}"
    return f"{row['value']:.3g}"


def _short(metric: str) -> str:
    """Return what a metric is called where the extractor is known."""
    title = metric.replace("_infinity", ", infinitely many")
    for part in ("fid", "kid"):
        title = title.replace(part, part.upper()) if title.startswith(part) else title
    for part, name in (("frechet_distance", "Frechet"), ("kernel_distance", "kernel")):
        if part in title:
            return name + title.partition(part)[2]
    return "score" if title.endswith("_score") else title


def headline(row: Any) -> str:
    """Return in words how the value of a row was made: an ``EvaluationRow``, or one of a table."""
    resize = "" if row.resize == "none" else f" ({row.resize})"
    stored = ", as JPEG" if row.file_format == SLCT_PAPER.file_format else ""
    return (
        f"{row.extractor}{resize}, {row.num_generated:,} images against "
        f"{row.num_real:,} of {row.reference}{stored} [{row.protocol}]"
    )
