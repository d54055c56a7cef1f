"""pandas, imported when it is first used.

Kedro reads the types of a node's arguments at run time, so they cannot hide under
``if TYPE_CHECKING``; and importing pandas takes a second, which commands that only look at the
pipelines need not wait for.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
else:
    import lazy_loader

    pd = lazy_loader.load("pandas")

__all__ = ["pd"]
