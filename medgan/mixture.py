"""A real data set and synthetic images in one table, each row marked, so that nobody can confuse them."""

from __future__ import annotations

import csv
import json
import math
import shutil
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING, Any

from medgan.data.splits import INITIAL
from medgan.errors import ConfigError, DataError
from medgan.export import write_samples

if TYPE_CHECKING:
    from medgan.core.gan import GAN
    from medgan.data import ImageDataset

__all__ = ["plan_mixture", "write_mixture"]

_COLUMNS = ("path", "label", "patient_id", "split", "view", "age", "sex", "origin", "model", "seed")


def plan_mixture(
    counts: Mapping[str, int], *, balance: bool = False, ratio: float | None = None, per_class: int | None = None
) -> dict[str, int]:
    """Say how many synthetic images of each class to add.

    Args:
        counts: Real images of each class that are there to train with.
        balance: Fill every class up to the largest one.
        ratio: This many synthetic images for each real one, class by class.
        per_class: This many synthetic images of every class.

    Returns:
        Synthetic images by class.

    Raises:
        ConfigError: Unless exactly one of the three is given, above 0.

    Example:
        >>> plan_mixture({"NORMAL": 3, "PNEUMONIA": 10}, balance=True)
        {'NORMAL': 7, 'PNEUMONIA': 0}
    """
    if (balance, ratio is not None, per_class is not None).count(True) != 1:
        raise ConfigError("Say how many images to add with exactly one of --balance, --ratio R and --per-class N.")
    if balance:
        largest = max(counts.values(), default=0)
        return {name: largest - count for name, count in counts.items()}
    if ratio is not None:
        if not (math.isfinite(ratio) and ratio > 0):
            raise ConfigError(f"--ratio must be above 0, for example 1 for as many as there are, got {ratio}.")
        return {name: round(ratio * count) for name, count in counts.items()}
    assert per_class is not None
    if per_class < 1:
        raise ConfigError(f"--per-class must be at least 1, got {per_class}.")
    return dict.fromkeys(counts, per_class)


def write_mixture(
    real: ImageDataset,
    gan: GAN,
    out: Path,
    *,
    model: str,
    splits: Mapping[str, str] | None = None,
    balance: bool = False,
    ratio: float | None = None,
    per_class: int | None = None,
    seed: int = 0,
    truncation: float = 1.0,
    device: str = "auto",
) -> Path:
    """Write a manifest of real images, by reference, and new synthetic ones, which only ever train.

    The folder gets its name only when everything in it is written: ``manifest.csv`` (path, label, patient_id, split,
    view, age, sex, origin, model, seed), ``synthetic/`` and ``mixture.json``, which says what was mixed.

    Args:
        real: Real images, in files of their own.
        gan: The model; it must know the classes of the real images.
        out: Folder to create.
        model: Name of the model, for the table.
        splits: The part of each real file, by `ImageDataset.index`'s ``file``, such as ``train`` or ``validation``, or
            `medgan.data.splits.INITIAL`; None for what the data set says itself. Only training images count towards the
            plan, and patients of ``INITIAL`` are such: an earlier model has seen them.
        balance: See `plan_mixture`.
        ratio: See `plan_mixture`.
        per_class: See `plan_mixture`.
        seed: Seed of the first synthetic image; the next have those after it.
        truncation: As in `GAN.sample`.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.

    Returns:
        The manifest.

    Raises:
        ConfigError: If the plan adds nothing, the classes differ, or the folder holds something already.
        DataError: If the real images have no classes, or are not files of their own.
    """
    labels = real.spec.labels
    if labels is None or labels.kind not in ("categorical", "ordinal"):
        kind = "none" if labels is None else f"{labels.kind} ones"
        raise DataError(
            f"Images can be added to classes only, but the labels of {real.name} are {kind}. Give images in class "
            "folders, or take one finding with --labels."
        )
    if gan.data.labels is None or set(labels.names) - set(gan.data.labels.names):
        known = "none" if gan.data.labels is None else ", ".join(gan.data.labels.names)
        raise ConfigError(
            f"The data has the classes {', '.join(labels.names)}, but the model knows {known}. "
            "Take a model that was trained on these classes."
        )
    rows = _real_rows(real, splits or {})
    counts = dict.fromkeys(labels.names, 0)
    for row in rows:
        counts[row["label"]] += row["split"] in ("", "train")
    plan = plan_mixture(counts, balance=balance, ratio=ratio, per_class=per_class)
    wanted = [name for name, count in plan.items() for _ in range(count)]
    if not wanted:
        raise ConfigError("Nothing is to be added: the classes are equally large already. Use --ratio or --per-class.")
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} exists and is not an empty folder. Name another --out.")
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
    except OSError as error:
        raise ConfigError(f"{out} cannot be written: {error.strerror}. Name another --out.") from error
    try:
        aside.chmod(0o755)
        seeds = range(seed, seed + len(wanted))
        write_samples(
            gan,
            aside / "synthetic",
            seeds=seeds,
            labels=wanted,
            truncation=truncation,
            form="png" if len(gan.data.size) == 2 else "nifti",
            device=device,
        )
        made_by = json.loads((aside / "synthetic" / "synthetic.json").read_text(encoding="utf-8"))
        mark = f"{model} sha256:{made_by['weights_sha256'][:12]}"
        with (aside / "synthetic" / "samples.csv").open(newline="", encoding="utf-8") as stream:
            for made in csv.DictReader(stream):
                path = f"synthetic/{made['path']}"
                marks = {"split": "train", "origin": "synthetic", "model": mark, "seed": made["seed"]}
                rows.append({"path": path, "label": made["label"], **marks})
        with (aside / "manifest.csv").open("w", newline="", encoding="utf-8", errors="surrogateescape") as stream:
            table = csv.DictWriter(stream, _COLUMNS, restval="")
            table.writeheader()
            table.writerows(rows)
        facts: dict[str, Any] = {
            "real": real.provenance(),
            "source": real.source,
            "model": {"name": model, "architecture": gan.name, "trained_on": gan.provenance},
            "real_training_images": counts,
            "synthetic_images": plan,
            "first_seed": seed,
            "truncation": truncation,
        }
        (aside / "mixture.json").write_text(json.dumps(facts, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        if out.exists():
            out.rmdir()
        aside.replace(out)
    except OSError as error:
        raise ConfigError(f"{out} could not be written: {error.strerror or error}.") from error
    finally:
        shutil.rmtree(aside, ignore_errors=True)
    return out / "manifest.csv"


def _real_rows(real: ImageDataset, splits: Mapping[str, str]) -> list[dict[str, str]]:
    """Return the rows of the real images, with absolute paths."""
    root = Path(real.source)
    root = root if root.is_dir() else root.parent
    files = list(real.index["file"])
    missing = next((file for file in files if not (root / file).is_file()), None)
    if missing is not None or "part" in real.index:
        raise DataError(
            f"The images of {real.source} are not each a file of their own, so that no table can refer to them. Save "
            "them as files first, for example as PNG."
        )
    records = real.index.to_dict("records")
    seen = {row["patient_id"] for row in records if splits.get(row["file"]) == INITIAL} - {""}
    rows = []
    for row in records:
        known: dict[str, str] = {name: str(row[name]) for name in ("patient_id", "view", "age", "sex") if name in row}
        split = splits.get(row["file"], str(row.get("split", "")))
        if split == INITIAL or row["patient_id"] in seen:
            split = "train"
        path = str((root / row["file"]).resolve())
        rows.append({"path": path, "label": str(row["label"]), "split": split, "origin": "real", **known})
    return rows
