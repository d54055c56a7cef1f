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

# title of a model, the file it is in, and the pipeline that writes that
MADE = {
    "combined": ("combined model", "combined_model", "combine"),
    "best_ema": ("best EMA", "best_ema", "evaluate"),
}


@dataclass(frozen=True)
class Chosen:
    """A model.

    Attributes:
        title: What of the run it is, as text.
        weights: Name of the checkpoint or combination.
        evaluated_as: What the evaluation calls it; None where it is not evaluated.
        tensors: State dict of the raw network.
        network: Description of the network.
    """

    title: str
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
    if name not in MADE:
        return _checkpoint(name, catalog)
    title, stored, pipeline = MADE[name]
    file = run.tensors(stored)
    if file is None:
        raise ParameterError(
            f"export.model: there is no {title} yet. Run `kedro run --pipeline={pipeline}` first, "
            "or take the last checkpoint: --params=export.model=last."
        )
    return _chosen(title, file.metadata["name"], name, file)


def _best(combination: CombinationResult | None) -> str:
    if combination is None:  # nothing was compared with the best EMA yet
        return "best_ema"
    return "combined" if combination.is_selected else combination.best_baseline


def _checkpoint(name: str, catalog: CheckpointCatalog) -> Chosen:
    index = catalog.rows
    raw = index[index["kind"] == "raw"].sort_values("step")
    is_last = name == "last"
    rows = raw.tail(1) if is_last else index.query("name == @name")
    if rows.empty:
        raise ParameterError(
            f"export.model={name}: give best, combined, best_ema, last or the name of a "
            f"checkpoint, such as {raw['name'].iloc[-1]}."
        )
    row = rows.iloc[0]
    title, evaluated_as = ("last checkpoint", name) if is_last else ("checkpoint", None)
    file = catalog.store.read(row["name"], row["digest"])
    return _chosen(title, row["name"], evaluated_as, file)


def _chosen(
    title: str, weights: str, evaluated_as: str | None, file: TensorFile
) -> Chosen:
    if file.metadata.get("network") is None:
        raise ParameterError(
            f"{weights} was written by another trainer, whose network this project does not know: "
            "it cannot be exported."
        )
    network = ModelDescription.from_json(file.metadata["network"])
    return Chosen(title, weights, evaluated_as, file.tensors, network)
