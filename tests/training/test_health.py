"""Each illness is planted, found with its sentence, and reacted to; healthy trainings raise none."""

from __future__ import annotations

import json
import math
from dataclasses import replace

import numpy as np
import pytest
import torch

from medgan.core import DataSpec, LabelSpec
from medgan.core.networks import DiscriminatorOutput
from medgan.core.trainer import Callback
from medgan.data import ImageDataset
from medgan.errors import ConfigError, TrainingDivergedError
from medgan.metrics.functional.diversity import pair_similarity
from medgan.models import ACGAN, load_model
from medgan.runs import Run
from medgan.training import Checkpoint, GroupScores, HealthMonitor, HeldOutScorer, HeldOutScores, KeepBest
from medgan.training.health import _more_augmentation, _nearness, _Real, _realness, _to_nearest, _vectors

SPEC = DataSpec(1, (32, 32), LabelSpec(("A", "B")))


def pictures(count, seed):
    """Return smooth random pictures, class 1 with a bright bar; no two alike."""
    rng = torch.Generator().manual_seed(seed)
    images = torch.nn.functional.interpolate(torch.rand(count, 1, 7, 7, generator=rng) * 1.6 - 0.8, 32, mode="bilinear")
    images[1::2, :, :6] = 0.9
    return images


def dataset(count, seed):
    pixels = ((pictures(count, seed)[:, 0] + 1) * 127.5).round().byte().numpy()
    return ImageDataset.from_arrays(pixels, np.arange(count) % 2, names=("A", "B"))


TRAINING, HELD_OUT = dataset(160, 0), dataset(60, 1)
CLASSES = {"A": np.arange(60) % 2 == 0, "B": np.arange(60) % 2 == 1}


def make_trainer(**options):
    return ACGAN(SPEC, preset="tiny", **options).make_trainer(device="cpu")


@pytest.fixture
def said():
    return []


@pytest.fixture
def health(tmp_path, said):
    made = HealthMonitor(tmp_path, say=said.append)
    made.prepare(HELD_OUT, TRAINING, CLASSES)
    return made


@pytest.fixture
def trainer():
    return make_trainer()


def look(health, trainer, step, samples, *, late=False, score=1.0, best=None):
    """Let a monitor examine samples after a step, and act."""
    trainer.step, trainer.images_seen = step, step * 8
    figures, may_be_kept = health.examine(trainer, samples, late=late, score=score, best=best)
    health._act(trainer)
    return figures, may_be_kept


def illnesses(health):
    return [(step, finding.illness, finding.of) for step, finding in health.findings]


def rows(folder):
    return [json.loads(line) for line in (folder / "health.jsonl").read_text().splitlines()]


# ------------------------------------------------------------------------------- samples


def test_new_pictures_are_healthy(health, trainer, said, tmp_path):
    for step in (20, 40, 60, 80):
        figures, may_be_kept = look(health, trainer, step, pictures(60, step), late=step > 40)
        assert may_be_kept
    assert set(figures) == {
        f"health/{name}"
        for name in ("lost_variety/A", "lost_variety/B", "duplicates", "copies", "overfitting")
    }  # fmt: skip
    assert (said, health.findings, trainer.factors) == ([], [], {})
    assert not (tmp_path / "health.jsonl").exists()


def collapsed(seed, share=0.4):
    """Return pictures of which those of class A are nearly one."""
    images = pictures(60, seed)
    images[::2] = images[:1] + share * (images[::2] - images[:1])
    return images


def test_collapse_of_a_class(health, trainer, said, tmp_path):
    look(health, trainer, 20, pictures(60, 2))
    _, may_be_kept = look(health, trainer, 40, collapsed(3))
    look(health, trainer, 60, collapsed(4))
    assert not may_be_kept
    assert illnesses(health) == [(40, "collapse", "A"), (60, "collapse", "A")]
    (sentence,) = said  # said once, written twice; the second is too soon after the first for a reaction
    assert sentence.startswith("Health, step 40: A is collapsing: pairwise MS-SSIM 0.")
    assert sentence.endswith("for real images; halved both learning rates.")  # there is no state to go back to yet
    first, second = rows(tmp_path)
    assert [(row["step"], row["illness"], row["of"]) for row in (first, second)] == illnesses(health)
    assert first["value"] > 0.3
    assert (first["reaction"], second["reaction"]) == ("halved both learning rates", None)
    assert trainer.factors == {"generator_lr": 0.5, "discriminator_lr": 0.5}


def test_a_model_that_has_become_better_than_ever_is_not_sent_back(health, trainer, said):
    """Before it learns, a generator makes noise, which is more varied than anything, and then much the same image."""
    best = {"step": 20, "score": 0.2}
    look(health, trainer, 20, pictures(60, 2))
    health.note_best(trainer)
    _, may_be_kept = look(health, trainer, 400, collapsed(3), score=0.7, best=best)
    assert may_be_kept
    assert said == []
    health.note_best(trainer)
    best = {"step": 400, "score": 0.7}
    # A little lower, and no less varied than the best: this is not what going back would mend.
    look(health, trainer, 600, collapsed(4), score=0.65, best=best)
    assert said == []
    _, may_be_kept = look(health, trainer, 800, collapsed(5, share=0.1), score=0.6, best=best)
    assert not may_be_kept
    assert "went back to step 400" in said[0]


