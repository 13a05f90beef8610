from __future__ import annotations

import math

import pytest
import torch

from medgan.nn import label_vectors


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
