from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest

from medgan.data import ImageDataset
from medgan.data.pixels import to_uint8
from medgan.data.splits import image_identities
from medgan.errors import DataError
from medgan.evaluation.leakage import check_leakage, check_shared_images

MakeImages = Callable[..., ImageDataset]
Parts = tuple[ImageDataset, ImageDataset, ImageDataset]


def mixed(*shares: tuple[ImageDataset, int]) -> ImageDataset:
    """Return a data set of its own, of the first images of others, whose patients are not known."""
    pixels = [to_uint8(images.images_at(range(count))) for images, count in shares]
    labels = [images.labels[:count] for images, count in shares if images.labels is not None]
    names = ("NORMAL", "PNEUMONIA")
    return ImageDataset.from_arrays(np.concatenate(pixels)[..., 0], np.concatenate(labels), names=names, name="mixed")


def check(parts: Parts, provenance: dict[str, object], **options: object) -> tuple[list[str], list[str]]:
    train, validation, test = parts
    held_out = {"validation": validation, "test": test}
    return check_leakage([provenance], train=train, held_out=held_out, **options)  # type: ignore[arg-type]


def test_the_training_images_themselves_are_no_leak(parts: Parts) -> None:
    assert check(parts, parts[0].provenance()) == ([], [])


def test_without_generators_nothing_can_leak(parts: Parts) -> None:
    assert check_leakage([], train=parts[0], held_out={"test": parts[2]}) == ([], [])


def test_a_generator_of_the_test_images(parts: Parts) -> None:
    with pytest.raises(DataError, match=r"trained on the test images.*--allow-leakage"):
        check(parts, parts[2].provenance())


def test_a_generator_of_all_images(parts: Parts) -> None:
    whole = ImageDataset.join(parts)
    provenance = {**whole.provenance(), "fingerprint": whole.whole_fingerprint}
    with pytest.raises(DataError, match="trained on all images of this data set"):
        check(parts, provenance)


def test_a_generator_of_the_same_data_divided_otherwise(parts: Parts) -> None:
    other = ImageDataset.join(parts).subset(range(50, 110))
    with pytest.raises(DataError, match="divided in another way"):
        check(parts, other.provenance())


def test_files_tell_better_than_fingerprints(parts: Parts) -> None:
    train, validation, test = parts
    known = {file: "train" for part in parts for file in image_identities(part.index)}
    known |= dict.fromkeys(image_identities(test.index)[3:], "test")
    known |= dict.fromkeys(image_identities(validation.index), "validation")
    other = train.subset(range(20)).provenance()
    with pytest.raises(DataError, match=r"trained on 3 of the 32 test images"):
        check(parts, other, trained_on=[known])
    known |= dict.fromkeys(image_identities(test.index), "test")
    assert check(parts, other, trained_on=[known]) == ([], [])


def test_an_unknown_origin_is_said(parts: Parts) -> None:
    banners, notes = check(parts, {})
    assert banners == []
    assert "not known which images" in notes[0]


def test_a_leak_that_is_allowed_voids_the_study(parts: Parts) -> None:
    banners, notes = check(parts, parts[1].provenance(), allow=True)
    assert banners == ["Void: the generator was trained on the validation images."]
    assert notes == []


def test_copies_of_training_images_in_the_test(parts: Parts, make_images: MakeImages) -> None:
    train, validation, _ = parts
    copies = mixed((make_images(120), 10), (make_images(20, seed=7), 20))
    assert copies.whole_fingerprint != train.whole_fingerprint
    with pytest.raises(
        DataError, match=r"10 of the 30 test images are, pixel by pixel, training images.*one part only"
    ):
        check_shared_images({"training": train}, {"validation": validation, "test": copies})
    banners, notes = check_shared_images({"training": train}, {"validation": validation, "test": copies}, allow=True)
    assert banners == ["Void: 10 of the 30 test images are, pixel by pixel, training images too."]
    assert notes == []


def test_images_of_the_test_in_the_validation(parts: Parts) -> None:
    train, validation, test = parts
    with pytest.raises(DataError, match="32 of the 32 test images are, pixel by pixel, validation images"):
        check_shared_images({"training": train}, {"validation": ImageDataset.join([validation, test]), "test": test})


def test_images_that_a_data_set_holds_twice_are_said(make_images: MakeImages) -> None:
    train, test = make_images(60), mixed((make_images(60), 1), (make_images(140, seed=7), 140))
    banners, notes = check_shared_images({"training": train}, {"test": test})
    assert banners == []
    assert notes == ["1 of the 141 test images are, pixel by pixel, training images too."]


def test_different_images_are_not_shared(parts: Parts) -> None:
    train, validation, test = parts
    assert check_shared_images({"training": train}, {"validation": validation, "test": test}) == ([], [])
