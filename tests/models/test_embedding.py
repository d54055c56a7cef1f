from __future__ import annotations

import math

import pytest
import torch
from torch.nn import functional as F

from lct_pipeline.models.embedding import (
    ClassEmbedding,
    LevelEmbedding,
    sinusoidal_embedding,
)

C_NOISE = 250 * torch.tensor([0.002, 0.5, 1.0, 80.0]).log()


def test_embedding_is_the_formula_of_ddpm() -> None:
    found = sinusoidal_embedding(C_NOISE.double(), 8)
    for row, angle in zip(found.tolist(), C_NOISE.double().tolist(), strict=True):
        frequencies = [10_000 ** (-k / 4) for k in range(4)]
        cosines = [math.cos(angle * f) for f in frequencies]
        sines = [math.sin(angle * f) for f in frequencies]
        assert row == pytest.approx(cosines + sines, abs=1e-9)


def test_neighbouring_levels_of_the_finest_grid_have_distinct_embeddings() -> None:
    roots = torch.linspace(0.002 ** (1 / 7), 80 ** (1 / 7), 641)
    rows = sinusoidal_embedding(250 * (roots**7).log(), 128)
    assert (rows.diff(dim=0).norm(dim=1) > 0.1).all()


def test_the_level_goes_through_two_layers() -> None:
    torch.manual_seed(0)
    embed = LevelEmbedding(8, 12)
    names = ["0.weight", "0.bias", "2.weight", "2.bias"]  # of checkpoints, too
    assert list(embed.state_dict()) == names
    w0, b0, w1, b1 = embed.parameters()
    expected = F.silu(sinusoidal_embedding(C_NOISE, 8) @ w0.T + b0) @ w1.T + b1
    torch.testing.assert_close(embed(C_NOISE), expected)


def test_the_class_adds_its_vector_and_no_label_is_the_last() -> None:
    torch.manual_seed(0)
    classes, embedding = ClassEmbedding(3, 6), torch.randn(4, 6)
    (vectors,) = classes.parameters()
    assert vectors.shape == (4, 6)
    labels = torch.tensor([2, 0, 3, 0])
    for j, label in enumerate(labels.tolist()):
        expected = embedding[j] + vectors[label]
        assert torch.equal(classes(embedding, labels)[j], expected)
    null = torch.full((4,), 3)
    assert torch.equal(classes(embedding, None), classes(embedding, null))


def test_without_classes_nothing_is_learned_nothing_added_and_labels_refused() -> None:
    classes, embedding = ClassEmbedding(0, 6), torch.ones(4, 6)
    assert not classes.state_dict()
    assert classes(embedding, None) is embedding
    with pytest.raises(ValueError, match=r"labels .*num_classes=0"):
        classes(embedding, torch.zeros(4, dtype=torch.int64))


@pytest.mark.parametrize("label", [-1, 4])
def test_a_label_that_is_no_class_is_refused(label: int) -> None:
    with pytest.raises(IndexError):
        ClassEmbedding(3, 6)(torch.ones(1, 6), torch.tensor([label]))
