"""A run is one thing: what a command gives or finds has to be what its weights were made of."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from kedro.framework.project import pipelines
from pandas import DataFrame

from lct_pipeline.commands import command
from lct_pipeline.config_loader import LctConfigLoader
from lct_pipeline.datasets.checkpoints import CheckpointHeader, refuse_others
from lct_pipeline.datasets.files import missing
from lct_pipeline.datasets.splits import images_digest
from lct_pipeline.errors import DataError, ParameterError
from lct_pipeline.evaluation.feature_spaces import extractor_digest
from lct_pipeline.parameters import differences
from lct_pipeline.runs.reading import find_run
from lct_pipeline.training.task import init_checkpoint, refuse_other_values

logger = logging.getLogger(__name__)

# what is made of the values of a group, by the names of the digests that tell it from others
MADE_OF = {
    "ingestion": ("images",),
    "encoding": ("autoencoder", "normalisation"),
    "features": ("extractor",),
}
SHOWN = 3


@dataclass(frozen=True)
class Identity:
    """What a run is, as its record and its weights say it, beside what a command is about to do.

    Attributes:
        config: The parameters, and which of them the run itself was made with.
        pipeline: What is going to run.
        catalog: Its data.
    """

    config: LctConfigLoader
    pipeline: Any
    catalog: Any

    def check(self) -> None:
        """Refuse what is not of this run, and what is not there, before anything is written.

        Raises:
            ParameterError: A value is given that is not the run's.
            DataError: What is here belongs to other weights, or is missing.
        """
        if self._weights is not None:
            self._refuse_other_values()
        self._refuse_missing()
        if self._weights is not None and "decoder" in self.pipeline.inputs():
            self._refuse_other_files()
        self._tell()

    def check_images(self, manifest: DataFrame) -> None:
        """Refuse other images than those that a finished training was of.

        Raises:
            DataError: The source holds others now.
        """
        weights, training = self._weights, self.config.checked.training
        if weights is not None and weights.step >= training.num_steps:
            refuse_others(self._run, self._known, {"images": images_digest(manifest)})

    @property
    def _run(self) -> str:
        return self.config.run_name()

    @cached_property
    def _weights(self) -> CheckpointHeader | None:
        """What the newest checkpoint says of itself; None where this project trained none."""
        store = self.catalog.get("checkpoints").load()
        names = store.names()
        header = store.header(names[-1]) if names else None
        return None if header is None or header.trained_on is None else header

    @cached_property
    def _known(self) -> dict[str, str]:
        assert self._weights is not None
        return {**(self._weights.trained_on or {}), **self._indexed_extractor()}

    def _indexed_extractor(self) -> dict[str, str]:
        """Return the digest of the extractor; none where the index is going to be written."""
        index = self.catalog.get("checkpoint_index")
        if "checkpoint_index" in self.pipeline.all_outputs() or not index.exists():
            return {}
        rows = index.load().rows
        return (
            {} if "extractor" not in rows else {"extractor": rows["extractor"].iloc[-1]}
        )

    @cached_property
    def _here(self) -> dict[str, str]:
        found = {"extractor": extractor_digest(self.config.checked.features)}
        found |= self.catalog.get("decoder").digests()
        manifest = self.catalog.get("latent_manifest")
        if manifest.exists():
            found["images"] = images_digest(manifest.load())
        return found

    def refuse_unnamed(self) -> None:
        """Refuse what the record alone says, where this pipeline would open or run it.

        Raises:
            ParameterError: A value that names a file or code stands in the record of the run alone.
        """
        groups = {name.split(":")[1].split(".")[0] for name in self._parameters()}
        for key, value in self.config.unnamed_outside_values().items():
            if key.partition(".")[0] in groups:
                raise ParameterError(
                    f"{key}={value} stands in the record of run {self._run} alone, and a record "
                    "says neither which files are read nor which code runs. Where you want it, "
                    f"give it again: {self._command(**{key: value})}."
                )

    def _command(self, **changes: Any) -> str:
        found = (n for n, p in pipelines.items() if p.nodes == self.pipeline.nodes)
        return command(next(found, None), **changes)

    def _parameters(self) -> Iterator[str]:
        return (name for name in self.pipeline.inputs() if name.startswith("params:"))

    def _refuse_other_values(self) -> None:
        """Refuse what is given and is neither what made the weights nor shown to be the same."""
        recorded, values = (
            self.config.recorded,
            self.config.checked.model_dump(mode="json"),
        )
        if not recorded:
            return
        refuse_other_values(recorded["training"], values["training"])
        for group, made in MADE_OF.items():
            other = differences({group: recorded[group]}, {group: values[group]})
            unlike = [n for n in made if self._known.get(n) != self._here.get(n)]
            if other and any(name in self._known for name in unlike):
                key, (before, now) = next(iter(other.items()))
                raise ParameterError(
                    f"run {self._run} was made with {key}={before}, not {now}: its "
                    f"{' and '.join(unlike)} would be others. Leave {key} out to go on with the "
                    "run's own, or give another name: --params=run_id=<name>."
                )

    def _refuse_other_files(self) -> None:
        """Refuse another autoencoder, normalisation, or other images, whatever values say."""
        if "autoencoder" not in self._here:
            raise DataError(missing(f"the autoencoder of run {self._run}", "encode"))
        is_measured = "params:features" in self.pipeline.inputs()
        here = {n: d for n, d in self._here.items() if n != "extractor" or is_measured}
        refuse_others(self._run, self._known, here)

    def _refuse_missing(self) -> None:
        """Refuse to begin where a later node would not find what it needs."""
        inputs, training = self.pipeline.inputs(), self.config.checked.training
        if "init_from_checkpoints" in inputs:
            init_checkpoint(self.catalog.get("init_from_checkpoints").load(), training)
        if "checkpoint_index" in inputs:
            self._refuse_missing_weights()
        for name in sorted(inputs):
            dataset = self.catalog.get(name)
            made_by = getattr(dataset, "written_by", None)
            if made_by and not name.startswith("previous_") and not dataset.exists():
                raise DataError(missing(f"{name} of run {self._run}", made_by))

    def _refuse_missing_weights(self) -> None:
        """Refuse a name that no run has, and models that cannot be built for what needs them."""
        if self.config.run_id is not None:
            find_run(self.config.project or Path(), self.config.run_id)
        store = self.catalog.get("checkpoints").load()
        if store.names() and {"models", "exported_model"} & self.pipeline.all_outputs():
            store.network(store.names()[-1])

    def _tell(self) -> None:
        """Say which values are the run's own and not those of conf/."""
        named = {group: self.config.named[group] for group in self.config.recorded}
        values = self.config.checked.model_dump(mode="json", include=set(named))
        other = differences(named, values)
        if other:
            shown = [f"{key}={now}" for key, (_, now) in other.items()][:SHOWN]
            more = f" and {len(other) - SHOWN} more" if len(other) > SHOWN else ""
            logger.info(
                "Run %s goes on with the values that it was made with, not those of conf/: %s%s.",
                self._run,
                ", ".join(shown),
                more,
            )
