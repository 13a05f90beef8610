from __future__ import annotations

from itertools import islice

import numpy as np
import pytest
import torch

from medgan.data import ImageDataset
from medgan.errors import DataError
from medgan.evaluation.mixing import (
    class_counts,
    joined_batches,
    patients_of,
    repeat,
    take_by_class,
    take_patients,
)


def numbered(*counts: int, first: int = 0, patients: list[str] | None = None) -> ImageDataset:
    """Images whose pixels all are their number."""
    total = sum(counts)
    images = np.broadcast_to(np.arange(first, first + total, dtype=np.uint8)[:, None, None], (total, 2, 2))
    return ImageDataset.from_arrays(
        images.copy(), np.repeat(np.arange(len(counts)), counts), names=["a", "b"], patient_ids=patients
    )


def values(images: torch.Tensor) -> list[int]:
    return torch.round((images[:, 0, 0, 0] + 1) * 127.5).int().tolist()


def test_an_epoch_of_two_data_sets_holds_every_image_once_with_its_label() -> None:
    parts = [numbered(3, 2), numbered(1, 4, first=100)]
    batches = list(islice(joined_batches(parts, 5, seed=3), 4))
    seen = [value for batch in batches[:2] for value in values(batch.images)]
    assert sorted(seen) == [0, 1, 2, 3, 4, 100, 101, 102, 103, 104]
    truth = dict(zip([*range(5), *range(100, 105)], [0, 0, 0, 1, 1, 0, 1, 1, 1, 1], strict=True))
    for batch in batches:
        assert batch.labels is not None
        assert batch.labels.tolist() == [truth[value] for value in values(batch.images)]
    again = next(joined_batches(parts, 5, seed=3))
    assert torch.equal(again.images, batches[0].images)
    assert values(next(joined_batches(parts, 5, seed=4)).images) != values(again.images)


def test_classes_can_be_drawn_equally_often() -> None:
    labels = next(joined_batches([numbered(9, 1)], 10, seed=0, class_sampling="uniform")).labels
    assert labels is not None
    assert labels.sum() == 5


def test_take_by_class() -> None:
    images = numbered(6, 4)
    taken, rest = take_by_class(images, np.array([2, 3]), seed=1)
    assert class_counts(taken).tolist() == [2, 3]
    assert class_counts(rest).tolist() == [4, 1]
    together = values(taken.images_at(range(5))) + values(rest.images_at(range(5)))
    assert sorted(together) == list(range(10))
    # A smaller take is part of a larger one, so that ratios differ by nothing else.
    smaller, _ = take_by_class(images, np.array([1, 1]), seed=1)
    assert set(values(smaller.images_at(range(2)))) < set(values(taken.images_at(range(5))))


def test_too_few_images_of_a_class() -> None:
    with pytest.raises(DataError, match=r"2 synthetic images of b, but 4 are needed.*0.5 times"):
        take_by_class(numbered(6, 2), np.array([4, 4]), seed=0)


def test_repeat() -> None:
    assert values(repeat(numbered(2, 1), 2.4).images_at(range(7))) == [0, 1, 2, 0, 1, 2, 0]
    assert len(repeat(numbered(2, 1), 0.5)) == 3


def test_unknown_patients_are_people_of_their_own() -> None:
    images = numbered(2, 2, patients=["x", "x", "", ""])
    assert len(set(patients_of(images))) == 3


def test_shares_of_patients_are_nested_and_whole() -> None:
    patients = [f"p{number // 2}" for number in range(40)]
    images = numbered(20, 20, patients=patients)
    seen: set[str] = set()
    for fraction, expected in ((0.1, 1), (0.3, 3), (0.6, 6), (1, 10)):
        part = take_patients(images, fraction, seed=5)
        people = set(patients_of(part))
        assert len(part) == 2 * len(people)
        assert class_counts(part).tolist() == [2 * expected, 2 * expected]
        assert seen <= people
        seen = people
    assert set(patients_of(take_patients(images, 0.3, seed=6))) != set(patients_of(take_patients(images, 0.3, seed=5)))


def test_the_smallest_share_has_a_patient_of_each_class() -> None:
    images = numbered(20, 2, patients=[f"p{number}" for number in range(22)])
    assert class_counts(take_patients(images, 0.01, seed=0)).tolist() == [1, 1]


def test_patients_of_several_classes_count_as_of_the_rarest() -> None:
    """A hundred patients have an image of a; three of them, later, one of b."""
    images = numbered(100, 3, patients=[*map(str, range(100)), "17", "41", "98"])
    for seed in range(10):
        few, more = (take_patients(images, share, seed=seed) for share in (0.05, 0.4))
        assert class_counts(few).tolist() == [6, 1]  # a twentieth of 97, and one of three, who has an a, too
        assert set(patients_of(few)) <= set(patients_of(more))


def test_a_class_whose_patients_all_have_rarer_images_is_not_lost() -> None:
    """Four patients have all ten images of a, and one of b each; five others have an image of b alone."""
    b = [*"wxyz", *"ghijk"]
    images = numbered(10, len(b), patients=[*"wwwxxxyyzz", *b])
    for seed in range(10):
        few, more = (take_patients(images, share, seed=seed) for share in (0.05, 0.4))
        assert class_counts(few).min() > 0
        assert set(patients_of(few)) <= set(patients_of(more))


def test_images_without_labels_teach_nothing() -> None:
    images = ImageDataset.from_arrays(np.zeros((2, 4, 4), np.uint8))
    with pytest.raises(DataError, match="no labels"):
        class_counts(images)
