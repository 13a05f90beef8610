from __future__ import annotations

import numpy as np
import pytest
from PIL import Image

from medgan.training import plot_losses, plot_quality


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
        assert second.width > 1.4 * first.width  # a panel for each kind of term
        assert first.height == second.height
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


def test_losses_leave_evaluations_out(tmp_path):
    one, two = tmp_path / "one.png", tmp_path / "two.png"
    plot_losses(rows("generator/adversarial"), one)
    plot_losses(rows("generator/adversarial", "evaluation/score", "health/copies"), two)
    assert one.read_bytes() == two.read_bytes()


def test_a_spike_leaves_the_rest_to_be_seen(tmp_path):
    """A curve that swings keeps its height beside a spike a thousand times as high."""
    lines = [{"images": 32 * step, "generator/adversarial": 1.0 + step % 2} for step in range(40)]
    plot_losses(lines, tmp_path / "plain.png")
    lines[20]["generator/adversarial"] = 1000.0
    plot_losses(lines, tmp_path / "spike.png")
    heights = []
    for name in ("plain.png", "spike.png"):
        with Image.open(tmp_path / name) as picture:
            pixels = np.asarray(picture.convert("RGB")).astype(int)
        blue = np.abs(pixels - (0x00, 0x72, 0xB2)).max(axis=2) < 20
        columns = np.flatnonzero(blue.any(axis=0))
        early = blue[:, columns[: len(columns) // 4]]  # the spike is in the middle
        rows_with = np.flatnonzero(early.any(axis=1))
        heights.append(int(rows_with[-1] - rows_with[0]))
    assert heights[1] > heights[0] / 8  # with a linear axis it would be a thousandth


QUALITY = ("evaluation/score", "evaluation/coverage", "evaluation/coverage/A", "evaluation/coverage/B")


def test_quality_by_class(tmp_path):
    path = tmp_path / "quality.png"
    assert plot_quality(rows("generator/adversarial", *QUALITY), path)
    with Image.open(path) as picture:
        pixels = np.asarray(picture.convert("RGB")).astype(int)
    for colour in ((0xD5, 0x5E, 0x00), (0x00, 0x72, 0xB2), (0, 0, 0)):
        assert np.abs(pixels - colour).max(axis=2).min() < 20


def test_no_evaluation_no_picture(tmp_path):
    assert not plot_quality(rows("generator/adversarial"), tmp_path / "quality.png")
    assert not plot_quality([], tmp_path / "quality.png")
    assert not (tmp_path / "quality.png").exists()


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param(rows(*(f"evaluation/coverage/{number}" for number in range(20))), id="many classes"),
        pytest.param([{"images": 32, "evaluation/score": float("nan")}], id="not a number"),
        pytest.param([{"images": 32, "evaluation/score": None, "evaluation/coverage": 0.5}], id="nothing"),
        pytest.param(
            rows("evaluation/class_consistency/A", "evaluation/real_class_consistency/A", "health/copies"), id="real"
        ),
    ],
)
def test_quality_of_odd_logs(tmp_path, lines):
    assert plot_quality(lines, tmp_path / "plot.png")
    with Image.open(tmp_path / "plot.png") as picture:
        assert picture.format == "PNG"
