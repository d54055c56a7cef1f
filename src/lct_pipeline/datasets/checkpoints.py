"""The checkpoints of a run: a folder with one file each, and their index."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import MISSING, dataclass, fields
from pathlib import Path
from typing import Any, Literal

from kedro.io import AbstractDataset
from kedro_datasets._typing import TablePreview
from pandas import DataFrame
from torch import Tensor

from lct_pipeline.commands import command
from lct_pipeline.datasets.atomic import AtomicDataset
from lct_pipeline.datasets.parts import (
    Last,
    close_folder,
    is_complete,
    open_folder,
    opened,
)
from lct_pipeline.datasets.previews import NOTHING, table_of_headers
from lct_pipeline.datasets.tensors import (
    DIGEST_KEY,
    TensorFile,
    read_header,
    read_tensors,
    write_tensors,
)
from lct_pipeline.errors import DataError
from lct_pipeline.given_files import indexed_file
from lct_pipeline.models.denoiser import ModelDescription, check_keys
from lct_pipeline.models.digests import digest_of_digests


@dataclass(frozen=True)
class CheckpointHeader:
    """What a checkpoint says of itself; what has a default, other trainers do not say.

    Attributes:
        step: Training steps so far.
        kind: Whether it is the weights of that step, or an average of them; all weights of another
            trainer are raw, for combinations are made of these.
        num_images: Training images seen so far.
        num_levels: Levels of the curriculum at that step.
        ends_stage: Whether a stage of the curriculum, or the run, ends with that step.
        loss: Training loss of that step.
        network: Description of the model.
        ema_rate: Rate of an average of kind ``ema``, per step.
        ema_width: Relative width sigma_rel of an average of kind ``power``.
        parameters_digest: Digest of the parameters of its training.
        said: What the other trainer's file says beside its tensors, texts by name; see
            ``weight_metadata.said_by``.
        trained_on: Digests of ``images``, ``autoencoder`` and ``normalisation``.
        source: File of another trainer that it is a copy of; see ``ExternalCheckpoints.origin``.
        digest: SHA-256 of the content of its file; None where it is not written yet.
    """

    step: int
    kind: Literal["raw", "ema", "power"] = "raw"
    num_images: int | None = None
    num_levels: int | None = None
    ends_stage: bool = False
    loss: float | None = None
    network: ModelDescription | None = None
    ema_rate: float | None = None
    ema_width: float | None = None
    parameters_digest: str | None = None
    said: dict[str, str] | None = None
    trained_on: dict[str, str] | None = None
    source: dict[str, Any] | None = None
    digest: str | None = None

    @classmethod
    def from_metadata(cls, metadata: Mapping[str, Any]) -> CheckpointHeader:
        """Return what the metadata of a file say.

        Raises:
            DataError: A key is missing or unknown.
        """
        values = {"digest" if k == DIGEST_KEY else k: v for k, v in metadata.items()}
        known = {field.name: field.default for field in fields(cls)}
        needed = [name for name, default in known.items() if default is MISSING]
        check_keys(values, needed, known, "the header of a checkpoint")
        if values.get("network") is not None:
            values["network"] = ModelDescription.from_json(values["network"])
        return cls(**values)

    def as_metadata(self) -> dict[str, Any]:
        """Return the metadata of its file, JSON values; the digest is added in writing."""
        values = {**vars(self)}
        del values["digest"]
        for name in ("said", "source", "trained_on"):
            if not values[name]:
                del values[name]
        if self.network is not None:
            values["network"] = self.network.as_json()
        return values


def tensor_types(tensors: Mapping[str, Tensor]) -> dict[str, str]:
    """Return type and shape of all tensors by name."""
    return {
        name: f"{str(tensor.dtype).removeprefix('torch.')} {tuple(tensor.shape)}"
        for name, tensor in tensors.items()
    }


def check_same_tensors(
    path: Path, tensors: Mapping[str, Tensor], expected: Mapping[str, str]
) -> None:
    """Refuse a checkpoint of another network than the first one, whose types are ``expected``.

    Raises:
        DataError: It is; names the first tensor that differs.
    """
    found = tensor_types(tensors)
    for name in [*expected, *found]:
        if expected.get(name) != found.get(name):
            raise DataError(
                f"{path} is of another network than the first checkpoint: tensor {name!r} is "
                f"{found.get(name, 'missing')}, expected {expected.get(name, 'none')}. Combine "
                "checkpoints of one training run, chosen by cataloging.pattern, or the tensors "
                "that all of them have, by cataloging.names."
            )


@dataclass(frozen=True)
class CheckpointStore:
    """A folder of checkpoints, one file each, read one at a time."""

    folder: Path

    @property
    def run(self) -> str:
        """Name of the run: the folder that holds the checkpoints."""
        return self.folder.parent.name

    def names(self) -> list[str]:
        """Return the names of all checkpoints, sorted: by step, then by kind."""
        return sorted(path.stem for path in self.folder.glob("[!.]*.safetensors"))

    def path(self, name: str) -> Path:
        """Return the file of a checkpoint."""
        return self.folder / f"{name}.safetensors"

    def header(self, name: str) -> CheckpointHeader:
        """Return what a checkpoint says of itself, without reading its tensors."""
        return CheckpointHeader.from_metadata(read_header(self.path(name))[0])

    def headers(self) -> dict[str, CheckpointHeader]:
        """Return what all checkpoints say of themselves, by name."""
        return {name: self.header(name) for name in self.names()}

    def network(self, name: str) -> ModelDescription:
        """Return the description of a checkpoint's model.

        Raises:
            DataError: Another trainer wrote it, which did not describe its model.
        """
        network = self.header(name).network
        if network is None:
            raise DataError(
                f"{self.path(name)} was written by another trainer, whose network this project "
                "does not know."
            )
        return network

    def digest(self, name: str) -> str:
        """Return the digest of a checkpoint's content, as its file says it."""
        return read_header(self.path(name))[0][DIGEST_KEY]

    def read(self, name: str, digest: str | None = None) -> TensorFile:
        """Return a checkpoint, verified against its own digest and against ``digest``.

        Raises:
            DataError: The file is missing, truncated, altered, or not the indexed one.
        """
        if digest is not None and self.digest(name) != digest:
            raise DataError(
                f"{self.path(name)} is not the checkpoint that was cataloged: run "
                f"{command('train')}, or with --pipeline=catalog where another trainer wrote it, "
                "to catalog what is there now."
            )
        return TensorFile(*read_tensors(self.path(name)))


