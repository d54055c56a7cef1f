"""The index of a run's checkpoints, and copies of those of another trainer in our own store."""

from __future__ import annotations

import logging
import shutil
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from pandas import DataFrame

from lct_pipeline.datasets.checkpoints import (
    BELONGINGS,
    CheckpointHeader,
    CheckpointStore,
    Files,
)
from lct_pipeline.datasets.external_checkpoints import ExternalCheckpoints
from lct_pipeline.datasets.parts import Last
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.datasets.weight_files import UnreadableError
from lct_pipeline.errors import DataError, ParameterError
from lct_pipeline.evaluation.feature_spaces import extractor_digest
from lct_pipeline.parameters import first_difference
from lct_pipeline.parameters.evaluation import Features
from lct_pipeline.progress import gibibytes, track

COLUMNS = {  # as headers say them; of other trainers' checkpoints most are missing
    "step": "int64",
    "num_images": "Int64",
    "num_levels": "Int64",
    "kind": "str",
    "ema_rate": "float64",
    "ema_width": "float64",
    "loss": "float64",
    "parameters_digest": "string",
}

LONGEST_WRITE = 600.0  # seconds since which a file that cannot be read is no new one

logger = logging.getLogger(__name__)


def index_of(checkpoints: CheckpointStore, features: Features) -> DataFrame:
    """Return one row per checkpoint, sorted by step; tensors are not read.

    A row says what a model of this project belongs to: digests of the images, autoencoder and
    normalisation that it was trained on, and of the extractor that its run is measured by.

    Raises:
        DataError: There is no checkpoint, or one is truncated.
    """
    extractor = extractor_digest(features)
    rows = [
        {
            "name": name,
            "run": checkpoints.run,
            **{column: getattr(header, column) for column in COLUMNS},
            **_belongings(header, extractor),
            "digest": header.digest,
            "bytes": checkpoints.path(name).stat().st_size,
        }
        for name, header in checkpoints.headers().items()
    ]
    if not rows:
        raise DataError(f"{checkpoints.folder} holds no checkpoint: train first.")
    index = DataFrame(rows).astype(COLUMNS | dict.fromkeys(BELONGINGS, "string"))
    return index.sort_values(["step", "name"], ignore_index=True)


def _belongings(header: CheckpointHeader, extractor: str) -> dict[str, str | None]:
    known = header.trained_on and {**header.trained_on, "extractor": extractor}
    return {name: (known or {}).get(name) for name in BELONGINGS}


def copied_checkpoints(
    external_checkpoints: ExternalCheckpoints | None,
    previous_checkpoints: CheckpointStore,
) -> Iterator[Files | Last[Files]]:
    """Copy, or go on copying; yield one checkpoint at a time.

    Raises:
        ParameterError: No folder of checkpoints is named.
        DataError: The run holds other checkpoints, or one that is copied is refused.
    """
    if external_checkpoints is None:
        raise ParameterError(
            "no checkpoints to catalog are named: give their folder and a name for the run, "
            "--params=cataloging.source=<folder>,run_id=<name>."
        )
    found = external_checkpoints.checkpoints
    files = {f"step-{file.step:07d}-raw": file for file in found}
    origins = {name: external_checkpoints.origin(file) for name, file in files.items()}
    folder, stored = previous_checkpoints.folder, previous_checkpoints.headers()
    for name, header in stored.items():
        _check_stored(f"{folder} holds {name}", header.source, origins.get(name))
    missing = [name for name in files if name not in stored]
    if missing:
        _tell_size(len(missing), external_checkpoints.num_bytes, folder)
    total, there = len(files), len(stored)
    differing: set[str] = set()
    for name in track(missing, "import", "checkpoint", total=total, initial=there):
        try:
            tensors = external_checkpoints.read(files[name])
            said = external_checkpoints.said(files[name])
        except UnreadableError as error:
            if name != [*files][-1] or files[name].age > LONGEST_WRITE:
                raise
            logger.warning(
                "Still being written, it waits for the next import: %s", error
            )
            continue
        differing |= external_checkpoints.differing(tensors)
        about = CheckpointHeader(files[name].step, said=said, source=origins[name])
        yield {name: TensorFile(tensors, about.as_metadata())}
    if differing:
        logger.warning(
            "Whole numbers that differ between checkpoints are not combined, but taken from the "
            "last: %s. Counters such as num_batches_tracked do no harm; leave others out with "
            "cataloging.names.",
            ", ".join(sorted(differing)),
        )
    yield Last({})


def _check_stored(
    place: str, stored: dict[str, Any] | None, origin: dict[str, Any] | None
) -> None:
    """Refuse a stored checkpoint that is not a copy of what is to be imported now."""
    if stored == origin:
        return
    if stored is None:
        raise DataError(
            f"{place}, which this project trained itself: give another run_id."
        )
    if origin is None:
        difference = f"{stored['file']}, which cataloging.source does not have"
    else:
        difference = f"other than now: {first_difference(stored, origin)}"
    raise DataError(
        f"{place}, which was imported from {difference}. Give another run_id, or remove that "
        "folder to import anew."
    )


def _tell_size(num_checkpoints: int, num_bytes: int, folder: Path) -> None:
    """Log how much disk the copies take; warn where less is free."""
    there = next(path for path in [folder, *folder.parents] if path.exists())
    free, needed = shutil.disk_usage(there).free, num_checkpoints * num_bytes
    logger.log(
        logging.WARNING if free < needed else logging.INFO,
        "%d checkpoints to copy as float32: %s in %s, where %s are free.",
        num_checkpoints,
        gibibytes(needed),
        folder,
        gibibytes(free),
    )
