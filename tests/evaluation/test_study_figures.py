from __future__ import annotations

import io
from typing import Any

import numpy as np
import pytest
import torch
from PIL import Image

from medgan.evaluation import study_figures
from medgan.evaluation.study_figures import (
    ForestRow,
    calibration_figure,
    confusion_figure,
    curve_figure,
    forest_figure,
    fraction_figures,
    image_figure,
    loss_figure,
    loss_limit,
)


@pytest.fixture
def drawn(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Collects the panels that are drawn on."""
    found: list[Any] = []
    make_figure = study_figures.make_figure

    def watch(*args: Any, **options: Any) -> Any:
        figure, panels = make_figure(*args, **options)
        found.extend(panels.flat)
        return figure, panels

    monkeypatch.setattr(study_figures, "make_figure", watch)
    monkeypatch.setattr(study_figures, "_DPI", 50)
    return found


def texts(panel: Any) -> list[str]:
    return [text.get_text() for text in panel.texts]


def line(panel: Any, label: str) -> Any:
    return next(line for line in panel.lines if str(line.get_label()).startswith(label))


def estimate(value: float | None, low: float | None = None, high: float | None = None) -> dict[str, Any]:
    return {"value": value, "low": low, "high": high, "undefined_share": 0.0}


def size(png: bytes) -> tuple[int, int]:
    with Image.open(io.BytesIO(png)) as picture:
        return picture.size


def result(arm: str, **more: Any) -> dict[str, Any]:
    return {"arm": arm, "title": f"{arm} $x$", "fraction": 1.0, "scores": {}, "per_class": {}, **more}


# ------------------------------------------------------------------------------------------ forest


def test_forest_draws_values_and_intervals(drawn: list[Any]) -> None:
    rows = [
        ForestRow("women", heading=True),
        ForestRow("real", estimate(0.9, 0.85, 0.95), baseline=True),
        ForestRow("other", estimate(0.7)),
        ForestRow("empty", estimate(None)),
    ]
    figure = forest_figure(rows, "AUROC", alt="a forest")
    assert figure.alt == "a forest"
    (panel,) = drawn
    points = {(tuple(line.get_xdata()), tuple(line.get_ydata())) for line in panel.lines}
    assert points == {((0.85, 0.95), (1, 1)), ((0.9,), (1,)), ((0.7,), (2,))}
    assert texts(panel) == ["women", "0.900 [0.850, 0.950]", "0.700", "–"]
    assert [label.get_text() for label in panel.get_yticklabels()] == ["", "real", "other", "empty"]
    low, high = panel.get_ylim()
    assert low > high  # the first row is on top


def test_forest_of_differences_has_zero_and_the_limit(drawn: list[Any]) -> None:
    rows = [ForestRow("real", baseline=True), ForestRow("other", estimate(-0.03, -0.05, 0.01))]
    forest_figure(rows, "difference", alt="x", difference=True, limit=-0.02)
    (panel,) = drawn
    assert [float(line.get_xdata()[0]) for line in panel.lines[:2]] == [0, -0.02]
    assert texts(panel) == ["margin −0.02", "reference", "−0.030 [−0.050, +0.010]"]


# ------------------------------------------------------------------------------------------ curves


def curves_of(arm: str, height: float) -> dict[str, Any]:
    points = {"low": [height - 0.1, 1.0], "high": [height + 0.1, 1.0]}
    return result(
        arm,
        scores={"auroc": estimate(0.9), "auprc": estimate(0.8)},
        per_class={"ill": {"auroc": estimate(0.7, 0.6, 0.8), "auprc": estimate(0.5)}},
        curves={
            "roc": [
                {"class": None, "false_positive_rate": [0.0, 1.0], "sensitivity": [height, 1.0], **points},
                {"class": "ill", "false_positive_rate": [0.0, 1.0], "sensitivity": [height / 2, 1.0], **points},
            ],
            "precision_recall": [{"class": "ill", "recall": [0.0, 1.0], "precision": [1.0, None], **points}],
        },
    )


def test_curves_with_bands(drawn: list[Any]) -> None:
    curve_figure("roc", [curves_of("real", 0.3), curves_of("mixed", 0.5)], baseline="real", of=None)
    (panel,) = drawn
    assert list(line(panel, r"mixed \$x\$").get_ydata()) == [0.5, 1.0]
    assert list(line(panel, "real").get_ydata()) == [0.3, 1.0]
    assert line(panel, "real").get_linestyle() == "--"
    assert line(panel, "mixed").get_label().endswith("\n0.900")
    assert len(panel.collections) == 2
    band = panel.collections[1].get_paths()[0].vertices
    assert {0.4, 0.6} <= {round(float(y), 6) for x, y in band if x == 0}


def test_curves_of_a_class_without_bands_if_there_are_many(drawn: list[Any]) -> None:
    results = [curves_of(arm, 0.4) for arm in ("real", "a", "b")]
    curve_figure("roc", results, baseline="real", of="ill")
    curve_figure("precision_recall", results[:1], baseline="real", of="ill", chance=0.25)
    roc, precision_recall = drawn
    assert list(line(roc, "a").get_ydata()) == [0.2, 1.0]
    assert line(roc, "a").get_label().endswith("  0.700 [0.600, 0.800]")
    assert not roc.collections
    assert len({line.get_color() for line in roc.lines}) == 4
    assert line(precision_recall, "chance 0.250").get_ydata()[0] == 0.25
    assert np.isnan(line(precision_recall, "real").get_ydata()[1])


def test_calibration_with_its_histogram(drawn: list[Any]) -> None:
    curve = {"class": "ill", "predicted": [0.05, 0.95], "observed": [0.1, 0.8], "low": [0.0, None], "high": [0.2, None]}
    one = result("real", curves={"calibration": [{**curve, "images": [30.0, 5.5]}]})
    two = result("real", curves={"calibration": [{**curve, "images": [30.0, 5.5]}, {**curve, "images": [1.0, 2.0]}]})
    calibration_figure(one, bins=10, baseline=True)
    calibration_figure(two, bins=10, baseline=False)
    top, bottom, top_of_two, bottom_of_two = drawn
    assert list(line(top, "ill").get_ydata()) == [0.1, 0.8]
    heights = [bar.get_height() for bar in bottom.patches]
    assert heights == [30.0, *[0.0] * 8, 5.5]
    assert bottom.patches[9].get_x() + bottom.patches[9].get_width() / 2 == pytest.approx(0.95)
    assert len(top.collections) == 1  # intervals
    assert not top_of_two.collections
    assert [bar.get_y() for bar in bottom_of_two.patches][10] == 30.0  # one class on the other


def test_confusion_matrix(drawn: list[Any]) -> None:
    table = {"class": None, "labels": ["a", "b"], "counts": [[1200, 300], [0, 0]], "shares": [[0.8, 0.2], [None, None]]}
    confusion_figure(result("real", confusion=[table]))
    (panel,) = drawn
    assert texts(panel) == ["1,200\n80.0 %", "300\n20.0 %", "0", "0"]
    image = np.asarray(panel.images[0].get_array())
    np.testing.assert_array_equal(image, [[0.8, 0.2], [0, 0]])
    assert (panel.get_xlabel(), panel.get_ylabel()) == ("predicted", "truth")


def test_confusion_of_findings_has_two_rows_each(drawn: list[Any]) -> None:
    table = {"labels": ["absent", "present"], "counts": [[8, 2], [1, 3]], "shares": [[0.8, 0.2], [0.25, 0.75]]}
    confusion_figure(result("real", confusion=[{"class": "mass", **table}, {"class": "cyst", **table}]))
    (panel,) = drawn
    labels = [label.get_text() for label in panel.get_yticklabels()]
    assert labels == ["mass: absent", "mass: present", "cyst: absent", "cyst: present"]
    assert np.asarray(panel.images[0].get_array()).shape == (4, 2)


# ------------------------------------------------------------------------------------------ losses and fractions


def losses(*values: float, best: int = 20) -> dict[str, Any]:
    history = [
        {"step": 10 * (i + 1), "training_loss": value, "validation_loss": value + 1} for i, value in enumerate(values)
    ]
    return {"history": history, "facts": {"best_step": best}}


def test_losses_are_a_line_a_seed(drawn: list[Any]) -> None:
    loss_figure(result("real", runs=[losses(3, 2, 1), losses(4, 3, 2)]), limit=3.5)
    (panel,) = drawn
    assert list(line(panel, "training").get_ydata()) == [3, 2, 1]
    assert list(line(panel, "validation").get_xdata()) == [10, 20, 30]
    markers = [(line.get_xdata()[0], line.get_ydata()[0]) for line in panel.lines if line.get_marker() == "v"]
    assert markers == [(20, 3), (20, 4)]
    assert panel.get_ylim() == (0, 3.5)
    assert len(panel.lines) == 6


def test_a_peak_does_not_stretch_the_axis_of_losses() -> None:
    calm = result("real", runs=[losses(*[1.0] * 100)])
    peak = result("real", runs=[losses(*[1.0] * 99, 1000.0)])
    assert loss_limit([calm]) == pytest.approx(2 * 1.15)
    assert loss_limit([peak]) == pytest.approx(2 * 1.15)
    assert loss_limit([result("real", runs=[losses(float("nan")), {"history": [], "facts": {}}])]) is None


def test_score_and_gain_by_share(drawn: list[Any]) -> None:
    def entry(arm: str, values: list[float], gain: float | None) -> dict[str, Any]:
        difference = None if gain is None else {"value": gain, "low": gain - 0.1, "high": gain + 0.1}
        points = [
            {"fraction": fraction, "counts": {"real_patients": 100 * fraction}, "difference": difference}
            | {"value": value, "low": value - 0.1, "high": value + 0.1}
            for fraction, value in zip((0.1, 1.0), values, strict=True)
        ]
        return {"arm": arm, "title": arm, "score": "auroc", "points": points}

    baseline = entry("real", [0.6, 0.8], None)
    synthetic = result("synthetic", scores={"auroc": estimate(0.7, 0.65, 0.75)})
    found = fraction_figures(entry("mixed", [0.7, 0.85], 0.05), baseline=baseline, synthetic=synthetic, title="AUROC")
    assert all(found)
    score, gain = drawn
    assert list(line(score, "mixed").get_ydata()) == [0.7, 0.85]
    assert list(line(score, "real").get_ydata()) == [0.6, 0.8]
    assert line(score, "synthetic").get_ydata()[0] == 0.7
    assert score.get_xscale() == "log"
    assert [label.get_text() for label in score.get_xticklabels()] == ["0.1\n(10)", "1\n(100)"]
    assert list(gain.lines[-1].get_ydata()) == [0.05, 0.05]
    assert fraction_figures(baseline, baseline=None, synthetic=None, title="AUROC")[1] is None


# ------------------------------------------------------------------------------------------ images


def test_small_images_are_enlarged_by_whole_numbers_without_smoothing() -> None:
    image = torch.tensor([[[-1.0, 1.0], [0.0, -1.0]]])
    figure = image_figure(image, "a & b", "c")
    assert (figure.alt, figure.caption, figure.pixelated) == ("a & b", "c", True)
    with Image.open(io.BytesIO(figure.png)) as picture:
        pixels = np.asarray(picture)
    assert pixels.shape == (160, 160)
    np.testing.assert_array_equal(pixels, np.kron([[0, 255], [128, 0]], np.ones((80, 80))))


def test_large_images_are_reduced() -> None:
    figure = image_figure(torch.zeros(1, 600, 300), "x", "y")
    assert size(figure.png) == (160, 320)
    assert not figure.pixelated


def test_middle_of_a_volume_and_first_of_other_channels() -> None:
    volume = torch.full((2, 5, 4, 4), -1.0)
    volume[0, 2] = 1.0
    with Image.open(io.BytesIO(image_figure(volume, "x", "y").png)) as picture:
        assert picture.mode == "L"
        assert picture.getextrema() == (255, 255)


def test_images_in_colour() -> None:
    image = torch.full((3, 4, 4), -1.0)
    image[1] = 1.0
    with Image.open(io.BytesIO(image_figure(image, "x", "y").png)) as picture:
        assert picture.getpixel((0, 0)) == (0, 255, 0)
