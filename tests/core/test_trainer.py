from __future__ import annotations

import copy
import math
from collections.abc import Callable, Iterator
from typing import Any

import accelerate
import pytest
import torch
from torch import Tensor, nn

from medgan.core import GAN, AdversarialTrainer, Batch, Callback, DataSpec, GANConfig, Trainer, make_accelerator
from medgan.core.distribution import PATIENCE_OF_STEPS
from medgan.core.saving import read_state, write_state
from medgan.errors import CheckpointError, ConfigError, DataError, TrainingDivergedError

Stream = Callable[..., Iterator[Batch]]


def weights(network: nn.Module) -> dict[str, Tensor]:
    return {name: value.detach().clone() for name, value in network.state_dict().items()}


def assert_same(one: Any, other: Any) -> None:
    """Bitwise equal states."""
    assert type(one) is type(other)
    if isinstance(one, Tensor):
        assert torch.equal(one, other)
    elif isinstance(one, dict):
        assert one.keys() == other.keys()
        for key in one:
            assert_same(one[key], other[key])
    elif isinstance(one, list | tuple):
        assert len(one) == len(other)
        for left, right in zip(one, other, strict=True):
            assert_same(left, right)
    else:
        assert one == other


# ------------------------------------------------------------------------------------------ update


def sgd(trainer: Trainer[Any], rate: float = 0.1) -> None:
    """Replace the generator's optimizer by plain gradient descent."""
    optimizer = torch.optim.SGD(trainer.generator.parameters(), rate)
    trainer.optimizers["generator"] = trainer.accelerator.prepare_optimizer(optimizer)


def test_update_descends_the_sum_of_the_terms(gan: GAN) -> None:
    trainer = gan.make_trainer(device="cpu")
    sgd(trainer)
    weight = trainer.generator.to_image.weight
    before = weight.detach().clone()
    metrics = trainer.update("generator", {"a": 3 * weight.sum(), "b": weight.square().sum()})
    torch.testing.assert_close(weight.detach(), before - 0.1 * (3 + 2 * before))
    assert list(metrics) == ["generator/a", "generator/b"]
    assert not any(value.requires_grad for value in metrics.values())
    torch.testing.assert_close(metrics["generator/b"], before.square().sum())


def test_update_forgets_earlier_gradients(gan: GAN) -> None:
    trainer = gan.make_trainer(device="cpu")
    sgd(trainer)
    weight = trainer.generator.to_image.weight
    weight.grad = torch.full_like(weight, 100.0)
    before = weight.detach().clone()
    trainer.update("generator", {"a": weight.sum()})
    torch.testing.assert_close(weight.detach(), before - 0.1)


@pytest.mark.parametrize(("limit", "norm"), [(0.5, 0.5), (1e6, None), (None, None)])
def test_clipping_bounds_the_norm_of_the_whole_gradient(
    plain: type[GAN], data: DataSpec, limit: float | None, norm: float | None
) -> None:
    trainer = plain(data, clip_norm=limit).make_trainer(device="cpu")
    sgd(trainer, 1.0)
    parameters = list(trainer.generator.parameters())
    before = [weight.detach().clone() for weight in parameters]
    trainer.update("generator", {"a": torch.stack([7 * weight.sum() for weight in parameters]).sum()})
    moved = torch.cat([(new.detach() - old).flatten() for new, old in zip(parameters, before, strict=True)])
    expected = 7 * math.sqrt(moved.numel()) if norm is None else norm
    assert float(moved.norm()) == pytest.approx(expected, rel=1e-4)


# ------------------------------------------------------------------------------------ averaged weights


@pytest.mark.parametrize("rampup", [None, 0.05, 0.0])
def test_averaged_weights_follow_the_equation(
    plain: type[GAN], data: DataSpec, stream: Stream, rampup: float | None
) -> None:
    trainer = plain(data, ema_halflife=10, ema_rampup=rampup).make_trainer(device="cpu")
    average = {name: value.double() for name, value in weights(trainer.generator).items()}
    for step, batch in zip(range(1, 7), stream(), strict=False):
        trainer.fit([batch], 1)
        halflife = 10.0 if rampup is None else min(10.0, rampup * 4 * step)
        keep = 0.5 ** (4 / halflife) if halflife else 0.0
        for name, value in trainer.generator.named_parameters():
            average[name] = keep * average[name] + (1 - keep) * value.detach().double()
    for name, value in trainer.averaged_generator.named_parameters():
        torch.testing.assert_close(value.double(), average[name], rtol=1e-5, atol=1e-7)
    assert trainer.averaged_generator is not trainer.generator


