"""Types in the signatures of nodes, importable without what makes their values.

Kedro evaluates the annotations of a node to check its parameters, so they cannot hide under ``if
TYPE_CHECKING``; and commands that only look at the pipelines need not wait for torch and pandas.
While a program runs each of these names is an empty class of that name.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from matplotlib.figure import Figure
    from pandas import DataFrame
    from plotly.graph_objects import Figure as Chart

    from lct_pipeline.datasets.autoencoder import StoredAutoencoder
    from lct_pipeline.datasets.checkpoints import CheckpointCatalog, CheckpointStore
    from lct_pipeline.datasets.decoder import Decoder
    from lct_pipeline.datasets.external_checkpoints import ExternalCheckpoints
    from lct_pipeline.datasets.model_set import ModelSet
    from lct_pipeline.datasets.reference import Reference
    from lct_pipeline.datasets.results import CombinationResult, EvaluationResult
    from lct_pipeline.datasets.run_folder import RunFolder
    from lct_pipeline.datasets.shards import ShardStore, ShardStream
    from lct_pipeline.datasets.sources import ImageSource
    from lct_pipeline.datasets.tensors import TensorFile
    from lct_pipeline.export.folder import ExportedModel
    from lct_pipeline.models.autoencoder import Autoencoder


def __getattr__(name: str) -> type:
    """Return an empty class in place of one that is imported above for type checkers."""
    if name.startswith("_"):
        raise AttributeError(name)
    return type(name, (), {"__doc__": f"Stands for {name} where Kedro evaluates it."})
