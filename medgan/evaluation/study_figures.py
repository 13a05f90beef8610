"""Figures of a study's report, drawn from its summary."""

from __future__ import annotations

import io
import textwrap
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

import numpy as np
from numpy.typing import NDArray
from PIL import Image

from medgan.data.pixels import to_uint8
from medgan.evaluation.study_tables import cell, signed_cell
from medgan.pages import COLOURS, Figure, figure_png, make_figure

if TYPE_CHECKING:
    from matplotlib.figure import Figure as MatplotlibFigure
    from torch import Tensor

__all__ = [
    "ForestRow",
    "calibration_figure",
    "confusion_figure",
    "curve_figure",
    "forest_figure",
    "fraction_figures",
    "image_figure",
    "loss_figure",
    "loss_limit",
]

_DPI = 200  # enough for print
_ARM, _BASELINE, _OTHER = COLOURS[0], COLOURS[6], COLOURS[1]
_CLASSES_DRAWN = len(COLOURS)
_TILE = 160  # pixels
_CURVES = {
    "roc": ("false_positive_rate", "sensitivity", "1 − specificity", "sensitivity", "ROC", "auroc", "lower right"),
    "precision_recall": ("recall", "precision", "recall (sensitivity)", "precision", "PR", "auprc", "lower left"),
}

Estimate = Mapping[str, Any]
Result = Mapping[str, Any]


@dataclass(frozen=True)
class ForestRow:
    """A line of a forest plot.

    Attributes:
        label: What stands to the left; of a heading, above the lines that follow.
        estimate: Value and interval.
        baseline: Whether it is what the others are compared with.
        heading: Whether it is one.
    """

    label: str
    estimate: Estimate | None = None
    baseline: bool = False
    heading: bool = False


def forest_figure(
    rows: Sequence[ForestRow],
    axis: str,
    *,
    alt: str,
    caption: str = "",
    difference: bool = False,
    limit: float | None = None,
) -> Figure:
    """Draw values with their intervals, one below the other, with the numbers beside them.

    Args:
        rows: The lines, from the top.
        axis: What the values are.
        alt: See `Figure`.
        caption: See `Figure`.
        difference: Whether the values are differences; then there is a line at zero.
        limit: Of non-inferiority; drawn as a line.
    """
    figure, panels = make_figure(width=4.9, height=0.9 + 0.32 * len(rows))
    panel = panels[0, 0]
    panel.grid(visible=False, axis="y")
    if difference:
        panel.axvline(0, color="#1c2126", linewidth=0.9)
    if limit:
        panel.axvline(limit, color=_OTHER, linewidth=0.9, linestyle="--")
        panel.annotate(
            f"margin {limit:+g}".replace("-", "−"),
            (limit, 1),
            xycoords=panel.get_xaxis_transform(),
            xytext=(0, 2),
            textcoords="offset points",
            ha="center",
            fontsize=8,
            color=_OTHER,
        )
    for y, row in enumerate(rows):
        if row.estimate is None or row.estimate["value"] is None:
            continue
        colour = _BASELINE if row.baseline else _ARM
        value, low, high = (row.estimate[key] for key in ("value", "low", "high"))
        if low is not None and high is not None:
            panel.plot([low, high], [y, y], color=colour, linewidth=1.8, solid_capstyle="butt")
        panel.plot([value], [y], marker="s" if row.baseline else "o", color=colour, markersize=5.5)
    for y, row in enumerate(rows):
        place: dict[str, Any] = {"transform": panel.get_yaxis_transform(), "va": "center", "fontsize": 9}
        if row.heading:
            panel.text(0, y, row.label.replace("$", r"\$"), fontweight="bold", **place)
            continue
        text = signed_cell(row.estimate) if difference else cell(row.estimate)
        panel.text(1.03, y, "reference" if difference and row.baseline else text, **place)
    panel.set_yticks(range(len(rows)), ["" if row.heading else _wrap(row.label, 22) for row in rows], fontsize=9)
    panel.set_ylim(len(rows) - 0.4, -0.6)
    panel.margins(x=0.08)
    panel.locator_params(axis="x", nbins=4)
    panel.tick_params(axis="y", length=0)
    panel.spines["left"].set_visible(False)
    panel.set_xlabel(axis)
    return _as_figure(figure, alt, caption)


