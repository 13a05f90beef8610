"""Has a generator seen the patients that classifiers are judged on? Then a study of its images is void."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np

from medgan.data.splits import INITIAL, image_identities
from medgan.errors import DataError

if TYPE_CHECKING:
    from medgan.data import ImageDataset

__all__ = [
    "check_leakage",
    "check_shared_images",
    "count_unknown_patients",
    "initial_models",
    "note_unknown_patients",
    "pixel_hashes",
]

_BLOCK = 256
_FEW = 0.01  # of a part: public data sets hold that many images twice


def check_leakage(
    sources: Sequence[Mapping[str, Any]],
    *,
    train: ImageDataset,
    held_out: Mapping[str, ImageDataset],
    trained_on: Sequence[Mapping[str, str]] = (),
    allow: bool = False,
) -> tuple[list[str], list[str]]:
    """Compare what generators were trained on with what is held out.

    Args:
        sources: `GAN.provenance` of each generator, with that of the models that it began from.
        train: Real training images of the study.
        held_out: Real images that must be new to the generators, by part.
        trained_on: For each source the part of each real image in its training, by
            `medgan.data.splits.image_identities`, `INITIAL` for one that only a model was trained on which it began
            from; empty where that is not known.
        allow: Whether a leak is accepted.

    Returns:
        Sentences that make the study void, and sentences that limit it.

    Raises:
        DataError: If there is a leak and it is not accepted.
    """
    banners, notes = [], []
    for number, provenance in enumerate(sources):
        parts = trained_on[number] if number < len(trained_on) else {}
        found = [_judge("the generator", provenance, train, held_out, parts)]
        for initial, listed in initial_models(provenance):
            who = "a model that the generator began from"
            known = {file: "train" if part == INITIAL else part for file, part in parts.items()} if listed else {}
            found.append(_judge(who, initial, train, held_out, known))
        banners += [f"Void: {leak}" for leak, _ in found if leak]
        notes += [note for _, note in found if note]
    if banners and not allow:
        raise DataError(
            f"{banners[0].removeprefix('Void: ')} Hold the same patients out of the generator's training (medgan fit "
            "--test 0.2, then evaluate with --model RUN), or accept a void result with --allow-leakage."
        )
    return list(dict.fromkeys(banners)), list(dict.fromkeys(notes))


def check_shared_images(
    known: Mapping[str, ImageDataset], held_out: Mapping[str, ImageDataset], *, allow: bool = False
) -> tuple[list[str], list[str]]:
    """Look for images in one part that are, pixel by pixel, those of another.

    It finds what names and fingerprints do not tell: copies of files, and test images of a source of their own whose
    patients are not known.

    Args:
        known: Images that something is trained on, by part; synthetic ones too.
        held_out: Real images that must be new, by part; none may be in an earlier one of these either.
        allow: Whether shared images are accepted.

    Returns:
        Sentences that make the study void, and sentences that limit it; up to 1 % of a part is a limit.

    Raises:
        DataError: If more are shared and that is not accepted.
    """
    banners, notes = [], []
    before = {name: set(pixel_hashes(images)) for name, images in known.items()}
    for name, images in held_out.items():
        hashes = list(pixel_hashes(images))
        for other, there in before.items():
            shared = sum(each in there for each in hashes)
            found = f"{shared:,} of the {len(hashes):,} {name} images are, pixel by pixel, {other} images too."
            if shared > _FEW * len(hashes):
                banners.append(f"Void: {found}")
            elif shared:
                notes.append(found)
        before[name] = set(hashes)
    if banners and not allow:
        raise DataError(
            f"{banners[0].removeprefix('Void: ')} Give images that are in one part only, or accept a void result with "
            "--allow-leakage."
        )
    return banners, notes


def count_unknown_patients(images: ImageDataset) -> int:
    """Return of how many images it is not known who they are of.

    Args:
        images: Real images.
    """
    return int((images.index["patient_id"] == "").sum())


def note_unknown_patients(parts: Mapping[str, ImageDataset]) -> list[str]:
    """Say of which images it is not known who they are of.

    Args:
        parts: Real images by part.

    Returns:
        A sentence that limits the study; none if all patients are known.
    """
    counts = {name: count_unknown_patients(images) for name, images in parts.items()}
    unknown = ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)
    if not unknown:
        return []
    return [
        f"The patients of {unknown} images are not known. Each file counts as a patient of its own, so that a patient "
        "may be in two parts, and figures look surer than they are where one has several files."
    ]


def pixel_hashes(images: ImageDataset) -> Iterator[int]:
    """Yield a number for each image, in order, that is equal for equal pixels; it holds for this process only."""
    for start in range(0, len(images), _BLOCK):
        block = images.images_at(np.arange(start, min(start + _BLOCK, len(images))))
        yield from (hash(image.contiguous().numpy().tobytes()) for image in block)


def initial_models(provenance: Mapping[str, Any]) -> Iterator[tuple[Mapping[str, Any], bool]]:
    """Go back through the models that a generator began from.

    Args:
        provenance: `GAN.provenance` of the generator.

    Yields:
        `GAN.provenance` of each, and whether the run of the generator lists the images.
    """
    listed = True
    while initial := provenance.get("initial_model"):
        listed = listed and bool(initial.get("images_listed"))
        provenance = initial.get("training_data") or {}
        yield provenance, listed


def _judge(
    who: str,
    provenance: Mapping[str, Any],
    train: ImageDataset,
    held_out: Mapping[str, ImageDataset],
    trained_on: Mapping[str, str],
) -> tuple[str, str]:
    """Return a sentence on a leak, or one on what is not known, or neither."""
    known = provenance.get("fingerprint")
    if known and known == train.fingerprint:
        return "", ""
    if trained_on:
        for name, part in held_out.items():
            seen = sum(trained_on.get(file) == "train" for file in image_identities(part.index))
            if seen:
                return f"{who} was trained on {seen:,} of the {len(part):,} {name} images.", ""
        if any(file in trained_on for file in image_identities(train.index)):
            return "", ""
    for name, part in held_out.items():
        if known and known in (part.fingerprint, part.whole_fingerprint):
            what = f"the {name} images" if known == part.fingerprint else "all images of this data set"
            return f"{who} was trained on {what}.", ""
    if known and provenance.get("whole_fingerprint") in {part.whole_fingerprint for part in held_out.values()}:
        return (
            f"{who} was trained on {provenance.get('images', 'other')} images of this very data set, divided "
            "in another way, so that it has most likely seen held-out patients.",
            "",
        )
    return "", (
        f"It is not known which images {who} was trained on, so it cannot be ruled out that it has seen the "
        "validation and test patients."
    )
