"""Stabilisers of the adversarial trainer: each against its equation, on resume, and where it cannot work."""

from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import numpy as np
import pytest
import torch
from torch import Tensor, nn

from medgan import losses
from medgan.augment import AdaptiveAugment
from medgan.core import GAN, Batch, Callback, DataSpec, Discriminator, DiscriminatorOutput, GANConfig, Trainer
from medgan.core import trainer as trainer_module
from medgan.errors import CheckpointError, ConfigError, DataError, PluginError

Stream = Callable[..., Iterator[Batch]]


def variant(plain: type[GAN], discriminator: Callable[[DataSpec], Discriminator] | None = None, **methods: Any) -> Any:
    """The plain architecture with another discriminator, or other methods of its trainer."""
    attributes: dict[str, Any] = {"Trainer": type("Other", (plain.Trainer,), methods)}
    if discriminator is not None:
        attributes["make_discriminator"] = lambda self, config, data: discriminator(data)
    return type("Variant", (plain,), attributes)


def shared_rng(trainer: Trainer[Any]) -> torch.Generator:
    """A copy of what the trainer draws from for all processes."""
    rng = torch.Generator()
    rng.set_state(trainer.state_dict()["shared_random"]["cpu"])
    return rng


def descend(trainer: Trainer[Any], rate: float) -> None:
    """Replace the discriminator's optimizer by plain gradient descent."""
    optimizer = torch.optim.SGD(trainer.discriminator.parameters(), rate)
    trainer.optimizers["discriminator"] = trainer.accelerator.prepare_optimizer(optimizer)


class Linear(Discriminator):
    """D(x) = w · x, whose slope is w everywhere."""

    def __init__(self, data: DataSpec) -> None:
        super().__init__()
        rng = torch.Generator().manual_seed(0)
        self.weight = nn.Parameter(torch.randn(data.channels, *data.size, generator=rng) * 0.1)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        return DiscriminatorOutput((images * self.weight).flatten(1).sum(1))


class Square(Discriminator):
    """D(x) = a ‖x‖² / 2, whose slope is a x."""

    def __init__(self, data: DataSpec) -> None:
        super().__init__()
        self.scale = nn.Parameter(torch.tensor(0.7))

    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        return DiscriminatorOutput(self.scale * images.square().flatten(1).sum(1) / 2)


class Doubling(nn.Module):
    """An augmentation T(x) = 2 x."""

    def forward(self, images: Tensor) -> Tensor:
        return 2 * images


def no_loss(self: Any, real: Batch, fake: Batch) -> dict[str, Tensor]:
    """Realness of nothing in particular, without a gradient that moves anything."""
    return {"none": 0 * self.discriminator(*real).realness.mean()}


# -------------------------------------------------------------------------------- gradient penalties


@pytest.mark.parametrize(("kind", "halves"), [("r1", 1), ("r2", 1), ("r1r2", 2)])
@pytest.mark.parametrize("weight", [None, 0.3])
def test_slopes_are_penalised_through_the_augmentation(
    plain: type[GAN], data: DataSpec, stream: Stream, kind: str, halves: int, weight: float | None
) -> None:
    """∇D(T(x)) = 2 w, so the penalty is γ/2 · 4 ‖w‖², summed over pixels, and its gradient 4 γ w."""
    other = variant(plain, Linear, make_augmentation=lambda self: Doubling(), discriminator_loss=no_loss)
    trainer = other(data, gradient_penalty=kind, penalty_weight=weight).make_trainer(device="cpu")
    descend(trainer, 0.01)
    before = trainer.discriminator.weight.detach().clone()
    with torch.random.fork_rng():
        metrics = trainer.train_step(next(stream()))
    gamma = 1.0 if weight is None else weight
    expected = halves * gamma / 2 * 4 * before.double().square().sum()
    assert float(metrics["discriminator/gradient_penalty"]) == pytest.approx(float(expected), rel=1e-5)
    torch.testing.assert_close(trainer.discriminator.weight.detach(), before - 0.01 * halves * 4 * gamma * before)


def test_r1_is_of_real_images_and_r2_of_generated_ones(plain: type[GAN], data: DataSpec, stream: Stream) -> None:
    """∇D(x) = a x: γ/2 a² E[‖x‖²] of the images themselves."""
    made: list[Tensor] = []

    def keep(self: Any, real: Batch, fake: Batch) -> dict[str, Tensor]:
        made.append(fake.images)
        return no_loss(self, real, fake)

    batch = next(stream())
    found, norms = {}, {}
    for kind in ("r1", "r2", "r1r2"):
        other = variant(plain, Square, discriminator_loss=keep)
        trainer = other(data, gradient_penalty=kind, penalty_weight=3.0).make_trainer(device="cpu")
        with torch.random.fork_rng():
            torch.manual_seed(1)
            found[kind] = float(trainer.train_step(batch)["discriminator/gradient_penalty"])
    for kind, images in (("r1", batch.images), ("r2", made[-1])):
        norms[kind] = float(np.mean(np.sum(images.double().numpy().reshape(4, -1) ** 2, axis=1)))
    norms["r1r2"] = norms["r1"] + norms["r2"]
    assert norms["r1"] != pytest.approx(norms["r2"], rel=0.1)
    for kind, norm in norms.items():
        assert found[kind] == pytest.approx(3 / 2 * 0.7**2 * norm, rel=1e-5), kind


