"""The first blocks of a discriminator keep their weights."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medgan.core import GAN, Batch, DataSpec, Discriminator, DiscriminatorOutput, GANConfig
from medgan.core.networks import evaluating
from medgan.errors import ConfigError
from medgan.models import ACGAN
from medgan.training.health import _realness

Stream = Callable[..., Iterator[Batch]]


class Staged(Discriminator):
    """Two blocks with batch normalisation, and a head."""

    def __init__(self, data: DataSpec) -> None:
        super().__init__()
        self.first = nn.Sequential(nn.Conv2d(data.channels, 4, 3), nn.BatchNorm2d(4), nn.LeakyReLU(0.2))
        self.second = nn.Sequential(nn.Conv2d(4, 4, 3), nn.BatchNorm2d(4), nn.LeakyReLU(0.2))
        self.realness = nn.Linear(4, 1)

    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        features = self.second(self.first(images)).mean((2, 3))
        return DiscriminatorOutput(self.realness(features).squeeze(1), None, features)

    def stages(self) -> list[nn.Module]:
        return [self.first, self.second]


@pytest.fixture
def staged(plain: type[GAN]) -> type[GAN]:
    def make_discriminator(self: GAN, config: GANConfig, data: DataSpec) -> Discriminator:
        return Staged(data)

    attributes: dict[str, Any] = {"make_discriminator": make_discriminator}
    return type("StagedGAN", (plain,), attributes)


def states(discriminator: Discriminator) -> list[dict[str, Tensor]]:
    parts = [*discriminator.stages(), discriminator.get_submodule("realness")]
    return [{name: value.clone() for name, value in part.state_dict().items()} for part in parts]


def same(one: dict[str, Tensor], other: dict[str, Tensor]) -> bool:
    return all(torch.equal(value, other[name]) for name, value in one.items())


@pytest.mark.parametrize("count", [0, 1, 2])
@pytest.mark.parametrize("options", [{}, {"gradient_penalty": "r1"}, {"clip_norm": 1.0}], ids=str)
def test_frozen_blocks_and_their_statistics_stay(
    staged: type[GAN], data: DataSpec, stream: Stream, count: int, options: dict[str, Any]
) -> None:
    trainer = staged(data, freeze_discriminator=count, **options).make_trainer(device="cpu")
    before = states(trainer.discriminator)
    trainer.fit(stream(), 3)
    kept = [same(old, new) for old, new in zip(before, states(trainer.discriminator), strict=True)]
    assert kept == [number < count for number in range(3)]


def test_a_look_at_the_networks_leaves_them_frozen(staged: type[GAN], data: DataSpec, stream: Stream) -> None:
    trainer = staged(data, freeze_discriminator=1).make_trainer(device="cpu")
    before = states(trainer.discriminator)
    modes = [part.training for part in trainer.discriminator.modules()]
    with evaluating(trainer.generator, trainer.discriminator):
        assert not any(part.training for part in trainer.discriminator.modules())
    assert [part.training for part in trainer.discriminator.modules()] == modes
    batch = next(stream())
    assert _realness(trainer, batch, batch) is not None
    trainer.fit(stream(), 2)
    kept = [same(old, new) for old, new in zip(before, states(trainer.discriminator), strict=True)]
    assert kept == [True, False, False]


def test_the_generator_still_learns_through_frozen_blocks(staged: type[GAN], data: DataSpec, stream: Stream) -> None:
    trainer = staged(data, freeze_discriminator=2).make_trainer(device="cpu")
    before = {name: value.clone() for name, value in trainer.generator.named_parameters()}
    trainer.fit(stream(), 1)
    moved = [not torch.equal(value, before[name]) for name, value in trainer.generator.named_parameters()]
    assert sum(moved) >= 4


def test_resume_keeps_them_frozen(staged: type[GAN], data: DataSpec, stream: Stream) -> None:
    whole = staged(data, freeze_discriminator=1).make_trainer(device="cpu")
    whole.fit(stream(), 4)
    first = staged(data, freeze_discriminator=1).make_trainer(device="cpu")
    first.fit(stream(), 2)
    second = staged(data, freeze_discriminator=1).make_trainer(device="cpu")
    second.load_state_dict(first.state_dict())
    second.fit(stream(2), 2)
    for name, value in whole.discriminator.state_dict().items():
        assert torch.equal(value, second.discriminator.state_dict()[name]), name


def test_more_blocks_than_there_are(staged: type[GAN], data: DataSpec) -> None:
    with pytest.raises(ConfigError, match=r"3 is more than the 2 blocks.*Type at most 2"):
        staged(data, freeze_discriminator=3).make_trainer(device="cpu")


def test_an_architecture_without_blocks_says_so(gan: GAN, data: DataSpec) -> None:
    assert list(gan.make_discriminator(gan.config, data).stages()) == []
    with pytest.raises(ConfigError, match="does not say which they are"):
        type(gan)(data, freeze_discriminator=1).make_trainer(device="cpu")


@pytest.mark.parametrize(("preset", "size", "blocks"), [("tiny", 32, 3), ("modern", 64, 4), ("original", 64, 4)])
def test_blocks_of_acgan(preset: str, size: int, blocks: int) -> None:
    gan = ACGAN(DataSpec(1, (size, size)), preset=preset)
    assert len(gan.make_discriminator(gan.config, gan.data).stages()) == blocks
