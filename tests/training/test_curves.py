from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from medgan.training import plot_losses


def rows(*terms):
    return [
        {"step": step, "images": 32 * step, "images_per_second": 1.0, **dict.fromkeys(terms, 1 / step)}
        for step in range(1, 6)
    ]


def test_plot(tmp_path):
    one, two = tmp_path / "one.png", tmp_path / "two.png"
    plot_losses(rows("discriminator/adversarial", "generator/adversarial"), one)
    plot_losses(rows("discriminator/adversarial", "generator/adversarial", "generator/label"), two)
    with Image.open(one) as first, Image.open(two) as second:
        assert first.width == second.width
        assert second.height > 1.8 * first.height  # a panel for each kind of term
        pixels = np.asarray(first.convert("RGB")).astype(int)
    for colour in ((0xD5, 0x5E, 0x00), (0x00, 0x72, 0xB2)):
        assert np.abs(pixels - colour).max(axis=2).min() < 20


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(rows("discriminator/adversarial")[:1], id="one line"),
        pytest.param(rows("generator/adversarial") + rows("generator/label"), id="terms that come and go"),
        pytest.param(rows(), id="no term"),
        pytest.param(rows("critic/penalty", "generator/adversarial"), id="other networks"),
    ],
)
def test_plot_of_odd_logs(tmp_path, lines):
    plot_losses(lines, tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as picture:
        assert picture.format == "PNG"
