"""Each loss against the equation written out in numpy, its limits, and its gradient."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import numpy as np
import pytest
import torch

from medgan import losses

RNG = np.random.default_rng(0)
REAL, FAKE = RNG.normal(0.3, 2, 7), RNG.normal(-0.4, 2, 5)
LOGITS = RNG.normal(0, 2, (4, 3))
FINDINGS = np.array([[1, 0, np.nan], [0, np.nan, np.nan], [np.nan] * 3, [0, 1, 1]])
QUANTITIES = FINDINGS * 3 - 1.2


def softplus(values: np.ndarray) -> np.ndarray:
    return np.log1p(np.exp(-np.abs(values))) + np.maximum(values, 0)


def tensor(values: Any, dtype: torch.dtype = torch.float32) -> torch.Tensor:
    return torch.tensor(values, dtype=dtype)


@pytest.mark.parametrize(
    ("computed", "expected"),
    [
        (lambda r, f: losses.least_squares(r, 1), np.mean((REAL - 1) ** 2)),
        (lambda r, f: losses.least_squares(f, 0), np.mean(FAKE**2)),
        (
            losses.hinge_discriminator,
            np.mean(np.maximum(0, 1 - REAL)) + np.mean(np.maximum(0, 1 + FAKE)),
        ),
        (lambda r, f: losses.hinge_generator(f), -np.mean(FAKE)),
        (losses.non_saturating_discriminator, np.mean(softplus(-REAL)) + np.mean(softplus(FAKE))),
        (lambda r, f: losses.non_saturating_generator(f), np.mean(softplus(-FAKE))),
        (lambda r, f: losses.l2_penalty([r, f], 0.25), 0.25 * (np.sum(REAL**2) + np.sum(FAKE**2))),
        (
            lambda r, f: losses.non_saturating_discriminator(r, f, smoothing=0.1),
            0.9 * np.mean(softplus(-REAL)) + 0.1 * np.mean(softplus(REAL)) + np.mean(softplus(FAKE)),
        ),
        (losses.wasserstein_discriminator, np.mean(FAKE) - np.mean(REAL)),
        (lambda r, f: losses.wasserstein_generator(f), -np.mean(FAKE)),
        (lambda r, f: losses.relativistic_discriminator(r[:5], f), np.mean(softplus(-(REAL[:5] - FAKE)))),
        (lambda r, f: losses.relativistic_generator(r[:5], f), np.mean(softplus(-(FAKE - REAL[:5])))),
        (
            lambda r, f: losses.lecam(r, f, real_anchor=tensor(0.7), fake_anchor=tensor(-0.2)),
            np.mean(np.maximum(0, REAL + 0.2) ** 2) + np.mean(np.maximum(0, 0.7 - FAKE) ** 2),
        ),
        (lambda r, f: losses.mean_absolute_error(r[:5], f), np.mean(np.abs(REAL[:5] - FAKE))),
    ],
    ids=[
        *("least squares real", "least squares fake", "hinge discriminator", "hinge generator"),
        *("non-saturating discriminator", "non-saturating generator", "l2", "smoothed"),
        *("wasserstein discriminator", "wasserstein generator"),
        *("relativistic discriminator", "relativistic generator", "lecam", "mean absolute error"),
    ],
)
def test_against_numpy(computed: Callable[..., torch.Tensor], expected: float) -> None:
    value = computed(tensor(REAL), tensor(FAKE))
    assert value.shape == ()
    assert value.dtype == torch.float32
    assert float(value) == pytest.approx(expected, rel=1e-5)
    # Also under mixed precision the sums are in float32.
    half = computed(tensor(REAL, torch.bfloat16), tensor(FAKE, torch.bfloat16))
    assert half.dtype == torch.float32
    assert float(half) == pytest.approx(expected, rel=0.05, abs=0.02)


def test_known_values() -> None:
    zeros, ones = torch.zeros(3), torch.ones(4)
    assert losses.hinge_discriminator(zeros, zeros) == 2
    assert losses.hinge_discriminator(ones, -ones) == 0
    assert float(losses.non_saturating_discriminator(zeros, zeros)) == pytest.approx(2 * np.log(2))
    assert losses.least_squares(ones, 1) == 0
    assert losses.hinge_generator(ones) == -1


def test_cross_entropy_on_probabilities_is_the_same() -> None:
    """Softplus of logits is the binary cross-entropy of the sigmoid, without its overflow."""
    real, fake = 1 / (1 + np.exp(-REAL)), 1 / (1 + np.exp(-FAKE))
    expected = -np.mean(np.log(real)) - np.mean(np.log(1 - fake))
    assert float(losses.non_saturating_discriminator(tensor(REAL), tensor(FAKE))) == pytest.approx(expected, rel=1e-5)
    assert float(losses.non_saturating_generator(tensor([-1e4]))) == pytest.approx(1e4)


@pytest.mark.parametrize(
    "loss",
    [
        lambda x: losses.least_squares(x, 1),
        lambda x: losses.hinge_discriminator(x, x * 0.7),
        losses.hinge_generator,
        lambda x: losses.non_saturating_discriminator(x, x * 0.7),
        losses.non_saturating_generator,
        lambda x: losses.l2_penalty([x], 0.1),
        lambda x: losses.mean_absolute_error(x, torch.zeros(7)),
        lambda x: losses.label_loss(x.view(1, 7), torch.tensor([2]), "categorical"),
        lambda x: losses.label_loss(x.view(1, 7), tensor([[1, 0, 0, np.nan, 1, 0, np.nan]]), "multilabel"),
        lambda x: losses.label_loss(x.view(1, 7), tensor([[0.3, -2, 1, np.nan, 0, 1, np.nan]]), "continuous"),
    ],
)
def test_gradient_is_the_slope(loss: Callable[[torch.Tensor], torch.Tensor]) -> None:
    values = tensor(REAL).requires_grad_()
    (gradient,) = torch.autograd.grad(loss(values), values)
    step = 1e-2
    for index in range(len(REAL)):
        moved = torch.zeros(len(REAL))
        moved[index] = step
        with torch.no_grad():
            slope = (loss(values + moved) - loss(values - moved)) / (2 * step)
        assert float(gradient[index]) == pytest.approx(float(slope), abs=2e-3)


@pytest.mark.parametrize("kind", ["categorical", "ordinal"])
def test_label_loss_of_classes(kind: Any) -> None:
    classes = np.array([2, 0, 1, 2])
    shares = np.exp(LOGITS) / np.exp(LOGITS).sum(axis=1, keepdims=True)
    value = losses.label_loss(tensor(LOGITS), torch.tensor(classes), kind)
    assert float(value) == pytest.approx(-np.log(shares[np.arange(4), classes]).mean(), rel=1e-5)
    # Also under mixed precision the sum is in float32.
    assert losses.label_loss(tensor(LOGITS, torch.bfloat16), torch.tensor(classes), kind).dtype == torch.float32


def test_label_loss_of_findings_and_quantities_leaves_the_unknown_out() -> None:
    sigmoid = 1 / (1 + np.exp(-LOGITS))
    entropy = -np.where(FINDINGS == 1, np.log(sigmoid), np.log(1 - sigmoid))
    known = ~np.isnan(FINDINGS)
    for computed, expected in (
        (losses.label_loss(tensor(LOGITS), tensor(FINDINGS), "multilabel"), entropy[known].mean()),
        (losses.label_loss(tensor(LOGITS), tensor(QUANTITIES), "continuous"), np.nanmean((LOGITS - QUANTITIES) ** 2)),
    ):
        assert computed.shape == ()
        assert computed.dtype == torch.float32
        assert float(computed) == pytest.approx(expected, rel=1e-5)
    # Far from 0, where the sigmoid is 0 or 1, the cross-entropy still is a number.
    assert float(losses.label_loss(tensor([[-1e4, 1e4]]), tensor([[1.0, 1.0]]), "multilabel")) == pytest.approx(5e3)


@pytest.mark.parametrize(("kind", "labels"), [("multilabel", FINDINGS), ("continuous", QUANTITIES)])
def test_label_loss_pulls_at_what_is_known_only(kind: Any, labels: np.ndarray) -> None:
    logits = tensor(LOGITS).requires_grad_()
    (gradient,) = torch.autograd.grad(losses.label_loss(logits, tensor(labels), kind), logits)
    assert torch.equal(gradient != 0, ~tensor(labels).isnan())
    nothing = losses.label_loss(logits, torch.full((4, 3), torch.nan), kind)
    (gradient,) = torch.autograd.grad(nothing, logits)
    assert float(nothing.detach()) == 0
    assert torch.equal(gradient, torch.zeros(4, 3))


def test_smoothing_stops_certainty() -> None:
    """The loss on real images is least at logit(1 − s), and without smoothing at infinity."""
    logits = torch.linspace(-5, 5, 201, requires_grad=True)
    for smoothing in (0.1, 0.25):
        values = [
            float(losses.non_saturating_discriminator(x[None], x[None] * 0, smoothing=smoothing))
            for x in logits.detach()
        ]
        expected = np.log((1 - smoothing) / smoothing)
        assert float(logits[int(np.argmin(values))].detach()) == pytest.approx(expected, abs=0.05)


@pytest.mark.parametrize("shape", [(6,), (2, 3), (1, 2, 3)])
def test_gradient_penalties_of_a_known_function(shape: tuple[int, ...]) -> None:
    """D(x) = Σ sin(x): the slope is cos(x), and that of the penalties follows by hand."""
    rng = np.random.default_rng(1)
    points = rng.normal(0, 1, (4, *shape))
    images = tensor(points).requires_grad_()
    flat = points.reshape(4, -1)
    squares = np.sum(np.cos(flat) ** 2, axis=1)
    zero = losses.zero_centred_gradient_penalty(images.sin().flatten(1).sum(1), images)
    assert zero.item() == pytest.approx(np.mean(squares), rel=1e-5)
    (slope,) = torch.autograd.grad(zero, images)
    np.testing.assert_allclose(slope.reshape(4, -1), -2 * np.cos(flat) * np.sin(flat) / 4, rtol=1e-4, atol=1e-6)
    one = losses.one_centred_gradient_penalty(images.sin().flatten(1).sum(1), images)
    norms = np.sqrt(squares)
    assert one.item() == pytest.approx(np.mean((norms - 1) ** 2), rel=1e-5)
    (slope,) = torch.autograd.grad(one, images)
    factor = 2 * (norms - 1) / norms / 4
    np.testing.assert_allclose(
        slope.reshape(4, -1), -factor[:, None] * np.cos(flat) * np.sin(flat), rtol=1e-4, atol=1e-6
    )


def test_slope_of_nothing_is_no_nan() -> None:
    """A dead discriminator has the slope 0, where the norm has no derivative."""
    images = torch.zeros(3, 4, requires_grad=True)
    weight = torch.zeros(4, requires_grad=True)
    penalty = losses.one_centred_gradient_penalty(images @ weight, images)
    assert penalty.item() == 1
    (gradient,) = torch.autograd.grad(penalty, weight)
    assert torch.isfinite(gradient).all()