@pytest.mark.parametrize("weight", [None, 2.0])
def test_wgan_gp_between_the_images(
    plain: type[GAN], data: DataSpec, monkeypatch: pytest.MonkeyPatch, weight: float | None
) -> None:
    """λ E[(a ‖x̂‖ − 1)²] at random points between real and generated images, each drawn by itself."""
    trainer = variant(plain, Square)(data, gradient_penalty="wgan-gp", penalty_weight=weight).make_trainer(device="cpu")
    rng = torch.Generator().manual_seed(3)
    real, fake = (Batch(torch.rand(4, 1, 8, 6, generator=rng), torch.arange(4) % 3) for _ in range(2))
    shares = torch.rand(4, generator=shared_rng(trainer)).double().numpy()
    found = trainer.gradient_penalty(real, fake)
    x, y = real.images.double().numpy().reshape(4, -1), fake.images.double().numpy().reshape(4, -1)
    between = shares[:, None] * x + (1 - shares[:, None]) * y
    norms = np.linalg.norm(0.7 * between, axis=1)
    assert len(set(shares)) == 4
    assert found.item() == pytest.approx((10 if weight is None else weight) * np.mean((norms - 1) ** 2), rel=1e-5)


def test_wgan_gp_gradient(plain: type[GAN], data: DataSpec, stream: Stream) -> None:
    """λ (‖w‖ − 1)², with the gradient 2 λ (‖w‖ − 1) w / ‖w‖; nothing of the augmentation."""
    other = variant(plain, Linear, make_augmentation=lambda self: Doubling(), discriminator_loss=no_loss)
    trainer = other(data, gradient_penalty="wgan-gp").make_trainer(device="cpu")
    descend(trainer, 0.001)
    before = trainer.discriminator.weight.detach().clone()
    trainer.train_step(next(stream()))
    norm = before.norm()
    expected = before - 0.001 * 2 * 10 * (norm - 1) * before / norm
    torch.testing.assert_close(trainer.discriminator.weight.detach(), expected)


def test_wgan_gp_judges_with_the_real_labels(plain: type[GAN], data: DataSpec, stream: Stream) -> None:
    seen = []

    class Noting(Linear):
        def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
            seen.append(labels)
            return super().forward(images, labels)

    trainer = variant(plain, Noting)(data, gradient_penalty="wgan-gp").make_trainer(device="cpu")
    real = next(stream())
    trainer.gradient_penalty(real, Batch(real.images, (real.labels + 1) % 3))
    assert torch.equal(seen[-1], real.labels)


@pytest.mark.parametrize("kind", ["r1", "r2", "r1r2", "wgan-gp"])
def test_penalty_of_a_network_against_single_images(
    plain: type[GAN], data: DataSpec, stream: Stream, kind: str
) -> None:
    """Slopes image by image, in float64, of the same network; and their gradient by differences."""
    trainer: Any = plain(data, gradient_penalty=kind, penalty_weight=1.0).make_trainer(device="cpu")
    for parameter in trainer.discriminator.parameters():
        parameter.data *= 3
    network = copy.deepcopy(trainer.discriminator).double()
    real, fake = next(stream()), next(stream(7))
    shares = torch.rand(4, generator=shared_rng(trainer)).double().view(4, 1, 1, 1)
    found = trainer.gradient_penalty(real, fake)
    (gradient,) = torch.autograd.grad(found, trainer.discriminator.realness.weight)

    def slopes(images: Tensor) -> np.ndarray:
        norms = []
        for image in images.double():
            one = image[None].clone().requires_grad_()
            (slope,) = torch.autograd.grad(network(one).realness.sum(), one)
            norms.append(slope.norm().item())
        return np.array(norms)

    def penalty() -> float:
        if kind == "wgan-gp":
            return float(np.mean((slopes(shares * real.images + (1 - shares) * fake.images) - 1) ** 2))
        halves = {"r1": [real], "r2": [fake], "r1r2": [real, fake]}[kind]
        return sum(0.5 * float(np.mean(slopes(half.images) ** 2)) for half in halves)

    assert found.item() == pytest.approx(penalty(), rel=1e-5)
    for column in (0, 3):
        weight = network.realness.weight.data
        at = weight[0, column].item()
        ends = []
        for value in (at - 1e-5, at + 1e-5):
            weight[0, column] = value
            ends.append(penalty())
        weight[0, column] = at
        assert gradient[0, column].item() == pytest.approx((ends[1] - ends[0]) / 2e-5, rel=1e-3, abs=1e-7)


