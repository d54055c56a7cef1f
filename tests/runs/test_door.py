"""What parameters name and is not there is refused before anything is read."""

from pathlib import Path
from typing import Any

import pytest
from configuration import loader
from kedro.io import DataCatalog

from lct_pipeline.errors import UserError, user_error_in
from lct_pipeline.pipelines import comparison, encoding, evaluation, references
from lct_pipeline.runs.door import check_given


def check(stage: Any, **changes: Any) -> None:
    config = loader("smoke", run_id="t", **changes)
    catalog = DataCatalog.from_config(config["catalog"])
    check_given(config.checked, stage.create_pipeline(), catalog)


@pytest.mark.parametrize(
    ("stage", "parameter", "value"),
    [
        (encoding, "encoding.autoencoder", "./nowhere"),
        (references, "features.extractor.kind", "nowhere.pt"),
        (comparison, "features.extractor.kind", "nowhere.onnx"),
        (evaluation, "evaluation.extractors", [{"kind": "nowhere.pt"}]),
        (evaluation, "evaluation.extractors", [{"kind": "nowhere:network"}]),
        (evaluation, "evaluation.reference.path", "nowhere.npz"),
        (comparison, "comparison.statistics.path", "nowhere.npz"),
    ],
)
def test_what_is_not_there_is_refused(
    folder: Path, stage: Any, parameter: str, value: Any
) -> None:
    group, _, rest = parameter.partition(".")
    names = {"path": value, "protocol": "x", "num_images": 5}
    *between, last = rest.split(".")
    inner: Any = names if last == "path" else {last: value}
    for name in reversed(between):
        inner = {name: inner}
    with pytest.raises(Exception, match="nowhere") as caught:
        check(stage, **{group: inner})
    assert isinstance(user_error_in(caught.value), UserError)
    assert list(folder.iterdir()) == []
    check(stage)
