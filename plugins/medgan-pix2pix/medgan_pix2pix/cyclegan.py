"""CycleGAN: two translations that undo each other, learnt from images that do not belong together."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, ClassVar, Self

import torch
from torch import Tensor, nn

from medgan import losses
from medgan.core import (
    GAN,
    Batch,
    DataSpec,
    Discriminator,
    DiscriminatorOutput,
    GANConfig,
    Metrics,
    Sides,
    Trainer,
    Translator,
    option,
)
from medgan.core.distribution import gather_rows
from medgan.core.networks import frozen
from medgan.errors import ConfigError
from medgan.nn import initialise_normal
from medgan_pix2pix.patches import PatchNetwork

if TYPE_CHECKING:
    from accelerate import Accelerator

__all__ = ["CycleDiscriminator", "CycleGAN", "CycleGANConfig", "CycleGANTrainer", "CycleGenerator", "Pool", "ResNet"]


@dataclass(frozen=True, kw_only=True)
class CycleGANConfig(GANConfig):
    """Options of `CycleGAN`; the defaults are the paper's."""

    batch_size: int = option(1, "Images and sources that pass through the networks at once, in each process.", ge=1)
    width: int = option(64, "Channels of all networks after their first layer.", ge=1)
    residual_blocks: int = option(9, "Residual blocks of each generator, at a quarter of the resolution.", ge=1)
    patch_layers: int = option(
        3,
        "Layers of stride 2 in a discriminator, whose patches have 70 pixels with 3, 34 with 2.",
        ge=1,
        le=5,
    )
    cycle_weight: float = option(10.0, "Weight of the way there and back, which has to end where it began.", ge=0)
    identity_weight: float = option(
        0.5,
        "Weight, times the cycle's, of leaving alone what is a target already; 0 for none.",
        ge=0,
    )
    pool_size: int = option(50, "Earlier translations of each kind that the discriminators are shown, too.", ge=0)
    beta1: float = option(0.5, "Adam's decay of the first moment.", ge=0, le=0.9999)
    beta2: float = option(0.999, "Adam's decay of the second moment.", ge=0, le=0.99999)
    lr_decay: float = option(
        0.5, "Share of the training, at its end, over which the learning rates fall linearly to 0.", ge=0, le=1
    )

    def __post_init__(self) -> None:
        """Refuse what acts on nothing."""
        super().__post_init__()
        self._refuse("latent_dim", because="a source has one translation only. Leave it out.")
        self._refuse("discriminator_steps", because="a step of cyclegan moves all networks once. Leave it out.")


class ResNet(nn.Module):
    """Halves an image twice, changes it in residual blocks, and doubles it again; instance normalisation throughout.

    Args:
        channels_in: Channels of what is translated.
        channels_out: Channels of the translation.
        width: Channels after the first layer.
        blocks: Number of residual blocks, of ``4 * width`` channels.

    References:
        Johnson et al., 2016, arXiv:1603.08155; Zhu et al., 2017, arXiv:1703.10593, section 7.2.
    """

    def __init__(self, channels_in: int, channels_out: int, width: int, blocks: int) -> None:
        """Create the layers."""
        super().__init__()
        self.down = nn.Sequential(
            nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(channels_in, width, 7, bias=False), *_normalised(width)),
            *(nn.Sequential(nn.Conv2d(i, 2 * i, 3, 2, 1, bias=False), *_normalised(2 * i)) for i in (width, 2 * width)),
        )
        self.blocks = nn.ModuleList(
            nn.Sequential(
                nn.ReflectionPad2d(1),
                nn.Conv2d(4 * width, 4 * width, 3, bias=False),
                *_normalised(4 * width),
                nn.ReflectionPad2d(1),
                nn.Conv2d(4 * width, 4 * width, 3, bias=False),
                nn.InstanceNorm2d(4 * width, affine=True),
            )
            for _ in range(blocks)
        )
        self.up = nn.Sequential(
            *(
                nn.Sequential(nn.ConvTranspose2d(2 * i, i, 3, 2, 1, output_padding=1, bias=False), *_normalised(i))
                for i in (2 * width, width)
            )
        )
        self.to_image = nn.Sequential(nn.ReflectionPad2d(3), nn.Conv2d(width, channels_out, 7))
        self.apply(initialise_normal)

    def forward(self, images: Tensor) -> Tensor:
        """Translate images, shape ``(N, channels_in, height, width)``."""
        hidden = self.down(images)
        for block in self.blocks:
            hidden = hidden + block(hidden)
        return torch.tanh(self.to_image(self.up(hidden)).float())


class CycleGenerator(Translator):
    """Both translations; `forward` is the one from sources to images.

    Args:
        data: Facts of the data.
        width: As in `ResNet`.
        blocks: As in `ResNet`.

    Attributes:
        there: From sources to images.
        back: From images to sources.
    """

    def __init__(self, data: DataSpec, width: int, blocks: int) -> None:
        """Create both."""
        super().__init__(0)
        self.there = ResNet(data.source_channels, data.channels, width, blocks)
        self.back = ResNet(data.channels, data.source_channels, width, blocks)

    def forward(self, latents: Tensor, labels: Tensor | None = None, sources: Tensor | None = None) -> Tensor:
        """Translate sources; latents are of length 0, and there are no labels."""
        images: Tensor = self.there(sources)
        return images


