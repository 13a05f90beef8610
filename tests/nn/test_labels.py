from __future__ import annotations

import math

import numpy as np
import pytest
import torch
from torch.nn.utils.parametrizations import spectral_norm

from medgan.nn import LabelEmbedding, Projection, label_planes, label_vectors


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


@pytest.mark.parametrize("size", [(5,), (4, 3), (2, 3, 4)], ids=str)
def test_planes_are_vectors_at_each_pixel(size: tuple[int, ...]) -> None:
    images = torch.zeros(2, 1, *size, dtype=torch.float64)
    planes = label_planes(torch.tensor([1, 0]), 3, "categorical", like=images)
    assert (planes.shape, planes.dtype) == ((2, 3, *size), torch.float64)
    assert planes.flatten(2).unique(dim=2).tolist() == [[[0], [1], [0]], [[1], [0], [0]]]


@pytest.mark.parametrize(("kind", "neutral"), [("categorical", 0.0), ("multilabel", 0.5), ("continuous", 0.0)])
def test_planes_of_images_without_their_labels_are_neutral(kind, neutral):
    planes = label_planes(None, 2, kind, like=torch.ones(3, 1, 4, 4))
    assert torch.equal(planes, torch.full((3, 2, 4, 4), neutral))


def test_embedding_takes_classes_and_their_weights() -> None:
    embed = LabelEmbedding(3, 4)
    classes = torch.tensor([2, 0])
    assert torch.equal(embed(classes), embed.weight[classes])
    assert torch.allclose(embed(torch.eye(3)[classes]), embed(classes))
    middle = embed(torch.tensor([[0.5, 0.5, 0.0]]))
    assert torch.allclose(middle[0], embed.weight[:2].mean(dim=0))


@pytest.mark.parametrize(
    ("kind", "labels", "vectors"),
    [
        ("categorical", [2, 0], [[0, 0, 1], [1, 0, 0]]),
        ("ordinal", [1, 1], [[0, 1, 0], [0, 1, 0]]),
        ("multilabel", [[1.0, math.nan, 0.0], [0.0, 1.0, 1.0]], [[1, 0.5, 0], [0, 1, 1]]),
        ("continuous", [[1.5, math.nan, -2.0], [0.0, 3.0, 1.0]], [[1.5, 0, -2], [0, 3, 1]]),
    ],
)
def test_projection_against_numpy(kind, labels, vectors):
    """(V y)·φ, of labels of all kinds."""
    torch.manual_seed(0)
    projection = Projection(3, 5, kind)
    features = torch.randn(2, 5)
    weight = projection.weight.detach().double().numpy()
    expected = np.einsum("nk,fk,nf->n", np.array(vectors, dtype=float), weight, features.double().numpy())
    found = projection(features, torch.tensor(labels))
    assert (found.shape, found.dtype) == ((2,), torch.float32)
    np.testing.assert_allclose(found.detach().numpy(), expected, rtol=1e-5, atol=1e-6)
    # What has been saved by a linear layer is found again.
    assert {name: tuple(weight.shape) for name, weight in projection.state_dict().items()} == {"weight": (5, 3)}


def test_projection_can_be_divided_by_its_spectral_norm() -> None:
    torch.manual_seed(0)
    plain = Projection(3, 5, "categorical")
    norm = float(torch.linalg.matrix_norm(plain.weight.detach(), 2))
    features, labels = torch.randn(4, 5), torch.tensor([2, 0, 1, 1])
    expected = plain(features, labels) / norm
    bounded = spectral_norm(plain, n_power_iterations=30)
    torch.testing.assert_close(bounded(features, labels), expected, rtol=1e-3, atol=1e-4)