def test_halflife_halves(plain: type[GAN], data: DataSpec, stream: Stream) -> None:
    """After `ema_halflife` images of a generator that stands still, half of the start is left."""
    trainer = plain(data, ema_halflife=40, ema_rampup=None, generator_lr=0.0).make_trainer(device="cpu")
    with torch.no_grad():
        for weight in trainer.averaged_generator.parameters():
            weight.add_(1)
    trainer.fit(stream(), 10)
    for average, weight in zip(trainer.averaged_generator.parameters(), trainer.generator.parameters(), strict=True):
        torch.testing.assert_close(average - weight, torch.full_like(weight, 0.5))


def test_averaged_buffers(plain: type[GAN], data: DataSpec, stream: Stream) -> None:
    """Statistics of batch normalisation are averaged as the weights are; all other buffers are copied."""
    trainer = plain(data, ema_halflife=10, ema_rampup=None).make_trainer(device="cpu")
    for generator in (trainer.generator, trainer.averaged_generator):
        generator.register_buffer("other", torch.zeros(2))
    statistics = ("running_mean", "running_var")
    expected = {name: getattr(trainer.generator.norm, name).double() for name in statistics}
    keep = 0.5 ** (4 / 10)
    for step, batch in zip(range(1, 5), stream(), strict=False):
        trainer.generator.other.fill_(step)
        trainer.fit([batch], 1)
        for name in statistics:
            expected[name] = keep * expected[name] + (1 - keep) * getattr(trainer.generator.norm, name).double()
    average = trainer.averaged_generator
    for name in statistics:
        found = getattr(average.norm, name)
        torch.testing.assert_close(found.double(), expected[name], rtol=1e-5, atol=1e-7)
        assert not torch.equal(found, getattr(trainer.generator.norm, name))
    assert torch.equal(average.norm.num_batches_tracked, trainer.generator.norm.num_batches_tracked)
    assert average.other.tolist() == [4.0, 4.0]


def test_what_follows_a_schedule_is_set_before_each_step(plain: type[GAN], data: DataSpec, stream: Stream) -> None:
    """Rates and half-life from `images_seen` and `step`; the decay of the rates comes on top."""

    class AnnealedTrainer(plain.Trainer):  # type: ignore[name-defined,misc]
        def schedule(self) -> None:
            for optimizer in self.optimizers.values():
                for group in optimizer.param_groups:
                    group["lr"] = group["initial_lr"] = 1e-3 * (1 + self.images_seen)
            super().schedule()

        def ema_halflife(self) -> float:
            return float(4 * self.step)

    class Annealed(plain):  # type: ignore[valid-type,misc]
        Trainer = AnnealedTrainer

    trainer = Annealed(data, lr_decay=0.5).make_trainer(device="cpu")
    average = {name: value.double() for name, value in weights(trainer.generator).items()}
    rates: list[float] = []
    for step, batch in zip(range(1, 5), stream(), strict=False):
        trainer.fit([batch], 1, total_steps=4)
        rates.append(trainer.optimizers["generator"].param_groups[0]["lr"])
        keep = 0.5 ** (4 / (4 * step))
        for name, value in trainer.generator.named_parameters():
            average[name] = keep * average[name] + (1 - keep) * value.detach().double()
    assert rates == pytest.approx([1e-3, 5e-3, 9e-3, 6.5e-3])
    for name, value in trainer.averaged_generator.named_parameters():
        torch.testing.assert_close(value.double(), average[name], rtol=1e-5, atol=1e-7)


def test_without_averaging_the_generator_itself_is_sampled(plain: type[GAN], data: DataSpec, stream: Stream) -> None:
    gan = plain(data, ema_halflife=0)
    trainer = gan.make_trainer(device="cpu")
    assert gan.generator is trainer.averaged_generator is trainer.generator
    trainer.fit(stream(), 1)
    gan.sample(1)
    assert trainer.generator.training


# --------------------------------------------------------------------------------------------- fit


