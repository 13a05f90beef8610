"""The report's experiment: a classifier trained on synthetic images alone, tested on the images that the GAN has seen.

Its figure is optimistic by construction, so the same classifier's figure on held-out patients and that of always
guessing the commoner class stand beside it. L. Sharma, J. Patel, K. Mandwal, "X-Ray Image Generation using GAN", SRM
Institute, 2024.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch
from numpy.typing import NDArray

from medgan.classifiers import make_classifier, predict, train_classifier
from medgan.core.saving import versions, write_aside
from medgan.core.spec import Batch
from medgan.errors import ConfigError, DataError
from medgan.evaluation.leakage import count_unknown_patients, note_unknown_patients
from medgan.evaluation.mixing import class_counts, patients_of, take_by_class
from medgan.evaluation.options import ReportConfig
from medgan.evaluation.pools import PoolStore
from medgan.evaluation.study_figures import confusion_figure
from medgan.pages import (
    COLOURS,
    Code,
    Figure,
    Note,
    Page,
    Section,
    Table,
    Text,
    figure_png,
    make_figure,
    make_grid,
    markdown_table,
)

if TYPE_CHECKING:
    from medgan.core.gan import GAN
    from medgan.data import ImageDataset

__all__ = ["run_report_protocol"]

_THRESHOLD = 0.5
_SHOWN = 64


def run_report_protocol(
    gan: GAN,
    seen: ImageDataset,
    *,
    out: Path,
    held_out: ImageDataset | None = None,
    config: ReportConfig | None = None,
    device: str = "auto",
    command: str | None = None,
    progress: Callable[[int, int, str], None] | None = None,
) -> Path:
    """Repeat the report's experiment with a model.

    Args:
        gan: The model.
        seen: Real images that the model was trained on, on which the report tests.
        out: Folder for ``index.html``, ``report.json`` and ``report.md``; must not exist or be empty.
        held_out: Real images of patients that the model has not seen; None if there are none.
        config: Options.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        command: What was typed, for the page.
        progress: Called with steps done, most steps, and a word.

    Returns:
        The page.

    Raises:
        ConfigError: If the folder holds something, or the classifier cannot do such images or labels.
        DataError: If the labels are not classes, or those of model and images differ.
    """
    config = config or ReportConfig()
    labels = gan.data.labels
    if labels is None or labels.kind not in ("categorical", "ordinal"):
        raise DataError("The report's protocol needs classes; this model has none. Use --protocol study.")
    for images in (seen, held_out):
        if images is not None and images.spec != gan.data:
            raise DataError(f"The model makes {gan.data}, the real images are {images.spec}. Open them alike.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} exists and is not an empty folder. Name another --out.")
    classes = labels.names
    classifier = make_classifier(
        config.classifier,
        channels=gan.data.channels,
        size=gan.data.size,
        num_classes=len(classes),
        seed=config.seed,
    )
    started = time.monotonic()
    counts = np.full(len(classes), -(-config.images // len(classes)), dtype=np.int64)
    pool = PoolStore(out / "synthetic", 1.0, device).open(gan, seen, counts, first_seed=config.seed)
    kept_back = np.maximum(1, np.round(config.held_out * counts)).astype(np.int64)
    validation, training = take_by_class(pool, kept_back, seed=config.seed)
    size = classifier.recipe.batch_size
    epoch = math.ceil(len(training) / size)
    history = train_classifier(
        classifier,
        training.batches(size, seed=config.seed),
        steps=config.epochs * epoch,
        validation=validation,
        evaluate_every=epoch,
        patience=config.patience,
        seed=config.seed,
        device=device,
        progress=None if progress is None else lambda step: progress(step, config.epochs * epoch, "training"),
    )
    tests = {
        "images the GAN was trained on": seen,
        **({} if held_out is None else {"held-out patients": held_out}),
    }
    results = [
        _judge(name, images, predict(classifier, images, device=device), classes) for name, images in tests.items()
    ]
    facts: dict[str, Any] = {
        "protocol": "report",
        "classes": list(classes),
        "results": results,
        "notes": note_unknown_patients({"training": seen, **({} if held_out is None else {"held-out": held_out})}),
        "classifier": {
            "name": config.classifier,
            "parameters": sum(weight.numel() for weight in classifier.parameters()),
            "recipe": str(classifier.recipe),
            "epochs": history.steps / epoch,
            "best_epoch": history.best_step / epoch,
            "history": history.rows,
        },
        "synthetic": {
            "training": training.class_counts(),
            "held_out_for_stopping": validation.class_counts(),
            "generator": gan.name,
            "weights_sha256": gan.weights_sha256,
            "trained_on": gan.provenance,
        },
        "config": config.to_dict(),
        "threshold": _THRESHOLD,
        "seconds": round(time.monotonic() - started, 1),
        "command": command,
        "versions": versions(),
    }
    return _write(out, facts, pool, epoch)


def _judge(
    name: str, images: ImageDataset, probabilities: NDArray[np.float32], classes: Sequence[str]
) -> dict[str, Any]:
    """Return the report's figures on some images."""
    from sklearn.metrics import confusion_matrix, precision_recall_fscore_support, roc_auc_score

    truth = np.asarray(images.labels)
    # At two classes the largest probability is that above the report's threshold of 0.5.
    predicted = probabilities.argmax(axis=1)
    numbers = list(range(len(classes)))
    precision, recall, f1, support = precision_recall_fscore_support(
        truth, predicted, labels=numbers, zero_division=np.nan
    )
    present = len(np.unique(truth)) == len(classes)
    binary = len(classes) == 2
    auroc = None
    if present:
        scores = probabilities[:, 1] if binary else probabilities
        auroc = float(roc_auc_score(truth, scores, **({} if binary else {"multi_class": "ovr"})))
    largest = int(class_counts(images).argmax())
    return {
        "images": name,
        "count": len(images),
        "patients": len(np.unique(patients_of(images))),
        "unit": "file" if count_unknown_patients(images) == len(images) else "patient",
        "accuracy": float((truth == predicted).mean()),
        "balanced_accuracy": float(np.nanmean(recall)),
        "auroc": auroc,
        "per_class": [
            {
                "class": label,
                "precision": _number(precision[row]),
                "recall": _number(recall[row]),
                "f1": _number(f1[row]),
                "support": int(support[row]),
            }
            for row, label in enumerate(classes)
        ],
        "confusion": confusion_matrix(truth, predicted, labels=numbers).tolist(),
        "majority": {"class": classes[largest], "accuracy": float((truth == largest).mean())},
    }


