from __future__ import annotations

import numpy as np
import pytest
import torch
from PIL import Image

from medgan.errors import ConfigError
from medgan.metrics.resizing import RESIZERS, check_resizer, resize


@pytest.mark.parametrize("size", [(64, 64), (400, 320)])
def test_clean_is_pillows_bicubic_filter_on_floats(size: tuple[int, int]) -> None:
    images = torch.rand(2, 1, *size, generator=torch.Generator().manual_seed(0))
    resized = resize(images, (299, 280), "clean")
    assert resized.shape == (2, 1, 299, 280)
    for before, after in zip(images[:, 0].numpy(), resized[:, 0].numpy(), strict=True):
        expected = Image.fromarray(before).resize((280, 299), Image.Resampling.BICUBIC)
        np.testing.assert_allclose(after, np.asarray(expected), atol=1e-4)


def test_torch_fidelity_aliases_where_clean_averages() -> None:
    stripes = torch.zeros(1, 1, 64, 64)
    stripes[..., 1::2] = 1
    assert torch.equal(resize(stripes, (32, 32), "torch-fidelity"), torch.zeros(1, 1, 32, 32))
    torch.testing.assert_close(resize(stripes, (32, 32), "clean")[..., 4:-4], torch.full((1, 1, 32, 24), 0.5))


@pytest.mark.parametrize("resizer", RESIZERS)
def test_the_same_size_changes_nothing(resizer: str) -> None:
    images = torch.rand(1, 3, 20, 24, generator=torch.Generator().manual_seed(1))
    torch.testing.assert_close(resize(images, (20, 24), check_resizer(resizer)), images)


def test_unknown() -> None:
    with pytest.raises(ConfigError, match=r"Resizer 'cleen' is unknown\. Did you mean 'clean'"):
        check_resizer("cleen")
