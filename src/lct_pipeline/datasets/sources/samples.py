"""Which pictures of a sample are the images: beside them, masks and targets lie in data sets too.

As in a WebDataset, files of one folder and base name up to its first dot are a sample, and the rest
of the name is what a file is in it, its ending: ``000.jpg``, ``000.seg.png``.
"""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Sequence
from itertools import groupby
from operator import itemgetter

from lct_pipeline.datasets.sources.base import SourceOptions
from lct_pipeline.errors import DataError

logger = logging.getLogger(__name__)


def chosen_pictures(
    names: Sequence[str], source: str, options: SourceOptions
) -> list[int]:
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
    by_sample = groupby(parts, itemgetter(0))
    samples = Counter(frozenset(e for _, e in group) for _, group in by_sample)
    several = [endings for endings in samples if len(endings) > 1]
    column = options.column_of_images
    wanted = {part.strip(" .").lower() for part in (column or "").split(";")}
    if column is not None and not (options.shared and wanted.isdisjoint(counts)):
        is_clear = wanted <= counts.keys()
    elif len(counts) > samples.total():
        return list(range(len(names)))
    else:
        others = {e for endings in several for e in endings if "." in e}
        is_clear = all(len(endings - others) == 1 for endings in several)
        wanted = counts.keys() - others
    if not is_clear:
        found = ", ".join(f"{end} ({n})" for end, n in counts.most_common(8))
        raise DataError(
            f"ingestion.source={source!r} has pictures with the endings {found}, and several in a "
            "sample: set ingestion.image_column to that of the images, such as jpg or input.jpg."
        )
    chosen = [n for n, (_, ending) in enumerate(parts) if ending in wanted]
    if len(chosen) < len(names):
        what = ", ".join(sorted(wanted)), len(chosen), len(names)
        logger.info("Images are those with the ending %s: %d of %d pictures.", *what)
    return chosen


def _sample_and_ending(name: str) -> tuple[str, str]:
    folder, slash, base = name.rpartition("/")
    start, _, ending = base.partition(".")
    return folder + slash + start, ending.lower()
