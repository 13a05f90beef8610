"""Does a generator give its training patients away?

Training images, images of held-out patients, whom the generator has not seen, and synthetic images are compared in
several spaces: as pixels, over shifts, crops and mirroring, and by features. In each space four tests ask the same in
different ways: `copies`, `data_copying`, `authenticity` and `membership`. The first three take held-out patients for
what an honest generator would make. One that lacks variety does not, and lies nearer to everybody; so they are
repeated with the training and the held-out patients exchanged, as a control for the reader. What they find is called
copying only where synthetic images are nearer to training patients than they would be if chance had held others out:
see `exchange`. So a generator that copies nobody is called a copier in about 5 of 100 audits at most, whatever it
makes, if it is chance who was held out. What the attack on memberships, C_T and authenticity find is no copying either
where the two groups are told apart without a look at the synthetic images.

A patient counts once: of several images of a held-out patient one is drawn, as they are not independent. All images of
training patients may be copied, and all are searched.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from importlib.metadata import version
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from medgan.core.saving import versions
from medgan.core.spec import LabelSpec
from medgan.data.dataset import ImageDataset
from medgan.data.splits import image_identities
from medgan.errors import ConfigError, DataError
from medgan.evaluation.fidelity.groups import check_alike, patients_of
from medgan.evaluation.intervals import holm
from medgan.evaluation.leakage import check_leakage, count_unknown_patients, pixel_hashes
from medgan.evaluation.options import SUBGROUPS
from medgan.evaluation.privacy.authenticity import Authenticity, authenticity
from medgan.evaluation.privacy.copies import (
    CONFIDENCE,
    CopyRate,
    class_weights,
    effective_number,
    fewest_patients,
    measure_copies,
)
from medgan.evaluation.privacy.data_copying import DataCopying, data_copying
from medgan.evaluation.privacy.exchange import exchange_patients, match_images
from medgan.evaluation.privacy.membership import Membership, infer_membership, membership_scores
from medgan.evaluation.privacy.records import AuditReport, Finding, Pair, SpaceResult, Subgroup, Verdict
from medgan.evaluation.privacy.search import Nearest
from medgan.evaluation.privacy.spaces import FeatureSpace, PixelSpace, Space, Taken
from medgan.evaluation.subgroups import SMALL_GROUP, UNKNOWN, groups_of
from medgan.metrics.extractors.base import Extractor

__all__ = ["audit_privacy"]

_SIGNIFICANT = 0.05
_EVEN = 0.9  # of the patients: so many tell as much as all, if weights are nearly equal
_FEW = 0.01  # of the held-out images: public data sets hold that many images twice
_FEWEST_PATIENTS = 4  # held out; each half is the reference of the other one
_MOST_MEMBERS = 1_000  # training patients that are attacked; a share of them is known well enough
_PATIENTS_A_CELL, _MOST_CELLS = 30, 20

Numbers = NDArray[np.int64]
Progress = Callable[[int, int, str], None]


class _Classes(NamedTuple):
    """The class of each image that is compared, by name."""

    synthetic: NDArray[np.str_]
    members: NDArray[np.str_]
    non_members: NDArray[np.str_]


class _Exchanged(NamedTuple):
    """Images whose patients change sides: positions, and what they show, where that is known."""

    training: Numbers
    held_out: Numbers
    training_classes: NDArray[np.str_] | None
    held_out_classes: NDArray[np.str_] | None


class _Sides(NamedTuple):
    """Who is compared: positions of one image a patient, and who all images are of."""

    training_patients: Numbers
    held_out_patients: Numbers
    members: Numbers
    non_members: Numbers
    halves: NDArray[np.int64]  # 0 or 1 for each non-member
    member_halves: NDArray[np.int64]
    classes: _Classes | None  # None where classes are not known, or not the same on all sides
    exchanged: _Exchanged


def audit_privacy(
    training: ImageDataset,
    held_out: ImageDataset,
    synthetic: ImageDataset,
    *,
    extractors: Sequence[Extractor] = (),
    level: float = 0.01,
    subgroups: Sequence[str] | None = None,
    pairs: int = 50,
    trained_on: Mapping[str, Any] | None = None,
    parts: Mapping[str, str] | None = None,
    notes: Sequence[str] = (),
    seed: int = 0,
    cache_dir: Path | None = None,
    facts: Mapping[str, Any] | None = None,
    progress: Progress | None = None,
) -> AuditReport:
    """Audit synthetic images.

    Args:
        training: The real images that the generator was trained on.
        held_out: Real images of other patients, of the same size and channels.
        synthetic: What the generator made.
        extractors: What features are computed with; none leaves the pixels.
        level: Share of honest images that the copy test flags, and of non-members whom the attack suspects. It needs
            ``1 / level - 1`` held-out patients, and never fewer than 4.
        subgroups: Columns of the training images' index to report copies by; None for the usual ones and the label.
        pairs: How many of the closest pairs the report lists.
        trained_on: `GAN.provenance` of the generator, where known.
        parts: Part of each real image in the generator's training, by `medgan.data.splits.image_identities`.
        notes: What else limits the audit, a sentence each.
        seed: Of all random choices.
        cache_dir: Folder of features that are kept; None for no cache.
        facts: What else the settings are to hold, plain JSON values.
        progress: Told of the steps: done, in all, and which.

    Returns:
        The report.

    Raises:
        ConfigError: If the level is no share, or the data has no column of a name.
        DataError: If there are too few held-out patients for the level, patients or images are on both sides, the
            generator has seen the held-out patients, or sizes, channels or classes do not fit.
    """
    if not seed >= 0 or not pairs >= 0:
        raise ConfigError(f"seed is {seed} and pairs {pairs}; both must be 0 or more.")
    columns = _columns(training, subgroups)
    check_alike(training, [synthetic])
    check_alike(training, [held_out], what="held-out")
    held_out, warnings = _check_apart(training, held_out)
    warnings += [*notes, *_check_generator(training, held_out, trained_on, parts or {})]
    sides = _draw_sides(training, held_out, synthetic, seed)
    least = max(_FEWEST_PATIENTS, fewest_patients(level))
    if len(sides.non_members) < least:
        there = len(sides.non_members)
        affordable = -(-1000 // (there + 1)) / 1000
        advice = f", or --level {affordable:g}" if affordable <= 0.2 else ""
        raise DataError(
            f"A level of {level:g} needs {least} held-out patients, and {held_out.source} has {there:,}: nothing could "
            f"be said with them. Give more held-out patients{advice}."
        )
    weights = None if sides.classes is None else _weights(sides.classes.non_members, sides.classes.synthetic)
    if weights is not None and effective_number(weights) < _EVEN * len(weights):
        warnings.append(
            "Synthetic images are not of the held-out patients' classes in their shares. For the copy test, held-out "
            f"patients are weighted, as if they were {effective_number(weights):,.0f}; C_T and authenticity are not "
            "corrected for it. Give synthetic images of the same classes."
        )

    total = 1 + len(extractors)
    results: list[SpaceResult] = []
    known: list[Space] = []
    tables: list[Subgroup] = []
    left_out: list[str] = []
    found_pairs: list[Pair] = []
    for number, extractor in enumerate((None, *extractors)):
        if progress is not None:
            progress(number, total, "comparing " + ("pixels" if extractor is None else extractor.name))
        space: Space = PixelSpace() if extractor is None else FeatureSpace(extractor, training, cache_dir=cache_dir)
        known.append(space)
        result, near, near_held_out = _examine(space, training, held_out, synthetic, sides, level, weights, seed)
        results.append(result)
        found_pairs += _pairs(result, near, training, synthetic)
        rows, reasons = _by_subgroup(columns, space.name, training, sides, near, near_held_out, level, weights, seed)
        tables += rows
        left_out = reasons
    if progress is not None:
        progress(total, total, "")

    trained = set(pixel_hashes(training))
    identical = sum(each in trained for each in pixel_hashes(synthetic))
    findings = _judge(results)
    warnings += _limits(results, training, held_out, synthetic)
    return AuditReport(
        verdict=_verdict(findings, identical),
        findings=findings,
        identical=identical,
        spaces=tuple(results),
        subgroups=tuple(tables),
        left_out=tuple(left_out),
        pairs=tuple(_closest(found_pairs, pairs)),
        warnings=tuple(dict.fromkeys(warnings)),
        training=_facts(training),
        held_out={**_facts(held_out), "patients_compared": len(sides.non_members)},
        synthetic=_facts(synthetic),
        extractors=tuple(each.facts for each in known if each.facts is not None),
        settings={"level": level, "pairs": pairs, "seed": seed, "confidence": CONFIDENCE, **(facts or {})},
        versions={**versions(), **{name: version(name) for name in ("numpy", "scipy", "scikit-learn")}},
    )


# ------------------------------------------------------------------------------------ bad input


def _check_apart(training: ImageDataset, held_out: ImageDataset) -> tuple[ImageDataset, list[str]]:
    """Refuse patients or images on both sides; single images are left out, with their patients."""
    ours, theirs = (set(each.index["patient_id"].astype(str)) - {""} for each in (training, held_out))
    shared = sorted(ours & theirs)
    if shared:
        raise DataError(
            f"{len(shared):,} patients are among the training and the held-out images, such as {shared[0]!r}. Held-out "
            "patients must be new to the generator: leave them out of --holdout, or, where two sources merely number "
            "alike, name the patients of one otherwise."
        )
    there = set(pixel_hashes(training))
    same = np.array([each in there for each in pixel_hashes(held_out)], dtype=np.bool_)
    if not same.any():
        return held_out, []
    count = int(same.sum())
    if count > _FEW * len(held_out):
        raise DataError(
            f"{count:,} of the {len(held_out):,} held-out images are, pixel by pixel, training images. Held-out "
            "patients must be new to the generator. Give images that it has not seen."
        )
    patients = patients_of(held_out)
    kept = np.flatnonzero(~np.isin(patients, patients[same]))
    if len(kept) < 2:
        raise DataError("All held-out patients have an image that is a training image, pixel by pixel. Give others.")
    return held_out.subset(kept), [
        f"{count:,} of the {len(held_out):,} held-out images are, pixel by pixel, training images; they and the other "
        "images of these patients were left out."
    ]


def _check_generator(
    training: ImageDataset, held_out: ImageDataset, trained_on: Mapping[str, Any] | None, parts: Mapping[str, str]
) -> list[str]:
    """Refuse held-out patients whom the generator has seen, as far as it is known."""
    banners, notes = check_leakage(
        [trained_on or {}], train=training, held_out={"held-out": held_out}, trained_on=[parts], allow=True
    )
    if banners:
        raise DataError(f"{banners[0].removeprefix('Void: ')} Held-out patients must be new to it. Give others.")
    return [note.replace("validation and test", "held-out") for note in notes]


def _draw_sides(training: ImageDataset, held_out: ImageDataset, synthetic: ImageDataset, seed: int) -> _Sides:
    """Draw one image of each patient, and divide the patients into halves."""
    rng = np.random.default_rng([seed, 23])
    of_training, of_held_out = patients_of(training), patients_of(held_out)
    members, non_members = _one_each(of_training, rng), _one_each(of_held_out, rng)
    if len(members) > _MOST_MEMBERS:
        members = np.sort(rng.choice(members, _MOST_MEMBERS, replace=False))
    classes = None
    names = [_class_names(each, training.spec.labels) for each in (training, held_out, synthetic)]
    if names[0] is not None and names[1] is not None and names[2] is not None:
        members = _with_classes(members, of_training, names[0], np.unique(names[2]), rng)
        non_members = _with_classes(non_members, of_held_out, names[1], np.unique(names[2]), rng)
        classes = _Classes(names[2], names[0][members], names[1][non_members])
    halves = rng.permutation(len(non_members)) % 2, rng.permutation(len(members)) % 2
    ours, theirs = match_images(of_training, of_held_out, rng)
    exchanged = _Exchanged(ours, theirs, None, None)
    if names[0] is not None and names[1] is not None:
        exchanged = _Exchanged(ours, theirs, names[0][ours], names[1][theirs])
    return _Sides(of_training, of_held_out, members, non_members, *halves, classes, exchanged)


def _one_each(patients: Numbers, rng: np.random.Generator) -> Numbers:
    """Draw an image of each patient."""
    order = rng.permutation(len(patients))
    _, first = np.unique(patients[order], return_index=True)
    return np.sort(order[first])


def _class_names(images: ImageDataset, spec: LabelSpec | None) -> NDArray[np.str_] | None:
    """Return the class of each image; None if there are no classes, or others."""
    if spec is None or images.labels is None or images.labels.ndim != 1 or images.spec.labels != spec:
        return None
    return np.asarray(np.array(spec.names)[images.labels], np.str_)


def _with_classes(
    drawn: Numbers,
    patients: Numbers,
    classes: NDArray[np.str_],
    wanted: NDArray[np.str_],
    rng: np.random.Generator,
) -> Numbers:
    """Give each class that chance left out an image, in the place of another one of its patient, or of anybody.

    Args:
        drawn: Positions of images, one a patient.
        patients: Who each image is of.
        classes: What each image shows.
        wanted: Classes that are to be among the drawn ones, if a patient has them.
        rng: Decides.
    """
    drawn, kept = drawn.copy(), np.zeros(len(drawn), np.bool_)
    # The rarest first: it has the fewest patients to choose from.
    for name in sorted(wanted, key=lambda name: int((classes == name).sum())):
        there = np.flatnonzero((classes[drawn] == name) & ~kept)
        if not len(there):
            others = np.flatnonzero((classes == name) & ~np.isin(patients, patients[drawn[kept]]))
            if not len(others) or kept.all():
                continue
            image = rng.choice(others)
            there = np.flatnonzero(patients[drawn] == patients[image])
            if not len(there):
                there = rng.permutation(np.flatnonzero(~kept))
            drawn[there[0]] = image
        kept[there[0]] = True
    return np.sort(drawn)


def _weights(ours: NDArray[np.str_], synthetic: NDArray[np.str_]) -> NDArray[np.float64] | None:
    """Return weights of real images that give them the synthetic images' classes; None if these are theirs."""
    weights = class_weights(ours, synthetic)
    return None if np.ptp(weights) == 0 else weights


