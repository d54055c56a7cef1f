"""Everything that a run imports, in a process of which others are forked."""

import importlib
import pkgutil
from contextlib import suppress

import lct_pipeline

# what the nodes and the datasets import when they need it
LATE = [
    "cma",
    "conftest",
    "diffusers.models.autoencoders.autoencoder_kl",
    "kedro.framework.session",
    "kedro.runner",
    "ot",
    "pyarrow.parquet",
    "sklearn.datasets",
    "torchvision.transforms.v2.functional",
]
for name in LATE:
    importlib.import_module(name)
for module in pkgutil.walk_packages(lct_pipeline.__path__, "lct_pipeline."):
    if not module.name.endswith("__main__"):
        with suppress(ImportError):  # of packages that are not installed everywhere
            importlib.import_module(module.name)
