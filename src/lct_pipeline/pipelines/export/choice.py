"""Which of a run's models is exported."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lct_pipeline.datasets.checkpoints import CheckpointCatalog
from lct_pipeline.datasets.results import CombinationResult
from lct_pipeline.datasets.run_folder import RunFolder
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import ParameterError
from lct_pipeline.models.description import ModelDescription

# the file that a model is in, and the pipeline that writes it
MADE = {
    "combined": ("combined_model", "combine"),
    "best_ema": ("best_ema", "evaluate"),
}


@dataclass(frozen=True)
class Chosen:
    """A model.

    Attributes:
        weights: Name of the checkpoint or combination.
        evaluated_as: What the evaluation calls it; None where it is not evaluated.
        tensors: State dict of the raw network.
        network: Description of the network.
    """

    weights: str
    evaluated_as: str | None
    tensors: dict[str, Tensor]
    network: ModelDescription


def choose_model(name: str, run: RunFolder, catalog: CheckpointCatalog) -> Chosen:
    """Return the model that ``export.model`` names.

    Raises:
        ParameterError: There is none of that name, or not yet.
    """
    if name == "best":
        name = _best(run.combination)
    is_made = name in MADE
    weights, file = _made(name, run) if is_made else _checkpoint(name, catalog)
    network = file.metadata.get("network")
    if network is None:
        raise ParameterError(
            f"{weights} was written by another trainer, whose network this project does not know: "
            "it cannot be exported."
        )
    evaluated_as = name if is_made or name == "last" else None
    description = ModelDescription.from_json(network)
    return Chosen(weights, evaluated_as, file.tensors, description)


def _best(combination: CombinationResult | None) -> str:
    if combination is None:  # nothing was compared with the best EMA yet
        return "best_ema"
    return "combined" if combination.is_selected else combination.best_baseline


def _made(name: str, run: RunFolder) -> tuple[str, TensorFile]:
    stored, pipeline = MADE[name]
    file = run.tensors(stored)
    if file is None:
        raise ParameterError(
            f"export.model: there is no {name} yet. Run `kedro run --pipeline={pipeline}` first, "
            "or take the last checkpoint: --params=export.model=last."
        )
    return file.metadata["name"], file


def _checkpoint(name: str, catalog: CheckpointCatalog) -> tuple[str, TensorFile]:
    index = catalog.rows
    raw = index[index["kind"] == "raw"].sort_values("step")
    rows = raw.tail(1) if name == "last" else index[index["name"] == name]
    if rows.empty:
        raise ParameterError(
            f"export.model={name}: give best, combined, best_ema, last or the name of a "
            f"checkpoint, such as {raw['name'].iloc[-1]}."
        )
    row = rows.iloc[0]
    return row["name"], catalog.store.read(row["name"], row["digest"])