def curve_figure(
    kind: Literal["roc", "precision_recall"],
    results: Sequence[Result],
    *,
    baseline: str,
    of: str | None,
    chance: float | None = None,
) -> Figure:
    """Draw curves of arms with their bands.

    Args:
        kind: Which curves.
        results: Of the summary, at most as many as there are colours; the baseline is grey and dashed.
        baseline: Name of its arm.
        of: Class or finding; None for the mean over them.
        chance: Height of the line of an image-blind classifier, of precision and recall.
    """
    x_name, y_name, x_title, y_title, short, score, corner = _CURVES[kind]
    figure, panels = make_figure(width=4.2, height=4.4)
    panel = panels[0, 0]
    if kind == "roc":
        panel.plot([0, 1], [0, 1], color="#9aa3ad", linewidth=0.8, linestyle=":", label="chance")
    elif chance is not None:
        panel.axhline(chance, color="#9aa3ad", linewidth=0.8, linestyle=":", label=f"chance {chance:.3f}")
    others = iter(colour for colour in COLOURS if colour != _BASELINE)
    for result in results:
        curve = next((curve for curve in result["curves"][kind] if curve["class"] == of), None)
        if curve is None:
            continue
        estimate = result["scores"].get(score) if of is None else result["per_class"].get(of, {}).get(score)
        reference = result["arm"] == baseline
        colour = _BASELINE if reference else next(others)
        label = _wrap(result["title"], 36)
        if estimate is not None:
            label += ("\n" if len(results) <= 2 else "  ") + cell(estimate)
        x, y = _numbers(curve[x_name]), _numbers(curve[y_name])
        if len(results) <= 2:
            panel.fill_between(
                x, _numbers(curve["low"]), _numbers(curve["high"]), color=colour, alpha=0.18, linewidth=0
            )
        panel.plot(x, y, color=colour, linewidth=1.7, linestyle="--" if reference else "-", label=label)
    panel.set(xlim=(0, 1), ylim=(0, 1.01), xlabel=x_title, ylabel=y_title)
    panel.set_aspect("equal")
    panel.legend(loc=corner, frameon=False, labelcolor="linecolor", fontsize=8.5, handlelength=1.8)
    what = "mean" if of is None else of
    titles = " and ".join(result["title"] for result in results)
    panel.set_title(_wrap(f"{short}, {what}", 44), fontsize=10, loc="left")
    return _as_figure(figure, f"{'ROC' if kind == 'roc' else 'Precision–recall'} curves of {titles}: {what}")


def calibration_figure(result: Result, *, bins: int, baseline: bool) -> Figure:
    """Draw how often what was predicted came true, and below it how often it was predicted.

    Args:
        result: Of the summary.
        bins: Number of bins of equal width.
        baseline: Whether the arm is the baseline.
    """
    curves = result["curves"]["calibration"][:_CLASSES_DRAWN]
    figure, panels = make_figure(2, 1, width=4.2, height=2.3)
    top, bottom = panels[:, 0]
    top.get_gridspec().set_height_ratios([3, 1])
    top.plot([0, 1], [0, 1], color="#9aa3ad", linewidth=0.8, linestyle=":")
    below: NDArray[np.float64] = np.zeros(bins)
    for number, curve in enumerate(curves):
        colour = (_BASELINE if baseline else _ARM) if len(curves) == 1 else COLOURS[number]
        predicted, observed = _numbers(curve["predicted"]), _numbers(curve["observed"])
        low, high = _numbers(curve["low"]), _numbers(curve["high"])
        if len(curves) == 1:
            top.vlines(predicted, low, high, color=colour, linewidth=1.2)
        top.plot(
            predicted,
            observed,
            marker="o",
            markersize=3.5,
            linewidth=1.2,
            color=colour,
            label=_wrap(curve["class"], 30),
        )
        heights: NDArray[np.float64] = np.zeros(bins)
        np.add.at(heights, np.minimum((predicted * bins).astype(int), bins - 1), _numbers(curve["images"]))
        bottom.bar((np.arange(bins) + 0.5) / bins, heights, 0.92 / bins, bottom=below, color=colour)
        below += heights
    if len(curves) > 1:
        top.legend(loc="upper left", frameon=False, labelcolor="linecolor", fontsize=8, handlelength=1)
    top.set(xlim=(0, 1), ylim=(-0.02, 1.02), ylabel="share that is positive")
    top.tick_params(labelbottom=False)
    bottom.set(xlim=(0, 1), ylabel="images", xlabel="predicted probability")
    top.set_title(_wrap(result["title"], 40), fontsize=10, loc="left")
    return _as_figure(figure, f"Reliability diagram of {result['title']}")