def test_what_has_never_been_varied_is_told_in_the_second_half(health, trainer, said):
    health.note_best(trainer)
    _, may_be_kept = look(health, trainer, 800, collapsed(3), late=True, score=0.7, best={"step": 20, "score": 0.2})
    assert may_be_kept
    assert said[0].endswith("for real images.")
    assert trainer.factors == {}


def test_a_little_collapse_is_told_only(health, trainer, said):
    look(health, trainer, 20, pictures(60, 2))
    _, may_be_kept = look(health, trainer, 40, collapsed(3, share=0.63))
    assert may_be_kept
    assert [finding.act for _, finding in health.findings] == [False]
    assert said[0].endswith("for real images.")
    assert trainer.factors == {}


def test_a_model_that_has_not_learnt_yet_is_not_ill(health, trainer, said):
    """But in the second half of the training it is."""
    one = pictures(2, 5).repeat(30, 1, 1, 1)
    look(health, trainer, 20, one)
    assert said == []
    look(health, trainer, 80, one, late=True)
    assert {illness for _, illness, _ in illnesses(health)} == {"collapse", "duplicates"}


def test_samples_that_become_far_worse(health, trainer, said, tmp_path):
    best = {"step": 847, "score": 0.81}
    look(health, trainer, 900, pictures(60, 3), score=0.5, best=best)
    assert said == []
    look(health, trainer, 1000, pictures(60, 4), score=0.13, best=best)
    assert said == [
        "Health, step 1,000: The samples have become far worse: their score is 0.13 against 0.81 at step 847; "
        "halved both learning rates."
    ]
    assert trainer.factors == {"generator_lr": 0.5, "discriminator_lr": 0.5}
    (row,) = rows(tmp_path)
    assert (row["illness"], row["value"], row["threshold"]) == ("setback", 0.13, 0.405)


def test_a_model_that_was_never_good_cannot_become_far_worse(health, trainer, said):
    look(health, trainer, 100, pictures(60, 3), score=0.05, best={"step": 50, "score": 0.29})
    assert said == []


def test_duplicates(health, trainer, said):
    look(health, trainer, 20, pictures(60, 2))
    samples = pictures(60, 3)
    samples[10:20] = samples[20:30]
    samples += 0.005 * torch.randn(samples.shape, generator=torch.Generator().manual_seed(0))
    look(health, trainer, 40, samples)
    assert illnesses(health) == [(40, "duplicates", "")]
    assert "20 of 60 samples are the same picture" in said[0]
    assert "halved both learning rates" in said[0]


def test_copied_training_images_end_the_training(health, trainer, said):
    samples = pictures(60, 3)
    samples[:6] = TRAINING.images_at(range(30, 36)) * 0.9 + 0.05  # another brightness and contrast
    _, may_be_kept = look(health, trainer, 20, samples)
    assert not may_be_kept
    assert illnesses(health) == [(20, "memorisation", "")]
    assert "6 of 60 samples" in said[0]
    assert said[0].endswith("Do not share its samples; the training ends here.")
    assert trainer.ended


def test_what_ended_a_training_survives_a_resume(health, trainer, said):
    samples = pictures(60, 3)
    samples[:6] = TRAINING.images_at(range(30, 36))
    look(health, trainer, 20, samples)
    again = make_trainer()
    again.load_state_dict(trainer.state_dict())
    with pytest.raises(ConfigError, match=r"at step 20, because of memorisation.*--health warn"):
        HealthMonitor(health.path.parent).on_start(again)
    HealthMonitor(health.path.parent, react=False).on_start(again)


def test_held_out_images_with_exact_copies_do_not_blind_the_monitor(tmp_path, trainer, said):
    """A first percentile of 0 would let nothing be nearer."""
    images = HELD_OUT.images_at(range(60))
    images[:4] = TRAINING.images_at(range(4))
    images[10:12] = images[8:10]
    pixels = ((images[:, 0] + 1) * 127.5).round().byte().numpy()
    held_out = ImageDataset.from_arrays(pixels, np.arange(60) % 2, names=("A", "B"))
    health = HealthMonitor(tmp_path, say=said.append)
    health.prepare(held_out, TRAINING, CLASSES)
    assert said == [
        "Health: 4 of 60 held-out images have an exact copy among themselves; the threshold of duplicates leaves them "
        "out.",
        "Health: 4 of 60 held-out images have an exact copy among the training images; the threshold of memorisation "
        "leaves them out.",
    ]
    vectors = _vectors(images)
    others = np.r_[0:8, 12:60]
    assert health._real.nearest == pytest.approx(np.quantile(_to_nearest(vectors)[others], 0.01))
    assert health._real.nearness == pytest.approx(np.quantile(_nearness(vectors, health._real.vectors)[4:], 0.01))
    samples = pictures(60, 3)
    look(health, trainer, 20, samples)
    assert illnesses(health) == []
    samples[:6] = TRAINING.images_at(range(30, 36)) * 0.9 + 0.05
    samples[10:20] = samples[20:30]
    look(health, trainer, 40, samples)
    assert illnesses(health) == [(40, "duplicates", ""), (40, "memorisation", "")]
    health.prepare(TRAINING.subset(np.arange(8)), TRAINING, {})
    assert said[-1].endswith("among the training images; memorisation cannot be looked for.")


