"""Kedro's configuration loader, with names that follow from the parameters.

``${parameter:ingestion.source}`` in a catalog is a parameter's value. ``${name_of:ingestion}`` is
the source's name and eight digits that stand for all values of that group: other images or another
size go to another folder, and results of the same parameters are found again.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from kedro.config import OmegaConfigLoader
from omegaconf import OmegaConf

from lct_pipeline.parameters import check_parameters, parameters_digest


class LctConfigLoader(OmegaConfigLoader):
    """``OmegaConfigLoader`` with the resolvers ``parameter`` and ``name_of``."""

    def __getitem__(self, key: str) -> Any:
        """Return a configuration; the resolvers are those of this loader while it is read.

        OmegaConf has one table of resolvers for a whole process, and several sessions may share
        one.
        """
        self._values: dict[str, Any] | None = None  # read once for each configuration
        resolvers: dict[str, Callable[..., Any]] = {
            "parameter": self._parameter,
            "name_of": self._name_of,
        }
        for name, resolver in resolvers.items():
            OmegaConf.register_new_resolver(name, resolver, replace=True)
        return super().__getitem__(key)

    def _checked(self) -> dict[str, Any]:
        if self._values is None:
            values = super().__getitem__("parameters")
            self._values = check_parameters(values).model_dump()
        return self._values

    def _parameter(self, key: str) -> Any:
        value: Any = self._checked()
        for part in key.split("."):
            value = value[part]
        return value

    def _name_of(self, *groups: str) -> str:
        values = self._checked()
        stem = Path(values["ingestion"]["source"]).stem
        readable = re.sub(r"[^A-Za-z0-9_-]+", "-", stem).strip("-") or "images"
        chosen = {group: values[group] for group in groups}
        return f"{readable}-{parameters_digest(chosen)}"