def confusion_figure(result: Result) -> Figure:
    """Draw confusion matrices as heat maps; of findings two rows each.

    Args:
        result: Of the summary.
    """
    tables = result["confusion"]
    labels = tables[0]["labels"]
    rows = [label if table["class"] is None else f"{table['class']}: {label}" for table in tables for label in labels]
    counts = np.concatenate([_numbers(table["counts"]) for table in tables])
    shares = np.concatenate([_numbers(table["shares"]) for table in tables])
    width = 2.2 + 0.75 * len(labels)
    figure, panels = make_figure(width=max(3.6, width), height=1.1 + (0.34 if len(tables) > 1 else 0.75) * len(rows))
    panel = panels[0, 0]
    panel.imshow(np.nan_to_num(shares), cmap="Blues", vmin=0, vmax=1, aspect="auto")
    joint = "  " if len(tables) > 1 else "\n"
    for (row, column), share in np.ndenumerate(shares):
        text = f"{counts[row, column]:,.0f}" + ("" if np.isnan(share) else f"{joint}{100 * share:.1f} %")
        colour = "white" if share > 0.55 else "#1c2126"
        panel.text(column, row, text, ha="center", va="center", fontsize=9, color=colour)
    panel.set_xticks(range(len(labels)), [_wrap(label, 14) for label in labels], fontsize=9)
    if len(labels) > 3:
        panel.tick_params(axis="x", rotation=35)
    panel.set_yticks(range(len(rows)), [_wrap(row, 18) for row in rows], fontsize=9)
    panel.tick_params(length=0)
    panel.grid(visible=False)
    for spine in panel.spines.values():
        spine.set_visible(False)
    for line in range(len(labels), len(rows), len(labels)):
        panel.axhline(line - 0.5, color="white", linewidth=4)
    panel.set(xlabel="predicted", ylabel="truth")
    panel.set_title(_wrap(result["title"], 36), fontsize=10, loc="left")
    return _as_figure(figure, f"Confusion matrix of {result['title']}: rows are the truth, columns the prediction")


def loss_limit(results: Sequence[Result]) -> float | None:
    """Return an upper end for the axes of all loss curves, which a single peak does not stretch.

    Args:
        results: Of the summary.

    Returns:
        The limit, or None where no loss is known.
    """
    losses = [
        row[key]
        for result in results
        for run in result["runs"]
        for row in run["history"]
        for key in ("training_loss", "validation_loss")
        if row.get(key) is not None and np.isfinite(row[key])
    ]
    return float(np.quantile(losses, 0.97)) * 1.15 if losses else None


def loss_figure(result: Result, *, limit: float | None) -> Figure:
    """Draw training and validation loss, a line a seed.

    Args:
        result: Of the summary.
        limit: Upper end of the axis, see `loss_limit`.
    """
    figure, panels = make_figure(width=4.2, height=2.9)
    panel = panels[0, 0]
    for number, run in enumerate(result["runs"]):
        for key, colour, style in (("training_loss", _ARM, "-"), ("validation_loss", _OTHER, "--")):
            points = [(row["step"], row[key]) for row in run["history"] if row.get(key) is not None]
            if points:
                label = key.removesuffix("_loss") if number == 0 else None
                panel.plot(*zip(*points, strict=True), color=colour, linestyle=style, linewidth=0.9, label=label)
            kept = [point for point in points if point[0] == run["facts"].get("best_step")]
            if kept and key == "validation_loss":
                panel.plot(*kept[0], marker="v", color=colour, markersize=5)
    if limit:
        panel.set_ylim(0, limit)
    panel.legend(loc="upper right", frameon=False, labelcolor="linecolor", fontsize=8.5)
    panel.set(xlabel="optimizer steps", ylabel="loss")
    panel.set_title(_wrap(_titled(result), 44), fontsize=10, loc="left")
    return _as_figure(figure, f"Loss curves of {_titled(result)}")


def fraction_figures(
    entry: Mapping[str, Any], *, baseline: Mapping[str, Any] | None, synthetic: Result | None, title: str
) -> tuple[Figure, Figure | None]:
    """Draw the score, and the gain over the baseline, against the share of real training patients.

    Args:
        entry: An arm of ``fractions`` of the summary.
        baseline: That of the baseline; None if the arm is the baseline itself.
        synthetic: Result of an arm without real images, drawn as a level.
        title: Of the score.

    Returns:
        The score, and the gain where differences from the baseline are known.
    """
    figure, panels = make_figure(width=4.2, height=3.3)
    panel = panels[0, 0]
    if synthetic is not None and (level := synthetic["scores"].get(entry["score"])) and level["value"] is not None:
        panel.axhline(level["value"], color=_OTHER, linestyle=":", linewidth=1.3, label=_wrap(synthetic["title"], 36))
        if level["low"] is not None:
            panel.axhspan(level["low"], level["high"], color=_OTHER, alpha=0.12, linewidth=0)
    if baseline is not None:
        _draw_points(panel, baseline["points"], _BASELINE, style="--", shift=0.97, label=_wrap(baseline["title"], 36))
    _draw_points(panel, entry["points"], _ARM if baseline else _BASELINE, shift=1.03, label=_wrap(entry["title"], 36))
    panel.legend(loc="best", frameon=False, labelcolor="linecolor", fontsize=8.5)
    panel.set_ylabel(title)
    _share_axis(panel, entry["points"])
    panel.set_title(_wrap(entry["title"], 44), fontsize=10, loc="left")
    score = _as_figure(figure, f"{title} of {entry['title']} against the share of real training patients")

    known = [{**point["difference"], **_place(point)} for point in entry["points"] if point["difference"] is not None]
    if baseline is None or not known:
        return score, None
    figure, panels = make_figure(width=4.2, height=3.3)
    panel = panels[0, 0]
    panel.axhline(0, color=_BASELINE, linewidth=1, linestyle="--")
    _draw_points(panel, known, _ARM)
    panel.set_ylabel(f"gain in {title}")
    _share_axis(panel, known)
    panel.set_title(_wrap(f"{entry['title']} minus {baseline['title']}", 44), fontsize=10, loc="left")
    return score, _as_figure(figure, f"Gain in {title} of {entry['title']} over {baseline['title']}")


