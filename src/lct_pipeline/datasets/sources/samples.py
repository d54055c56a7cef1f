"""Which pictures of a sample are the images: beside them, masks and targets lie in data sets too.

As in a WebDataset, files of one folder and base name up to its first dot are a sample, and the rest
of the name is what a file is in it, its ending: ``000.jpg``, ``000.seg.png``.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from itertools import groupby

from lct_pipeline.datasets.sources.base import SourceOptions
from lct_pipeline.errors import DataError

logger = logging.getLogger(__name__)


def chosen_pictures(
    names: Sequence[str], source: str, options: SourceOptions
) -> Sequence[int]:
    """Return the places of the names that are images.

    Where samples have several pictures: those of the endings ``image_column``, separated by ``;``,
    or without it those of the only ending without a further dot. Where there are more endings than
    samples, dots are no more than parts of names, and all are images.

    Args:
        names: Of all pictures, those of a sample after each other.
        source: For messages.
        options: How the source is read.

    Raises:
        DataError: Several endings may be meant, or there is no such ending.
    """
    parts = [_sample_and_ending(name) for name in names]
    counts = Counter(ending for _, ending in parts)
    column = options.column_of_images
    if column is not None:
        wanted = {part.strip(" .").lower() for part in column.split(";")}
        if wanted & counts.keys() or not options.shared:
            _require(wanted <= counts.keys(), source, counts, f", not {column!r}")
            return _ending_in(parts, wanted)
    samples = Counter(
        frozenset(ending for _, ending in group)
        for _, group in groupby(parts, lambda part: part[0])
    )
    several = [endings for endings in samples if len(endings) > 1]
    if not several or len(counts) > samples.total():
        return range(len(names))
    others: set[str] = set()
    for endings in several:
        plain = {ending for ending in endings if "." not in ending}
        _require(len(plain) == 1, source, counts, ", several of them in a sample")
        others |= endings - plain
    logger.info(
        "%d pictures beside the images are ignored: .%s of %s; ingestion.image_column would choose "
        "them.",
        sum(counts[ending] for ending in others),
        ", .".join(sorted(others)),
        source,
    )
    return _ending_in(parts, counts.keys() - others)


def _sample_and_ending(name: str) -> tuple[str, str]:
    folder, slash, base = name.rpartition("/")
    start, _, ending = base.partition(".")
    return folder + slash + start, ending.lower()


def _ending_in(parts: Sequence[tuple[str, str]], endings: set[str]) -> list[int]:
    return [n for n, (_, ending) in enumerate(parts) if ending in endings]


def _require(
    holds: bool, source: str, counts: Counter[str], what_is_wrong: str
) -> None:
    if not holds:
        found = ", ".join(f"{end} ({n})" for end, n in counts.most_common(8))
        raise DataError(
            f"ingestion.source={source!r} has pictures with the endings {found}{what_is_wrong}: "
            "set ingestion.image_column to the ending of the images, such as jpg or input.jpg."
        )