def test_blurred_pictures_are_no_copies(health, trainer):
    blurred = torch.nn.functional.avg_pool2d(pictures(60, 3), 9, 1, 4, count_include_pad=False)
    look(health, trainer, 20, blurred)
    assert "memorisation" not in [illness for _, illness, _ in illnesses(health)]


def test_distances_against_numpy():
    queries, references = _vectors(pictures(9, 1)), _vectors(pictures(30, 2))
    correlations = np.corrcoef(queries, references)[:9, 9:]
    distances = np.sort(np.sqrt(2 - 2 * correlations), axis=1)
    np.testing.assert_allclose(_nearness(queries, references), distances[:, 0] / distances[:, 1:11].mean(1), rtol=1e-6)
    own = np.sqrt(2 - 2 * np.corrcoef(queries) + 9 * np.eye(9)).min(axis=1)
    np.testing.assert_allclose(_to_nearest(queries), own, rtol=1e-6)
    assert _vectors(torch.zeros(2, 1, 32, 32, 32)).shape == (2, 8**3)


# ------------------------------------------------------------------------- discriminator


class Known(torch.nn.Module):
    """A discriminator that finds some images more real than others."""

    def __init__(self, level):
        super().__init__()
        self.level = level

    def forward(self, images, labels=None):
        return DiscriminatorOutput(self.level(images), None, None)


def noise(images):
    return torch.randn(len(images), generator=torch.Generator().manual_seed(int(images.sum().abs() * 100) % 1000))


def test_a_discriminator_that_knows_its_images(health, trainer, said):
    known = TRAINING.images_at(range(160)).flatten(1)
    trainer.discriminator = Known(
        lambda images: (torch.cdist(images.flatten(1), known).amin(1) < 1e-3) * 3 + 0.1 * noise(images)
    )
    figures, _ = look(health, trainer, 20, pictures(60, 2))
    assert said == []  # once may be chance
    look(health, trainer, 40, pictures(60, 3))
    assert illnesses(health) == [(40, "overfitting", "discriminator")]
    assert "knows its training images by heart" in said[0]
    assert said[0].endswith("halved the discriminator's learning rate.")
    assert trainer.factors == {"discriminator_lr": 0.5}
    real = _Real(HELD_OUT, TRAINING, CLASSES)
    training, held_out, generated = (part.mean() for part in _realness(trainer, real.training, real.held_out))
    assert figures["health/overfitting"] == pytest.approx((training - held_out) / (training - generated), abs=1e-6)
    assert len(real.training.images) == len(real.held_out.images) == 60


@pytest.mark.parametrize("batch_size", [64, 256])
def test_batches_larger_than_what_is_held_out_hide_no_overfitting(health, said, batch_size):
    trainer = make_trainer(batch_size=batch_size)
    known = TRAINING.images_at(range(160)).flatten(1)
    trainer.discriminator = Known(lambda images: (torch.cdist(images.flatten(1), known).amin(1) < 1e-3) * 3.0)
    for step in (20, 40):
        look(health, trainer, step, pictures(60, step))
    assert illnesses(health) == [(40, "overfitting", "discriminator")]


def test_large_images_are_read_and_compared_in_parts(monkeypatch):
    """Blocks change nothing; pairs are compared as averaged images; the discriminator is asked about fewer."""
    whole = _Real(HELD_OUT, TRAINING, CLASSES)
    monkeypatch.setattr("medgan.training.health._BLOCK", 7 * 32**2)
    sizes = []
    read = ImageDataset.images_at
    monkeypatch.setattr(ImageDataset, "images_at", lambda self, rows: sizes.append(len(rows)) or read(self, rows))
    parts = _Real(HELD_OUT, TRAINING, CLASSES)
    assert max(sizes) == 7
    assert np.array_equal(parts.vectors, whole.vectors)
    assert (parts.similarity, parts.nearest, parts.nearness) == (whole.similarity, whole.nearest, whole.nearness)
    assert (parts.scales, len(parts.held_out.images)) == (2, 60)

    monkeypatch.setattr("medgan.training.health._FINE", {4: 16})
    monkeypatch.setattr("medgan.training.health._JUDGED_NUMBERS", 20 * 32**2)
    small = _Real(HELD_OUT, TRAINING, CLASSES)
    assert (small.scales, len(small.held_out.images), len(small.training.images)) == (1, 20, 20)
    averaged = torch.nn.functional.avg_pool2d(read(HELD_OUT, np.flatnonzero(CLASSES["A"])), 2)
    expected = pair_similarity(averaged.numpy(), data_range=(-1, 1), pairs=200, scales=1)
    assert small.similarity["A"][0] == pytest.approx(expected.mean)


