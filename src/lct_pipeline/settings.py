"""Kedro's settings: how configuration is merged and which hooks run."""

from lct_pipeline.config_loader import LctConfigLoader
from lct_pipeline.hooks import RunHook

HOOKS = (RunHook(),)
# kedro-viz's note of a run, which a partial one overwrites: `kedro lct runs` reads our records
DISABLE_HOOKS_FOR_PLUGINS = ("kedro-viz",)

CONFIG_LOADER_CLASS = LctConfigLoader
CONFIG_LOADER_ARGS = {
    "base_env": "base",
    "default_run_env": "local",
    "merge_strategy": {"parameters": "soft"},  # a recipe holds only what differs
}
