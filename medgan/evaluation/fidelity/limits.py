"""What limits the numbers of a fidelity report, said in sentences."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any

from medgan.data.dataset import ImageDataset
from medgan.evaluation.leakage import count_unknown_patients, initial_models, pixel_hashes
from medgan.metrics.features import Features

__all__ = ["find_warnings"]

_FEWEST_IMAGES, _FEWEST_PATIENTS = 500, 50
_SHARES_DIFFER = 0.05


def find_warnings(
    real: ImageDataset,
    samples: Sequence[ImageDataset],
    *,
    training: ImageDataset | None,
    trained_on: Mapping[str, Any] | None,
    features: Sequence[Features],
    metrics: Sequence[str],
) -> Iterator[str]:
    """Yield what a careful reader would ask about.

    Args:
        real: The reference.
        samples: Synthetic images.
        training: The real training images, where known.
        trained_on: What is known of them otherwise: `GAN.provenance`.
        features: Of the reference, by each extractor.
        metrics: What was computed.
    """
    yield from _overlap(real, training, trained_on or {})
    yield from _initial_overlap(real, training, trained_on or {})
    yield from _copies(real, samples, training)
    yield from _counts(real, samples)
    yield from _forms(real, samples)
    frechet = [name for name in metrics if name.startswith("frechet")]
    for found in features:
        images, width = min(len(real), len(samples[0])), found.values.shape[1]
        if frechet and images < width:
            yield (
                f"{found.extractor}: {images:,} images are fewer than its {width:,} features, so that covariances are "
                "singular and the Fréchet distance is dominated by its bias. Look at the floor, and at other metrics."
            )
    for note, names in _notes(features).items():
        yield f"{' and '.join(names)}: {note}."
    if "nearest-real" in metrics and training is None:
        yield "The real training images are not known, so nobody can say whether synthetic ones are copies of them."


def _notes(features: Sequence[Features]) -> dict[str, list[str]]:
    """Return what is to be said of extractors, each with those of which it is."""
    found: dict[str, list[str]] = {}
    for each in features:
        standardised = (
            "features have units of their own; they were standardised with mean and deviation of the reference, so "
            "that distances are in its units"
        )
        for note in (*((standardised,) if each.needs_standardizing else ()), *each.notes):
            found.setdefault(note, []).append(each.extractor)
    return found


def _overlap(real: ImageDataset, training: ImageDataset | None, trained_on: Mapping[str, Any]) -> Iterator[str]:
    """Has the generator seen the reference?"""
    consequence = "A generator that copies its training images looks perfect then. Take patients whom it has not seen."
    if training is not None:
        there = set(pixel_hashes(training))
        same = sum(key in there for key in pixel_hashes(real))
        if same:
            yield (
                f"{same:,} of the {len(real):,} reference images are among the {len(training):,} training images of "
                f"the generator. {consequence}"
            )
        elif real.whole_fingerprint == training.whole_fingerprint:
            names = (set(each.index["patient_id"]) - {""} for each in (real, training))
            patients = set.intersection(*names)
            if patients:
                yield (
                    f"{len(patients):,} patients have images in the reference and among the training images of the "
                    f"generator. {consequence}"
                )
        return
    known = trained_on.get("fingerprint")
    if known and known in (real.fingerprint, real.whole_fingerprint):
        what = "these very images" if known == real.fingerprint else "all images of this data set"
        yield f"The generator was trained on {what}. {consequence}"
    elif known and trained_on.get("whole_fingerprint") == real.whole_fingerprint:
        yield (
            f"The generator was trained on {trained_on.get('images', 'other')} images of this very data set, and may "
            f"have seen the reference. {consequence}"
        )
    elif not known:
        yield "It is not known what the generator was trained on, so it may have seen the reference."


def _initial_overlap(real: ImageDataset, training: ImageDataset | None, trained_on: Mapping[str, Any]) -> Iterator[str]:
    """Have the models that the generator began from seen the reference?"""
    for provenance, _ in initial_models(trained_on):
        known = provenance.get("fingerprint")
        if training is not None and known == training.fingerprint:
            continue
        same = known and known in (real.fingerprint, real.whole_fingerprint)
        if same or (known and provenance.get("whole_fingerprint") == real.whole_fingerprint):
            yield (
                f"A model that the generator began from was trained on {provenance.get('images', 'other')} images of "
                "this very data set, and may have seen the reference. Take patients whom it has not seen."
            )


def _copies(real: ImageDataset, samples: Sequence[ImageDataset], training: ImageDataset | None) -> Iterator[str]:
    """Are synthetic images real ones?"""
    there = {key for images in (real, training) if images is not None for key in pixel_hashes(images)}
    keys = [key for images in samples for key in pixel_hashes(images)]
    same = sum(key in there for key in keys)
    if same:
        yield f"{same:,} of {len(keys):,} synthetic images are, pixel by pixel, real ones."
    repeated = len(keys) - len(set(keys))
    if repeated:
        yield f"{repeated:,} of {len(keys):,} synthetic images are, pixel by pixel, copies of other synthetic ones."


def _counts(real: ImageDataset, samples: Sequence[ImageDataset]) -> Iterator[str]:
    """Are there enough images and patients, and equally many of each class?"""
    count = len(samples[0])
    if len(real) != count:
        yield (
            f"{len(real):,} real and {count:,} synthetic images are compared. Most metrics depend on both numbers: "
            "compare with reports of the same numbers only."
        )
    for name, number in (("real", len(real)), ("synthetic", count)):
        if number < _FEWEST_IMAGES:
            yield f"{number:,} {name} images are few: below {_FEWEST_IMAGES} chance moves most metrics."
    patients = real.index["patient_id"]
    known = int(patients[patients != ""].nunique())
    if unknown := count_unknown_patients(real):
        which = "the" if not known else f"{unknown:,} of the {len(real):,}"
        yield (
            f"The patients of {which} real images are not known, so that images of one patient may be in both halves, "
            "and floors too low. Say how file names tell them, with --patient-regex."
        )
    if 0 < known < _FEWEST_PATIENTS:
        yield f"{known:,} real patients are few: below {_FEWEST_PATIENTS} they stand for no population."
    shares = [each.class_counts() for each in (real, samples[0])]
    if real.labels is not None and real.labels.ndim == 1 and all(shares):
        of_real, of_synthetic = ({name: n / sum(counts.values()) for name, n in counts.items()} for counts in shares)
        name = max(of_real, key=lambda each: round(abs(of_real[each] - of_synthetic.get(each, 0.0)), 9))
        if abs(of_real[name] - of_synthetic.get(name, 0.0)) > _SHARES_DIFFER:
            yield (
                f"{of_real[name]:.0%} of the real and {of_synthetic.get(name, 0.0):.0%} of the synthetic images are "
                f"{name}: the numbers of all images hold this difference. Look at each class, with --per-class."
            )


def _forms(real: ImageDataset, samples: Sequence[ImageDataset]) -> Iterator[str]:
    """Were the files of another kind?"""
    levels = [each.intensity_range[1] - each.intensity_range[0] for each in (real, samples[0])]
    if levels[0] != levels[1]:
        yield (
            f"Real images are stored in the range {real.intensity_range}, synthetic ones in "
            f"{samples[0].intensity_range}: their grey levels are not equally fine, which textures show."
        )
    size = real.spec.size
    found = samples[0].index[["height", "width"]].drop_duplicates().astype(int)
    if found.to_numpy().tolist() != [list(size[-2:])]:
        example = " × ".join(map(str, found.to_numpy()[0]))
        yield (
            f"Synthetic images were resized to {' × '.join(map(str, size))}, for example from {example}: this changes "
            "their texture. Compare at their own size, with --size."
        )
