"""From a denoiser and fixed noise to a distance: the fitness of the search and the evaluation."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence

import torch
from torch import Tensor

from lct_pipeline.core.randomness import derived_generator


def noise_batches(
    num_images: int,
    shape: tuple[int, ...],
    *,
    num_evaluations: int,
    batch_size: int,
    seed: int,
    purpose: str,
) -> Iterator[Tensor]:
    """Yield unit noise for all evaluations of a batch, ``(S, B, *shape)``.

    Each batch has a generator of its own: the noise of a purpose is the same on every machine and
    whatever was drawn before, and memory does not grow with the number of images.
    """
    for start in range(0, num_images, batch_size):
        generator = derived_generator(seed, purpose, start)
        size = min(batch_size, num_images - start)
        # one draw an evaluation: the first is the same however many follow
        draws = [
            torch.randn(size, *shape, generator=generator)
            for _ in range(num_evaluations)
        ]
        yield torch.stack(draws)


def label_batches(
    num_images: int,
    class_counts: Sequence[int],
    *,
    batch_size: int,
    seed: int,
    purpose: str,
) -> Iterator[Tensor | None]:
    """Yield the classes of each batch, ``(B,)``, as often as in training; None without classes."""
    weights = torch.tensor(class_counts, dtype=torch.float64)
    for start in range(0, num_images, batch_size):
        if not class_counts:
            yield None
            continue
        generator = derived_generator(seed, purpose, "labels", start)
        size = min(batch_size, num_images - start)
        yield torch.multinomial(weights, size, replacement=True, generator=generator)


@torch.no_grad()
def feature_batches(
    batches: Iterable[Tensor], extractor: Callable[[Tensor], Tensor]
) -> Iterator[Tensor]:
    """Yield the features, ``(B, D)``, float32 on the CPU, of each batch of uint8 images."""
    for images in batches:
        yield extractor(images).float().cpu()


def features_of(
    batches: Iterable[Tensor], extractor: Callable[[Tensor], Tensor]
) -> Tensor:
    """Return the features, ``(N, D)``, of batches of uint8 images."""
    return torch.cat(list(feature_batches(batches, extractor)))


def random_subset(num: int, num_retained: int, generator: torch.Generator) -> Tensor:
    """Return which of ``num`` images are in a random ``num_retained`` of them, bool, ``(num,)``."""
    chosen = torch.zeros(num, dtype=torch.bool)
    chosen[torch.randperm(num, generator=generator)[:num_retained]] = True
    return chosen