@pytest.mark.parametrize(("every", "steps"), [(1, 1), (3, 1), (3, 2), (4, 3)])
def test_lazy_penalties_count_as_many_times(
    plain: type[GAN], data: DataSpec, stream: Stream, every: int, steps: int
) -> None:
    """At every k-th discriminator step, k times as strong; logged as if it were always there."""
    moves: list[Tensor] = []

    class Watching(plain.Trainer):  # type: ignore[name-defined, misc]
        def update(self, network: str, terms: Any) -> Any:
            before = self.discriminator.weight.detach().clone()
            metrics = super().update(network, terms)
            if network == "discriminator":
                moves.append(self.discriminator.weight.detach() / before)
            return metrics

    Watching.discriminator_loss = no_loss
    other = type("Other", (variant(plain, Linear),), {"Trainer": Watching})
    config = {"gradient_penalty": "r1", "penalty_weight": 0.5, "penalty_every": every, "discriminator_steps": steps}
    trainer = other(data, **config).make_trainer(device="cpu")
    descend(trainer, 0.1)
    logged = []

    class Log(Callback):
        def on_step(self, trainer: Trainer[Any], metrics: dict[str, Tensor]) -> None:
            logged.append("discriminator/gradient_penalty" in metrics)

    trainer.fit(stream(n=4 * steps), 6, [Log()])
    for number, ratio in enumerate(moves):
        expected = 1 - 0.1 * 0.5 * every if number % every == 0 else 1.0
        torch.testing.assert_close(ratio, torch.full_like(ratio, expected), msg=str(number))
    assert len(moves) == 6 * steps
    due = [any((step * steps + part) % every == 0 for part in range(steps)) for step in range(6)]
    assert logged == due


def test_lazy_penalty_is_logged_unscaled(plain: type[GAN], data: DataSpec, stream: Stream) -> None:
    values = []
    for every in (1, 5):
        options = {"gradient_penalty": "r1", "penalty_every": every}
        trainer = variant(plain, Linear)(data, **options).make_trainer(device="cpu")
        values.append(float(trainer.train_step(next(stream()))["discriminator/gradient_penalty"]))
    assert values[0] == values[1] > 0


@pytest.mark.parametrize("kind", ["r1", "r2", "r1r2", "wgan-gp"])
@pytest.mark.parametrize("one_in", [2, 3, 20])
def test_penalty_on_some_images(plain: type[GAN], data: DataSpec, stream: Stream, kind: str, one_in: int) -> None:
    """It is the mean over one image of each k, the same ones of both halves."""
    real, fake = (next(stream(at, n=8)) for at in (0, 1))
    options = {"gradient_penalty": kind, "penalty_one_in": one_in}
    torch.manual_seed(0)
    trainer: Any = plain(data, **options).make_trainer(device="cpu")
    chosen = trainer._one_in(one_in, 8)
    torch.manual_seed(0)
    again: Any = plain(data, **options).make_trainer(device="cpu")
    torch.manual_seed(0)
    whole: Any = plain(data, gradient_penalty=kind).make_trainer(device="cpu")
    whole._one_in(one_in, 8)  # as many numbers are drawn before what the penalty draws itself
    found = again.gradient_penalty(real, fake).item()
    assert found == pytest.approx(whole.gradient_penalty(real.select(chosen), fake.select(chosen)).item(), rel=1e-5)
    assert found > 0


def test_each_image_is_penalised_now_and_then(plain: type[GAN], data: DataSpec) -> None:
    """Also where classes alternate in the batch: every second image would always be one of the same class."""
    trainer: Any = plain(data, gradient_penalty="r1", penalty_one_in=4).make_trainer(device="cpu")
    drawn = torch.stack([trainer._one_in(4, 10) for _ in range(2000)])
    assert drawn.shape == (2000, 3)
    for block, members in enumerate(([0, 1, 2, 3], [4, 5, 6, 7], [8, 9])):
        counts = torch.stack([(drawn[:, block] == row).sum() for row in members])
        assert counts.sum() == 2000
        # Within five standard deviations of as often as the others.
        share = 1 / len(members)
        assert (counts - 2000 * share).abs().max() < 5 * (2000 * share * (1 - share)) ** 0.5


@pytest.mark.parametrize("kind", ["r1r2", "wgan-gp"])
def test_penalties_are_in_float32_under_autocast(plain: type[GAN], data: DataSpec, stream: Stream, kind: str) -> None:
    trainer: Any = plain(data, gradient_penalty=kind).make_trainer(device="cpu", precision="bf16")
    types: list[torch.dtype] = []
    trainer.discriminator.conv.register_forward_hook(lambda _, inputs, output: types.append(output.dtype))
    trainer.fit(stream(), 1)
    penalties = 2 if kind == "r1r2" else 1
    assert types == [torch.bfloat16] * 2 + [torch.float32] * penalties + [torch.bfloat16]
    trainer.check_finite()


