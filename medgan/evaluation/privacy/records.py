"""What a privacy audit holds."""

from __future__ import annotations

import math
from dataclasses import asdict, dataclass, fields
from typing import Any, Literal

import numpy as np
from numpy.typing import NDArray

from medgan.evaluation.privacy.authenticity import Authenticity
from medgan.evaluation.privacy.copies import CopyRate
from medgan.evaluation.privacy.data_copying import DataCopying
from medgan.evaluation.privacy.membership import Membership

__all__ = ["AuditReport", "Finding", "Pair", "SpaceResult", "Subgroup", "Verdict"]

Verdict = Literal["leakage", "unclear", "none"]
"""``leakage`` was detected; ``unclear``: something was, but not more than a control finds, that is, images are just as
near to patients whom the generator has not seen, or the groups of patients differ in themselves; ``none`` was detected
under these tests."""


@dataclass(frozen=True)
class SpaceResult:
    """What was found in one space.

    Attributes:
        space: ``pixels``, or an extractor.
        description: How nearness is measured.
        copies: The copy test.
        matched_patients: Training patients with a flagged image near one of theirs.
        authenticity: Shares of authentic images.
        data_copying: C_T; None if there are too few images for a cell.
        membership: The attack.
        control: The copy test with training and held-out patients exchanged, whom the generator has not seen: what it
            finds is no copying. None if there are too few training patients.
        control_authenticity: The same of the authenticity.
        control_data_copying: The same of C_T.
        exchange: P-value of the test that lets training and held-out patients change sides, see
            `medgan.evaluation.privacy.exchange`.
        to_training: Distance of each synthetic image to its nearest training image, ``(m,)``; not in files.
        held_out_to_training: The same of the held-out patients, ``(n,)``; not in files.
    """

    space: str
    description: str
    copies: CopyRate
    matched_patients: int
    authenticity: Authenticity
    data_copying: DataCopying | None
    membership: Membership
    control: CopyRate | None
    control_authenticity: Authenticity | None
    control_data_copying: DataCopying | None
    exchange: float
    to_training: NDArray[np.float64]
    held_out_to_training: NDArray[np.float64]


@dataclass(frozen=True)
class Finding:
    """One test of the verdict.

    Attributes:
        test: Its name.
        space: Where.
        p_value: Of the hypothesis that nothing leaks, one-sided.
        corrected: The same, corrected for the number of tests (Holm).
        exchanged: The same where, of copies, C_T and authenticity, the p-value of the exchange of patients counts if
            it is the larger one; corrected, too.
        detected: Whether `corrected` is below 0.05.
        specific: Whether `exchanged` is; and, of all tests but copies, the blind attack does not tell the groups of
            patients apart.
    """

    test: str
    space: str
    p_value: float
    corrected: float
    exchanged: float
    detected: bool
    specific: bool


@dataclass(frozen=True)
class Pair:
    """A synthetic image and the training image that is near it.

    Attributes:
        synthetic: Position of the synthetic image.
        synthetic_file: Its file.
        training: Position of the training image.
        training_file: Its file.
        patient: Whom it is of; "" if unknown.
        space: Where the two are nearest.
        distance: Their distance there.
        relative: The distance over the threshold; the pair is flagged below 1.
        as_near: Share of the held-out patients whose image is as near to a training image.
    """

    synthetic: int
    synthetic_file: str
    training: int
    training_file: str
    patient: str
    space: str
    distance: float
    relative: float
    as_near: float


@dataclass(frozen=True)
class Subgroup:
    """Copies of the training patients of a group.

    Attributes:
        column: Property of the images, such as ``sex``.
        group: The group.
        space: Where.
        training_patients: Its patients in the training.
        held_out: Held-out patients whose image is nearest to one of the group.
        synthetic: Synthetic images that are nearest to one of the group.
        small: Whether there are too few of either for a verdict; in effect, where held-out patients are weighted.
        copies: The copy test within the group; None if it is small.
        worst: Whether it has the highest excess copy rate of its column and space, above 0.
    """

    column: str
    group: str
    space: str
    training_patients: int
    held_out: int
    synthetic: int
    small: bool
    copies: CopyRate | None
    worst: bool = False


@dataclass(frozen=True)
class AuditReport:
    """The result of `audit_privacy`.

    Attributes:
        verdict: See `Verdict`.
        findings: The tests behind it.
        identical: Synthetic images that are, pixel by pixel, training images.
        spaces: All numbers, by space.
        subgroups: Copy rates by subgroup.
        left_out: Columns without subgroups, and why.
        pairs: The closest pairs, the closest first.
        warnings: What limits it, a sentence each.
        training: Facts of the training images.
        held_out: Facts of the held-out images.
        synthetic: Facts of the synthetic images.
        extractors: Facts of each extractor.
        settings: Level, seed and the like, and whatever the caller adds.
        versions: Versions of what computed it.
    """

    verdict: Verdict
    findings: tuple[Finding, ...]
    identical: int
    spaces: tuple[SpaceResult, ...]
    subgroups: tuple[Subgroup, ...]
    left_out: tuple[str, ...]
    pairs: tuple[Pair, ...]
    warnings: tuple[str, ...]
    training: dict[str, Any]
    held_out: dict[str, Any]
    synthetic: dict[str, Any]
    extractors: tuple[dict[str, Any], ...]
    settings: dict[str, Any]
    versions: dict[str, str]

    def to_dict(self) -> dict[str, Any]:
        """Return plain JSON values; what is not finite is None."""
        found = {each.name: getattr(self, each.name) for each in fields(self)}
        spaces = [{key: value for key, value in asdict(each).items() if key not in _ARRAYS} for each in self.spaces]
        lists = {name: [asdict(each) for each in found[name]] for name in ("findings", "subgroups", "pairs")}
        plain: dict[str, Any] = _plain({**found, **lists, "spaces": spaces})
        return plain


_ARRAYS = ("to_training", "held_out_to_training")


def _plain(value: Any) -> Any:
    """Turn numbers that JSON does not have into None, and tuples into lists."""
    if isinstance(value, dict):
        return {str(key): _plain(each) for key, each in value.items()}
    if isinstance(value, list | tuple):
        return [_plain(each) for each in value]
    if isinstance(value, float) and not math.isfinite(value):
        return None
    return value
