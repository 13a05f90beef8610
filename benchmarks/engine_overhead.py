"""What medgan's engine costs over the same networks, losses and optimizers in a bare PyTorch loop.

    python benchmarks/engine_overhead.py

Both sides train ACGAN (preset modern) on the same grey images; the engine through `GAN.fit` with a data set, the
bare loop with nothing around it. They take turns in one process, some steps each, so that a machine that becomes
slower or faster meanwhile treats both alike.
"""

from __future__ import annotations

import argparse
import copy
import os
import platform
import statistics
import time
from collections.abc import Callable

import numpy as np
import torch
import torch.nn.functional as F
from torch import Tensor

from medgan.augment import DiffAugment
from medgan.data import ImageDataset
from medgan.models import ACGAN


def make_engine(dataset: ImageDataset) -> Callable[[int], None]:
    """Return a function that trains some steps the way a user does."""
    gan = ACGAN(dataset.spec)
    gan.make_trainer(device="cpu")

    def train(steps: int) -> None:
        gan.fit(dataset, steps=steps)

    return train


def make_bare_loop(dataset: ImageDataset) -> Callable[[int], None]:
    """Return a function that trains some steps with torch alone."""
    gan = ACGAN(dataset.spec)
    config = gan.config
    generator = copy.deepcopy(gan.generator).requires_grad_(True).train().to(memory_format=torch.channels_last)
    discriminator = gan.make_discriminator(config, gan.data).to(memory_format=torch.channels_last)
    average = copy.deepcopy(generator).requires_grad_(False)
    augment = DiffAugment(config.augment, config.augment_probability)
    betas = (config.beta1, config.beta2)
    optimizer_g = torch.optim.Adam(generator.parameters(), config.generator_lr, betas, foreach=True)
    optimizer_d = torch.optim.Adam(discriminator.parameters(), config.discriminator_lr, betas, foreach=True)
    images, labels = dataset.images_at(range(len(dataset))), torch.as_tensor(dataset.labels)

    def latents() -> Tensor:
        return torch.randn(config.batch_size, config.latent_dim)

    def step() -> None:
        rows = torch.randint(len(images), (config.batch_size,))
        real, label = images[rows], labels[rows]

        with torch.no_grad():
            fake = generator(latents(), label)
        on_real, on_fake = discriminator(augment(real)), discriminator(augment(fake))
        loss = F.relu(1 - on_real.realness).mean() + F.relu(1 + on_fake.realness).mean()
        loss = loss + config.label_weight * F.cross_entropy(on_real.label_logits, label)
        optimizer_d.zero_grad(set_to_none=True)
        loss.backward()
        optimizer_d.step()

        discriminator.requires_grad_(False)
        output = discriminator(augment(generator(latents(), label)))
        loss = config.label_weight * F.cross_entropy(output.label_logits, label) - output.realness.mean()
        optimizer_g.zero_grad(set_to_none=True)
        loss.backward()
        optimizer_g.step()
        discriminator.requires_grad_(True)

        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(generator.parameters()), 0.002)

    def train(steps: int) -> None:
        for _ in range(steps):
            step()

    return train


def measure(train: Callable[[int], None], steps: int) -> tuple[float, float]:
    """Return the seconds on the wall and of the processor that a step takes."""
    wall, processor = time.perf_counter(), time.process_time()
    train(steps)
    return (time.perf_counter() - wall) / steps, (time.process_time() - processor) / steps


def describe(values: list[float], digits: int, unit: str = "") -> str:
    """Return the median with the quartiles."""
    low, middle, high = statistics.quantiles(values, n=4)
    return f"{middle:.{digits}f}{unit} ({low:.{digits}f} to {high:.{digits}f})"


if __name__ == "__main__":
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--steps", type=int, default=10, help="steps in a turn (default: 10)")
    parser.add_argument("--repeats", type=int, default=15, help="turns of each side (default: 15)")
    parser.add_argument("--size", type=int, default=64, help="pixels (default: 64)")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads(), help="threads of torch")
    arguments = parser.parse_args()
    torch.set_num_threads(arguments.threads)

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (1024, arguments.size, arguments.size), dtype=np.uint8)
    dataset = ImageDataset.from_arrays(pixels, rng.integers(0, 2, 1024), names=["NORMAL", "PNEUMONIA"])
    sides = {"medgan": make_engine(dataset), "bare loop": make_bare_loop(dataset)}
    load = os.getloadavg()[0]
    for train in sides.values():
        train(3)  # the first steps choose algorithms and take memory
    walls: dict[str, list[float]] = {name: [] for name in sides}
    processors: dict[str, list[float]] = {name: [] for name in sides}
    for turn in range(arguments.repeats):
        # Whoever is first in one turn is second in the next.
        for name in sorted(sides, reverse=bool(turn % 2)):
            wall, processor = measure(sides[name], arguments.steps)
            walls[name].append(wall)
            processors[name].append(processor)

    batch = ACGAN.get_preset().batch_size
    print(
        f"\nACGAN modern, {arguments.size}×{arguments.size} grey, batch {batch}; {arguments.repeats} turns of "
        f"{arguments.steps} steps; torch {torch.__version__}, {arguments.threads} thread(s), {platform.machine()}, "
        f"load {load:.1f} before and {os.getloadavg()[0]:.1f} after. Median (quartiles).\n"
    )
    print("| | images/s | ms a step | CPU ms a step |\n|---|---|---|---|")
    for name in sides:
        speed = describe([batch / value for value in walls[name]], 1)
        times = [describe([1000 * value for value in values[name]], 1) for values in (walls, processors)]
        print(f"| {name} | {speed} | {times[0]} | {times[1]} |")
    ratios = [
        describe([one / two for one, two in zip(values["medgan"], values["bare loop"], strict=True)], 3)
        for values in (walls, processors)
    ]
    print(f"| medgan / bare loop | | {ratios[0]} | {ratios[1]} |")
