"""The design of a reader study: which images, in which order for whom, drawn blind, balanced and from a seed.

A study is a folder::

    study.json     the design, and nothing that tells real from synthetic, but for the training cases
    key.json       the answers; the server never opens it, and it can be kept elsewhere until the analysis
    readers.json   the readers and the secret of each one's link
    images/        PNG files of one length, with random names and one date

All images go through one path: as bytes from 0 to 255, into PNG files without compression, so that images of one shape
have files of one length, and without any note. The names are random, the order on the disk is that of the names.
"""

from __future__ import annotations

import contextlib
import hashlib
import json
import math
import os
import re
import secrets
import shutil
import tempfile
import warnings
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import TYPE_CHECKING, Any, TypeVar

import numpy as np
import torch
from numpy.typing import NDArray
from PIL import Image

from medgan.core.saving import versions
from medgan.core.spec import DataSpec, LabelSpec
from medgan.core.trainer import make_accelerator
from medgan.data.pixels import to_uint8
from medgan.data.splits import image_identities
from medgan.errors import ConfigError, DataError
from medgan.reader_study.config import ReaderStudyConfig

if TYPE_CHECKING:
    from medgan.core.gan import GAN
    from medgan.data import ImageDataset

__all__ = ["CONSENT", "INSTRUCTIONS", "StudyDesignWarning", "new_study"]

INSTRUCTIONS = {
    "rating": (
        "You will see images one at a time. About half of them are radiographs of patients, the others were made by a "
        "computer. Say how sure you are, from 1 (definitely real) to 5 (definitely synthetic). 3 means that you cannot "
        "tell.",
        "Some images come twice. Judge each as if you saw it for the first time. Work alone, in the light in which "
        "you usually read, and take the time you need.",
    ),
    "forced-choice": (
        "You will see two images side by side. One is of a patient, the other was made by a computer. Say which one is "
        "synthetic; if you cannot tell, guess.",
        "Some pairs come twice, perhaps the other way round. Judge each as if you saw it for the first time. Work "
        "alone, in the light in which you usually read, and take the time you need.",
    ),
}
"""What readers are told, paragraph by paragraph, unless told otherwise."""

CONSENT = (
    "Taking part is voluntary, and you can stop at any time. Your answers, the time you take for each image and your "
    "name in this study are stored on the server of whoever sent you the link, and nowhere else. Results are published "
    "without names.",
)
"""What readers agree to, unless told otherwise."""

_LONGEST = 20_000  # characters of instructions or of the consent
_SEEDS = 2**32

_Value = TypeVar("_Value")


class StudyDesignWarning(UserWarning):
    """A study that can be run, but cannot show what it is for."""