class Recorder(Callback):
    def __init__(self, name: str, log: list[str]) -> None:
        self.name, self.log = name, log

    def on_start(self, trainer: Trainer[Any]) -> None:
        self.log.append(f"{self.name} start {trainer.step}")

    def on_step(self, trainer: Trainer[Any], metrics: dict[str, Tensor]) -> None:
        self.log.append(f"{self.name} step {trainer.step}")
        watched = ["discriminator/accuracy"] if trainer.step == 1 else []
        assert sorted(metrics) == [*watched, "discriminator/hinge", "generator/hinge"]

    def on_end(self, trainer: Trainer[Any]) -> None:
        self.log.append(f"{self.name} end {trainer.step}")


def test_callbacks_are_called_in_order(gan: GAN, stream: Stream) -> None:
    log: list[str] = []
    trainer = gan.make_trainer(device="cpu")
    trainer.fit(stream(), 2, [Recorder("a", log), Recorder("b", log)])
    assert log == ["a start 0", "b start 0", "a step 1", "b step 1", "a step 2", "b step 2", "a end 2", "b end 2"]
    assert (trainer.step, trainer.images_seen) == (2, 8)


def test_accuracy_is_the_share_of_pairs(gan: GAN, stream: Stream) -> None:
    trainer = gan.make_trainer(device="cpu")
    said: list[Tensor] = []
    handle = trainer.discriminator.register_forward_hook(lambda _, inputs, output: said.append(output.realness))
    accuracies = []

    class Watch(Callback):
        def on_step(self, trainer: Trainer[Any], metrics: dict[str, Tensor]) -> None:
            if "discriminator/accuracy" in metrics:
                accuracies.append((trainer.step, metrics["discriminator/accuracy"].item(), *said))
            said.clear()

    trainer.fit(stream(), 21, [Watch()])
    handle.remove()
    assert [step for step, *_ in accuracies] == [1, 11, 21]
    for _, accuracy, real, fake, *_ in accuracies:
        assert accuracy == (real > fake).float().mean().item()


def test_the_training_ends_when_a_callback_says_so(gan: GAN, stream: Stream) -> None:
    class End(Callback):
        def on_step(self, trainer: Trainer[Any], metrics: dict[str, Tensor]) -> None:
            trainer.ended = trainer.step == 3

    trainer = gan.make_trainer(device="cpu")
    trainer.fit(stream(), 9, [End()])
    assert trainer.step == 3
    trainer.fit(stream(), 2)
    assert trainer.step == 5


def test_batches_are_taken_as_needed(gan: GAN, stream: Stream) -> None:
    batches = stream()
    gan.make_trainer(device="cpu").fit(batches, 2)
    assert torch.equal(next(batches).images, next(stream(2)).images)


def test_batches_that_run_out_are_an_error(gan: GAN, stream: Stream) -> None:
    batches = [next(stream())] * 2
    with pytest.raises(DataError, match="ran out at step 2; 3 were asked for"):
        gan.make_trainer(device="cpu").fit(batches, 3)


def test_global_random_numbers_are_left_alone(gan: GAN, stream: Stream) -> None:
    torch.manual_seed(5)
    expected = torch.rand(3)
    torch.manual_seed(5)
    gan.make_trainer(device="cpu").fit(stream(), 2)
    assert torch.equal(torch.rand(3), expected)


def test_training_does_not_depend_on_global_random_numbers(plain: type[GAN], data: DataSpec, stream: Stream) -> None:
    states = []
    for seed in (1, 2):
        torch.manual_seed(seed)
        gan = plain(data)
        trainer = gan.make_trainer(device="cpu")
        trainer.fit(stream(), 2)
        states.append(trainer.state_dict())
    assert_same(*states)


def test_callback_that_draws_random_numbers_changes_nothing(plain: type[GAN], data: DataSpec, stream: Stream) -> None:
    class Draws(Callback):
        def on_step(self, trainer: Trainer[Any], metrics: dict[str, Tensor]) -> None:
            torch.rand(100)

    states = []
    for callbacks in ([], [Draws()]):
        trainer = plain(data).make_trainer(device="cpu")
        trainer.fit(stream(), 3, callbacks)
        states.append(trainer.state_dict())
    assert_same(*states)


def test_nan_stops_the_training(gan: GAN, stream: Stream) -> None:
    trainer = gan.make_trainer(device="cpu")
    batches = [next(stream()), Batch(torch.full((4, 1, 8, 6), math.nan), torch.zeros(4, dtype=torch.int64))]
    message = r"diverged at step 2: discriminator/hinge.*--generator-lr.*--clip-norm"
    with pytest.raises(TrainingDivergedError, match=message):
        trainer.fit(batches, 2)


