"""Has a generator seen the patients that classifiers are judged on? Then a study of its images is void."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any

from medgan.data.splits import image_identities
from medgan.errors import DataError

if TYPE_CHECKING:
    from medgan.data import ImageDataset

__all__ = ["check_leakage"]


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
        sources: `GAN.provenance` of each generator.
        train: Real training images of the study.
        held_out: Real images that must be new to the generators, by part.
        trained_on: For each source the part of each real image in its training, by
            `medgan.data.splits.image_identities`; empty where that is not known.
        allow: Whether a leak is accepted.

    Returns:
        Sentences that make the study void, and sentences that limit it.

    Raises:
        DataError: If there is a leak and it is not accepted.
    """
    banners, notes = [], []
    for number, provenance in enumerate(sources):
        leak, note = _judge(provenance, train, held_out, trained_on[number] if number < len(trained_on) else {})
        if leak:
            banners.append(f"Void: {leak}")
        if note:
            notes.append(note)
    if banners and not allow:
        raise DataError(
            f"{banners[0].removeprefix('Void: ')} Hold the same patients out of the generator's training (medgan fit "
            "--test 0.2, then evaluate with --model RUN), or accept a void result with --allow-leakage."
        )
    return list(dict.fromkeys(banners)), list(dict.fromkeys(notes))


def _judge(
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
                return f"the generator was trained on {seen:,} of the {len(part):,} {name} images.", ""
        if any(file in trained_on for file in image_identities(train.index)):
            return "", ""
    for name, part in held_out.items():
        if known and known in (part.fingerprint, part.whole_fingerprint):
            what = f"the {name} images" if known == part.fingerprint else "all images of this data set"
            return f"the generator was trained on {what}.", ""
    if known and provenance.get("whole_fingerprint") in {part.whole_fingerprint for part in held_out.values()}:
        return (
            f"the generator was trained on {provenance.get('images', 'other')} images of this very data set, divided "
            "in another way, so that it has most likely seen held-out patients.",
            "",
        )
    return "", (
        "It is not known which images the generator was trained on, so it cannot be ruled out that it has seen the "
        "validation and test patients."
    )