def new_study(
    real: ImageDataset,
    gan: GAN,
    out: Path,
    config: ReaderStudyConfig | None = None,
    *,
    readers: Sequence[str],
    model: str,
    seed: int | None = None,
    truncation: float = 1.0,
    device: str = "auto",
    instructions: Sequence[str] | None = None,
    consent: Sequence[str] | None = None,
) -> Path:
    """Draw a study and write its folder, which gets its name when everything in it is written.

    Real images are drawn one a patient, balanced over classes; each has a synthetic counterpart with the same label.
    The repeated cases are the same for all readers; the order is each reader's own, and a case comes again no sooner
    than after a quarter of the cases, or 20 of them.

    Args:
        real: Real images that the model has not seen.
        gan: The model.
        out: Folder to create.
        config: Options; None for the defaults.
        readers: Names, best pseudonyms, of letters, digits, spaces and ``._-``.
        model: Name of the model, for the key.
        seed: Same seed, same study, but for the links; None for one that nobody knows before.
        truncation: As in `GAN.sample`.
        device: ``auto``, ``cpu``, ``cuda`` or ``mps``.
        instructions: Paragraphs; None for `INSTRUCTIONS`.
        consent: Paragraphs; None for `CONSENT`.

    Returns:
        The folder.

    Raises:
        ConfigError: If images and model do not fit, a name or option does not, or the folder holds something already.
        DataError: If there are too few patients.
    """
    config = config or ReaderStudyConfig()
    names = _check_readers(readers)
    _check_images(real.spec, gan.data, config)
    told = _check_text("instructions", INSTRUCTIONS[config.mode] if instructions is None else instructions)
    agreed = _check_text("consent", CONSENT if consent is None else consent)
    if out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise ConfigError(f"{out} exists and is not an empty folder. Name another one.")
    seed = secrets.randbits(63) if seed is None else seed
    rng = np.random.default_rng([seed, 7_411])
    training_real = config.training if config.mode == "forced-choice" else -(-config.training // 2)
    rows = _draw_real(real, config.real_images, training_real, rng)
    seeds = [int(value) for value in rng.choice(_SEEDS, size=len(rows), replace=False)]
    labels = _labels_for(real, gan, rows)
    gan.generator.to(make_accelerator(device).device)
    made = gan.sample_batches(seeds, labels=labels, truncation=truncation)
    taken = [to_uint8(real.images_at(rows[start : start + 64])) for start in range(0, len(rows), 64)]
    pixels = np.concatenate([*taken, *(to_uint8(batch.images) for batch in made)])
    items = _make_items(real, rows, seeds, rng)
    synthetic = items[len(rows) :]
    number = config.real_images
    if config.mode == "forced-choice":
        cases = [[items[place]["id"], synthetic[place]["id"]] for place in range(number)]
        training = [[items[place]["id"], synthetic[place]["id"]] for place in range(number, len(rows))]
    else:
        cases = [[item["id"]] for item in (*items[:number], *synthetic[:number])]
        training = [[item["id"]] for item in (*items[number : len(rows)], *synthetic[number:])]
    cases = [_shuffled(case, rng) for case in _shuffled(cases, rng)]
    training = [_shuffled(case, rng) for case in _shuffled(training, rng)][: config.training]
    repeated = _draw_repeats(cases, items, config, rng)
    kinds = {item["id"]: item["kind"] for item in items}
    shape = pixels.shape[1:]
    facts: dict[str, Any] = {
        "format": 1,
        "id": rng.bytes(8).hex(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "options": config.to_dict(),
        "instructions": told,
        "consent": agreed,
        "image": {"height": shape[0], "width": shape[1], "channels": shape[2]},
        "classes": _class_names(real.spec.labels),
        "cases": cases,
        "training": [{"items": case, "synthetic": [kinds[item] == "synthetic" for item in case]} for case in training],
        "readers": [
            {"name": name, "id": rng.bytes(6).hex(), "order": _order(len(cases), repeated, config, rng)}
            for name in names
        ],
    }
    used = {item for case in (*cases, *training) for item in case}
    key = {
        "study": facts["id"],
        "seed": seed,
        "model": {
            "name": model,
            "architecture": gan.name,
            "weights_sha256": gan.weights_sha256,
        },
        "truncation": truncation,
        "trained_on": gan.provenance,
        "real": real.provenance() | {"source": real.source},
        "items": {item["id"]: item for item in sorted(items, key=lambda item: item["id"]) if item["id"] in used},
        "versions": versions(),
    }
    pictures = {item["id"]: array for item, array in zip(items, pixels, strict=True) if item["id"] in used}
    _write(out, facts, key, pictures)
    return out


# ----------------------------------------------------------------------------------------- checks


def _check_readers(readers: Sequence[str]) -> list[str]:
    """Return the names, if they can be told apart."""
    for name in readers:
        if not re.fullmatch(r"\w(?:[\w .-]{0,62}[\w.-])?", name):
            raise ConfigError(f"--reader {name!r} is not usable. Use up to 64 letters, digits, spaces and . _ -")
    if len({name.casefold() for name in readers}) < len(readers):
        raise ConfigError("Two readers have the same name. Each needs one of their own.")
    if not 1 <= len(readers) <= 200:
        raise ConfigError(f"There are {len(readers)} readers, expected 1 to 200.")
    return list(readers)


def _check_images(real: DataSpec, model: DataSpec, config: ReaderStudyConfig) -> None:
    """Raise if images and model do not fit each other, or the questions."""
    if len(real.size) != 2 or real.channels not in (1, 3):
        raise ConfigError(
            f"A reader study shows grey or RGB pictures, but these are {real}. Train on slices of volumes to have them "
            "read."
        )
    if real.size != model.size or real.channels != model.channels:
        raise ConfigError(f"The real images are {real}, but the model makes {model}. They have to be of one shape.")
    if real.labels is not None and model.labels is not None and set(real.labels.names) - set(model.labels.names):
        raise ConfigError(
            f"The real images have the classes {', '.join(real.labels.names)}, but the model knows "
            f"{', '.join(model.labels.names)}."
        )
    if model.labels is not None and (real.labels is None or real.labels.kind != model.labels.kind):
        raise ConfigError(f"The model makes images with {model.labels.kind} labels, which the real ones do not have.")
    if config.diagnosis and not _class_names(real.labels):
        raise ConfigError("A diagnosis can be asked of classes only, which these images do not have.")


def _check_text(what: str, paragraphs: Sequence[str]) -> list[str]:
    """Return paragraphs that are not empty."""
    found = [" ".join(paragraph.split()) for paragraph in paragraphs if paragraph.strip()]
    if not found or sum(map(len, found)) > _LONGEST:
        raise ConfigError(f"The {what} must have 1 to {_LONGEST:,} characters.")
    return found


def _class_names(labels: LabelSpec | None) -> list[str]:
    """Return the classes; empty where labels are no classes."""
    return list(labels.names) if labels is not None and labels.kind in ("categorical", "ordinal") else []


# ---------------------------------------------------------------------------------------- drawing


def _draw_real(real: ImageDataset, cases: int, training: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Return rows of real images, those for the training last; one a patient, classes as equal as can be."""
    usable = np.ones(len(real), bool)
    if "origin" in real.index:
        usable = (real.index["origin"] != "synthetic").to_numpy()
    patients = real.index["patient_id"].astype(str).to_numpy()
    if usable.any() and (patients[usable] == "").any():
        warnings.warn(
            "Patients are not known for all real images: two images of one patient may be in the study.",
            StudyDesignWarning,
            stacklevel=3,
        )
    classes = _class_names(real.spec.labels)
    of_class = np.zeros(len(real), np.int64) if not classes else np.asarray(real.labels, np.int64)
    number = max(1, len(classes))
    wanted, spare = _shares(cases, number, rng), _shares(training, number, rng)
    taken: set[str] = set()
    chosen: list[int] = []
    for_training: list[int] = []
    shuffled = rng.permutation(len(real))
    sizes = [len(set(patients[usable & (of_class == index)]) - {""}) for index in range(number)]
    for index in np.argsort(sizes, kind="stable"):  # the rarest class first, as a patient is taken once
        found: list[int] = []
        needed = wanted[index] + spare[index]
        for row in shuffled:
            if len(found) == needed:
                break
            if of_class[row] == index and usable[row] and patients[row] not in taken:
                found.append(int(row))
                taken |= {patients[row]} - {""}
        if len(found) < needed:
            of = f" of {classes[index]}" if classes else ""
            raise DataError(
                f"The study needs {needed} real images{of}, of as many patients, training cases included, but there "
                f"are {len(found)} in {real.name}. Give a smaller --num, or hold more patients out."
            )
        chosen += found[: wanted[index]]
        for_training += found[wanted[index] :]
    return np.asarray([*_shuffled(chosen, rng), *_shuffled(for_training, rng)], np.int64)


def _shares(count: int, parts: int, rng: np.random.Generator) -> NDArray[np.int64]:
    """Divide a number into parts as equal as can be."""
    shares = np.full(parts, count // parts)
    shares[rng.permutation(parts)[: count % parts]] += 1
    return shares


def _labels_for(real: ImageDataset, gan: GAN, rows: NDArray[np.int64]) -> torch.Tensor | None:
    """Return the labels of the real images, as the model has them."""
    spec, ours = gan.data.labels, real.spec.labels
    if spec is None or ours is None or real.labels is None:
        return None
    labels = np.asarray(real.labels)[rows]
    places = [spec.names.index(name) for name in ours.names]
    if labels.ndim == 1:
        return torch.as_tensor(np.asarray(places, np.int64)[labels])
    whole = np.zeros((len(rows), len(spec)), np.float32)
    whole[:, places] = labels
    # A finding that is not known is not asked for.
    return torch.from_numpy(np.nan_to_num(whole) if spec.kind == "multilabel" else whole)


def _label_text(spec: LabelSpec | None, value: Any) -> str:
    """Return a label as `LabelSpec.encode` reads it."""
    if spec is None or value is None:
        return ""
    if np.ndim(value) == 0:
        return spec.names[int(value)]
    known = [(name, float(number)) for name, number in zip(spec.names, value, strict=True) if not math.isnan(number)]
    return ",".join(f"{name}={number:.9g}" for name, number in known)


def _make_items(
    real: ImageDataset, rows: NDArray[np.int64], seeds: Sequence[int], rng: np.random.Generator
) -> list[dict[str, Any]]:
    """Return the key's entries: the real images, then their synthetic counterparts."""
    labels = [_label_text(real.spec.labels, None if real.labels is None else real.labels[row]) for row in rows]
    names = image_identities(real.index)
    items: list[dict[str, Any]] = []
    for row, label in zip(rows, labels, strict=True):
        origin = {"file": names[row], "patient_id": str(real.index["patient_id"].iloc[int(row)])}
        items.append({"id": rng.bytes(8).hex(), "kind": "real", "label": label, "seed": None, **origin})
    for seed, label in zip(seeds, labels, strict=True):
        origin = {"file": "", "patient_id": ""}
        items.append({"id": rng.bytes(8).hex(), "kind": "synthetic", "label": label, "seed": seed, **origin})
    return items


def _shuffled(values: Sequence[_Value], rng: np.random.Generator) -> list[_Value]:
    return [values[place] for place in rng.permutation(len(values))]


def _draw_repeats(
    cases: Sequence[Sequence[str]], items: Sequence[dict[str, Any]], config: ReaderStudyConfig, rng: np.random.Generator
) -> list[int]:
    """Return which cases come twice: of single images, as many real as synthetic ones."""
    count = round(config.repeats * len(cases))
    if config.mode == "forced-choice":
        return [int(place) for place in rng.permutation(len(cases))[:count]]
    kinds = {item["id"]: item["kind"] for item in items}
    found: list[int] = []
    for kind in _shuffled(["real", "synthetic"], rng):
        of_kind = [place for place, case in enumerate(cases) if kinds[case[0]] == kind]
        found += _shuffled(of_kind, rng)[: count // 2 if found else -(-count // 2)]
    return found


def _order(
    number: int, repeated: Sequence[int], config: ReaderStudyConfig, rng: np.random.Generator
) -> list[list[int]]:
    """Return a reader's order: for each presentation the case, and whether a pair is the other way round."""
    gap = max(1, min(20, number // 4))
    early = [int(place) for place in rng.permutation(number - gap)[: len(repeated)]]
    first: dict[int, int] = dict(zip(early, _shuffled(repeated, rng), strict=True))
    rest = iter(_shuffled([case for case in range(number) if case not in set(repeated)], rng))
    order = [first[place] if place in first else next(rest) for place in range(number)]
    for case in _shuffled(repeated, rng):
        # What is put in later only takes the two further apart.
        order.insert(int(rng.integers(order.index(case) + gap, len(order) + 1)), case)
    turned = np.zeros(len(order), np.int64)
    if config.mode == "forced-choice":
        turned[rng.permutation(len(order))[: len(order) // 2]] = 1
    return [[case, int(turn)] for case, turn in zip(order, turned, strict=True)]


# ---------------------------------------------------------------------------------------- writing


def _write(out: Path, facts: dict[str, Any], key: dict[str, Any], pictures: dict[str, NDArray[np.uint8]]) -> None:
    """Write the folder aside, and rename it."""
    try:
        out.parent.mkdir(parents=True, exist_ok=True)
        # Nobody else on the machine may look into it: it is made so, and stays so.
        aside = Path(tempfile.mkdtemp(prefix=f".{out.name}.", dir=out.parent))
        try:
            (aside / "images").mkdir(mode=0o700)
            for name in sorted(pictures):
                array = pictures[name]
                picture = Image.fromarray(array[..., 0] if array.shape[-1] == 1 else array)
                picture.save(aside / "images" / f"{name}.png", format="PNG", compress_level=0)
            for path in (aside / "images").iterdir():
                os.utime(path, (0, 0))
            key_text = _json(key)
            facts = facts | {"key_sha256": hashlib.sha256(key_text.encode()).hexdigest()}
            with _private(aside / "key.json") as stream:
                stream.write(key_text)
            tokens = {reader["name"]: secrets.token_urlsafe(24) for reader in facts["readers"]}
            with _private(aside / "readers.json") as stream:
                stream.write(_json({"study": facts["id"], "tokens": tokens}))
            (aside / "study.json").write_text(_json(facts), encoding="utf-8")
            if out.exists():
                out.rmdir()
            aside.replace(out)
        finally:
            shutil.rmtree(aside, ignore_errors=True)
    except OSError as error:
        raise ConfigError(f"The study could not be written to {out}: {error.strerror or error}.") from error


@contextlib.contextmanager
def _private(path: Path) -> Iterator[Any]:
    """Open a new file that only its owner may read."""
    descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
        yield stream


def _json(value: Any) -> str:
    return json.dumps(value, indent=1, ensure_ascii=False) + "\n"