def _number(value: float) -> float | None:
    """Return a number that JSON can hold."""
    return None if math.isnan(value) else float(value)


def _write(out: Path, facts: dict[str, Any], pool: ImageDataset, epoch: int) -> Path:
    """Write the results as JSON, Markdown and a page."""
    columns, rows = _summary(facts)
    warning = (
        "The first row is what the report gives: a test on the very images that the GAN was trained on. It shows how "
        "well the GAN repeats its training images, and says nothing about new patients."
    )
    table = markdown_table(columns, rows)
    with write_aside(out / "report.json") as aside:
        aside.write_text(json.dumps(facts, indent=2, ensure_ascii=False, allow_nan=False) + "\n", encoding="utf-8")
    with write_aside(out / "report.md") as aside:
        aside.write_text(f"{table}\n{warning}\n", encoding="utf-8")
    synthetic, classifier = facts["synthetic"], facts["classifier"]
    made = sum(synthetic["training"].values()) + sum(synthetic["held_out_for_stopping"].values())
    sections = [
        Section("Result", [Table(columns, rows, strong=[len(facts["results"]) - 1])]),
        *(_details(result) for result in facts["results"]),
        Section("Training", [_losses(classifier["history"], epoch), Text(_training_sentence(facts, made))]),
        Section("Synthetic images", [_grid(pool), Text(_counts_sentence(synthetic))]),
        Section("Table for a paper", [Code(table)], folded=True),
    ]
    page = Page(
        title=f"Trained on synthetic images only: {classifier['name']}",
        lead=(
            f"{made:,} images of {synthetic['generator']} trained a classifier of "
            f"{classifier['parameters']:,} parameters; real images tested it. This is the protocol of the ACGAN report "
            "of 2024, with its test beside an honest one."
        ),
        opening=[
            _verdict(facts),
            Note(warning, "danger" if len(facts["results"]) == 1 else "warning"),
            *(Note(note, "warning") for note in facts["notes"]),
        ],
        sections=sections,
        footer={
            **({"Command": facts["command"]} if facts["command"] else {}),
            "Weights (sha256)": synthetic["weights_sha256"],
            "Time": f"{facts['seconds']:,.0f} s",
            **{name: str(value) for name, value in facts["versions"].items()},
        },
    )
    path = out / "index.html"
    page.write(path)
    return path


