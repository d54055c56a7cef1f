"""Functions of the user, by import path."""

from __future__ import annotations

import importlib
import sys
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lct_pipeline.errors import ParameterError


def imported(path: str, key: str) -> Callable[..., Any]:
    """Return the function that an import path ``package.module:function`` names.

    Modules in the current folder are found too.

    Args:
        path: The import path.
        key: Name of the parameter that holds it, for the message.

    Raises:
        ParameterError: There is none.
    """
    module, _, name = path.partition(":")
    if str(Path.cwd()) not in sys.path:
        sys.path.insert(0, str(Path.cwd()))
    try:
        return getattr(importlib.import_module(module), name)
    except Exception as error:  # the module may raise anything
        raise ParameterError(
            f"{key}={path!r} cannot be imported: {type(error).__name__}: {error}. Give "
            "package.module:function, of a module in the current folder or installed."
        ) from error