def test_nan_in_the_last_step_is_found_on_accelerators(gan: GAN, stream: Stream) -> None:
    """Where values are read at every 16th step only, the steps after the last of these are not forgotten."""
    asked = []

    class Doctor(Callback):
        def on_diverged(self, trainer: Trainer[Any], error: TrainingDivergedError) -> bool:
            asked.append(trainer.step)
            return True

    trainer = gan.make_trainer(device="cpu")
    trainer.may_wait = lambda: False  # type: ignore[method-assign]
    ill = Batch(torch.full((4, 1, 8, 6), math.nan), torch.zeros(4, dtype=torch.int64))
    trainer.fit([next(stream()), next(stream()), ill], 3, [Doctor()])
    assert asked == [3]


def test_processes_wait_for_each_other_longer_than_for_an_evaluation(monkeypatch: pytest.MonkeyPatch) -> None:
    handlers: list[Any] = []
    real = accelerate.Accelerator

    def make(**options: Any) -> Any:
        handlers.extend(options["kwargs_handlers"])
        return real(**options)

    monkeypatch.setattr(accelerate, "Accelerator", make)
    make_accelerator("cpu")
    assert [handler.timeout for handler in handlers] == [PATIENCE_OF_STEPS]
    assert PATIENCE_OF_STEPS.total_seconds() >= 3600


@pytest.mark.parametrize("network", ["generator", "discriminator", "averaged_generator"])
def test_nan_in_any_network_is_found(gan: GAN, network: str) -> None:
    trainer = gan.make_trainer(device="cpu")
    trainer.check_finite()
    name = next(iter(dict(getattr(trainer, network).named_parameters())))
    with torch.no_grad():
        getattr(trainer, network).get_parameter(name).view(-1)[0] = math.inf
    with pytest.raises(TrainingDivergedError, match=rf"{network}\.{name}"):
        trainer.check_finite()


def test_nan_in_layers_of_equal_names_is_found(data: DataSpec) -> None:
    from medgan.models import ACGAN

    trainer = ACGAN(DataSpec(1, (16, 16)), preset="original").make_trainer(device="cpu")
    with torch.no_grad():
        trainer.discriminator.get_parameter("convs.0.bias")[0] = math.nan
    with pytest.raises(TrainingDivergedError, match=r"discriminator\.convs\.0\.bias"):
        trainer.check_finite()


# ------------------------------------------------------------------------------- the adversarial step


def test_discriminator_steps_split_the_batch(plain: type[GAN], data: DataSpec, stream: Stream) -> None:
    seen: list[tuple[str, Tensor]] = []

    class Watching(plain.Trainer):  # type: ignore[name-defined, misc]
        def discriminator_loss(self, real: Batch, fake: Batch) -> dict[str, Tensor]:
            seen.append(("discriminator", real.images))
            assert torch.equal(real.labels, fake.labels)
            return super().discriminator_loss(real, fake)

        def generator_loss(self, real: Batch, fake: Batch) -> dict[str, Tensor]:
            seen.append(("generator", real.images))
            return super().generator_loss(real, fake)

    other = type("Other", (plain,), {"Trainer": Watching})
    trainer = other(data, discriminator_steps=3).make_trainer(device="cpu")
    (batch,) = [next(stream(n=12))]
    trainer.fit([batch], 1)
    assert [name for name, _ in seen] == ["discriminator"] * 3 + ["generator"]
    for part, (_, images) in zip(batch.images.chunk(3), seen, strict=False):
        assert torch.equal(part, images)
    assert trainer.images_seen == 12
    with pytest.raises(ConfigError, match="4 images cannot be split into 3"):
        trainer.fit(stream(n=4), 1)


def descending(plain: type[GAN]) -> type[GAN]:
    """The architecture without what looks at a whole batch, and with plain gradient descent."""

    def make_generator(self: GAN, config: GANConfig, data: DataSpec) -> Any:
        generator: Any = plain.make_generator(self, config, data)
        generator.norm, generator.dropout = nn.Identity(), nn.Identity()
        return generator

    def make_optimizers(self: Trainer[Any]) -> dict[str, torch.optim.Optimizer]:
        return {name: torch.optim.SGD(getattr(self, name).parameters(), 0.5) for name in ("generator", "discriminator")}

    trainer = type("DescendingTrainer", (plain.Trainer,), {"make_optimizers": make_optimizers})
    return type("Descending", (plain,), {"make_generator": make_generator, "Trainer": trainer})


