"""pandas, imported when it is first used.

Kedro reads the types of a node's arguments at run time, so they cannot hide under
``if TYPE_CHECKING``; and importing pandas takes a second or more, which commands that only look at
the pipelines need not wait for. ``pd`` is imported at its first use; ``DataFrame`` is for
annotations alone.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import pandas as pd
    from pandas import DataFrame
else:
    import lazy_loader

    pd = lazy_loader.load("pandas")

    class DataFrame:
        """Stands for ``pandas.DataFrame`` where Kedro evaluates an annotation."""


__all__ = ["DataFrame", "pd"]
