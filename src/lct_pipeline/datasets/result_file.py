"""A result of a stage in a JSON file, loaded as its type."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

from lct_pipeline.datasets.atomic import AtomicDataset
from lct_pipeline.datasets.results import CombinationResult, EvaluationResult, Result

RESULTS: dict[str, type[Result]] = {
    "combination": CombinationResult,
    "evaluation": EvaluationResult,
}


class ResultDataset(AtomicDataset):
    """``ResultDataset`` keeps one of ``RESULTS`` in a JSON file.

    Args:
        filepath: The file.
        result: Which.
        settings: See :class:`~lct_pipeline.datasets.atomic.AtomicDataset`.
    """

    def __init__(self, *, filepath: str, result: str, **settings: Any) -> None:
        super().__init__(filepath=filepath, **settings)
        self._result = RESULTS[result]

    def _read(self, path: Path) -> Result:
        return self._result.of(super()._read(path))

    def _write(self, data: Result, path: Path) -> None:
        super()._write(json.loads(data.model_dump_json()), path)
