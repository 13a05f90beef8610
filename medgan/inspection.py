"""What is in a data set, before anyone trains on it: counts, oddities, a contact sheet and histograms."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import torch

from medgan.core.saving import write_aside
from medgan.core.spec import Batch
from medgan.data.decoded import FACTS
from medgan.data.duplicates import duplicate_report
from medgan.data.splits import image_identities, make_splits
from medgan.errors import ConfigError, DataError
from medgan.pages import figure_png, make_figure, make_grid, save_image

if TYPE_CHECKING:
    import pandas as pd

    from medgan.data import ImageDataset

__all__ = ["Inspection", "check_folder", "inspect_dataset"]

_FACTS = "inspection.json"
_SHOWN = 10  # commonest values of a fact
_PER_CLASS = 24  # images of a contact sheet
_SAMPLED = 2_000  # images whose intensities are counted, a class
_BINS = 64


@dataclass(frozen=True)
class Inspection:
    """What `inspect_dataset` found.

    Attributes:
        facts: Plain JSON values: counts, sizes, patients, quarantine, duplicates, intensities.
        concerns: What a careful reader would ask about, one sentence each.
        files: What was written, by name.
    """

    facts: dict[str, Any]
    concerns: list[str]
    files: dict[str, Path]


def check_folder(out: Path) -> None:
    """Check that an inspection may be written to a folder: it is new, empty, or of an earlier inspection.

    Args:
        out: The folder.

    Raises:
        ConfigError: If it holds something else, such as a table that an inspection would replace.
    """
    if (out / _FACTS).is_file() or not out.exists():
        return
    if not out.is_dir() or any(out.iterdir()):
        raise ConfigError(
            f"{out} exists and is neither an empty folder nor an earlier inspection: index.csv and other files in it "
            "would be replaced. Name another --out."
        )


def inspect_dataset(dataset: ImageDataset, out: Path) -> Inspection:
    """Look at a data set, and write pictures and tables of it.

    Args:
        dataset: The data set; it may hold no image at all, if all are in the quarantine.
        out: Folder to write into: ``inspection.json``, ``index.csv``, ``quarantine.csv``, ``duplicates.csv``,
            ``contact-sheet-CLASS.png`` and ``histograms.png``. Files of an earlier inspection are replaced.

    Returns:
        What was found.

    Raises:
        CheckpointError: If a file cannot be written.
        ConfigError: If the folder holds something else than an earlier inspection.
    """
    check_folder(out)
    duplicates = duplicate_report({"all": dataset})
    facts: dict[str, Any] = {
        "source": dataset.source,
        "spec": dataset.spec.to_dict(),
        "fingerprint": dataset.fingerprint,
        "licence": dataset.licence,
        "citation": dataset.citation,
        "images": len(dataset),
        "class_counts": dataset.class_counts(),
        "unusable": _unusable(dataset.quarantine),
        "ignored": dict(sorted(dataset.ignored.items())),
        "sizes": _sizes(dataset.index),
        "values": {
            name: _counts(dataset.index[name])
            for name in ("mode", "bits", *FACTS)
            if name in dataset.index and name not in ("age", "masked_area", "source_path")
        },
        "patients": _patients(dataset),
        "duplicates": {
            "identical_copies": int(duplicates["identical"].astype(bool).sum()),
            "near_pairs": int((~duplicates["identical"].astype(bool)).sum()),
            "pairs_of_different_labels": _contradictions(dataset, duplicates),
            "pairs_of_different_patients": int(duplicates["same_patient"].eq(False).fillna(False).sum()),
        },
        "intensities": _intensities(dataset),
    }
    tables = {
        "index.csv": dataset.index.to_csv(index=False),
        "quarantine.csv": dataset.quarantine.to_csv(index=False),
        "duplicates.csv": duplicates.to_csv(index=False),
    }
    concerns = _concerns(dataset, facts)
    tables[_FACTS] = json.dumps({**facts, "concerns": concerns}, indent=2, ensure_ascii=False) + "\n"
    files = {}
    for name, text in tables.items():
        files[name] = out / name
        with write_aside(out / name) as temporary:
            temporary.write_text(text, encoding="utf-8", errors="surrogateescape")
    if len(dataset):
        files |= _contact_sheets(dataset, out)
        files["histograms.png"] = _plot_histograms(facts["intensities"], out / "histograms.png")
    return Inspection(facts, concerns, files)


def _unusable(quarantine: pd.DataFrame) -> dict[str, Any]:
    """Count the refused images by reason."""
    texts = quarantine["stage"] + ": " + quarantine["error"]
    # Reasons that differ in their numbers only are one, told by its first.
    kinds = texts.groupby(texts.str.replace(r"-?\d[\d.,]*", "#", regex=True), sort=False)
    reasons = {str(found.iloc[0]): len(found) for _, found in kinds}
    return {"images": len(quarantine), "reasons": dict(sorted(reasons.items(), key=lambda item: -item[1]))}


def _counts(column: pd.Series[Any]) -> dict[str, int]:
    """Return the commonest values of a column with their counts, and how many others there are."""
    counts = column.astype(str).replace("", "unknown").value_counts()
    shown = {str(value): int(count) for value, count in counts.head(_SHOWN).items()}
    rest = int(counts.iloc[_SHOWN:].sum())
    return shown | ({f"{len(counts) - _SHOWN} others": rest} if rest else {})


def _sizes(index: pd.DataFrame) -> dict[str, Any]:
    """Describe the sizes of the images as found, in pixels."""
    names = [name for name in ("depth", "height", "width") if name in index]
    if not len(index):
        return {}
    ratios = index["width"] / index["height"]
    return {
        **{name: {part: int(getattr(index[name], part)()) for part in ("min", "median", "max")} for name in names},
        "distinct": len(index[names].drop_duplicates()),
        "aspect_ratio": {"min": round(float(ratios.min()), 3), "max": round(float(ratios.max()), 3)},
    }


def _patients(dataset: ImageDataset) -> dict[str, Any]:
    """Describe who the images are of."""
    index = dataset.index
    if "origin" in index:
        index = index[index["origin"] != "synthetic"]  # they are of nobody
    known = index[index["patient_id"] != ""]
    per_patient = known["patient_id"].value_counts()
    if not len(known):
        return {"known": 0, "images_without_patient": len(index)}
    several = known.groupby("patient_id")["label"].nunique()
    return {
        "known": len(per_patient),
        "images_without_patient": len(index) - len(known),
        "images_per_patient": {
            "mean": round(float(per_patient.mean()), 2),
            "median": int(per_patient.median()),
            "max": int(per_patient.max()),
        },
        "share_of_images_with_siblings": round(float((known["patient_id"].map(per_patient) > 1).mean()), 3),
        "patients_of_several_labels": int((several > 1).sum()),
    }


def _contradictions(dataset: ImageDataset, duplicates: pd.DataFrame) -> int:
    """Count pairs of the same picture under different labels."""
    labels = dict(zip(image_identities(dataset.index), dataset.index["label"], strict=True))
    pairs = zip(duplicates["file_a"], duplicates["file_b"], strict=True)
    return sum(labels.get(first) != labels.get(second) for first, second in pairs)


def _groups(dataset: ImageDataset) -> dict[str, np.ndarray[Any, np.dtype[np.int64]]]:
    """Return the positions of each class' images; all of them where there are no classes."""
    if dataset.labels is None or dataset.labels.ndim != 1 or dataset.spec.labels is None:
        return {"all": np.arange(len(dataset))}
    return {name: np.flatnonzero(dataset.labels == number) for number, name in enumerate(dataset.spec.labels.names)}


