from __future__ import annotations

import numpy as np
import pytest
import torch
from stand_ins import CPU, images, require_gradients
from torch import Tensor

from lct_pipeline.models.autoencoder import to_float
from lct_pipeline.models.digests import tensors_digest
from lct_pipeline.models.features.base import FeatureExtractor
from lct_pipeline.models.features.classifier import (
    SmallClassifier,
    classifier_extractor,
    fit_classifier,
    rotate,
)


def images_and_labels() -> tuple[Tensor, Tensor]:
    """24 images of three colours, each brighter towards the top."""
    rng = np.random.default_rng(0)
    labels = np.arange(24) % 3
    images = rng.integers(0, 40, size=(24, 3, 16, 16))
    images[np.arange(24), labels] += 120
    images += np.linspace(90, 0, 16, dtype=int)[:, None]
    return torch.from_numpy(images.astype(np.uint8)), torch.from_numpy(labels)


def fit(*, rotations: bool, num_steps: int = 60) -> tuple[SmallClassifier, list[float]]:
    images, labels = images_and_labels()
    torch.manual_seed(0)
    classifier = SmallClassifier(4 if rotations else 3, width=8, num_features=16)
    losses = fit_classifier(
        classifier,
        lambda indices: images[indices],
        None if rotations else labels,
        len(images),
        num_steps=num_steps,
        batch_size=16,
        learning_rate=1e-2,
        seed=0,
    )
    return classifier, list(losses)


@pytest.mark.parametrize("rotations", [False, True], ids=["labels", "rotations"])
def test_fitting_lowers_the_loss(rotations: bool) -> None:
    classifier, losses = fit(rotations=rotations)
    assert len(losses) == 60 and not classifier.training
    assert np.mean(losses[-5:]) < 0.5 * np.mean(losses[:5])
    if not rotations:
        images, labels = images_and_labels()
        known = classifier(to_float(images)).argmax(1) == labels
        assert known.float().mean() > 0.9


@pytest.mark.parametrize("rotations", [False, True], ids=["labels", "rotations"])
def test_fitting_repeats_itself(rotations: bool) -> None:
    (first, losses), (second, again) = (
        fit(rotations=rotations, num_steps=5) for _ in range(2)
    )
    assert losses == again
    for a, b in zip(first.parameters(), second.parameters(), strict=True):
        assert torch.equal(a, b)


def test_logits_are_a_linear_map_of_non_negative_features() -> None:
    classifier = SmallClassifier(5, width=8, num_features=12)
    x = torch.randn(3, 3, 16, 16, generator=torch.Generator().manual_seed(0))
    features = classifier.features(x)
    assert features.shape == (3, 12)
    assert (features >= 0).all()
    expected = features @ classifier.head.weight.T + classifier.head.bias
    torch.testing.assert_close(classifier(x), expected)


@pytest.mark.parametrize(("side", "furthest"), [(8, 0), (16, 1), (32, 2), (64, 2)])
def test_shifts_are_of_two_pixels_but_of_a_sixteenth_of_the_side_at_most(
    side: int, furthest: int
) -> None:
    seen: list[Tensor] = []
    classifier = SmallClassifier(2, width=8, num_features=4)
    classifier.register_forward_pre_hook(lambda _, given: seen.append(given[0]))
    point = torch.zeros(1, 3, side, side, dtype=torch.uint8)
    point[..., 4, 4] = 255
    losses = fit_classifier(
        classifier,
        lambda indices: point[indices],
        torch.tensor([0]),
        1,
        num_steps=60,
        batch_size=1,
        learning_rate=1e-3,
        seed=0,
    )
    assert len(list(losses)) == 60
    places = {divmod(int(x[0, 0].argmax()), side) for x in seen}
    reached = {y - 4 for y, _ in places}, {x - 4 for _, x in places}
    assert reached == (set(range(-furthest, furthest + 1)),) * 2


def test_each_image_turns_by_its_own_quarter_turns() -> None:
    images = torch.randn(6, 3, 5, 5, generator=torch.Generator().manual_seed(0))
    turns = torch.tensor([0, 1, 2, 3, 1, 0])
    turned = rotate(images, turns)
    for image, k, found in zip(images.numpy(), turns.tolist(), turned, strict=True):
        np.testing.assert_array_equal(found, np.rot90(image, k, axes=(1, 2)))
    assert torch.equal(rotate(turned, (4 - turns) % 4), images)


def classifier() -> SmallClassifier:
    torch.manual_seed(0)
    return SmallClassifier(4, width=8, num_features=6)


def extractor(name: str = "classifier") -> FeatureExtractor:
    about = {"num_classes": 4, "width": 8, "num_features": 6, "name": name}
    return classifier_extractor(classifier().state_dict(), about, CPU)


@pytest.mark.parametrize("side", [24, 40])
def test_the_extractor_has_the_features_of_the_hidden_layer(side: int) -> None:
    given = images(3, side)
    expected = classifier().features(given.float() / 255 * 2 - 1)
    torch.testing.assert_close(extractor().extract(given), expected)
    require_gradients(extractor(), given)
    assert extractor().digest == tensors_digest(classifier().state_dict())


def test_the_probabilities_are_those_of_its_classes() -> None:
    classify = extractor().classify
    assert classify is not None
    found = classify(extractor().extract(images()))
    torch.testing.assert_close(found, classifier()(to_float(images())).softmax(1))


@pytest.mark.parametrize("name", ["rotation_classifier", "check_rotation_classifier"])
def test_a_classifier_of_rotations_is_named_so_and_tells_no_classes(name: str) -> None:
    assert extractor(name).frechet_name == f"{name}_frechet_distance"
    assert extractor(name).classify is None
