from __future__ import annotations

import math

import pytest
import torch

from medgan.nn import LabelEmbedding, label_vectors


@pytest.mark.parametrize("kind", ["categorical", "ordinal"])
def test_classes_are_one_hot(kind):
    vectors = label_vectors(torch.tensor([2, 0]), 3, kind)
    assert vectors.dtype == torch.float32
    assert vectors.tolist() == [[0, 0, 1], [1, 0, 0]]


@pytest.mark.parametrize(("kind", "neutral"), [("multilabel", 0.5), ("continuous", 0.0)])
def test_vectors_stay_and_what_is_not_known_is_neutral(kind, neutral):
    labels = torch.tensor([[1.0, math.nan], [0.0, 1.0]])
    assert label_vectors(labels, 2, kind).tolist() == [[1, neutral], [0, 1]]
    assert labels[0, 1].isnan()  # what was given is not changed


def test_weights_of_classes_are_vectors_already() -> None:
    weights = torch.tensor([[0.25, 0.75], [1.0, 0.0]])
    for kind in ("categorical", "ordinal"):
        assert torch.equal(label_vectors(weights, 2, kind), weights)


def test_embedding_takes_classes_and_their_weights() -> None:
    embed = LabelEmbedding(3, 4)
    classes = torch.tensor([2, 0])
    assert torch.equal(embed(classes), embed.weight[classes])
    assert torch.allclose(embed(torch.eye(3)[classes]), embed(classes))
    middle = embed(torch.tensor([[0.5, 0.5, 0.0]]))
    assert torch.allclose(middle[0], embed.weight[:2].mean(dim=0))
