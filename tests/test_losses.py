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
    ],
    ids=[
        *("least squares real", "least squares fake", "hinge discriminator", "hinge generator"),
        *("non-saturating discriminator", "non-saturating generator", "l2"),
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