def image_figure(image: Tensor, alt: str, caption: str) -> Figure:
    """Return an image of a cohort as a tile: small ones enlarged without smoothing, large ones reduced.

    Args:
        image: ``(C, *size)`` in [-1, 1]. Of a volume the middle slice is shown, of other channels than
            1 or 3 the first.
        alt: See `Figure`.
        caption: See `Figure`.
    """
    flat = image if image.ndim == 3 else image[:, image.shape[1] // 2]
    pixels = to_uint8((flat if flat.shape[0] in (1, 3) else flat[:1])[None])[0]
    tile = Image.fromarray(pixels.squeeze(-1) if pixels.shape[-1] == 1 else pixels)
    small = max(tile.size) <= _TILE
    if small:
        times = max(1, -(-_TILE // max(tile.size)))
        tile = tile.resize((tile.width * times, tile.height * times), Image.Resampling.NEAREST)
    else:
        tile.thumbnail((2 * _TILE, 2 * _TILE), Image.Resampling.LANCZOS)
    stream = io.BytesIO()
    tile.save(stream, format="PNG")
    return Figure(stream.getvalue(), alt, caption, pixelated=small)


def _draw_points(
    panel: Any,
    points: Sequence[Mapping[str, Any]],
    colour: str,
    *,
    style: str = "-",
    shift: float = 1.0,
    label: str | None = None,
) -> None:
    """Draw values over fractions; two sets are moved apart so that one does not hide the other."""
    x = _numbers([point["fraction"] for point in points]) * shift
    value, low, high = (_numbers([point[key] for point in points]) for key in ("value", "low", "high"))
    panel.vlines(x, low, high, color=colour, linewidth=1.4)
    panel.plot(x, value, color=colour, linestyle=style, marker="o", markersize=4.5, linewidth=1.3, label=label)


def _share_axis(panel: Any, points: Sequence[Mapping[str, Any]]) -> None:
    """Make the x axis one of shares of patients."""
    panel.set_xscale("log")
    patients = [(point["counts"] or {}).get("real_patients") for point in points]
    panel.set_xticks(
        [point["fraction"] for point in points],
        [
            f"{point['fraction']:.3g}" + ("" if count is None else f"\n({count:,.0f})")
            for point, count in zip(points, patients, strict=True)
        ],
        fontsize=9,
    )
    panel.minorticks_off()
    known = all(count is not None for count in patients)
    panel.set_xlabel("share of the real training patients" + (" (number)" if known else ""))


def _place(point: Mapping[str, Any]) -> dict[str, Any]:
    return {"fraction": point["fraction"], "counts": point["counts"]}


def _titled(result: Result) -> str:
    """Return an arm's title, with its fraction where it is not all."""
    return str(result["title"]) + ("" if result["fraction"] == 1 else f", share {result['fraction']:g}")


def _numbers(values: Any) -> NDArray[np.float64]:
    """Return numbers, NaN for None."""
    return np.asarray(values, dtype=np.float64)


def _wrap(text: str, width: int) -> str:
    """Break a label into lines; a dollar sign stays one."""
    return "\n".join(textwrap.wrap(text, width) or [""]).replace("$", r"\$")


def _as_figure(figure: MatplotlibFigure, alt: str, caption: str = "") -> Figure:
    """Turn a drawing into a block of a page; a palette makes a third of the size."""
    drawn = Image.open(io.BytesIO(figure_png(figure, dpi=_DPI))).convert("RGB")
    stream = io.BytesIO()
    drawn.quantize(256, dither=Image.Dither.NONE).save(stream, format="PNG")
    return Figure(stream.getvalue(), alt, caption)