@pytest.mark.parametrize("kind", ["r1", "wgan-gp"])
def test_penalties_with_a_gradient_scaler(plain: type[GAN], data: DataSpec, stream: Stream, kind: str) -> None:
    """The scale of fp16's gradient scaler, a power of 2, cancels exactly."""
    ends = []
    for scaled in (False, True):
        options = {"gradient_penalty": kind, "lecam_weight": 0.5}
        trainer = plain(data, **options).make_trainer(device="cpu")
        if scaled:
            scaler = torch.amp.GradScaler("cpu", init_scale=2.0**10)
            trainer.accelerator.scaler = scaler
            trainer.optimizers = {
                name: trainer.accelerator.prepare_optimizer(wrapped.optimizer)
                for name, wrapped in trainer.optimizers.items()
            }
        try:
            trainer.fit(stream(), 3)
        finally:
            trainer.accelerator.scaler = None
        ends.append(trainer.discriminator.state_dict())
    for name, value in ends[0].items():
        torch.testing.assert_close(ends[1][name], value, rtol=1e-5, atol=1e-7, msg=name)


class BatchNormed(Linear):
    """A critic that mixes its images."""

    def __init__(self, data: DataSpec) -> None:
        super().__init__(data)
        self.norm = nn.BatchNorm2d(data.channels)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        return super().forward(self.norm(images), labels)


class Once(torch.autograd.Function):
    """The identity, with a first derivative only."""

    @staticmethod
    def forward(context: Any, images: Tensor) -> Tensor:
        return images.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return gradient


class OnceOnly(Linear):
    """A discriminator with an operation of its own that has no second derivative."""

    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        return super().forward(Once.apply(images), labels)


class Blind(Linear):
    """A discriminator without a gradient to the images."""

    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        return super().forward(images.detach(), labels)


@pytest.mark.parametrize(
    ("discriminator", "kind", "message"),
    [
        (
            BatchNormed,
            "wgan-gp",
            r"batch normalisation in this .*discriminator \(norm\) mixes images. Type --gradient-pen",
        ),
        (OnceOnly, "r1", "needs second derivatives, .*does not have.*Type --gradient-penalty none"),
        (OnceOnly, "wgan-gp", "needs second derivatives"),
        (Blind, "r2", "needs second derivatives"),
    ],
)
def test_penalties_that_a_discriminator_cannot_take(
    plain: type[GAN], data: DataSpec, discriminator: Any, kind: str, message: str
) -> None:
    gan = variant(plain, discriminator)(data, gradient_penalty=kind)
    with pytest.raises(ConfigError, match=message):
        gan.make_trainer(device="cpu")
    variant(plain, discriminator)(data).make_trainer(device="cpu")


def test_r1_with_batch_normalisation_is_allowed(plain: type[GAN], data: DataSpec, stream: Stream) -> None:
    trainer = variant(plain, BatchNormed)(data, gradient_penalty="r1").make_trainer(device="cpu")
    assert int(trainer.discriminator.norm.num_batches_tracked) == 0  # the trial was on a copy
    trainer.fit(stream(), 2)


@pytest.mark.parametrize("kind", ["categorical", "multilabel", None])
def test_trial_of_a_penalty_changes_nothing(plain: type[GAN], data: DataSpec, kind: Any) -> None:
    from medgan.core import LabelSpec

    data = DataSpec(1, (8, 6), LabelSpec(("a", "b"), kind) if kind else None)
    torch.manual_seed(3)
    before = torch.get_rng_state()
    states = [plain(data, **options).make_trainer(device="cpu") for options in ({}, {"gradient_penalty": "r1"})]
    assert torch.equal(before, torch.get_rng_state())
    for name, value in states[0].discriminator.state_dict().items():
        assert torch.equal(value, states[1].discriminator.state_dict()[name])
    assert all(parameter.grad is None for parameter in states[1].discriminator.parameters())


# ------------------------------------------------------------------------------------------- LeCam


def realness_in_numpy(log: list[tuple[Tensor, Tensor]], decay: float) -> list[float]:
    """LeCam's penalty at each step, from the realness of the steps so far."""
    anchors = np.zeros(2)
    penalties = []
    for step, (real, fake) in enumerate(log, start=1):
        r, f = real.double().numpy(), fake.double().numpy()
        keep = min(decay, 1 - 1 / step)
        anchors = keep * anchors + (1 - keep) * np.array([r.mean(), f.mean()])
        on_real = np.mean(np.maximum(0, r - anchors[1]) ** 2)
        penalties.append(on_real + np.mean(np.maximum(0, anchors[0] - f) ** 2))
    return penalties