@pytest.mark.parametrize("precision", ["fp32", "bf16"])
@pytest.mark.parametrize(
    "options",
    [
        {"gradient_penalty": "r1", "penalty_every": 2, "clip_norm": 0.05, "discriminator_steps": 2},
        {
            "gradient_penalty": "wgan-gp",
            "ada_target": 0.2,
            "ada_kimg": 0.1,
            "augment": "translation,cutout",
            "augment_probability": 0.5,
        },
    ],
    ids=["r1", "wgan-gp"],
)
def test_accumulated_batches_are_one_large_batch(
    plain: type[GAN], data: DataSpec, stream: Stream, options: dict[str, Any], precision: str
) -> None:
    states, rows, passed = [], [], []
    for batch_size, number in ((8, 1), (4, 2), (2, 4)):
        trainer: Any = descending(plain)(
            data, batch_size=batch_size, gradient_accumulation_steps=number, **options
        ).make_trainer(device="cpu", precision=precision)
        seen: list[int] = []
        trainer.generator.register_forward_pre_hook(lambda _, inputs, seen=seen: seen.append(len(inputs[0])))
        watch = Watch()
        trainer.fit(stream(n=trainer.config.images_per_step), 3, [watch])
        assert trainer.images_seen == 3 * 8 * trainer.config.discriminator_steps
        states.append(trainer.state_dict())
        rows.append(watch.rows)
        passed.append(set(seen))
    assert passed == [{8}, {4}, {2}]
    close = {"fp32": {"rtol": 1e-4, "atol": 1e-6}, "bf16": {"rtol": 5e-2, "atol": 5e-3}}[precision]
    for state, row in zip(states[1:], rows[1:], strict=True):
        for part in ("generator", "discriminator", "augment"):
            for name, value in states[0][part].items():
                torch.testing.assert_close(state[part][name], value, **close)
        assert torch.equal(state["shared_random"]["cpu"], states[0]["shared_random"]["cpu"])
        for one, whole in zip(row, rows[0], strict=True):
            assert one == pytest.approx(whole, rel=close["rtol"], abs=close["atol"])


class Watch(Callback):
    """Keeps what each step logged, of classes too."""

    def __init__(self) -> None:
        self.rows: list[dict[str, float]] = []

    def on_step(self, trainer: Trainer[Any], metrics: dict[str, Tensor]) -> None:
        self.rows.append({name: float(value) for name, value in metrics.items()})


def test_accumulated_figures_of_classes(plain: type[GAN], data: DataSpec) -> None:
    """A class's mean is over its images in all batches of a step, however they are divided."""

    def discriminator_loss(self: Any, real: Batch, fake: Batch) -> dict[str, Tensor]:
        self.log_by_class("discriminator/mean", real.images.mean((1, 2, 3)), real.labels)
        return {"sum": self.discriminator(real.images).realness.sum() * 0}

    trainer = type("T", (plain.Trainer,), {"discriminator_loss": discriminator_loss})
    gan = type("G", (plain,), {"Trainer": trainer})(data, batch_size=2, gradient_accumulation_steps=2)
    images = torch.tensor([0.1, 0.2, 0.4, 0.9]).view(4, 1, 1, 1).expand(4, 1, 8, 6)
    gan.make_trainer(device="cpu").fit([Batch(images, torch.tensor([0, 1, 0, 0]))], 1)
    figures = gan.trainer.class_metrics["discriminator/mean"]
    torch.testing.assert_close(figures[:2], torch.tensor([1.4 / 3, 0.2]))
    assert figures[2].isnan()


def test_a_step_of_its_own_refuses_to_accumulate(plain: type[GAN], data: DataSpec) -> None:
    trainer = type("T", (plain.Trainer,), {"train_step": lambda self, batch: {}})
    own = type("Own", (plain,), {"Trainer": trainer})
    own(data)
    with pytest.raises(ConfigError, match=r"gradient.accumulation.steps.*takes a batch at once"):
        own(data, gradient_accumulation_steps=2)