def _verdict(facts: dict[str, Any]) -> Note:
    """Say what came out, first."""
    results = facts["results"]
    seen = results[0]
    text = f"Accuracy {seen['accuracy']:.1%} on the {seen['count']:,} images that the GAN was trained on"
    if len(results) > 1:
        new = results[1]
        text += (
            f"; {new['accuracy']:.1%} on {new['count']:,} images of {new['patients']:,} {new['unit']}s that it has not "
            "seen"
        )
        text += f". Always guessing {new['majority']['class']} gives {new['majority']['accuracy']:.1%} there."
    else:
        text += f". Always guessing {seen['majority']['class']} gives {seen['majority']['accuracy']:.1%}."
    return Note(text, "verdict")


def _summary(facts: dict[str, Any]) -> tuple[list[str], list[list[str]]]:
    """Return the main table."""
    columns = ["Tested on", "Images", "Patients", "Accuracy", "Majority class", "Balanced accuracy", "AUROC"]
    rows = [
        [
            result["images"],
            f"{result['count']:,}",
            f"{result['patients']:,}" if result["unit"] == "patient" else "not known",
            f"{result['accuracy']:.3f}",
            f"{result['majority']['accuracy']:.3f}",
            f"{result['balanced_accuracy']:.3f}",
            "" if result["auroc"] is None else f"{result['auroc']:.3f}",
        ]
        for result in facts["results"]
    ]
    return columns, rows


def _details(result: dict[str, Any]) -> Section:
    """Return the report's table and heat map for some images."""

    def cell(value: float | None) -> str:
        return "" if value is None else f"{value:.3f}"

    classes = [row["class"] for row in result["per_class"]]
    rows = [
        [row["class"], cell(row["precision"]), cell(row["recall"]), cell(row["f1"]), f"{row['support']:,}"]
        for row in result["per_class"]
    ]
    counts = np.asarray(result["confusion"])
    shares = counts / np.maximum(counts.sum(axis=1, keepdims=True), 1)
    matrix = {"class": None, "labels": classes, "counts": counts.tolist(), "shares": shares.tolist()}
    return Section(
        f"On {result['images']}",
        [
            Table(
                ["Class", "Precision", "Recall", "F1", "Images"],
                rows,
                caption=f"{result['count']:,} images of {result['patients']:,} {result['unit']}s, threshold "
                f"{_THRESHOLD}; each row is a true class.",
            ),
            confusion_figure({"title": result["images"], "confusion": [matrix]}),
        ],
    )


def _losses(history: Sequence[dict[str, float]], epoch: int) -> Figure:
    """Draw the losses."""
    figure, panels = make_figure()
    panel = panels[0, 0]
    epochs = [row["step"] / epoch for row in history]
    for name, key, colour in (
        ("training", "training_loss", COLOURS[0]),
        ("held-out synthetic images", "validation_loss", COLOURS[1]),
    ):
        panel.plot(epochs, [row[key] for row in history], label=name, color=colour, marker=".")
    panel.set_xlabel("epoch")
    panel.set_ylabel("cross-entropy")
    panel.legend(frameon=False)
    return Figure(figure_png(figure), "Loss of each epoch, on training and on held-out synthetic images")


def _grid(pool: ImageDataset) -> Figure:
    """Show some of the synthetic images, by class."""
    labels = np.asarray(pool.labels)
    rng = np.random.default_rng(0)
    classes = np.unique(labels)
    each = max(1, _SHOWN // len(classes))
    rows = np.concatenate([rng.permutation(np.flatnonzero(labels == label))[:each] for label in classes])
    picture = make_grid(Batch(pool.images_at(rows), torch.from_numpy(labels[rows])), pool.spec)
    return Figure.of_image(picture, "Synthetic images by class", "Drawn at random from those that trained it.")


def _training_sentence(facts: dict[str, Any], made: int) -> str:
    """Say how the classifier was trained."""
    classifier, config = facts["classifier"], facts["config"]
    early = f", as the loss had not fallen for {config['patience']}" if classifier["epochs"] < config["epochs"] else ""
    return (
        f"{made:,} synthetic images, {config['held_out']:.0%} of them held out; {classifier['epochs']:g} epochs of "
        f"at most {config['epochs']}{early}. The weights are those of epoch {classifier['best_epoch']:g}, whose loss "
        f"on the held-out synthetic images was lowest. {classifier['recipe']}."
    )


def _counts_sentence(synthetic: dict[str, Any]) -> str:
    """Say how many images of each class there were."""
    parts = [
        f"{name}: {count + synthetic['held_out_for_stopping'][name]:,}" for name, count in synthetic["training"].items()
    ]
    return f"Images made: {', '.join(parts)}."