class CycleDiscriminator(Discriminator):
    """A judge of images and one of sources, each patch by patch; `forward` is the former.

    Args:
        data: Facts of the data.
        width: As in `PatchNetwork`.
        layers: As in `PatchNetwork`.

    Attributes:
        of_images: Judges images.
        of_sources: Judges sources.
    """

    def __init__(self, data: DataSpec, width: int, layers: int) -> None:
        """Create both."""
        super().__init__()
        self.of_images = PatchNetwork(data.channels, width, layers)
        self.of_sources = PatchNetwork(data.source_channels, width, layers)

    def forward(
        self, images: Tensor, labels: Tensor | None = None, sources: Tensor | None = None
    ) -> DiscriminatorOutput:
        """Judge images, whatever they were made from."""
        patches = self.of_images(images)
        return DiscriminatorOutput(patches.mean(dim=1), None, patches)


class Pool(nn.Module):
    """Earlier translations; a discriminator is shown one of them in the place of every other new one.

    Args:
        size: Number that is kept; 0 for none.
        shape: Channels, height and width of an image.

    References:
        Shrivastava et al., 2017, arXiv:1612.07828.
    """

    images: Tensor
    filled: Tensor

    def __init__(self, size: int, shape: tuple[int, ...]) -> None:
        """Begin empty."""
        super().__init__()
        self.register_buffer("images", torch.zeros(size, *shape))
        self.register_buffer("filled", torch.zeros((), dtype=torch.int64))

    @torch.no_grad()
    def exchange(self, fresh: Tensor, numbers: Tensor) -> Tensor:
        """Return new images, or earlier ones whose places they take.

        While there is room, all are kept and returned; then each by a chance of one half, else it is returned alone.

        Args:
            fresh: Shape ``(N, C, height, width)``, without a gradient.
            numbers: Two numbers in [0, 1) for each, shape ``(N, 2)``: whether, and which.
        """
        size = len(self.images)
        shown = fresh.float().clone()
        for row, (chance, place) in enumerate(numbers.tolist() if size else []):
            filled = int(self.filled)
            if filled < size:
                self.images[filled] = shown[row]
                self.filled += 1
            elif chance < 0.5:
                chosen = min(int(place * size), size - 1)
                earlier = self.images[chosen].clone()
                self.images[chosen] = shown[row]
                shown[row] = earlier
        return shown


class CycleGANTrainer(Trainer[CycleGANConfig]):
    """Both generators, then both discriminators, with least squares (LSGAN).

    Attributes:
        images_pool: Earlier translations of sources, made in whichever process.
        sources_pool: Earlier translations of images, likewise.
    """

    generator: CycleGenerator
    discriminator: CycleDiscriminator

    def __init__(
        self,
        generator: Translator,
        discriminator: Discriminator,
        config: CycleGANConfig,
        data: DataSpec,
        *,
        accelerator: Accelerator | None = None,
    ) -> None:
        """Place the networks and create the pools."""
        super().__init__(generator, discriminator, config, data, accelerator=accelerator)
        self.images_pool = self._place(Pool(config.pool_size, (data.channels, *data.size)))
        self.sources_pool = self._place(Pool(config.pool_size, (data.source_channels, *data.size)))

    def train_step(self, batch: Batch) -> Metrics:
        """Translate both ways and back, move the generators, then the discriminators."""
        images, sources = batch.images, batch.sources
        assert sources is not None
        with frozen(self.discriminator), self.accelerator.autocast():
            made_images, made_sources = self.generator.there(sources), self.generator.back(images)
            terms = self.generator_terms(images, sources, made_images, made_sources)
        metrics = self.update("generator", terms)
        shown_images = self.exchange(self.images_pool, made_images.detach())
        shown_sources = self.exchange(self.sources_pool, made_sources.detach())
        with self.accelerator.autocast():
            terms = self.discriminator_terms(images, sources, shown_images, shown_sources)
        return metrics | self.update("discriminator", terms)

    def generator_terms(
        self, images: Tensor, sources: Tensor, made_images: Tensor, made_sources: Tensor
    ) -> dict[str, Tensor]:
        """Return the loss of both generators.

        Args:
            images: Real images.
            sources: Real sources.
            made_images: Translations of `sources`.
            made_sources: Translations of `images`.
        """
        generator, discriminator, config = self.generator, self.discriminator, self.config
        distance = losses.mean_absolute_error
        terms = {
            "adversarial": losses.least_squares(discriminator.of_images(made_images), 1)
            + losses.least_squares(discriminator.of_sources(made_sources), 1),
            "cycle": config.cycle_weight
            * (distance(generator.back(made_images), sources) + distance(generator.there(made_sources), images)),
        }
        if config.identity_weight:
            kept = distance(generator.there(images), images) + distance(generator.back(sources), sources)
            terms["identity"] = config.cycle_weight * config.identity_weight * kept
        return terms

    def discriminator_terms(
        self, images: Tensor, sources: Tensor, made_images: Tensor, made_sources: Tensor
    ) -> dict[str, Tensor]:
        """Return the loss of both discriminators, halved.

        Args:
            images: Real images.
            sources: Real sources.
            made_images: Translations into images, without a gradient.
            made_sources: Translations into sources, likewise.
        """
        judges = self.discriminator
        return {
            name: (losses.least_squares(judge(real), 1) + losses.least_squares(judge(made), 0)) / 2
            for name, judge, real, made in (
                ("images", judges.of_images, images, made_images),
                ("sources", judges.of_sources, sources, made_sources),
            )
        }

    def exchange(self, pool: Pool, made: Tensor) -> Tensor:
        """Return what the discriminator is shown of new translations; see `Pool.exchange`.

        The pool takes those of all processes, in each of them. So it is the same everywhere, as a checkpoint needs, and
        what is shown does not depend on how the images are divided.

        Args:
            pool: Earlier translations.
            made: New ones of this process, shape ``(N, C, height, width)``, without a gradient.
        """
        n = len(made)
        numbers = self.draw(n, lambda count, rng: torch.rand(count, 2, generator=rng, device=rng.device))
        shown = pool.exchange(gather_rows(self.accelerator, made), gather_rows(self.accelerator, numbers))
        first = n * self.accelerator.process_index
        return shown[first : first + n]

    def stateful_modules(self) -> tuple[str, ...]:
        """Return the attributes whose state is part of the training's."""
        return (*super().stateful_modules(), "images_pool", "sources_pool")