def test_discriminator_is_frozen_while_the_generator_learns(plain: type[GAN], data: DataSpec, stream: Stream) -> None:
    class Watching(plain.Trainer):  # type: ignore[name-defined, misc]
        def discriminator_loss(self, real: Batch, fake: Batch) -> dict[str, Tensor]:
            assert not fake.images.requires_grad
            assert all(weight.requires_grad for weight in self.discriminator.parameters())
            return super().discriminator_loss(real, fake)

        def generator_loss(self, real: Batch, fake: Batch) -> dict[str, Tensor]:
            assert fake.images.requires_grad
            assert not any(weight.requires_grad for weight in self.discriminator.parameters())
            self.before = weights(self.discriminator)
            return super().generator_loss(real, fake)

    trainer = type("Other", (plain,), {"Trainer": Watching})(data).make_trainer(device="cpu")
    trainer.fit(stream(), 1)
    assert_same(trainer.before, weights(trainer.discriminator))
    assert all(weight.requires_grad for weight in trainer.discriminator.parameters())


def test_weights_that_an_architecture_froze_stay_frozen(gan: GAN, stream: Stream) -> None:
    trainer = gan.make_trainer(device="cpu")
    trainer.discriminator.conv.requires_grad_(False)
    before = weights(trainer.discriminator.conv)
    trainer.fit(stream(), 2)
    assert not trainer.discriminator.conv.weight.requires_grad
    assert_same(before, weights(trainer.discriminator.conv))


def test_one_step_against_plain_torch(plain: type[GAN], data: DataSpec, stream: Stream) -> None:
    """Discriminator and generator steps with hinge loss and Adam, written out."""
    gan = plain(data, ema_halflife=0)
    trainer = gan.make_trainer(device="cpu")
    generator, discriminator = copy.deepcopy(trainer.generator), copy.deepcopy(trainer.discriminator)
    adam = {
        network: torch.optim.Adam(network.parameters(), 1e-2, betas=(0.0, 0.99))
        for network in (generator, discriminator)
    }
    batch = next(stream())
    rng = torch.Generator()
    rng.set_state(trainer.state_dict()["shared_random"]["cpu"])
    trainer.fit([batch], 1)

    torch.manual_seed(gan.config.seed)  # of the generator's dropout
    fake = generator(torch.randn(4, 4, generator=rng), batch.labels).detach()
    loss = torch.relu(1 - discriminator(batch.images).realness).mean()
    loss = loss + torch.relu(1 + discriminator(fake).realness).mean()
    loss.backward()
    adam[discriminator].step()
    loss = -discriminator(generator(torch.randn(4, 4, generator=rng), batch.labels)).realness.mean()
    loss.backward()
    adam[generator].step()
    for mine, theirs in ((generator, trainer.generator), (discriminator, trainer.discriminator)):
        for name, value in mine.state_dict().items():
            torch.testing.assert_close(theirs.state_dict()[name], value, rtol=1e-5, atol=1e-6, msg=name)


def test_augmentation_distorts_real_and_fake(plain: type[GAN], data: DataSpec, stream: Stream) -> None:
    class Inverted(plain.Trainer):  # type: ignore[name-defined, misc]
        def make_augmentation(self) -> nn.Module:
            class Inverting(nn.Module):
                calls = 0

                def forward(self, images: Tensor) -> Tensor:
                    self.calls += 1
                    return -images

            return Inverting()

        def discriminator_loss(self, real: Batch, fake: Batch) -> dict[str, Tensor]:
            self.seen = real.images
            return super().discriminator_loss(real, fake)

    trainer = type("Other", (plain,), {"Trainer": Inverted})(data).make_trainer(device="cpu")
    batch = next(stream())
    trainer.fit([batch], 1)
    assert torch.equal(trainer.seen, -batch.images)
    assert trainer.augment.calls == 4


@pytest.mark.parametrize(("limit", "advised"), [(None, "10"), (2.0, "1"), (0.5, "0.25")])
def test_a_training_that_diverges_is_told_to_clip_more(
    plain: type[GAN], data: DataSpec, limit: float | None, advised: str
) -> None:
    trainer = plain(data, clip_norm=limit).make_trainer(device="cpu")
    with pytest.raises(TrainingDivergedError, match=rf"with --clip-norm {advised}\.$"):
        trainer.check_finite({"generator/hinge": torch.tensor(math.nan)})


def test_norms_of_gradients_are_those_before_clipping(plain: type[GAN], data: DataSpec, stream: Stream) -> None:
    norms = {}
    for clip_norm in (None, 1e9, 1e-3):
        trainer = plain(data, clip_norm=clip_norm).make_trainer(device="cpu")
        trainer.fit(stream(), 1)
        gradient = torch.cat([weight.grad.flatten() for weight in trainer.generator.parameters()])
        norms[clip_norm] = (float(gradient.norm()), trainer.gradient_norms)
    assert norms[None][1] == {}
    whole = norms[None][0]
    assert norms[1e9][0] == pytest.approx(whole)
    assert norms[1e-3][0] == pytest.approx(1e-3, rel=1e-2)
    assert float(norms[1e9][1]["generator"]) == pytest.approx(whole)
    # The discriminator's own step was clipped, so that the generator is judged by another one.
    assert float(norms[1e-3][1]["generator"]) > 1e-2


