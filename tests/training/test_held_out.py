from __future__ import annotations

import dataclasses

import numpy as np
import pytest
import torch
from scipy.spatial.distance import cdist, pdist, squareform

from medgan.core import Batch, LabelSpec
from medgan.data import ImageDataset
from medgan.errors import DataError
from medgan.training import GroupScores, HeldOutScorer, HeldOutScores
from medgan.training.frozen_features import Described
from medgan.training.held_out import choose_held_out


class Pixels:
    """The pixels are the features, and the first two the probabilities."""

    name = "pixels"
    sha256 = "0"
    thresholds = None

    def describe(self, images):
        rows = images.flatten(1).double().numpy()
        return Described(rows, rows[:, :2])


class Sampler:
    """A generator that has its images ready; asked for the labels of the held-out ones."""

    def __init__(self, images):
        self.images = images

    def sample(self, n, *, labels=None, seed=0, sources=None):
        self.asked = (n, labels, seed)
        return Batch(self.images)


def dataset(images, labels, **options):
    return ImageDataset.from_arrays(images.movedim(1, -1).numpy(), labels, data_range=(-1, 1), **options)


@pytest.fixture
def images():
    return torch.rand(40, 1, 2, 2, generator=torch.Generator().manual_seed(0)) * 1.6 - 0.8


def by_hand(real, fake, right, right_real):
    """The figures of a group, written anew."""
    bandwidth = np.median(pdist(real))

    def kernel(a, b):
        return np.exp(-(cdist(a, b) ** 2) / (2 * bandwidth**2))

    def mean(a):
        return (kernel(a, a).sum() - len(a)) / (len(a) * (len(a) - 1))

    distance = mean(real) + mean(fake) - 2 * kernel(real, fake).mean()
    radii = np.sort(squareform(pdist(real)), axis=1)[:, 5]
    coverage = (cdist(real, fake).min(axis=1) <= radii).mean()
    quality = (coverage**2 * (1 - min(1, max(0, distance) ** 0.5)) * min(1, right / right_real)) ** 0.25
    return distance, coverage, right, quality


def test_figures_and_score(images):
    labels = np.arange(40) % 2
    validation = dataset(images, labels, names=["A", "B"])
    real = validation.images_at(np.arange(40))
    fake = real.clone()
    fake[labels == 1] = fake[1].clone()  # the second class has collapsed
    fake[labels == 0] += 0.1 * torch.rand(20, 1, 2, 2, generator=torch.Generator().manual_seed(1))
    sampler = Sampler(fake)
    scores = HeldOutScorer(validation, Pixels()).score(sampler)
    assert sampler.asked[0] == 40
    assert torch.equal(sampler.asked[1], torch.from_numpy(labels))

    rows, samples = (part.flatten(1).double().numpy() for part in (real, fake))
    right = [(part[:, :2].argmax(1) == labels) for part in (samples, rows)]
    scale = rows.mean(0), rows.std(0)
    rows, samples = ((part - scale[0]) / scale[1] for part in (rows, samples))
    qualities = []
    for name, mask in [("all", labels >= 0), ("A", labels == 0), ("B", labels == 1)]:
        expected = by_hand(rows[mask], samples[mask], *(values[mask].mean() for values in right))
        group = scores.overall if name == "all" else scores.classes[name]
        assert group[:3] == pytest.approx(expected[:3])
        assert group.quality == pytest.approx(expected[3])
        qualities.append(expected[3])
    _, *classes = qualities
    assert scores.score == pytest.approx((np.mean(classes) + min(classes)) / 2)
    assert scores.worst_class == "B"
    values = scores.to_dict()
    assert values["coverage/B"] == pytest.approx(scores.classes["B"].coverage, abs=1e-6)
    assert values["score"] == pytest.approx(scores.score, abs=1e-6)


def test_diversity_counts_more_than_likeness():
    even = GroupScores(0.04, 0.8, 0.9, 0.9)
    assert even._replace(coverage=0.4).quality < even._replace(class_consistency=0.45).quality < even.quality
    assert even._replace(class_consistency=1.0).quality == even.quality  # no easier than real ones
    assert even._replace(kernel_distance=-0.01).quality == even._replace(kernel_distance=0.0).quality
    assert even._replace(kernel_distance=1.7).quality == 0
    plain = GroupScores(0.04, 0.8)
    assert plain.quality == pytest.approx((0.8**2 * 0.8) ** (1 / 3))
    assert HeldOutScores(plain, {}).score == plain.quality


def test_the_worst_class_counts():
    good, bad = GroupScores(0.0, 1.0), GroupScores(0.0, 0.1)
    middle = GroupScores(0.0, 0.4)
    assert good.quality == pytest.approx(1)
    one_lost = HeldOutScores(middle, {"A": good, "B": good, "C": bad})
    all_fair = HeldOutScores(middle, {"A": middle, "B": middle, "C": middle})
    assert np.mean([group.quality for group in one_lost.classes.values()]) > middle.quality
    assert one_lost.score < all_fair.score


def test_findings(images):
    """Each finding is the group of the images that show it; those that are not known count nowhere."""
    labels = np.zeros((40, 2), dtype=np.float32)
    labels[::2, 0] = 1
    labels[:10, 1] = np.nan

    class Findings(Pixels):
        thresholds = np.array([0.5, 0.2])

        def describe(self, images):
            rows, _ = super().describe(images)
            return Described(rows, np.full((len(rows), 2), 0.3))

    validation = dataclasses.replace(dataset(images, np.nan_to_num(labels), names=["X", "Y"]), labels=labels)
    assert validation.spec.labels == LabelSpec(("X", "Y"), "multilabel")
    scores = HeldOutScorer(validation, Findings()).score(Sampler(validation.images_at(np.arange(40))))
    assert set(scores.classes) == {"X"}  # nobody shows Y
    assert scores.classes["X"].class_consistency == 0  # 0.3 is below 0.5
    assert scores.overall.class_consistency == pytest.approx(20 / 70)  # only the 20 without X are right


def test_a_small_class_is_left_out(images):
    labels = (np.arange(40) >= 36).astype(np.int64)
    validation = dataset(images, labels, names=["A", "B"])
    scores = HeldOutScorer(validation, Pixels()).score(Sampler(validation.images_at(np.arange(40))))
    assert set(scores.classes) == {"A"}
    with pytest.raises(DataError, match="at least 6"):
        HeldOutScorer(validation.subset(range(5)), Pixels())


def test_no_more_than_memory_has_room_for(images, monkeypatch):
    """Images of 4 numbers each: 160 numbers in all."""
    validation = dataset(images, np.arange(40) % 2, names=["A", "B"])
    assert list(choose_held_out(validation)) == list(range(40))
    monkeypatch.setattr("medgan.training.held_out._NUMBERS", 64)
    rows = choose_held_out(validation)
    assert np.bincount(validation.labels[rows]).tolist() == [8, 8]
    scorer = HeldOutScorer(validation, Pixels())
    assert scorer.count == len(scorer.held_out) == 16
    monkeypatch.setattr("medgan.training.held_out._NUMBERS", 4)  # never fewer than can be scored
    assert np.bincount(validation.labels[choose_held_out(validation)]).tolist() == [6, 6]
    assert len(choose_held_out(dataset(images, None))) == 6