class Listening:
    """Losses that note what the discriminator says; three ways to ask it."""

    log: list[tuple[Tensor, Tensor]]

    def one_by_one(self: Any, real: Batch, fake: Batch) -> dict[str, Tensor]:
        on_real, on_fake = self.discriminator(*real).realness, self.discriminator(*fake).realness
        self.log.append((on_real.detach(), on_fake.detach()))
        return {"hinge": losses.hinge_discriminator(on_real, on_fake)}

    def by_name(self: Any, real: Batch, fake: Batch) -> dict[str, Tensor]:
        on_fake = self.discriminator(images=fake.images, labels=fake.labels).realness
        on_real = self.discriminator(labels=real.labels, images=real.images).realness
        self.log.append((on_real.detach(), on_fake.detach()))
        return {"hinge": losses.hinge_discriminator(on_real, on_fake)}

    def together(self: Any, real: Batch, fake: Batch) -> dict[str, Tensor]:
        on_both = self.discriminator(torch.cat([real.images, fake.images])).realness
        on_real, on_fake = on_both.chunk(2)
        self.log.append((on_real.detach(), on_fake.detach()))
        return {"hinge": losses.hinge_discriminator(on_real, on_fake)}


@pytest.mark.parametrize("asked", ["one_by_one", "by_name", "together"])
@pytest.mark.parametrize("decay", [0.99, 0.6])
def test_lecam_follows_its_equation(
    plain: type[GAN], data: DataSpec, stream: Stream, monkeypatch: pytest.MonkeyPatch, asked: str, decay: float
) -> None:
    monkeypatch.setattr(trainer_module, "_LECAM_DECAY", decay)
    log: list[tuple[Tensor, Tensor]] = []
    found: list[float] = []

    class Keep(Callback):
        def on_step(self, trainer: Trainer[Any], metrics: dict[str, Tensor]) -> None:
            found.append(float(metrics["discriminator/lecam"]))

    other = variant(plain, Linear, discriminator_loss=getattr(Listening, asked), log=log)
    trainer = other(data, lecam_weight=0.3, discriminator_lr=0.05).make_trainer(device="cpu")
    trainer.fit(stream(), 8, [Keep()])
    assert len({round(value, 6) for value in found}) == 8
    np.testing.assert_allclose(found, 0.3 * np.array(realness_in_numpy(log, decay)), rtol=1e-4)


def test_lecam_moves_the_discriminator(plain: type[GAN], data: DataSpec, stream: Stream) -> None:
    """Its gradient flows through the realness that the losses asked for: one step of descent, written out."""
    other = variant(plain, Linear, discriminator_loss=Listening.one_by_one, log=[])
    trainer = other(data, lecam_weight=2.0).make_trainer(device="cpu")
    descend(trainer, 0.01)
    made: list[Tensor] = []
    original = trainer.discriminator_loss
    trainer.discriminator_loss = lambda real, fake: (made.append(fake.images), original(real, fake))[1]
    weight = trainer.discriminator.weight.detach().double().clone().requires_grad_()
    batch = next(stream())
    trainer.fit([batch], 1)
    x, y = batch.images.double(), made[0].double()
    real, fake = ((images * weight).flatten(1).sum(1) for images in (x, y))
    anchors = real.mean().detach(), fake.mean().detach()
    loss = (1 - real).clamp(min=0).mean() + (1 + fake).clamp(min=0).mean()
    loss = (
        loss + 2 * ((real - anchors[1]).clamp(min=0) ** 2).mean() + 2 * ((anchors[0] - fake).clamp(min=0) ** 2).mean()
    )
    (gradient,) = torch.autograd.grad(loss, weight)
    torch.testing.assert_close(trainer.discriminator.weight.detach(), (weight - 0.01 * gradient).detach().float())


def test_nothing_is_asked_of_the_discriminator_twice(plain: type[GAN], data: DataSpec, stream: Stream) -> None:
    calls = []
    options = {"lecam_weight": 1.0, "ada_target": 0.6, "augment": "xray", "augment_probability": 0.0}
    for given in ({}, options):
        trainer = plain(data, **given).make_trainer(device="cpu")
        count = [0]
        trainer.discriminator.register_forward_hook(lambda *_, count=count: count.__setitem__(0, count[0] + 1))
        trainer.fit(stream(), 2)
        calls.append(count[0])
        assert len(trainer.discriminator._forward_hooks) == 1
    assert calls[0] == calls[1] == 6


def test_terms_of_the_same_name_are_refused(plain: type[GAN], data: DataSpec, stream: Stream) -> None:
    def own(self: Any, real: Batch, fake: Batch) -> dict[str, Tensor]:
        return {"lecam": self.discriminator(*real).realness.mean()}

    trainer = variant(plain, discriminator_loss=own)(data, lecam_weight=1.0).make_trainer(device="cpu")
    with pytest.raises(PluginError, match="a term 'lecam', as a stabiliser has"):
        trainer.fit(stream(), 1)


# --------------------------------------------------------------------------------------------- ADA


