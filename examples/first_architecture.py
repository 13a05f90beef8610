"""A GAN of your own
=================

Two networks, two losses, a name; then train it like any other. It makes images of every size that is divisible by 4,
with or without classes.
"""

import argparse
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import nn

from medgan import losses, registry
from medgan.core import GAN, AdversarialTrainer, Discriminator, DiscriminatorOutput, GANConfig, Generator, Sides, option
from medgan.data import open_dataset
from medgan.pages import make_grid, save_image


@dataclass(frozen=True, kw_only=True)
class PlainConfig(GANConfig):
    """Options: those of every GAN, and one more."""

    width: int = option(16, "Channels at full resolution.", ge=1)


class PlainGenerator(Generator):
    """Grows a 1/4-size seed twice."""

    def __init__(self, data, config):
        """Create the layers."""
        super().__init__(config.latent_dim)
        self.base = (4 * config.width, *(length // 4 for length in data.size))
        self.embed = nn.Embedding(max(1, data.num_labels), config.latent_dim)
        self.seed = nn.Linear(config.latent_dim, torch.Size(self.base).numel())
        self.layers = nn.Sequential(
            *(nn.Upsample(scale_factor=2), nn.Conv2d(4 * config.width, 2 * config.width, 3, padding=1), nn.ReLU()),
            *(nn.Upsample(scale_factor=2), nn.Conv2d(2 * config.width, config.width, 3, padding=1), nn.ReLU()),
            *(nn.Conv2d(config.width, data.channels, 3, padding=1), nn.Tanh()),
        )

    def forward(self, latents, labels=None):
        """Make images."""
        if labels is not None:
            latents = latents + self.embed(labels)
        return self.layers(self.seed(latents).view(-1, *self.base))


class PlainDiscriminator(Discriminator):
    """Shrinks an image twice; asks how real it is, and how much it looks like its label."""

    def __init__(self, data, config):
        """Create the layers."""
        super().__init__()
        self.layers = nn.Sequential(
            *(nn.Conv2d(data.channels, 2 * config.width, 4, 2, 1), nn.LeakyReLU(0.2)),
            *(nn.Conv2d(2 * config.width, 4 * config.width, 4, 2, 1), nn.LeakyReLU(0.2), nn.Flatten()),
        )
        features = 4 * config.width * torch.Size(data.size).numel() // 16
        self.realness = nn.Linear(features, 1)
        self.embed = nn.Embedding(max(1, data.num_labels), features)

    def forward(self, images, labels=None):
        """Judge images."""
        features = self.layers(images)
        realness = self.realness(features).squeeze(1)
        if labels is not None:
            realness = realness + (features * self.embed(labels)).mean(1)
        return DiscriminatorOutput(realness)


class PlainTrainer(AdversarialTrainer[PlainConfig]):
    """The losses; making fakes, alternating, averaging and resuming come from medgan."""

    def discriminator_loss(self, real, fake):
        """Tell real from fake."""
        on_real, on_fake = self.discriminator(*real).realness, self.discriminator(*fake).realness
        return {"adversarial": losses.non_saturating_discriminator(on_real, on_fake)}

    def generator_loss(self, real, fake):
        """Pass as real."""
        return {"adversarial": losses.non_saturating_generator(self.discriminator(*fake).realness)}


class Plain(GAN):
    """A small convolutional GAN, conditional where there are labels."""

    name = "plain"
    summary = "A first architecture"
    Config = PlainConfig
    Trainer = PlainTrainer
    presets: ClassVar = {"standard": PlainConfig(), "tiny": PlainConfig(width=4, latent_dim=8, batch_size=4)}
    default_preset = "standard"
    sides = Sides(multiple_of=4)

    def make_generator(self, config, data):
        """Return a fresh generator."""
        return PlainGenerator(data, config)

    def make_discriminator(self, config, data):
        """Return a fresh discriminator."""
        return PlainDiscriminator(data, config)


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description="Train a GAN of your own.")
    parser.add_argument("--steps", type=int, default=20, help="training steps")
    steps = parser.parse_args().steps

    registry.register(Plain)  # an installed package declares an entry point instead
    dataset = open_dataset("phantom://chest?n=200", size=32)
    gan = registry.get("plain")(dataset.spec).fit(dataset, steps=steps)
    samples = gan.sample(16)
    save_image(make_grid(samples, gan.data), "first_architecture.png")
    print(samples.images.shape)