def _intensities(dataset: ImageDataset) -> dict[str, Any]:
    """Describe the stored grey values of each class, from 0 to 1."""
    found: dict[str, Any] = {}
    for name, positions in _groups(dataset).items():
        if not len(positions):
            continue
        chosen = np.sort(np.random.default_rng(0).permutation(positions)[:_SAMPLED])
        histogram, total, squares, count = np.zeros(_BINS, np.int64), 0.0, 0.0, 0
        for start in range(0, len(chosen), 64):
            values = ((dataset.images_at(chosen[start : start + 64]) + 1) / 2).numpy()
            histogram += np.histogram(values, bins=_BINS, range=(0, 1))[0]
            total, squares, count = total + float(values.sum()), squares + float((values**2).sum()), count + values.size
        mean = total / count
        found[name] = {
            "images": len(chosen),
            "mean": round(mean, 4),
            "std": round(max(0.0, squares / count - mean**2) ** 0.5, 4),
            "histogram": [round(float(share), 6) for share in histogram / count],
        }
    return found


def _concerns(dataset: ImageDataset, facts: dict[str, Any]) -> list[str]:
    """Return what a careful reader would ask about."""
    values, patients, sizes = facts["values"], facts["patients"], facts["sizes"]
    concerns = []
    if len(dataset) and not patients["known"]:
        concerns.append(
            "No patient is known: images of one patient may end on both sides of a split. Give --patient-regex, or a "
            "manifest with patient_id."
        )
    try:
        make_splits(dataset.index, dataset.labels, validation=0)
    except DataError as error:  # what the data says of its own split, and a training would stumble over
        concerns.append(str(error))
    if patients["known"] and patients["images_without_patient"]:
        concerns.append(f"{patients['images_without_patient']:,} images are of unknown patients.")
    if patients.get("patients_of_several_labels"):
        concerns.append(f"{patients['patients_of_several_labels']:,} patients have images of different labels.")
    if facts["duplicates"]["pairs_of_different_labels"]:
        pairs = facts["duplicates"]["pairs_of_different_labels"]
        concerns.append(f"{pairs:,} pairs of (nearly) the same picture have different labels; see duplicates.csv.")
    if patients["known"] and facts["duplicates"]["pairs_of_different_patients"]:
        pairs = facts["duplicates"]["pairs_of_different_patients"]
        concerns.append(
            f"{pairs:,} pairs of (nearly) the same picture are of different patients, so that a split by patient does "
            "not keep them together; see duplicates.csv."
        )
    if sizes and sizes["aspect_ratio"]["max"] > 1.2 * sizes["aspect_ratio"]["min"]:
        concerns.append(
            f"Proportions differ (width / height from {sizes['aspect_ratio']['min']} to "
            f"{sizes['aspect_ratio']['max']}): stretching distorts. See --fit pad or crop."
        )
    for fact, value, sentence in (
        (
            "presentation_intent",
            "FOR PROCESSING",
            "are raw detector data (FOR PROCESSING), not for presentation",
        ),
        ("burned_in_annotation", "YES", "say that text is burned in (BurnedInAnnotation)"),
        ("patient_identity_removed", "NO", "say that the patient's identity is not removed (PatientIdentityRemoved)"),
    ):
        if count := values.get(fact, {}).get(value):
            concerns.append(f"{count:,} images {sentence}.")
    for fact, what in (("modality", "modalities"), ("view", "views")):
        several = [value for value in values.get(fact, {}) if value != "unknown"]
        if len(several) > 1:
            concerns.append(f"There are several {what}: {', '.join(several)}.")
    counts = [count for count in facts["class_counts"].values() if count]
    if counts and max(counts) > 3 * min(counts):
        concerns.append(f"The largest class has {max(counts) / min(counts):.1f} times the images of the smallest.")
    return concerns