Files = dict[str, TensorFile]


class CheckpointsDataset(AbstractDataset[Files | Last[Files], CheckpointStore]):
    """``CheckpointsDataset`` adds checkpoints to a folder and reads them back one by one.

    A save adds to what is there; the same name is replaced. They exist when the
    :class:`~lct_pipeline.datasets.parts.Last` are saved, and load before that too.

    Args:
        path: The folder.
        metadata: Anything, for plugins such as kedro-viz.
    """

    def __init__(self, *, path: str, metadata: dict[str, Any] | None = None) -> None:
        self._path = Path(path)
        self.metadata = metadata

    def load(self) -> CheckpointStore:
        """Return the store."""
        return CheckpointStore(self._path)

    def save(self, data: Files | Last[Files]) -> None:
        """Write each checkpoint atomically, then the index where they are the last."""
        files, is_last = opened(data)
        if not is_last:
            open_folder(self._path)
        for name, file in files.items():
            write_tensors(self.load().path(name), file.tensors, file.metadata)
        if is_last:
            store = self.load()
            close_folder(self._path, (store.path(name).name for name in store.names()))

    def content_digest(self) -> str:
        """Return a digest of the names and digests of all checkpoints."""
        store = self.load()
        return digest_of_digests(f"{n} {store.digest(n)}" for n in store.names())

    def preview(self) -> TablePreview:
        """Return what the checkpoints say of themselves for kedro-viz."""
        headers = self.load().headers()
        found = {name: header.as_metadata() for name, header in headers.items()}
        return table_of_headers(found) if found else NOTHING

    def _exists(self) -> bool:
        return is_complete(self._path)

    def _describe(self) -> dict[str, Any]:
        return {"path": str(self._path)}


# digests, in the index, of what a checkpoint of this project belongs to
BELONGINGS = ("images", "autoencoder", "normalisation", "extractor")
PLURALS = {
    "images": "images",
    "autoencoder": "weights of the autoencoder",
    "normalisation": "statistics of the latents",
    "extractor": "values of features.extractor",
}


@dataclass(frozen=True)
class CheckpointCatalog:
    """The checkpoints of a run and their index, a row for each, sorted by step."""

    rows: DataFrame
    store: CheckpointStore

    def check(self, **digests: str) -> None:
        """Refuse what the last checkpoint does not belong to: see :func:`refuse_others`."""
        known = self.rows.reindex(columns=[*BELONGINGS]).iloc[-1].dropna()
        refuse_others(self.store.run, dict(known.items()), digests)


def refuse_others(run: str, known: dict[Any, str], here: dict[str, str]) -> None:
    """Refuse what the weights of a run do not belong to; what is not known is not compared.

    Args:
        run: Its name.
        known: Digests of some of ``BELONGINGS``, as the weights say them.
        here: Digests of some, as they are here and now.

    Raises:
        DataError: One is another.
    """
    for name, digest in here.items():
        if known.get(name, digest) != digest:
            raise DataError(
                f"run {run} belongs to other {PLURALS[name]} than those here and now (digest "
                f"{known[name][:8]}, not {digest[:8]}). Bring those back, or give what is made of "
                "these another name: --params=run_id=<name>."
            )


class CheckpointIndexDataset(AtomicDataset):
    """``CheckpointIndexDataset`` saves the index and loads it with the checkpoints.

    Args:
        filepath: The index, a Parquet file.
        checkpoints: Configuration of the dataset of the checkpoints.
        metadata: Anything, for plugins such as kedro-viz.
    """

    def __init__(
        self,
        *,
        filepath: str,
        checkpoints: dict[str, Any],
        metadata: dict[str, Any] | None = None,
    ) -> None:
        super().__init__(filepath=filepath, metadata=metadata)
        self._checkpoints = AbstractDataset.from_config("checkpoints", {**checkpoints})

    def load(self) -> CheckpointCatalog:
        """Return the index with the checkpoints, whose tensors are read when asked for.

        Raises:
            DataError: There is no index, or it names a file that is not of the folder.
        """
        rows, store = super().load(), self._checkpoints.load()
        for name in rows["name"]:
            indexed_file(Path(self._filepath), f"{name}.safetensors", store.folder)
        return CheckpointCatalog(rows, store)