@pytest.mark.parametrize("relative", [False, True])
def test_ada_follows_the_signs_of_realness(plain: type[GAN], data: DataSpec, stream: Stream, relative: bool) -> None:
    """Every 4 discriminator steps p moves by ± 4 B / (kimg · 1000), within 0 and the limit.

    The signs are those of real images, or, where zero means nothing, of pairs of a real and a generated one.
    """
    log: list[tuple[Tensor, Tensor]] = []
    found: list[float] = []

    class Keep(Callback):
        def on_step(self, trainer: Trainer[Any], metrics: dict[str, Tensor]) -> None:
            found.append(float(metrics["augment/probability"]))

    other = variant(plain, Linear, discriminator_loss=Listening.one_by_one, log=log, realness_is_relative=relative)
    options = {"ada_target": 0.1, "ada_kimg": 0.08, "ada_limit": 0.5, "augment": "brightness"}
    gan = other(data, **options, augment_probability=0.1, discriminator_lr=0.02, discriminator_steps=2)
    trainer = gan.make_trainer(device="cpu")
    assert isinstance(trainer.augment, AdaptiveAugment)
    trainer.fit(stream(n=8), 24, [Keep()])
    probability, expected = 0.1, []
    signs = [float((real - fake if relative else real).sign().mean()) for real, fake in log]
    for number in range(0, 48, 2):
        if number % 4 == 2:
            mean = np.mean(signs[number - 2 : number + 2])
            probability = float(np.clip(probability + np.sign(mean - 0.1) * 4 * 4 / 80, 0, 0.5))
        expected.append(probability)
    assert len({round(value, 3) for value in expected}) > 2
    np.testing.assert_allclose(found, expected, rtol=1e-5, atol=1e-6)


def test_relative_ada_does_not_see_an_offset(plain: type[GAN], data: DataSpec, stream: Stream) -> None:
    """A number added to all realness changes no loss on differences, and no chance of the augmentation."""

    class Offset(Linear):
        def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
            return DiscriminatorOutput(super().forward(images, labels).realness + 100)

    def loss(self: Any, real: Batch, fake: Batch) -> dict[str, Tensor]:
        on_real, on_fake = self.discriminator(*real).realness, self.discriminator(*fake).realness
        return {"pairs": losses.relativistic_discriminator(on_real, on_fake)}

    def chance(network: type[Discriminator], relative: bool) -> float:
        methods = {"discriminator_loss": loss, "realness_is_relative": relative}
        options = {"ada_target": 0.1, "ada_kimg": 0.08, "augment": "brightness", "augment_probability": 0.4}
        trainer = variant(plain, network, **methods)(data, **options).make_trainer(device="cpu")
        trainer.fit(stream(), 12)
        return float(trainer.augment.probability)

    assert chance(Offset, True) == pytest.approx(chance(Linear, True))
    assert chance(Offset, False) == pytest.approx(0.8)  # the limit, whatever the images
    assert chance(Linear, False) < 0.8


def test_ada_needs_the_augmentation_that_it_steers(plain: type[GAN], data: DataSpec) -> None:
    own = variant(plain, make_augmentation=lambda self: Doubling())
    with pytest.raises(ConfigError, match=r"brings its own\. Leave it out"):
        own(data, ada_target=0.6, augment="xray", augment_probability=0.0).make_trainer(device="cpu")
    with pytest.raises(ConfigError, match=r"starts at a probability of 1, above its limit 0.8. Type .*probability 0"):
        plain(data, ada_target=0.6, augment="xray")


def test_saturation_is_for_colours(plain: type[GAN], data: DataSpec) -> None:
    with pytest.raises(ConfigError, match=r"but the images are grey\. Type --augment xray"):
        plain(data, augment="rgb")
    plain(DataSpec(3, (8, 6)), augment="rgb")


# ----------------------------------------------------------------------------- learning rates that fall


class Rates(Callback):
    """Notes the learning rates of each step."""

    def __init__(self) -> None:
        self.seen: list[tuple[float, float]] = []

    def on_step(self, trainer: Trainer[Any], metrics: dict[str, Tensor]) -> None:
        rates = (trainer.optimizers[name].param_groups[0]["lr"] for name in ("generator", "discriminator"))
        self.seen.append(tuple(rates))  # type: ignore[arg-type]


@pytest.mark.parametrize("share", [0.3, 1.0])
def test_learning_rates_fall_in_a_line(plain: type[GAN], data: DataSpec, stream: Stream, share: float) -> None:
    trainer = plain(data, lr_decay=share, generator_lr=0.2, discriminator_lr=0.4).make_trainer(device="cpu")
    rates = Rates()
    trainer.fit(stream(), 20, [rates])
    expected = np.minimum(1, (20 - np.arange(20)) / (share * 20))
    np.testing.assert_allclose(rates.seen, np.outer(expected, [0.2, 0.4]))
    assert (trainer.total_steps, trainer.step) == (20, 20)


def test_without_decay_nothing_is_planned(plain: type[GAN], data: DataSpec, stream: Stream) -> None:
    trainer = plain(data).make_trainer(device="cpu")
    rates = Rates()
    trainer.fit(stream(), 2, [rates], total_steps=1)
    assert trainer.total_steps is None
    assert rates.seen == [(1e-2, 1e-2)] * 2
    assert "initial_lr" not in trainer.optimizers["generator"].param_groups[0]


