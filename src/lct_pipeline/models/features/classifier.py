"""A small classifier whose features measure generated images where Inception is not at hand.

It is trained on the training split: on the images' labels, or, where there are none, on the four
right-angle rotations (Gidaris et al. 2018). Its Frechet distance is never called FID.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import pairwise
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lct_pipeline.core.randomness import derived_generator
from lct_pipeline.models.autoencoder import to_float
from lct_pipeline.models.digests import tensors_digest
from lct_pipeline.models.features.base import FeatureExtractor, frozen


class SmallClassifier(nn.Module):
    """Four strided convolutions, global average pooling, one hidden layer.

    Args:
        num_classes: Number of classes.
        width: Channels of the first convolution.
        num_features: Width of the hidden layer, the features.
    """

    def __init__(
        self, num_classes: int, *, width: int = 16, num_features: int = 64
    ) -> None:
        super().__init__()
        channels = [3, width, 2 * width, 4 * width, 4 * width]
        layers: list[nn.Module] = []
        for c_in, c_out in pairwise(channels):
            layers += [
                nn.Conv2d(c_in, c_out, 3, stride=2, padding=1),
                nn.GroupNorm(4, c_out),
                nn.SiLU(),
            ]
        self.body = nn.Sequential(
            *layers,
            nn.AdaptiveAvgPool2d(2),
            nn.Flatten(),
            nn.Linear(16 * width, num_features),
        )
        self.head = nn.Linear(num_features, num_classes)

    def features(self, images: Tensor) -> Tensor:
        """Return features ``(B, num_features)`` of float images in [-1, 1]."""
        return F.relu(self.body(images))

    def forward(self, images: Tensor) -> Tensor:
        """Return logits ``(B, num_classes)`` of float images in [-1, 1]."""
        return self.head(self.features(images))


def rotate(images: Tensor, quarter_turns: Tensor) -> Tensor:
    """Turn each square image of ``(B, C, S, S)`` by its own number of quarter turns."""
    turned = torch.stack([torch.rot90(images, k, dims=(2, 3)) for k in range(4)])
    return turned[quarter_turns, torch.arange(len(images))]


def fit_classifier(
    classifier: SmallClassifier,
    read_batch: Callable[[Tensor], Tensor],
    labels: Tensor | None,
    num_images: int,
    *,
    num_steps: int,
    batch_size: int,
    learning_rate: float,
    seed: int,
) -> Iterator[float]:
    """Fit by cross-entropy on shifted images, AdamW, one-cycle rate.

    The shift is cyclic, of up to two pixels, but of no more than a sixteenth of the side: two
    pixels of eight would make another image.

    Args:
        classifier: Changed in place.
        read_batch: Returns uint8 images ``(B, 3, S, S)`` for indices ``(B,)``.
        labels: Classes of all images, ``(N,)``; None fits rotations instead.
        num_images: N, over which the indices run.
        num_steps: Number of steps.
        batch_size: Images a step.
        learning_rate: Peak of the learning rate.
        seed: Seed of the batches.

    Yields:
        The loss of each step.
    """
    device = next(classifier.parameters()).device
    optimizer = torch.optim.AdamW(classifier.parameters(), lr=learning_rate)
    scheduler = torch.optim.lr_scheduler.OneCycleLR(
        optimizer, learning_rate, total_steps=num_steps
    )
    classifier.train()
    for step in range(num_steps):
        generator = derived_generator(seed, "classifier", step)
        indices = torch.randint(num_images, (batch_size,), generator=generator)
        images = to_float(read_batch(indices))
        furthest = min(2, images.shape[-1] // 16)
        shift = torch.randint(-furthest, furthest + 1, (2,), generator=generator)
        images = torch.roll(images, shift.tolist(), dims=(2, 3))
        if labels is None:
            target = torch.randint(4, (batch_size,), generator=generator)
            images = rotate(images, target)
        else:
            target = labels[indices]
        loss = F.cross_entropy(classifier(images.to(device)), target.to(device))
        optimizer.zero_grad(set_to_none=True)
        loss.backward()
        optimizer.step()
        scheduler.step()
        yield loss.item()
    classifier.eval()


def classifier_extractor(
    tensors: dict[str, Tensor], metadata: dict[str, Any], device: torch.device
) -> FeatureExtractor:
    """Return the features of a trained :class:`SmallClassifier`, named as its metadata says.

    Its score is that of its own classes. One that was trained on rotations has none.
    """
    shape = {key: metadata[key] for key in ("num_classes", "width", "num_features")}
    classifier = SmallClassifier(**shape)
    classifier.load_state_dict(tensors)
    frozen(classifier, device)

    def extract(images: Tensor) -> Tensor:
        return classifier.features(to_float(images.to(device)))

    def classify(features: Tensor) -> Tensor:
        return classifier.head(features.to(device)).softmax(1)

    name = metadata["name"]
    return FeatureExtractor(
        name=name,
        digest=tensors_digest(tensors),
        resize="none",
        extract=extract,
        differentiate=classifier.features,
        classify=None if name.endswith("rotation_classifier") else classify,
    )