# --------------------------------------------------------------------------------------- a space


class _Comparison(NamedTuple):
    """The three tests that take new patients for what an honest generator would make."""

    copies: CopyRate
    authenticity: Authenticity
    data_copying: DataCopying | None
    near: Nearest
    near_new: Nearest


def _examine(
    space: Space,
    training: ImageDataset,
    held_out: ImageDataset,
    synthetic: ImageDataset,
    sides: _Sides,
    level: float,
    weights: NDArray[np.float64] | None,
    seed: int,
) -> tuple[SpaceResult, Nearest, Nearest]:
    """Do all tests in one space; return them with the nearest training images of synthetic and held-out ones."""
    real, new, made = (space.take(each) for each in (training, held_out, synthetic))
    found = _compare(space, real, made, new[sides.non_members], sides.training_patients, level, weights, seed)
    # The roles exchanged: nobody can have copied the held-out patients.
    control = None
    if len(sides.members) >= fewest_patients(level):
        try:
            of_new, classes = sides.held_out_patients, sides.classes
            theirs = None if classes is None else _weights(classes.members, classes.synthetic)
            control = _compare(space, new, made, real[sides.members], of_new, level, theirs, seed)
        except DataError:  # too few training patients, in all or of a class: the report says that there is no control
            control = None
    flagged = found.near.distances < found.copies.threshold
    result = SpaceResult(
        space=space.name,
        description=space.description,
        copies=found.copies,
        matched_patients=len(np.unique(sides.training_patients[found.near.positions[flagged]])),
        authenticity=found.authenticity,
        data_copying=found.data_copying,
        membership=_membership(space, real, new, made, sides, level, seed),
        control=None if control is None else control.copies,
        control_authenticity=None if control is None else control.authenticity,
        control_data_copying=None if control is None else control.data_copying,
        exchange=_exchange(
            space, real, new, made, sides, (found.near, None if control is None else control.near), seed
        ),
        to_training=found.near.distances,
        held_out_to_training=found.near_new.distances,
    )
    return result, found.near, found.near_new


