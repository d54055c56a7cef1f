"""The models of a run that are compared: their weights by name, and how each samples."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from kedro.io import AbstractDataset

from lct_pipeline.commands import command
from lct_pipeline.core.samplers import SamplingPlan
from lct_pipeline.datasets.atomic import AtomicDataset
from lct_pipeline.datasets.checkpoints import CheckpointCatalog
from lct_pipeline.datasets.tensors import TensorFile
from lct_pipeline.errors import DataError
from lct_pipeline.models.denoiser import ModelDescription


def last_weights(catalog: CheckpointCatalog) -> TensorFile:
    """Return the raw checkpoint of the last step, verified."""
    raw = catalog.rows[catalog.rows["kind"] == "raw"]
    last = raw.sort_values("step").iloc[-1]
    return catalog.store.read(last["name"], last["digest"])


def plans_from(said: list[dict[str, Any]]) -> list[SamplingPlan]:
    """Return plans that JSON says."""
    return [SamplingPlan(**{**p, "sigmas": tuple(p["sigmas"])}) for p in said]


@dataclass(frozen=True)
class ModelSet:
    """The models that were compared when their plans were selected, in that order.

    Attributes:
        plans: Sampling plans by model, the fewest evaluations first.
        improves: By model, whether a second evaluation was better; empty of diffusion models.
        datasets: Where weights come from, by model.
    """

    plans: dict[str, list[SamplingPlan]]
    improves: dict[str, bool | None]
    datasets: dict[str, AbstractDataset]

    @property
    def names(self) -> list[str]:
        """Return the names of the models; the last is the final one."""
        return list(self.plans)

    @property
    def network(self) -> ModelDescription:
        """Return the description of the network, which all of them share."""
        return ModelDescription.from_json(self.file("best_ema").metadata["network"])

    def file(self, name: str) -> TensorFile:
        """Return the weights of a model, and what is said of them; read each time.

        Raises:
            DataError: They are not there any more.
        """
        found = self.datasets[name].load()
        if found is None:
            raise DataError(
                f"the {name} model is gone: {command('evaluate')} makes its choices anew."
            )
        return last_weights(found) if isinstance(found, CheckpointCatalog) else found


class ModelSetDataset(AtomicDataset):
    """``ModelSetDataset`` keeps the plans, and loads them with the models they are of.

    Args:
        filepath: The plans, a JSON file.
        last: Configuration of the dataset of the checkpoint index.
        best_ema: Configuration of the dataset of the best EMA.
        combined: Configuration of the dataset of the combination.
        settings: See :class:`~lct_pipeline.datasets.atomic.AtomicDataset`.
    """

    def __init__(
        self,
        *,
        filepath: str,
        last: dict[str, Any],
        best_ema: dict[str, Any],
        combined: dict[str, Any],
        **settings: Any,
    ) -> None:
        super().__init__(filepath=filepath, written_by="evaluate", **settings)
        configs = {"last": last, "best_ema": best_ema, "combined": combined}
        self._datasets = {
            name: AbstractDataset.from_config(name, {**config})
            for name, config in configs.items()
        }

    def load(self) -> ModelSet | None:
        """Return the models; their weights are read when they are asked for.

        Raises:
            DataError: Plans were not selected yet.
        """
        said = super().load()
        if said is None:
            return None
        plans = {name: plans_from(own) for name, own in said["plans"].items()}
        return ModelSet(plans, said.get("two_step_improves", {}), self._datasets)
