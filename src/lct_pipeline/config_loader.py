"""Kedro's configuration loader, with names that follow from the parameters.

``${parameter:ingestion.source}`` in a catalog is a parameter's value. ``${name_of:ingestion}`` is
the source's name and eight digits that stand for all values of that group: other images or another
size go to another folder, and results of the same parameters are found again. ``${run_name:}`` is
the name of the run: ``run_id`` where it is given, else one that stands for all parameters that the
weights depend on.
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

from lct_pipeline.errors import ParameterError
from lct_pipeline.parameters import Parameters, check_parameters, parameters_digest

# what the weights of a run depend on
RUN_GROUPS = ("ingestion", "encoding", "training")
# a part of all names: files of another format lie beside those of an earlier version, not over them
FORMAT = 2


class LctConfigLoader(OmegaConfigLoader):
    """``OmegaConfigLoader`` with the resolvers ``parameter``, ``name_of`` and ``run_name``.

    Raises:
        ParameterError: ``env`` is no name of a folder, so that it would lead out of ``conf/``.
    """

    def __init__(
        self, conf_source: str, env: str | None = None, **options: Any
    ) -> None:
        if env is not None and not re.fullmatch(r"[A-Za-z0-9_][A-Za-z0-9_.-]*", env):
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
        }
        for name, resolver in resolvers.items():
            OmegaConf.register_new_resolver(name, resolver, replace=True)
        return super().__getitem__(key)

    @cached_property
    def _raw_parameters(self) -> Any:
        return super().__getitem__("parameters")

    @cached_property
    def checked(self) -> Parameters:
        """The parameters, checked.

        Raises:
            ParameterError: One is refused, or there are none.
        """
        try:
            return check_parameters(self["parameters"])
        except MissingConfigException as error:
            raise ParameterError(
                f"{error}. Run from the project's folder, with --env naming a folder of conf/."
            ) from error

    @cached_property
    def _values(self) -> dict[str, Any]:
        return self.checked.model_dump()

    def _parameter(self, key: str) -> Any:
        return reduce(getitem, key.split("."), self._values)

    def _name_of(self, *groups: str) -> str:
        return name_of(self._values, *groups)

    def run_name(self) -> str:
        """Return the name of the run."""
        return self.checked.run_id or self._name_of(*RUN_GROUPS)


def name_of(parameters: dict[str, Any], *groups: str) -> str:
    """Return the source's name and a digest of the values of some groups."""
    stem = Path(parameters["ingestion"]["source"]).stem
    readable = re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-") or "images"
    chosen = {"format": FORMAT} | {group: parameters[group] for group in groups}
    return f"{readable}-{parameters_digest(chosen)}"
