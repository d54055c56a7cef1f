from __future__ import annotations

from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor

from lct_pipeline.errors import ParameterError
from lct_pipeline.models.autoencoder.coding import to_float
from lct_pipeline.models.digests import tensors_digest
from lct_pipeline.models.features.classifier import SmallClassifier
from lct_pipeline.models.features.extractors import (
    FeatureExtractor,
    build_extractor,
    classifier_extractor,
)

CPU = torch.device("cpu")
ROTATIONS = ["rotation_classifier", "check_rotation_classifier"]
ZEROS, ONES = (0.0, 0.0, 0.0), (1.0, 1.0, 1.0)


def images(num: int = 3, side: int = 24) -> Tensor:
    rng = np.random.default_rng(0)
    values = rng.integers(0, 256, size=(num, 3, side, side), dtype=np.uint8)
    return torch.from_numpy(values)


def classifier() -> SmallClassifier:
    torch.manual_seed(0)
    return SmallClassifier(4, width=8, num_features=6)


def fitted(name: str = "classifier") -> FeatureExtractor:
    about: dict[str, Any] = {"num_classes": 4, "width": 8, "num_features": 6}
    return classifier_extractor(classifier().state_dict(), {**about, "name": name}, CPU)


@pytest.mark.parametrize("name", ["classifier", *ROTATIONS])
def test_a_classifiers_distances_are_named_after_it_and_never_fid(name: str) -> None:
    extractor = fitted(name)
    assert extractor.name == name
    assert extractor.frechet_name == f"{name}_frechet_distance"
    assert extractor.kernel_name == f"{name}_kernel_distance"
    assert extractor.resize == "none"


def test_a_classifiers_features_are_those_of_its_hidden_layer() -> None:
    expected = classifier().features(images().float() / 255 * 2 - 1)
    torch.testing.assert_close(fitted().extract(images()), expected)


def test_a_classifiers_differentiable_features_are_the_same() -> None:
    found = fitted().differentiate(to_float(images()))
    assert torch.equal(found, fitted().extract(images()))


def test_features_can_be_differentiated_by_images_and_not_by_weights() -> None:
    given = to_float(images())
    assert not fitted().differentiate(given).requires_grad
    assert not fitted().extract(images()).requires_grad
    fitted().differentiate(given.requires_grad_()).square().sum().backward()
    assert given.grad is not None
    assert given.grad.isfinite().all()
    assert given.grad.abs().amax((1, 2, 3)).min() > 0


def test_a_classifier_of_labels_has_the_probabilities_of_its_classes() -> None:
    extractor = fitted()
    assert extractor.score_name == "classifier_score"
    found = extractor.classify(extractor.extract(images()))
    torch.testing.assert_close(found, classifier()(to_float(images())).softmax(1))


@pytest.mark.parametrize("name", ROTATIONS)
def test_a_classifier_of_rotations_has_no_score(name: str) -> None:
    assert fitted(name).score_name is None
    assert fitted(name).classify is None


def test_a_classifiers_digest_is_that_of_its_weights() -> None:
    assert fitted().digest == tensors_digest(classifier().state_dict())


@pytest.mark.parametrize("kind", ["Inception", "resnet", "my_module.network", ""])
def test_an_unknown_kind_is_refused_with_what_is_known(kind: str) -> None:
    with pytest.raises(ParameterError) as caught:
        build_extractor(kind, None, None, ZEROS, ONES, CPU)
    message = str(caught.value)
    assert f"features.extractor.kind={kind!r}" in message
    known = ("classifier", "inception", "inception_pytorch", "dinov2")
    for word in (*known, "package.module:name", ".pt", ".onnx"):
        assert word in message


@pytest.mark.parametrize("kind", ["inception", "inception_pytorch", "dinov2"])
@pytest.mark.parametrize(
    ("size", "mean", "std"),
    [(64, ZEROS, ONES), (None, ONES, ONES), (None, ZEROS, (2.0,) * 3)],
)
def test_what_a_known_network_does_to_images_cannot_be_changed(
    kind: str, size: Any, mean: Any, std: Any
) -> None:
    with pytest.raises(ParameterError, match=f"kind={kind} .*of one's own"):
        build_extractor(kind, None, size, mean, std, CPU)