# ------------------------------------------------------------------------------------------ resume


@pytest.mark.parametrize("options", [{}, {"ema_halflife": 0}, {"clip_norm": 0.1, "augment": "translation,contrast"}])
def test_resume_is_exact(
    plain: type[GAN], data: DataSpec, stream: Stream, tmp_path: Any, options: dict[str, Any]
) -> None:
    """Dropout and batch normalisation in the generator, random latents, augmentation."""
    whole = plain(data, **options)
    whole.make_trainer(device="cpu").fit(stream(), 6)
    first = plain(data, **options).make_trainer(device="cpu")
    first.fit(stream(), 3)
    write_state(tmp_path / "state.pt", first.state_dict())
    torch.rand(7)
    resumed = plain(data, **options)
    second = resumed.make_trainer(device="cpu")
    second.load_state_dict(read_state(tmp_path / "state.pt"))
    assert (second.step, second.images_seen) == (3, 12)
    second.fit(stream(3), 3)
    assert whole.trainer is not None
    assert_same(whole.trainer.state_dict(), second.state_dict())
    assert torch.equal(whole.sample(20).images, resumed.sample(20).images)


def test_resume_of_the_original_preset_with_dropout_is_exact() -> None:
    from medgan.core import LabelSpec
    from medgan.models import ACGAN

    data = DataSpec(1, (8, 8), LabelSpec(("a", "b")))
    rng = torch.Generator().manual_seed(0)
    batches = [
        Batch(torch.rand(5, 1, 8, 8, generator=rng) * 2 - 1, torch.randint(2, (5,), generator=rng)) for _ in range(4)
    ]
    whole = ACGAN(data, preset="original").make_trainer(device="cpu")
    whole.fit(batches, 4)
    first = ACGAN(data, preset="original").make_trainer(device="cpu")
    first.fit(batches[:2], 2)
    second = ACGAN(data, preset="original").make_trainer(device="cpu")
    second.load_state_dict(copy.deepcopy(first.state_dict()))
    second.fit(batches[2:], 2)
    assert_same(whole.state_dict(), second.state_dict())


def test_state_is_plain(gan: GAN, stream: Stream) -> None:
    trainer = gan.make_trainer(device="cpu")
    trainer.fit(stream(), 1)
    state = trainer.state_dict()
    assert {"step", "generator", "discriminator", "averaged_generator", "optimizers", "random"} <= state.keys()

    def check(value: Any) -> None:
        if isinstance(value, dict):
            for part in value.values():
                check(part)
        elif isinstance(value, list | tuple):
            for part in value:
                check(part)
        else:
            assert isinstance(value, Tensor | int | float | bool | str | None)

    check(state)


def test_checkpoint_of_other_networks_is_refused(plain: type[GAN], data: DataSpec) -> None:
    state = plain(data).make_trainer(device="cpu").state_dict()
    with pytest.raises(CheckpointError, match="does not fit these networks"):
        plain(data, latent_dim=9).make_trainer(device="cpu").load_state_dict(state)
    with pytest.raises(CheckpointError, match="does not fit these networks"):
        plain(DataSpec(3, (8, 6), data.labels)).make_trainer(device="cpu").load_state_dict(state)


def test_something_else_than_a_checkpoint_is_refused(gan: GAN) -> None:
    trainer = gan.make_trainer(device="cpu")
    with pytest.raises(CheckpointError, match="lacks images_seen"):
        trainer.load_state_dict({"step": 3})
    with pytest.raises(CheckpointError, match="lacks generator"):
        trainer.load_state_dict({name: part for name, part in trainer.state_dict().items() if name != "generator"})


def test_checkpoint_of_more_processes_is_refused(gan: GAN) -> None:
    trainer = gan.make_trainer(device="cpu")
    state = trainer.state_dict()
    with pytest.raises(CheckpointError, match=r"written by 2 process.*now there are 1"):
        trainer.load_state_dict({**state, "random": state["random"] * 2})


