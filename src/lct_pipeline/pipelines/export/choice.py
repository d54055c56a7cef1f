"""Which of a run's models is exported."""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor

from lct_pipeline.datasets.checkpoints import CheckpointCatalog
from lct_pipeline.datasets.results import CombinationResult
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import ParameterError
from lct_pipeline.models.description import ModelDescription


@dataclass(frozen=True)
class Chosen:
    """A model.

    Attributes:
        title: What of the run it is, in words.
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


def choose_model(
    name: str,
    catalog: CheckpointCatalog,
    best_ema: TensorFile | None,
    combined_model: TensorFile | None,
    combination: CombinationResult | None,
) -> Chosen:
    """Return the model that ``export.model`` names.

    Raises:
        ParameterError: There is none of that name, or not yet.
    """
    if name == "best":
        name = _best(best_ema, combined_model, combination)
    if name == "combined":
        made = _made(combined_model, name, "combine")
        return _chosen("combined model", "combined", made)
    if name == "best_ema":
        made = _made(best_ema, name, "evaluate")
        return _chosen("best EMA", "best_ema", made)
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
    file = catalog.store.read(row["name"], row["digest"])
    title = "last checkpoint" if is_last else "checkpoint"
    return Chosen(
        title,
        row["name"],
        "last" if is_last else None,
        file.tensors,
        _network(file, row["name"]),
    )


def _best(
    best_ema: TensorFile | None,
    combined_model: TensorFile | None,
    combination: CombinationResult | None,
) -> str:
    if combined_model is not None and combination is not None:
        return "combined" if combination.is_selected else combination.best_baseline
    if best_ema is None:
        raise ParameterError(
            "export.model=best: nothing was compared yet. `kedro run --pipeline=evaluate` selects "
            "the best EMA; --params=export.model=last takes the last checkpoint."
        )
    return "best_ema"


def _made(file: TensorFile | None, name: str, pipeline: str) -> TensorFile:
    if file is None:
        raise ParameterError(
            f"export.model={name}: there is none yet. Run `kedro run --pipeline={pipeline}` first."
        )
    return file


def _chosen(title: str, evaluated_as: str, file: TensorFile) -> Chosen:
    name = file.metadata["name"]
    return Chosen(title, name, evaluated_as, file.tensors, _network(file, name))


def _network(file: TensorFile, name: str) -> ModelDescription:
    network = file.metadata.get("network")
    if network is None:
        raise ParameterError(
            f"{name} was written by another trainer, whose network this project does not know: it "
            "cannot be exported."
        )
    return ModelDescription.from_json(network)