def test_advice_against_overfitting_goes_beyond_what_is_set():
    assert _more_augmentation(make_trainer(augment="xray")) == "--ada-target 0.6, or more --augment, postpones that"
    trainer = make_trainer(augment="xray", ada_target=0.6)
    assert _more_augmentation(trainer) == "--ada-target 0.4, or more --augment, postpones that"
    trainer.augment.probability.fill_(trainer.config.ada_limit)
    assert "--ada-limit above 0.8" in _more_augmentation(trainer)


def test_looking_changes_nothing(health, trainer):
    before = {name: value.clone() for name, value in trainer.discriminator.state_dict().items()}
    state = torch.get_rng_state()
    look(health, trainer, 20, pictures(60, 2))
    assert all(torch.equal(before[name], value) for name, value in trainer.discriminator.state_dict().items())
    assert torch.equal(torch.get_rng_state(), state)
    assert trainer.generator.training
    assert trainer.discriminator.training


def watch(health, trainer, accuracies, *, first=500):
    """Tell a monitor of the discriminator's accuracy at every tenth step."""
    for number, accuracy in enumerate(accuracies):
        for trainer.step in (first + 10 * number + 1, first + 10 * number + 10):
            metrics = {"discriminator/accuracy": torch.tensor(accuracy)} if trainer.step % 10 == 1 else {}
            trainer.images_seen = 8 * trainer.step
            trainer.memory.get("health", {}).get("sums", {}).clear()  # no weight moves here
            health.on_step(trainer, metrics)


def test_a_discriminator_that_wins(health, trainer, said):
    watch(health, trainer, [0.99] * 40)
    assert said == []  # not for long enough
    watch(health, trainer, [0.99] * 10, first=900)
    assert illnesses(health) == [(1000, "dominance", "discriminator")]
    assert "for 500 steps it has told real from generated images in 99.0% of pairs; halved the disc" in said[0]
    assert trainer.factors == {"discriminator_lr": 0.5}


@pytest.mark.parametrize("accuracies", [[0.9] * 50, [1.0] * 49 + [0.0]])
def test_a_discriminator_that_is_good_is_healthy(health, trainer, said, accuracies):
    watch(health, trainer, accuracies)
    assert said == []


def test_the_first_steps_do_not_count(health, trainer, said):
    watch(health, trainer, [1.0] * 50, first=0)
    watch(health, trainer, [1.0] * 40)
    assert said == []


# ------------------------------------------------------------------------------ gradients

USUAL = [float(np.exp(value)) for value in np.random.default_rng(0).normal(0, 1, 40)]


def gradients(health, trainer, norms, *, move=True, clipped=False):
    """Tell a monitor of gradients of given norms, one each 10 steps; clipped, they are all of length 1."""
    weights = {name: next(getattr(trainer, name).parameters()) for name in ("generator", "discriminator")}
    for number, norm in enumerate(norms, 1):
        trainer.step = 10 * number
        trainer.images_seen = 8 * trainer.step
        for name, weight in weights.items():
            size = norm if name == "generator" else 1.0
            if clipped:
                trainer.gradient_norms[name], size = torch.tensor(size), 1.0
            weight.grad = torch.full_like(weight, size / math.sqrt(weight.numel()))
            if move or name == "generator":
                weight.data += 1e-6
        health.on_step(trainer, {})
    return illnesses(health)


def test_usual_gradients_are_healthy(health, trainer):
    assert gradients(health, trainer, USUAL * 3) == []


@pytest.mark.parametrize("size", [1e4, math.inf, math.nan])
def test_gradients_that_explode(health, trainer, said, tmp_path, size):
    found = gradients(health, trainer, USUAL + [1.0] * 7 + [size] * 3)
    assert found == [(500, "exploding", "generator")]
    assert "The generator's gradient explodes" in said[0]
    (row,) = rows(tmp_path)
    assert row["value"] is None if not math.isfinite(size) else row["value"] > 50
    assert row["factors"] == {"generator_lr": 0.5, "discriminator_lr": 0.5}


def test_gradients_that_explode_and_are_clipped(health, trainer):
    """The norm before clipping counts: after it all are alike."""
    norms = USUAL + [1.0] * 7 + [1e4] * 3
    assert gradients(health, trainer, norms, clipped=True) == [(500, "exploding", "generator")]


def test_one_large_gradient_is_healthy(health, trainer):
    assert gradients(health, trainer, USUAL + [1.0] * 8 + [1e4] * 2) == []


def test_gradients_that_vanish(health, trainer, said):
    assert gradients(health, trainer, USUAL + [1e-4] * 10) == [(500, "vanishing", "generator")]
    assert "has vanished" in said[0]
    assert trainer.factors == {"discriminator_lr": 0.5}