# ------------------------------------------------------------------------------ device and precision


@pytest.mark.parametrize(
    ("device", "precision", "message"),
    [
        ("cpu", "fp16", "fp16 needs a CUDA device"),
        ("cpu", "fp64", "'fp64' is unknown"),
        ("gpu", "fp32", "'gpu' is unknown. Expected one of: auto, cpu, cuda, mps"),
    ],
)
def test_devices_and_precisions_that_cannot_be(gan: GAN, device: str, precision: str, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        gan.make_trainer(device=device, precision=precision)


@pytest.mark.parametrize("device", ["cuda", "mps"])
def test_absent_device_is_refused(gan: GAN, monkeypatch: pytest.MonkeyPatch, device: str) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    monkeypatch.setattr(torch.backends.mps, "is_available", lambda: False)
    with pytest.raises(ConfigError, match=f"'{device}' was asked for, but torch finds none"):
        gan.make_trainer(device=device)


def test_precision_can_change_within_a_process(plain: type[GAN], data: DataSpec, stream: Stream) -> None:
    """Fp32, then bf16, then fp32 again: the third equals the first, the second does not."""
    results = []
    for precision in ("fp32", "bf16", "fp32"):
        trainer = plain(data).make_trainer(device="cpu", precision=precision)
        assert trainer.device == torch.device("cpu")
        trainer.fit(stream(), 2)
        assert all(weight.dtype == torch.float32 for weight in trainer.generator.parameters())
        results.append(trainer.state_dict())
    assert_same(results[0], results[2])
    assert not torch.equal(results[0]["generator"]["to_image.weight"], results[1]["generator"]["to_image.weight"])
    for name, value in results[0]["discriminator"].items():
        torch.testing.assert_close(results[1]["discriminator"][name], value, atol=0.05, rtol=0.1)


def test_losses_see_float32_augmentation_in_mixed_precision(plain: type[GAN], data: DataSpec, stream: Stream) -> None:
    types: list[torch.dtype] = []

    class Watching(plain.Trainer):  # type: ignore[name-defined, misc]
        def discriminator_loss(self, real: Batch, fake: Batch) -> dict[str, Tensor]:
            types.extend([real.images.dtype, fake.images.dtype, self.discriminator.conv(fake.images).dtype])
            return super().discriminator_loss(real, fake)

    gan = type("Other", (plain,), {"Trainer": Watching})(data)
    gan.make_trainer(device="cpu", precision="bf16").fit(stream(), 1)
    assert types == [torch.float32, torch.float32, torch.bfloat16]


def test_trainer_without_accelerator_takes_the_best_device(gan: GAN) -> None:
    trainer = gan.make_trainer()
    best = "cuda" if torch.cuda.is_available() else "mps" if torch.backends.mps.is_available() else "cpu"
    assert trainer.device.type == best
    assert make_accelerator("auto").device.type == best


@pytest.mark.skipif(not torch.cuda.is_available(), reason="needs a CUDA device")
@pytest.mark.parametrize("precision", ["fp32", "bf16", "fp16"])
def test_training_on_cuda(plain: type[GAN], data: DataSpec, images: Any, precision: str) -> None:
    class OnDevice(type(images)):  # type: ignore[misc]
        def batches(self, batch_size: int, *, device: Any, **options: Any) -> Iterator[Batch]:
            for batch in super().batches(batch_size, **options):
                yield Batch(batch.images.to(device), batch.labels.to(device))

    options = {"clip_norm": 1.0, "gradient_penalty": "r1", "lecam_weight": 0.1}
    gan = plain(data, **options).fit(OnDevice(data), steps=20, device="cuda", precision=precision)
    trainer = gan.trainer
    assert trainer is not None
    assert trainer.device.type == "cuda"
    trainer.check_finite()
    assert gan.sample(20).images.device.type == "cpu"
    state = copy.deepcopy(trainer.state_dict())
    again = plain(data, **options).make_trainer(device="cuda", precision=precision)
    again.load_state_dict(state)
    assert_same(again.state_dict(), state)


def test_default_trainer_options(gan: GAN) -> None:
    trainer = gan.make_trainer(device="cpu")
    assert isinstance(trainer, AdversarialTrainer)
    assert isinstance(trainer.config, GANConfig)
    for name in ("generator", "discriminator"):
        (group,) = trainer.optimizers[name].param_groups
        assert (group["lr"], group["betas"]) == (1e-2, (0.0, 0.99))