class CycleGAN(GAN):
    """Translation learnt from two sets of images that do not belong to each other, both ways at once.

    What is translated and translated back has to be what it was, and what is a target already has to stay it. Pairs do
    as well; that they are pairs is not looked at. `reverse` gives the way back.

    Presets: ``paper`` has the paper's widths, for GPUs and images of 256 pixels; ``small`` has a quarter of the
    channels and 4 residual blocks, for two CPU cores at 64 pixels; ``tiny`` is for tests.

    References:
        Zhu et al., 2017, arXiv:1703.10593.
    """

    name = "cyclegan"
    summary = "Translation of images learnt without pairs, both ways at once; without labels"
    reference = "arXiv:1703.10593"
    api_version = 1
    Config = CycleGANConfig
    Trainer = CycleGANTrainer
    presets: ClassVar = {
        "paper": CycleGANConfig(),
        "small": CycleGANConfig(batch_size=4, width=16, residual_blocks=4, patch_layers=2),
        "tiny": CycleGANConfig(batch_size=2, width=4, residual_blocks=1, patch_layers=1, pool_size=3),
    }
    default_preset = "small"
    label_kinds = ()
    translates = True

    @classmethod
    def get_sides(cls, config: CycleGANConfig, dims: int) -> Sides:
        """Return sides that can be halved twice, and that hold a patch of the discriminators."""
        return Sides(multiple_of=max(16, 4 << config.patch_layers))

    @classmethod
    def check(cls, config: GANConfig, data: DataSpec) -> None:
        """Raise if the networks cannot do such images, or an option acts on nothing; see `GAN.check`."""
        super().check(config, data)
        assert isinstance(config, CycleGANConfig)
        if config.identity_weight and data.channels != data.source_channels:
            raise ConfigError(
                f"{cls._who()} shows each generator what it is to make (--identity-weight {config.identity_weight:g}), "
                f"which needs sources and images of as many channels, but sources have {data.source_channels} and "
                f"images {data.channels}. Type --identity-weight 0, or --channels 1, which reads both in grey."
            )
        if config.augment != "none":
            raise ConfigError(
                f"cyclegan has a training step of its own, without augmentation. Leave --augment {config.augment} out, "
                "or type --augment none."
            )

    def make_generator(self, config: CycleGANConfig, data: DataSpec) -> Translator:
        """Return a fresh `CycleGenerator`."""
        return CycleGenerator(data, config.width, config.residual_blocks)

    def make_discriminator(self, config: CycleGANConfig, data: DataSpec) -> Discriminator:
        """Return a fresh `CycleDiscriminator`."""
        return CycleDiscriminator(data, config.width, config.patch_layers)

    def reverse(self) -> Self:
        """Return the way back: a model that makes sources of images."""
        data = replace(self.data, channels=self.data.source_channels, source_channels=self.data.channels)
        other = type(self)(data, self.config)
        own: Any = self.generator
        turned: Any = other.generator
        turned.there.load_state_dict(own.back.state_dict())
        turned.back.load_state_dict(own.there.state_dict())
        other.provenance = {**self.provenance, "reversed": True}
        return other


def _normalised(channels: int) -> list[nn.Module]:
    """Return a normalisation and a ReLU."""
    return [nn.InstanceNorm2d(channels, affine=True), nn.ReLU()]
