"""What a checkpoint says about its model, as a type and as JSON."""

from __future__ import annotations

import json
from typing import Any

import pytest
from describing import NETWORKS, described

from lct_pipeline.errors import DataError
from lct_pipeline.models.description import ModelDescription


@pytest.mark.parametrize("kind", NETWORKS)
@pytest.mark.parametrize("changes", [{}, {"class_counts": {"b": 1, "a": 2}}], ids=str)
def test_a_description_comes_back_from_its_json(
    kind: str, changes: dict[str, Any]
) -> None:
    description = described(kind, **changes)
    said = json.loads(json.dumps(description.as_json()))
    found = ModelDescription.from_json(said)
    assert found == description
    assert list(found.class_counts) == list(description.class_counts)


def test_the_json_is_the_one_that_checkpoints_carry() -> None:
    assert json.dumps(described(class_counts={"b": 1, "a": 2}).as_json()) == (
        '{"model": "consistency", "kind": "mlp", "sample_shape": [2, 4, 4], '
        '"norm": "non_scaling_layer_norm", "output_norm": "non_scaling_layer_norm", '
        '"dropout": 0.0, "num_classes": 0, "class_counts": {"b": 1, "a": 2}, '
        '"mlp": {"width": 16, "num_blocks": 1}, "sigma_data": 0.5, "boundary": 0.002, '
        '"sigma_min": 0.002, "sigma_max": 80.0, "rho": 7.0, "lowest_level": 0.0}'
    )


@pytest.mark.parametrize("key", ["kind", "mlp", "sigma_max", "lowest_level"])
def test_a_missing_key_is_named(key: str) -> None:
    said = described().as_json()
    del said[key]
    with pytest.raises(DataError, match=f"a model lacks the key '{key}': another"):
        ModelDescription.from_json(said)


def test_an_unknown_key_is_named() -> None:
    said = {**described().as_json(), "unet": {}}
    with pytest.raises(DataError, match="a model has the unknown key 'unet': "):
        ModelDescription.from_json(said)
