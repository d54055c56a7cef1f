"""What the tests of ingestion share: its parameters, and its pipeline on a source."""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from kedro.io import DataCatalog, MemoryDataset
from kedro.runner import SequentialRunner
from PIL import Image

from conftest import ROOT
from lct_pipeline.datasets.shards import ShardsDataset, ShardStore
from lct_pipeline.datasets.sources import ImageSource, open_source
from lct_pipeline.datasets.sources.base import SourceOptions
from lct_pipeline.parameters import Runtime
from lct_pipeline.parameters.data import Ingestion
from lct_pipeline.pipelines.ingestion import create_pipeline


def group(name: str, **changes: Any) -> dict[str, Any]:
    """Return a group of the base parameters, but for ``changes``."""
    path = ROOT / "conf" / "base" / f"parameters_{name}.yml"
    return {**yaml.safe_load(path.read_text())[name], **changes}


def ingestion(**changes: Any) -> Ingestion:
    """Return parameters of few small images, but for ``changes``."""
    few = {"image_size": 8, "splits": {"validation": 0.33, "test": 0.33}}
    return Ingestion.model_validate(group("ingestion", **{**few, **changes}))


def runtime(num_workers: int = 1) -> Runtime:
    """Return parameters of a run in a number of threads."""
    return Runtime.model_validate(group("runtime", num_workers=num_workers))


def opened(source: Path | str, parameters: Ingestion) -> ImageSource:
    """Return a source, opened as the catalog does."""
    fields = SourceOptions.__dataclass_fields__
    options = SourceOptions(**parameters.model_dump(include=set(fields)))
    return open_source(str(source), options)


def ingest(
    source: Path | str | ImageSource,
    folder: Path,
    parameters: Ingestion,
    num_workers: int = 1,
) -> tuple[pd.DataFrame, ShardStore]:
    """Run the pipeline; return the manifest as it is read back, and the shards."""
    if isinstance(source, Path | str):
        source = opened(source, parameters)
    manifest = MemoryDataset()
    entries = {
        "image_source": MemoryDataset(source, copy_mode="assign"),
        "previous_images": ShardsDataset(path=str(folder)),
        "images": ShardsDataset(path=str(folder)),
        "image_manifest": manifest,
        "params:ingestion": MemoryDataset(parameters),
        "params:runtime": MemoryDataset(runtime(num_workers)),
    }
    SequentialRunner().run(create_pipeline(), DataCatalog(entries))
    buffer = io.BytesIO()
    manifest.load().to_parquet(buffer)
    return pd.read_parquet(io.BytesIO(buffer.getvalue())), ShardStore(folder)


def noise_png(seed: int, width: int = 16, height: int = 12) -> bytes:
    """Return a picture of noise, which no file format compresses."""
    pixels = np.random.default_rng(seed).integers(0, 256, (height, width, 3), np.uint8)
    buffer = io.BytesIO()
    Image.fromarray(pixels).save(buffer, "PNG")
    return buffer.getvalue()
