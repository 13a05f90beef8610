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

from medgan.augment import AdaptiveAugment
from medgan.data import ImageDataset
from medgan.models import ACGAN


def make_engine(dataset: ImageDataset) -> Callable[[int], None]:
    """Return a function that trains some steps the way a user does."""
    gan = ACGAN(dataset.spec)
    gan.make_trainer(device="cpu")

    def train(steps: int) -> None:
        gan.fit(dataset, steps=steps, total_steps=1_000_000)  # so long that the learning rates do not fall yet

    return train


def make_bare_loop(dataset: ImageDataset) -> Callable[[int], None]:
    """Return a function that trains some steps with torch alone; networks, losses and augmentation are the same."""
    gan = ACGAN(dataset.spec)
    config = gan.config
    recipe = (config.adversarial, config.head, config.gradient_penalty, config.penalty_weight, config.lecam_weight)
    if recipe != ("relativistic", "projection", "r1r2", None, 0):
        raise SystemExit(f"The preset modern has changed to {recipe}: change the bare loop as well.")
    generator = copy.deepcopy(gan.generator).requires_grad_(True).train().to(memory_format=torch.channels_last)
    discriminator = gan.make_discriminator(config, gan.data).to(memory_format=torch.channels_last)
    average = copy.deepcopy(generator).requires_grad_(False)
    augment = AdaptiveAugment(
        config.augment,
        config.augment_probability,
        target=config.ada_target,
        kimg=config.ada_kimg,
        limit=config.ada_limit,
    )
    betas = (config.beta1, config.beta2)
    optimizer_g = torch.optim.AdamW(generator.parameters(), config.generator_lr, betas, weight_decay=0, foreach=True)
    optimizer_d = torch.optim.AdamW(
        discriminator.parameters(), config.discriminator_lr, betas, weight_decay=0, foreach=True
    )
    images, labels = dataset.images_at(range(len(dataset))), torch.as_tensor(dataset.labels)
    done = 0

    def latents() -> Tensor:
        return torch.randn(config.batch_size, config.latent_dim)

    def realness(some: Tensor, label: Tensor) -> Tensor:
        return discriminator(augment(some), label).realness

    def step() -> None:
        nonlocal done
        rows = torch.randint(len(images), (config.batch_size,))
        real, label = images[rows], labels[rows]

        with torch.no_grad():
            fake = generator(latents(), label)
        on_real, on_fake = realness(real, label), realness(fake, label)
        augment.observe(on_real.detach().sign().mean(), len(real))
        loss = F.softplus(on_fake - on_real).mean()
        if done % config.penalty_every == 0:
            for half in (real, fake):
                leaf = half.clone().requires_grad_()
                (slope,) = torch.autograd.grad(realness(leaf, label).sum(), leaf, create_graph=True)
                loss = loss + config.penalty_every / 2 * slope.square().sum(dim=(1, 2, 3)).mean()
        optimizer_d.zero_grad(set_to_none=True)
        loss.backward()
        optimizer_d.step()

        discriminator.requires_grad_(False)
        on_fake = realness(generator(latents(), label), label)
        with torch.no_grad():
            on_real = realness(real, label)
        loss = F.softplus(on_real - on_fake).mean()
        optimizer_g.zero_grad(set_to_none=True)
        loss.backward()
        optimizer_g.step()
        discriminator.requires_grad_(True)

        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(generator.parameters()), 0.002)
        done += 1

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