def _contact_sheets(dataset: ImageDataset, out: Path) -> dict[str, Path]:
    """Draw some images of each class."""
    files = {}
    for number, (name, positions) in enumerate(_groups(dataset).items()):
        if not len(positions):
            continue
        chosen = np.sort(np.random.default_rng(0).permutation(positions)[:_PER_CLASS])
        labels = torch.full((len(chosen),), number) if name != "all" else None
        safe = "".join(letter if letter.isalnum() or letter in "-_" else "_" for letter in name)
        file = f"contact-sheet-{number}-{safe}.png" if name != "all" else "contact-sheet.png"
        save_image(make_grid(Batch(dataset.images_at(chosen), labels), dataset.spec), out / file)
        files[file] = out / file
    return files


def _plot_histograms(intensities: dict[str, Any], path: Path) -> Path:
    """Draw the share of each grey value, one curve a class."""
    figure, panels = make_figure()
    panel = panels[0, 0]
    edges = np.linspace(0, 1, _BINS + 1)
    for name, found in intensities.items():
        panel.stairs(found["histogram"], edges, label=f"{name} ({found['images']:,} images)", linewidth=1.3)
    panel.set_xlabel("grey value (0 black, 1 white)")
    panel.set_ylabel("share of pixels")
    panel.set_yscale("log")
    panel.legend(frameon=False, fontsize=8)
    with write_aside(path) as temporary:
        temporary.write_bytes(figure_png(figure))
    return path