def test_a_frozen_discriminator(health, trainer, said):
    assert gradients(health, trainer, USUAL[:20], move=False) == [(200, "frozen", "discriminator")]
    assert said == ["Health, step 200: The discriminator does not learn: none of its weights has changed in 100 steps."]
    assert trainer.factors == {}


# ------------------------------------------------------------------------------ reactions


def fit(gan, steps, folder, health, **options):
    """Train with the callbacks of a run that concern health."""
    best = KeepBest(gan, TRAINING, validation=HELD_OUT, folder=folder, health=health, steps=steps, **options)
    latest = Checkpoint(gan, folder / "checkpoints" / "latest" / "trainer.pt", folder / "model", every=30)
    gan.fit(TRAINING, steps=steps, total_steps=steps, device="cpu", callbacks=[best, health, latest])
    return best


def collapse_at(monkeypatch, gan, *steps):
    """Let the samples of some steps be nearly one picture, and all others new pictures."""
    real = gan.sample

    def sample(n, **options):
        step = 0 if gan.trainer is None else gan.trainer.step
        images = collapsed(step) if step in steps else pictures(60, step)
        return replace(real(n, **options), images=images)

    monkeypatch.setattr(gan, "sample", sample)


@pytest.mark.parametrize(
    ("options", "factors", "halved"),
    [
        ({"head": "ac"}, {"label": 0.5}, "the label weight"),
        ({"head": "projection"}, {"generator_lr": 0.5, "discriminator_lr": 0.5}, "both learning rates"),
    ],
)
def test_after_a_collapse_the_best_weights_return(monkeypatch, tmp_path, said, options, factors, halved):
    gan = ACGAN(SPEC, preset="tiny", **options)
    collapse_at(monkeypatch, gan, 30)
    states = {}

    class Remember(Callback):
        def on_step(self, trainer, metrics):
            states[trainer.step] = [weight.detach().clone() for weight in trainer.discriminator.parameters()]

    health = HealthMonitor(tmp_path, say=said.append)
    best = KeepBest(gan, TRAINING, validation=HELD_OUT, folder=tmp_path, health=health, steps=45, every=15)
    gan.fit(TRAINING, steps=45, device="cpu", callbacks=[best, health, Remember()])
    (sentence,) = [line for line in said if "Health" in line]
    # To the weights that were looked at, not to those of the next step at which there are reactions.
    assert sentence.endswith(f"for real images; went back to step 15 and halved {halved}.")
    assert all(torch.equal(a, b) for a, b in zip(states[15], states[40], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(states[15], states[39], strict=True))
    assert not all(torch.equal(a, b) for a, b in zip(states[15], states[45], strict=True))
    assert gan.trainer.factors == factors
    assert gan.trainer.step == 45  # counted on
    assert best.record["step"] != 30
    facts = json.loads((best.model / "model.json").read_text())
    assert facts["evaluation"]["healthy"] is True


def test_a_factor_of_a_term_is_half_of_it():
    """The label's loss, and the gradient of it, are halved in both networks."""
    whole, half = (make_trainer(head="ac", augment="none", clip_norm=None) for _ in range(2))
    half.factors["label"] = 0.5
    batch = next(TRAINING.batches(8, seed=0))
    metrics = [trainer.train_step(batch) for trainer in (whole, half)]
    assert torch.equal(metrics[1]["discriminator/label"], 0.5 * metrics[0]["discriminator/label"])
    assert torch.equal(metrics[1]["discriminator/adversarial"], metrics[0]["discriminator/adversarial"])
    only_label = make_trainer(head="ac")
    weight = next(only_label.discriminator.label.parameters())
    for factor in (1.0, 0.5):
        only_label.factors["label"] = factor
        gradient = weight.grad
        only_label.update("discriminator", {"label": weight.square().sum()})
        if gradient is None:
            before = weight.detach().clone()
        torch.testing.assert_close(weight.grad, factor * 2 * (before if gradient is not None else weight.grad / 2))


def test_a_factor_of_a_learning_rate(tmp_path):
    trainer = make_trainer(lr_decay=0.5)
    trainer.factors["discriminator_lr"] = 0.25
    batches = TRAINING.batches(8, seed=0)
    rates = []

    class Rates(Callback):
        def on_step(self, trainer, metrics):
            rates.append([trainer.optimizers[name].param_groups[0]["lr"] for name in ("generator", "discriminator")])

    trainer.fit(batches, 4, [Rates()])
    share = np.array([1, 1, 1, 0.5])
    np.testing.assert_allclose(
        rates, np.outer(share, [trainer.config.generator_lr, 0.25 * trainer.config.discriminator_lr])
    )


class Break(Callback):
    """Makes a weight NaN after some steps."""

    def __init__(self, *steps):
        self.steps = list(steps)

    def on_step(self, trainer, metrics):
        if self.steps and trainer.step >= self.steps[0]:
            self.steps.pop(0)
            next(trainer.generator.parameters()).data.fill_(math.nan)


def test_nan_goes_back_and_on(tmp_path, said):
    gan = ACGAN(SPEC, preset="tiny")
    health = HealthMonitor(tmp_path, say=said.append)
    latest = Checkpoint(gan, tmp_path / "checkpoints" / "latest" / "trainer.pt", tmp_path / "model", every=30)
    gan.fit(TRAINING, steps=60, device="cpu", callbacks=[health, latest, Break(45)])
    (sentence,) = said
    assert sentence.startswith("Health, step 46: Training diverged at step 46: discriminator/adversarial")
    assert sentence.endswith("became NaN or infinite; went back to step 30 and halved both learning rates.")
    assert gan.trainer.step == 60
    gan.trainer.check_finite()
    assert load_model(tmp_path / "model").sample(2).images.isfinite().all()


def test_after_three_reactions_an_error_is_an_error(tmp_path, said):
    gan = ACGAN(SPEC, preset="tiny")
    health = HealthMonitor(tmp_path, say=said.append)
    latest = Checkpoint(gan, tmp_path / "checkpoints" / "latest" / "trainer.pt", tmp_path / "model", every=30)
    callbacks = [health, latest, Break(40, 200, 350, 500)]
    with pytest.raises(TrainingDivergedError, match="step 501"):
        gan.fit(TRAINING, steps=600, device="cpu", callbacks=callbacks)
    assert [row["reaction"] is None for row in rows(tmp_path)] == [False, False, False, True]
    assert gan.trainer.factors == {"generator_lr": 0.125, "discriminator_lr": 0.125}


def test_not_two_reactions_at_once(health, trainer):
    look(health, trainer, 20, pictures(60, 2))
    for step in (40, 100, 200):
        look(health, trainer, step, collapsed(step))
    assert [row["reaction"] is None for row in rows(health.path.parent)] == [False, True, False]  # 1,000 images apart


@pytest.mark.parametrize("react", [True, False])
def test_before_the_first_checkpoint_nan_is_an_error(tmp_path, said, react):
    gan = ACGAN(SPEC, preset="tiny")
    with pytest.raises(TrainingDivergedError):
        gan.fit(TRAINING, steps=9, device="cpu", callbacks=[HealthMonitor(tmp_path, react=react), Break(3)])
    (row,) = rows(tmp_path)
    assert (row["illness"], row["reaction"]) == ("divergence", None)


def test_told_only(monkeypatch, tmp_path, said):
    gan = ACGAN(SPEC, preset="tiny")
    collapse_at(monkeypatch, gan, 40)
    fit(gan, 45, tmp_path, HealthMonitor(tmp_path, react=False, say=said.append), every=20)
    (sentence,) = [line for line in said if "Health" in line]
    assert sentence.endswith("for real images.")
    assert not (tmp_path / "checkpoints" / "healthy").exists()
    assert gan.trainer.factors == {}


class KilledError(Exception):
    """Holds the state of a training that was killed."""


class Kill(Callback):
    """Kills a training after a step; never if None."""

    def __init__(self, step):
        self.step = step

    def on_step(self, trainer, metrics):
        if trainer.step == self.step:
            raise KilledError(trainer.state_dict())


@pytest.mark.parametrize(
    ("every", "cut", "steps"),
    [
        pytest.param(20, 50, 60, id="after a reaction"),
        pytest.param(25, 55, 65, id="between a finding and the reaction"),
    ],
)
def test_a_resume_knows_what_was_done(monkeypatch, tmp_path, said, every, cut, steps):
    """A training with a reaction, killed and resumed, is the same as in one piece, and says the same."""

    def train(folder, state=None, *, kill=None):
        gan = ACGAN(SPEC, preset="tiny", head="projection", lr_decay=0.3)
        trainer = gan.make_trainer(device="cpu")
        collapse_at(monkeypatch, gan, 2 * every)
        if state is not None:
            trainer.load_state_dict(state)
        health = HealthMonitor(folder, say=said.append)
        best = KeepBest(gan, TRAINING, validation=HELD_OUT, folder=folder, health=health, steps=steps, every=every)
        callbacks = [best, health, Kill(kill)]
        gan.fit(TRAINING, steps=steps - trainer.step, total_steps=steps, callbacks=callbacks)
        return trainer.state_dict()

    whole = train(tmp_path / "whole")
    told = [line for line in said if "Health" in line]
    assert len(told) == 1
    assert "A is collapsing" in told[0]
    said.clear()
    with pytest.raises(KilledError) as killed:
        train(tmp_path / "parts", kill=cut)
    parts = train(tmp_path / "parts", killed.value.args[0])
    assert [line for line in said if "Health" in line] == told
    assert rows(tmp_path / "whole") == rows(tmp_path / "parts")
    assert whole["factors"] == parts["factors"] == {"generator_lr": 0.5, "discriminator_lr": 0.5}
    assert whole["memory"] == parts["memory"]
    assert whole["memory"]["health"]["reactions"] == 1
    for name, value in whole["generator"].items():
        assert torch.equal(value, parts["generator"][name])


def plan_scores(monkeypatch, gan, scores):
    """Let evaluations find new pictures, with these scores by step."""

    def score(self, model):
        self.samples = pictures(60, gan.trainer.step)
        return HeldOutScores(GroupScores(0.0, scores[gan.trainer.step] ** 1.5), {})

    monkeypatch.setattr(HeldOutScorer, "score", score)


def test_the_best_of_a_training_that_was_killed_is_nothing_to_go_back_to(monkeypatch, tmp_path, said):
    class Save(Callback):
        def on_step(self, trainer, metrics):
            if trainer.step == 20:
                self.state = trainer.state_dict()

    saved = Save()
    first = ACGAN(SPEC, preset="tiny")
    plan_scores(monkeypatch, first, {5: 0.1, 10: 0.6, 15: 0.5, 20: 0.5, 25: 0.7, 30: 0.9})
    health = HealthMonitor(tmp_path, say=said.append)
    best = KeepBest(first, TRAINING, validation=HELD_OUT, folder=tmp_path, health=health, steps=60, every=5)
    latest = Checkpoint(first, tmp_path / "checkpoints" / "latest" / "trainer.pt", tmp_path / "model", every=20)
    first.fit(TRAINING, steps=30, device="cpu", callbacks=[best, health, latest, saved])
    healthy = tmp_path / "checkpoints" / "healthy"
    # That of the newest evaluation, and that which the checkpoint of step 20 knows of.
    assert sorted(path.name for path in healthy.iterdir()) == ["000010.pt", "000030.pt"]

    gan = ACGAN(SPEC, preset="tiny")
    gan.make_trainer(device="cpu").load_state_dict(saved.state)
    plan_scores(monkeypatch, gan, {30: 0.4, 40: 0.2, 50: 0.65, 60: 0.95})
    health = HealthMonitor(tmp_path, say=said.append)
    best = KeepBest(gan, TRAINING, validation=HELD_OUT, folder=tmp_path, health=health, steps=60, every=10)
    kept, files = {}, {}

    class Look(Callback):
        def on_start(self, trainer):
            self.on_step(trainer, {})

        def on_step(self, trainer, metrics):
            kept[trainer.step] = json.loads((best.model / "model.json").read_text())["evaluation"]["step"]
            files[trainer.step] = [path.name for path in healthy.iterdir()]

    gan.fit(TRAINING, steps=40, total_steps=60, callbacks=[best, health, Look()])
    assert files[20] == ["000010.pt"]
    # 0.4 is less than half of 0.9, but that was never reached here.
    assert [line for line in said if "Health" in line] == [
        "Health, step 40: The samples have become far worse: their score is 0.20 against 0.60 at step 10; went back to "
        "step 10 and halved both learning rates."
    ]
    # 0.65 is the best of this training, but samples are better made with 0.9 for as long as there is nothing better.
    assert [kept[step] for step in (20, 30, 40, 50, 60)] == [30, 30, 30, 30, 60]
    assert gan.trainer.memory["best"]["step"] == best.record["step"] == 60


def test_a_healthy_state_of_a_training_without_a_checkpoint_counts_for_nothing(tmp_path, trainer):
    health = HealthMonitor(tmp_path)
    trainer.step = 900
    health.note_best(trainer)
    assert (tmp_path / "checkpoints" / "healthy" / "000900.pt").is_file()
    again = make_trainer()
    health = HealthMonitor(tmp_path)
    health.on_start(again)
    assert list((tmp_path / "checkpoints" / "healthy").iterdir()) == []
    assert not health.on_diverged(again, TrainingDivergedError("NaN. What now?"))


def test_a_finding_is_not_lost_by_a_divergence(health, trainer, said):
    trainer.step = 41
    health.examine(trainer, pictures(60, 3), late=False, score=0.1, best={"step": 20, "score": 0.8})
    assert not health.on_diverged(trainer, TrainingDivergedError("Training diverged at step 41: all of it. And?"))
    assert [line.split(":")[1].strip() for line in said] == [
        "The samples have become far worse",
        "Training diverged at step 41",
    ]


def test_a_resume_drops_what_it_does_again(health, trainer):
    health.path.write_text("".join(json.dumps({"step": step}) + "\n" for step in (100, 200, 300)))
    trainer.step = 200
    health.on_start(trainer)
    assert [row["step"] for row in rows(health.path.parent)] == [100, 200]


PROCESS = """
import math, sys
from pathlib import Path
import numpy as np
import torch
from medgan.core.saving import write_state
from medgan.core.trainer import Callback
from medgan.data import open_dataset
from medgan.models import ACGAN
from medgan.training import Checkpoint, Finding, HealthMonitor

folder = Path(sys.argv[1])
dataset = open_dataset("phantom://chest?n=48&seed=1", size=32)
gan = ACGAN(dataset.spec, preset="tiny", batch_size=8)
trainer = gan.make_trainer(device="cpu")
rank = trainer.accelerator.process_index
said = []
health = HealthMonitor(folder, say=said.append)
latest = Checkpoint(gan, folder / "checkpoints" / "latest" / "trainer.pt", folder / "model", every=15)

class Plant(Callback):
    def on_step(self, trainer, metrics):
        if trainer.step == 5 and rank == 0:  # the main process evaluates
            health.note_best(trainer)
        if trainer.step == 25 and rank == 0:
            health._note(trainer, "evaluation", [Finding("collapse", "A", 0.5, 0.15, "A is collapsing")])
        if trainer.step == 107 and rank == 1:
            next(trainer.generator.parameters()).data.fill_(math.nan)

gan.fit(dataset, steps=110, device="cpu", callbacks=[Plant(), health, latest])
state = trainer.state_dict()
write_state(folder / f"{rank}.pt", {"state": state, "said": said, "reactions": trainer.memory["health"]["reactions"]})
trainer.accelerator.wait_for_everyone()
trainer.accelerator.end_training()
"""


def test_processes_react_alike(run_processes, tmp_path):
    """What the main one finds, and a NaN in the other one alone."""
    script = tmp_path / "process.py"
    script.write_text(PROCESS)
    run_processes([script, tmp_path])
    ranks = [torch.load(tmp_path / f"{rank}.pt", weights_only=True) for rank in (0, 1)]
    assert len(ranks[0]["said"]) == 2
    assert ranks[0]["said"][0] == ("Health, step 40: A is collapsing; went back to step 5 and halved the label weight.")
    assert ranks[0]["said"][1].endswith("went back to step 105 and halved both learning rates.")
    for rank in ranks:
        assert rank["reactions"] == 2
        assert rank["state"]["step"] == 110
        assert rank["state"]["factors"] == {"label": 0.5, "generator_lr": 0.5, "discriminator_lr": 0.5}
        assert all(value.isfinite().all() for value in rank["state"]["generator"].values())
    for network in ("generator", "discriminator", "averaged_generator"):
        first, second = (rank["state"][network] for rank in ranks)
        assert all(torch.equal(value, second[name]) for name, value in first.items())


# ----------------------------------------------------------------------------------- runs

FLAGS = {"data": "phantom://chest?n=120&seed=1", "size": 32, "preset": "tiny", "device": "cpu", "validation": 0.25}


def test_a_frozen_discriminator_in_a_run(tmp_path):
    said: list[str] = []
    flags = {**FLAGS, "steps": 200, "discriminator_lr": 0.0, "outdir": str(tmp_path), "checkpoint_every": 200}
    made = Run(flags, say=said.append).fit()
    assert any("step 200: The discriminator does not learn" in line for line in said)
    assert "does not learn" in (made.folder / "health.jsonl").read_text()
    off = Run({**flags, "steps": 100, "health": "off"}, say=said.append).fit()
    assert not (off.folder / "health.jsonl").exists()


def test_a_healthy_run_raises_none(tmp_path):
    """With evaluations that look at everything; and its weights are those of a run without."""
    said: list[str] = []
    flags = {**FLAGS, "steps": 40, "evaluate_every": 10, "outdir": str(tmp_path)}
    made = Run(flags, say=said.append).fit()
    assert [line for line in said if "Health" in line] == []
    assert not (made.folder / "health.jsonl").exists()
    logged = [json.loads(line) for line in (made.folder / "metrics.jsonl").read_text().splitlines()]
    assert sum("health/copies" in row for row in logged) == 4
    assert any("discriminator/accuracy" in row for row in logged)
    assert list((made.folder / "checkpoints" / "healthy").glob("*.pt"))
    without = Run({**flags, "health": "off"}, say=said.append).fit()
    first, second = (folder.gan.trainer.generator.state_dict() for folder in (made, without))
    assert all(torch.equal(value, second[name]) for name, value in first.items())


def test_a_copied_training_set_ends_a_run(tmp_path, monkeypatch):
    """Found at the first evaluation, acted on at the next step that is a multiple of 20; a resume goes no further."""
    training: list[ImageDataset] = []
    prepare = HealthMonitor.prepare

    def remember(self, held_out, data, classes):
        training.append(data)
        prepare(self, held_out, data, classes)

    monkeypatch.setattr(HealthMonitor, "prepare", remember)
    monkeypatch.setattr(HeldOutScorer, "sample", lambda self, gan: training[-1].images_at(range(self.count)))
    said: list[str] = []
    flags = {**FLAGS, "steps": 60, "evaluate_every": 10, "outdir": str(tmp_path)}
    made = Run(flags, say=said.append).fit()
    assert made.gan.trainer.step == 20
    (sentence,) = [line for line in said if "repeats training images" in line]
    assert sentence.endswith("Do not share its samples; the training ends here.")
    assert (
        json.loads((made.folder / "checkpoints" / "best" / "model.json").read_text())["evaluation"]["healthy"] is False
    )
    assert Run({}, resume=made.folder).is_done()
    with pytest.raises(ConfigError, match=r"is done\. A health monitor ended this training at step 20"):
        Run({}, resume=made.folder, say=said.append).fit()
    going_on = Run({"health": "off", "steps": 22}, resume=made.folder, say=said.append).fit()
    assert going_on.gan.trainer.step == 22
