"""Kedro's configuration loader, with names that follow from the parameters.

``${parameter:ingestion.source}`` in a catalog is a parameter's value. ``${name_of:ingestion}`` is
the source's name and eight digits that stand for all values of that group: other images or another
size go to another folder, and results of the same parameters are found again. ``${run_name:}`` is
the name of the run: ``run_id`` where it is given, else one that stands for all parameters that the
weights depend on; ``${comparison_name:}`` is that of a comparison, which is of no run.

A run that is there keeps the values that it was made with: where ``run_id`` names one, those of
``RECORDED_GROUPS`` are its own, but for what the command itself gives.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from copy import deepcopy
from functools import cached_property, reduce
from operator import getitem
from pathlib import Path
from typing import Any

from kedro.config import MissingConfigException, OmegaConfigLoader
from omegaconf import OmegaConf

from lct_pipeline.datasets.run_records import records_folder, told_records, values_of
from lct_pipeline.errors import ParameterError, instead_of
from lct_pipeline.parameters import (
    Parameters,
    check_parameters,
    flatten,
    outside_values,
    parameters_digest,
)
from lct_pipeline.parameters.types import RUN_NAME

# what the weights of a run depend on
RUN_GROUPS = ("ingestion", "encoding", "training")
# a part of all names: files of another format lie beside those of an earlier version, not over them
FORMAT = 2


class LctConfigLoader(OmegaConfigLoader):
    """``OmegaConfigLoader`` with resolvers of parameters, and of names that follow from them.

    Attributes:
        project: Folder of the project, whose runs are looked up; None: parameters are those of
            ``conf/`` and of the command alone.

    Raises:
        ParameterError: ``env`` is no name of a folder, so that it would lead out of ``conf/``.
    """

    project: Path | None = None

    def __init__(
        self, conf_source: str, env: str | None = None, **options: Any
    ) -> None:
        if env and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", env):
            raise ParameterError(f"--env={env!r}: give the name of a folder of conf/.")
        super().__init__(conf_source, env, **options)

    def __getitem__(self, key: str) -> Any:
        """Return a configuration; parameters, which many ask for, are read once.

        The resolvers are those of this loader while a configuration is read: OmegaConf has one
        table of them for a whole process, and several sessions may share one.
        """
        if key == "parameters":
            return deepcopy(self._raw_parameters)
        resolvers: dict[str, Callable[..., Any]] = {
            "parameter": self._parameter,
            "name_of": self._name_of,
            "run_name": self.run_name,
            "comparison_name": self._comparison_name,
        }
        for name, resolver in resolvers.items():
            OmegaConf.register_new_resolver(name, resolver, replace=True)
        return super().__getitem__(key)

    @cached_property
    def named(self) -> dict[str, Any]:
        """The parameters as ``conf/`` and the command name them, not checked."""
        try:
            return super().__getitem__("parameters")
        except MissingConfigException as error:
            conf = Path(self.conf_source)
            recipes = sorted(p.name for p in conf.glob("[!.]*") if p.is_dir())
            if set("[]*?") & set(str(conf)):
                place = f"{conf}: Kedro finds no configuration below a folder with [, ], * or ?."
                raise ParameterError(f"{place} Rename the folder.") from error
            raise ParameterError(
                f"{error}. Run from the project's folder, with --env naming a folder of conf/: "
                f"{instead_of(self.env or '', recipes)}."
            ) from error

    @property
    def run_id(self) -> str | None:
        """The name of the run, where one is named that can be one."""
        name = self.named.get("run_id")
        return name if isinstance(name, str) and re.fullmatch(RUN_NAME, name) else None

    @cached_property
    def recorded(self) -> dict[str, Any]:
        """The groups of parameters that the named run was made with; empty of a new one."""
        if self.project is None or self.run_id is None:
            return {}
        return values_of(told_records(records_folder(self.project, self.run_id)))

    @cached_property
    def _raw_parameters(self) -> dict[str, Any]:
        given = self.runtime_params or {}
        own = {
            group: _merged(values, given.get(group, {}))
            for group, values in self.recorded.items()
        }
        return self.named | own

    def unnamed_outside_values(self) -> dict[str, str]:
        """Return what names files or code and stands in the record of the run alone."""
        named = flatten(self.named)
        return {
            key: value
            for key, value in outside_values(self.checked).items()
            if value not in (named.get(key), named.get(key.rpartition(".")[0]))
        }

    @cached_property
    def checked(self) -> Parameters:
        """The parameters, checked.

        Raises:
            ParameterError: One is refused, or there are none.
        """
        return check_parameters(self["parameters"])

    @cached_property
    def _values(self) -> dict[str, Any]:
        return self.checked.model_dump()

    def _parameter(self, key: str) -> Any:
        return reduce(getitem, key.split("."), self._values)

    def _name_of(self, *groups: str) -> str:
        return name_of(self._values, *groups)

    def _comparison_name(self) -> str:
        generated = self._values["comparison"]["generated"] or "nothing"
        return _named(generated, self._values, "ingestion", "features", "comparison")

    def run_name(self) -> str:
        """Return the name of the run."""
        return self.checked.run_id or self._name_of(*RUN_GROUPS)


def name_of(parameters: dict[str, Any], *groups: str) -> str:
    """Return the source's name and a digest of the values of some groups."""
    return _named(parameters["ingestion"]["source"], parameters, *groups)


def _named(path: str, parameters: dict[str, Any], *groups: str) -> str:
    stem = Path(path).stem
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-_") or "images"
    chosen = {"format": FORMAT} | {group: parameters[group] for group in groups}
    return f"{readable}-{parameters_digest(chosen)}"


def _merged(recorded: Any, given: Any) -> Any:
    """Return recorded values with those that are given in their places."""
    if not (isinstance(recorded, dict) and isinstance(given, dict)):
        return given
    changed = {
        key: _merged(recorded[key], value) if key in recorded else value
        for key, value in given.items()
    }
    return recorded | changed