@pytest.mark.parametrize("saved", [False, True])
def test_halves_of_a_decay_are_the_whole(plain: type[GAN], data: DataSpec, stream: Stream, saved: bool) -> None:
    whole = plain(data, lr_decay=0.5).make_trainer(device="cpu")
    whole.fit(stream(), 8)
    half = plain(data, lr_decay=0.5).make_trainer(device="cpu")
    half.fit(stream(), 6, total_steps=8)
    if saved:
        state = copy.deepcopy(half.state_dict())
        half = plain(data, lr_decay=0.5).make_trainer(device="cpu")
        half.load_state_dict(state)
    half.fit(stream(6), 2)
    for name, value in whole.generator.state_dict().items():
        assert torch.equal(value, half.generator.state_dict()[name])
    with pytest.raises(ConfigError, match=r"fall to 0 at step 8, and .*to step 9. .*fit\(..., total_steps=9\)"):
        half.fit(stream(8), 1)


def test_length_may_change_until_the_rates_fall(plain: type[GAN], data: DataSpec, stream: Stream) -> None:
    """While every step so far is one of the longer training, too."""
    trainer = plain(data, lr_decay=0.5).make_trainer(device="cpu")
    trainer.fit(
        stream(), 5, total_steps=8
    )  # step number 4, the fifth, is the first beyond the half: still at the full rate
    trainer.fit(stream(5), 1, total_steps=12)
    whole = plain(data, lr_decay=0.5).make_trainer(device="cpu")
    whole.fit(stream(), 6, total_steps=12)
    assert torch.equal(trainer.discriminator.conv.weight, whole.discriminator.conv.weight)
    with pytest.raises(ConfigError, match=r"begun for 12 steps, .*falling since step 3; 6 steps would be another"):
        trainer.fit([], 0, total_steps=6)
    trainer.fit(stream(6), 2)
    with pytest.raises(ConfigError, match=r"begun for 12 steps, .*since step 6; 20 steps would be another"):
        trainer.fit(stream(8), 1, total_steps=20)


def test_decay_through_the_model(plain: type[GAN], data: DataSpec, images: Any) -> None:
    whole = plain(data, lr_decay=0.5).fit(images, steps=6, device="cpu")
    halves = plain(data, lr_decay=0.5).fit(images, steps=3, total_steps=6, device="cpu").fit(images, steps=3)
    assert torch.equal(whole.sample(4).images, halves.sample(4).images)


# ------------------------------------------------------------------------------------------ resume


EVERYTHING = {
    "gradient_penalty": "r1r2",
    "penalty_every": 3,
    "penalty_one_in": 2,
    "lecam_weight": 0.3,
    "augment": "xray,flip",
    "augment_probability": 0.2,
    "ada_target": 0.3,
    "ada_kimg": 0.05,
    "lr_decay": 0.7,
    "discriminator_steps": 2,
}


@pytest.mark.parametrize("at", [1, 4, 5])
def test_resume_with_every_stabiliser_is_exact(plain: type[GAN], data: DataSpec, stream: Stream, at: int) -> None:
    whole = plain(data, **EVERYTHING).make_trainer(device="cpu")
    whole.fit(stream(n=8), 8)
    first = plain(data, **EVERYTHING).make_trainer(device="cpu")
    first.fit(stream(n=8), at, total_steps=8)
    state = copy.deepcopy(first.state_dict())
    second = plain(data, **EVERYTHING).make_trainer(device="cpu")
    second.load_state_dict(state)
    second.fit(stream(at, n=8), 8 - at)
    one, other = whole.state_dict(), second.state_dict()
    for part in ("generator", "discriminator", "averaged_generator", "augment", "anchors"):
        for name, value in one[part].items():
            assert torch.equal(value, other[part][name]), f"{part}.{name}"
    assert float(one["augment"]["probability"]) != pytest.approx(0.2)
    assert float(one["anchors"]["steps"]) == 16


def test_checkpoint_without_the_stabilisers_state_is_refused(plain: type[GAN], data: DataSpec) -> None:
    state = plain(data).make_trainer(device="cpu").state_dict()
    for options in ({"lecam_weight": 1.0}, {"ada_target": 0.6, "augment": "xray", "augment_probability": 0.0}):
        with pytest.raises(CheckpointError, match=r"lacks (anchors|augment)|does not fit"):
            plain(data, **options).make_trainer(device="cpu").load_state_dict(state)


