from __future__ import annotations

import pytest
import torch

from medgan.errors import DataError
from medgan.metrics.extractors import get_extractor
from medgan.metrics.extractors.random_conv import RandomConv

IMAGES = torch.rand(6, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1


def test_the_same_on_every_machine() -> None:
    extractor = get_extractor("random-conv")
    assert extractor.sha256 == "a90126dcbc3383f947f96511c5ff42480fdef0dbdbd05b135f406729dea9d281"
    ramp = torch.linspace(-1, 1, 32).expand(1, 1, 32, 32)
    features = extractor(ramp)
    assert features.shape == (1, 480)
    torch.testing.assert_close(
        features[0, [0, 1, 16, 24, 32, 96, 300, 479]],
        torch.tensor([0.079623, 0.012595, 0.02029, 0.076528, 0.018436, -0.025436, 0.125841, 0.073725]),
        rtol=1e-4,
        atol=1e-5,
    )


def test_seeds() -> None:
    first, again, other = RandomConv(), RandomConv(0), RandomConv(1)
    assert torch.equal(first(IMAGES), again(IMAGES))
    assert other.name == "random-conv (seed 1)"
    assert other.sha256 != first.sha256
    assert not torch.allclose(first(IMAGES), other(IMAGES))


def test_drawing_weights_leaves_the_callers_generator_alone() -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    RandomConv()
    assert torch.equal(torch.rand(3), expected)


def test_batches_do_not_matter_and_pictures_do() -> None:
    extractor = RandomConv()
    together = extractor(IMAGES)
    torch.testing.assert_close(together, torch.cat([extractor(image[None]) for image in IMAGES]))
    assert (together.std(0) > 1e-4).float().mean() > 0.9
    changed = IMAGES.clone()
    changed[0, 0, 3, 3] *= -1
    assert not torch.equal(extractor(changed)[0], together[0])


def test_too_small() -> None:
    assert RandomConv()(IMAGES[..., :16, :16]).shape == (6, 480)
    with pytest.raises(DataError, match="16 pixels or more, got 15 × 16"):
        RandomConv()(IMAGES[..., :15, :16])
