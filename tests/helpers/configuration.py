"""Parameters of the recipes under conf/, as Kedro reads them and as the nodes get them."""

from __future__ import annotations

from functools import cache
from pathlib import Path
from typing import Any

from conftest import ROOT
from lct_pipeline.config_loader import LctConfigLoader
from lct_pipeline.parameters import Parameters
from lct_pipeline.settings import CONFIG_LOADER_ARGS

CONF = ROOT / "conf"


def loader(
    env: str = "base", conf: Path = CONF, **runtime_params: Any
) -> LctConfigLoader:
    return LctConfigLoader(
        conf_source=str(conf),
        env=env,
        runtime_params=runtime_params,
        **CONFIG_LOADER_ARGS,
    )


def values(env: str = "base") -> dict[str, Any]:
    """Return the values of a recipe, by group, to be changed at will."""
    return _loaded(env)["parameters"]


@cache
def recipe(env: str = "smoke") -> Parameters:
    """Return the checked parameters of a recipe."""
    return _loaded(env).checked


@cache
def _loaded(env: str) -> LctConfigLoader:
    return loader(env)