# ----------------------------------------------------------------------------------- contradictions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"penalty_weight": 1.0}, r"--penalty-weight 1.0 acts on nothing: .* Add --gradient-penalty r1"),
        ({"penalty_every": 16}, "--penalty-every 16 acts on nothing"),
        ({"penalty_one_in": 4}, "--penalty-one-in 4 acts on nothing"),
        ({"ada_kimg": 50.0}, "--ada-kimg 50.0 acts on nothing: .* Add --ada-target"),
        ({"ada_limit": 0.5, "augment": "xray"}, "--ada-limit 0.5 acts on nothing"),
        ({"ada_target": 0.6}, r"--ada-target 0.6 acts on nothing: there is no aug.* Or type --ada-target none"),
        (
            {"augment": "xray", "augment_probability": 0.0},
            "--augment xray acts on nothing: its chance is 0.* Type --augment-probability 1, .* or --augment none",
        ),
        ({"gradient_penalty": "r3"}, "expected one of: none, r1, r2, r1r2, wgan-gp"),
        ({"lr_decay": 1.5}, "at most 1"),
    ],
)
def test_options_that_contradict_each_other(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        GANConfig(**options)


def test_a_step_of_its_own_takes_no_stabilisers(plain: type[GAN], data: DataSpec) -> None:
    class Own(Trainer[GANConfig]):
        def train_step(self, batch: Batch) -> dict[str, Tensor]:
            raise DataError("Never called.")

    own = type("Own", (plain,), {"Trainer": Own})
    own(data)
    for options in ({"gradient_penalty": "r1"}, {"lecam_weight": 1.0}):
        with pytest.raises(ConfigError, match="plain has a training step of its own, without stabilisers"):
            own(data, **options)


# -------------------------------------------------------------------------------------- by class


def test_figures_of_each_class(plain: type[GAN], data: DataSpec, stream: Stream) -> None:
    def discriminator_loss(self: Any, real: Batch, fake: Batch) -> dict[str, Tensor]:
        realness = self.discriminator(*real).realness
        self.log_by_class("discriminator/real", realness, real.labels)
        self.log_by_class("discriminator/none", realness, None)
        return {"none": 0 * realness.mean()}

    seen: list[dict[str, Tensor]] = []

    class Keep(Callback):
        def on_step(self, trainer: Trainer[Any], metrics: dict[str, Tensor]) -> None:
            assert sorted(metrics) == ["discriminator/none", "generator/hinge"]
            seen.append(trainer.class_metrics)

    trainer = variant(plain, Linear, discriminator_loss=discriminator_loss)(data).make_trainer(device="cpu")
    weight = trainer.discriminator.weight.detach().double().numpy()
    images = next(stream()).images
    labels = torch.tensor([0, 2, 2, 0])
    trainer.fit([Batch(images, labels)], 1, [Keep()])
    realness = (images.double().numpy() * weight).reshape(4, -1).sum(1)
    (figures,) = seen
    assert list(figures) == ["discriminator/real"]
    values = figures["discriminator/real"]
    assert not values.requires_grad
    expected = [realness[[0, 3]].mean(), math.nan, realness[[1, 2]].mean()]
    np.testing.assert_allclose(values.numpy(), expected, rtol=1e-5)


@pytest.mark.parametrize("parts", [1, 2])
def test_realness_of_each_class_whatever_the_losses_log(plain: type[GAN], data: DataSpec, parts: int) -> None:
    """At every tenth step, over all batches that make it."""
    log: list[tuple[Tensor, Tensor]] = []
    seen: list[dict[str, Tensor]] = []

    class Keep(Callback):
        def on_step(self, trainer: Trainer[Any], metrics: dict[str, Tensor]) -> None:
            seen.append(trainer.class_metrics)

    other = variant(plain, Linear, discriminator_loss=Listening.one_by_one, log=log)
    gan = other(data, batch_size=8 // parts, gradient_accumulation_steps=parts)
    labels = torch.tensor([0, 2, 2, 0, 0, 0, 2, 2])
    rng = torch.Generator().manual_seed(0)
    batch = Batch(torch.rand(8, 1, 8, 6, generator=rng) * 2 - 1, labels)
    gan.make_trainer(device="cpu").fit([batch] * 11, 11, [Keep()])
    assert [sorted(figures) for figures in seen] == [
        ["discriminator/fake", "discriminator/real"] if step % 10 == 0 else [] for step in range(11)
    ]
    for step in (0, 10):
        halves = zip(*log[step * parts : (step + 1) * parts], strict=True)
        for name, said in zip(("real", "fake"), halves, strict=True):
            realness = torch.cat(said)
            expected = torch.stack([realness[labels == 0].mean(), torch.tensor(math.nan), realness[labels == 2].mean()])
            torch.testing.assert_close(seen[step][f"discriminator/{name}"], expected, equal_nan=True)


@pytest.mark.parametrize("kind", ["multilabel", "continuous", None])
def test_no_figures_without_classes(plain: type[GAN], kind: Any) -> None:
    from medgan.core import LabelSpec

    trainer = plain(DataSpec(1, (8, 6), LabelSpec(("a", "b"), kind) if kind else None)).make_trainer(device="cpu")
    trainer.log_by_class("discriminator/real", torch.zeros(3), torch.zeros(3, 2) if kind else None)
    assert trainer.class_metrics == {}