def _compare(
    space: Space,
    real: Taken,
    made: Taken,
    new: Taken,
    patients: Numbers,
    level: float,
    weights: NDArray[np.float64] | None,
    seed: int,
) -> _Comparison:
    """Ask whether synthetic images are nearer to real ones than those of new patients are."""
    near, near_new = space.nearest(made, real), space.nearest(new, real)
    copies = measure_copies(near.distances, near_new.distances, level=level, weights=weights, seed=seed)
    reach = np.full(len(real), np.inf)
    asked = np.unique(np.concatenate([near.positions, near_new.positions]))
    reach[asked] = space.nearest(real[asked], real, query_groups=patients[asked], reference_groups=patients).distances
    authentic = authenticity(
        near.distances,
        near_new.distances,
        reach_of_synthetic=reach[near.positions],
        reach_of_held_out=reach[near_new.positions],
    )
    return _Comparison(copies, authentic, _data_copying(space, real, made, new, near, near_new, seed), near, near_new)


def _data_copying(
    space: Space, real: Taken, made: Taken, new: Taken, near: Nearest, near_new: Nearest, seed: int
) -> DataCopying | None:
    """Compare distances in each cell of a clustering of the real images."""
    from sklearn.cluster import KMeans

    vectors = space.vectors(real)
    cells = int(np.clip(len(new) // _PATIENTS_A_CELL, 1, min(_MOST_CELLS, len(np.unique(vectors, axis=0)))))
    clusters = KMeans(cells, n_init=1, random_state=seed).fit(vectors)
    try:
        return data_copying(
            near.distances,
            near_new.distances,
            cells_of_synthetic=clusters.predict(space.vectors(made)),
            cells_of_held_out=clusters.predict(space.vectors(new)),
        )
    except DataError:  # the report says that there are too few
        return None


def _exchange(
    space: Space,
    real: Taken,
    new: Taken,
    made: Taken,
    sides: _Sides,
    known: tuple[Nearest, Nearest | None],
    seed: int,
) -> float:
    """Let training and held-out patients change sides; return the p-value.

    `known` are the nearest of all images of either side, which need not be sought again.
    """
    ours, theirs, our_classes, their_classes = sides.exchanged
    near, near_new = (
        found if found is not None and len(kept) == len(images) else space.nearest(made, images[kept])
        for found, kept, images in zip(known, (ours, theirs), (real, new), strict=True)
    )
    return exchange_patients(
        near,
        near_new,
        training_patients=sides.training_patients[ours],
        held_out_patients=sides.held_out_patients[theirs],
        training_classes=our_classes,
        held_out_classes=their_classes,
        seed=seed,
    )


def _membership(
    space: Space, real: Taken, new: Taken, made: Taken, sides: _Sides, level: float, seed: int
) -> Membership:
    """Attack; half of the held-out patients are the reference of the other half, and each of half of the members."""
    patients = sides.held_out_patients[sides.non_members]
    candidates = (real[sides.members], new[sides.non_members])
    halves = (sides.member_halves, sides.halves)
    to_reference = [np.empty(len(each)) for each in candidates]
    for half in (0, 1):
        reference = new[np.isin(sides.held_out_patients, patients[sides.halves != half])]
        for group, inside, found in zip(candidates, halves, to_reference, strict=True):
            found[inside == half] = space.nearest(group[inside == half], reference).distances
    scores = [
        membership_scores(space.nearest(group, made).distances, usual)
        for group, usual in zip(candidates, to_reference, strict=True)
    ]
    return infer_membership(
        scores[0],
        scores[1],
        blind_members=-to_reference[0],
        blind_non_members=-to_reference[1],
        level=level,
        seed=seed,
    )


# ------------------------------------------------------------------------------------- subgroups


def _columns(training: ImageDataset, wanted: Sequence[str] | None) -> tuple[str, ...]:
    """Return the columns to report by."""
    if wanted is None:
        return tuple(name for name in ("label", *SUBGROUPS) if name in training.index)
    missing = [name for name in wanted if name not in training.index]
    if missing:
        raise ConfigError(
            f"--subgroups: the training images have no column {missing[0]!r}; they have "
            f"{', '.join(training.index.columns)}."
        )
    return tuple(dict.fromkeys(wanted))


def _by_subgroup(
    columns: Sequence[str],
    space: str,
    training: ImageDataset,
    sides: _Sides,
    near: Nearest,
    near_new: Nearest,
    level: float,
    weights: NDArray[np.float64] | None,
    seed: int,
) -> tuple[list[Subgroup], list[str]]:
    """Do the copy test for each group of training patients: among images that are nearest to one of them."""
    found: list[Subgroup] = []
    left_out: list[str] = []
    for column in columns:
        divided = groups_of(training.index[column], column)
        if isinstance(divided, str):
            left_out.append(f"{column}: {divided}")
            continue
        rows = []
        for group, inside in divided.members.items():
            ours, null = inside[near.positions], inside[near_new.positions]
            # How likely an image is among the synthetic ones depends on its class alone, in every group.
            among = None if weights is None else weights[null]
            count = int(null.sum()) if among is None else effective_number(among)
            copies = None
            if count >= SMALL_GROUP and ours.any():
                try:
                    copies = measure_copies(
                        near.distances[ours], near_new.distances[null], level=level, weights=among, seed=seed
                    )
                except DataError:  # too few for the level: the table says so
                    copies = None
            patients = len(np.unique(sides.training_patients[inside]))
            counts = patients, int(null.sum()), int(ours.sum())
            rows.append(Subgroup(column, group, space, *counts, small=copies is None, copies=copies))
        judged = [row.copies.excess for row in rows if row.copies is not None and row.group != UNKNOWN]
        worst = max(judged, default=0.0)
        found += [
            replace(row, worst=row.copies is not None and row.copies.excess == worst > 0 and row.group != UNKNOWN)
            for row in rows
        ]
    return found, left_out


# --------------------------------------------------------------------------------------- verdict


def _judge(results: Sequence[SpaceResult]) -> tuple[Finding, ...]:
    """Gather the tests, and correct them for their number: by themselves, and together with that of the exchange."""
    raw: list[tuple[str, str, float, float, bool]] = []
    for each in results:
        raw.append(("copies", each.space, each.copies.p_value, each.exchange, True))
        # Where training and held-out patients differ in themselves, so do their distances on the whole. The copy test,
        # which asks for the nearest images alone, hardly minds.
        alike = each.membership.comparable
        if each.data_copying is not None:
            raw.append(("data copying, C_T", each.space, each.data_copying.p_value, each.exchange, alike))
        raw.append(("authenticity", each.space, each.authenticity.p_value, each.exchange, alike))
        # The attack compares training patients with held-out ones as it is.
        raw.append(("membership, all patients", each.space, each.membership.attack.p_value, 0.0, alike))
        if each.membership.caught is not None:
            raw.append(("membership, few false positives", each.space, each.membership.caught.p_value, 0.0, alike))
    corrected = holm([p_value for _, _, p_value, _, _ in raw])
    beyond = holm([max(p_value, exchange) for _, _, p_value, exchange, _ in raw])
    return tuple(
        Finding(
            test,
            space,
            p_value,
            float(alone),
            float(both),
            detected=bool(alone < _SIGNIFICANT),
            specific=bool(alike and both < _SIGNIFICANT),
        )
        for (test, space, p_value, _, alike), alone, both in zip(raw, corrected, beyond, strict=True)
    )


def _verdict(findings: Sequence[Finding], identical: int) -> Verdict:
    """Join what was found."""
    detected = [each for each in findings if each.detected]
    if identical or any(each.specific for each in detected):
        return "leakage"
    return "unclear" if detected else "none"


def _pairs(result: SpaceResult, near: Nearest, training: ImageDataset, synthetic: ImageDataset) -> list[Pair]:
    """Return each synthetic image with its nearest training image."""
    null = np.sort(result.held_out_to_training)
    files, made = image_identities(training.index), synthetic.index["file"].astype(str).tolist()
    patients = training.index["patient_id"].astype(str).tolist()
    return [
        Pair(
            synthetic=number,
            synthetic_file=made[number],
            training=int(position),
            training_file=files[position],
            patient=patients[position],
            space=result.space,
            distance=float(distance),
            relative=float(distance / result.copies.threshold) if result.copies.threshold else 1.0,
            as_near=float(np.searchsorted(null, distance, side="right") / len(null)),
        )
        for number, (distance, position) in enumerate(zip(near.distances, near.positions, strict=True))
    ]


def _closest(found: Sequence[Pair], count: int) -> list[Pair]:
    """Return the closest pairs, each synthetic image once, in the space where it is nearest."""
    best: dict[int, Pair] = {}
    for pair in found:
        if pair.synthetic not in best or pair.relative < best[pair.synthetic].relative:
            best[pair.synthetic] = pair
    return sorted(best.values(), key=lambda pair: (pair.relative, pair.synthetic))[:count]


def _limits(
    results: Sequence[SpaceResult], training: ImageDataset, held_out: ImageDataset, synthetic: ImageDataset
) -> list[str]:
    """Say what a careful reader would ask about."""
    said = []
    for name, images in (("training", training), ("held-out", held_out)):
        unknown = count_unknown_patients(images)
        if unknown:
            said.append(
                f"The patients of {unknown:,} {name} images are not known, and each file counts as a patient of its "
                "own: intervals are too narrow, and p-values too small, if a patient has several, and a patient on "
                "both sides goes unnoticed. Say how file names tell them, with --patient-regex."
            )
    seen = set(pixel_hashes(held_out))
    same = sum(each in seen for each in pixel_hashes(synthetic))
    if same:
        said.append(
            f"{same:,} synthetic images are, pixel by pixel, held-out images, which the generator cannot know unless "
            "it has seen them: the audit is of no use then."
        )
    for each in results:
        blind = each.membership.blind
        if not each.membership.comparable:
            said.append(
                f"{each.space}: training and held-out patients differ in themselves (area {blind.area:.3f}, 95 % "
                f"interval {blind.low:.3f} to {blind.high:.3f}, without a look at the synthetic images). What "
                "the tests find may be that difference. Divide the patients at random."
            )
        if each.control is None:
            said.append(
                f"{each.space}: there are too few training patients, in all or of a class of the synthetic images, for "
                "the control of the copy test."
            )
        if each.data_copying is None:
            said.append(f"{each.space}: there are too few images for a cell of C_T.")
    size = list(training.spec.size[-2:])
    stored = synthetic.index[["height", "width"]].drop_duplicates().astype(int).to_numpy().tolist()
    if stored != [size]:
        said.append(
            f"Synthetic images were resized to {' × '.join(map(str, size))}, for example from "
            f"{' × '.join(map(str, stored[0]))}; what is finer was not compared."
        )
    return said


def _facts(images: ImageDataset) -> dict[str, Any]:
    """Return what a report says of a data set."""
    return {
        **images.provenance(),
        "source": images.source,
        "size": list(images.spec.size),
        "channels": images.spec.channels,
    }
