"""What medgan's engine costs over the same networks, losses, augmentation and optimizers in a bare PyTorch loop.

ACGAN with the preset `modern` on grey images. The engine trains through `GAN.fit`, the bare loop with nothing around
it: no checks, no log, no random state of its own, no hooks for an architecture to override.
"""

from __future__ import annotations

from typing import Any

from benchmarks.protocol import Comparison, Settings, Side, Target
from benchmarks.worker import Work

TITLE = "What the training loop costs"

_HERE = "benchmarks.measurements.loop_overhead"

# What the bare loop takes from the preset, or has with its networks; the learning rates do not fall yet.
_TAKEN = {
    "ada_target", "clip_norm", "discriminator_lr", "lr_decay", "minibatch_std", "penalty_one_in", "spectral_norm"
}  # fmt: skip


def make_comparisons(settings: Settings) -> list[Comparison]:
    """Return two sizes of images."""
    comparisons = []
    for size, steps in ((32, 1),) if settings.quick else ((32, 30), (64, 10)):
        options = {"size": size, "steps": steps}
        comparisons.append(
            Comparison(
                title=f"{size} × {size} pixels, batch of the preset",
                unit="step",
                sides=[
                    Side(name="bare PyTorch loop", work=f"{_HERE}:make_bare_loop", options=options, units=steps),
                    Side(name="medgan", work=f"{_HERE}:make_medgan", options=options, units=steps),
                ],
                targets=[Target(side="medgan", of="ratio", bound="at most", value=1.05)],
                turns=10,
                rounds=3,
            )
        )
    return comparisons


def _make_data(size: int) -> Any:
    import numpy as np

    from medgan.data import ImageDataset

    rng = np.random.default_rng(0)
    pixels = rng.integers(0, 256, (1024, size, size), dtype=np.uint8)
    return ImageDataset.from_arrays(pixels, rng.integers(0, 2, len(pixels)), names=["NORMAL", "PNEUMONIA"])


def make_medgan(size: int, steps: int) -> Work:
    """Return a function that trains some steps the way a user does."""
    from medgan.models import ACGAN

    dataset = _make_data(size)
    gan = ACGAN(dataset.spec)
    gan.make_trainer(device="cpu")

    def train() -> None:
        gan.fit(dataset, steps=steps, total_steps=1_000_000)  # so long that the learning rates do not fall yet

    return train


def make_bare_loop(size: int, steps: int) -> Work:
    """Return a function that trains some steps with torch alone; networks, losses and augmentation are the same."""
    import copy
    import dataclasses

    import torch
    import torch.nn.functional as F
    from torch import Tensor

    from medgan.augment import AdaptiveAugment
    from medgan.models import ACGAN

    dataset = _make_data(size)
    gan = ACGAN(dataset.spec)
    config: Any = gan.config
    chosen = {
        field.name: getattr(config, field.name)
        for field in dataclasses.fields(config)
        if getattr(config, field.name) != field.default and field.name not in _TAKEN
    }
    if chosen != {"adversarial": "relativistic", "head": "projection", "gradient_penalty": "r1r2"}:
        raise RuntimeError(f"the preset modern has changed to {chosen}: change the bare loop as well")
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
        judged: Tensor = discriminator(augment(some), label).realness
        return judged

    def step() -> None:
        nonlocal done
        rows = torch.randint(len(images), (config.batch_size,))
        real, label = images[rows], labels[rows]

        with torch.no_grad():
            fake = generator(latents(), label)
        on_real, on_fake = realness(real, label), realness(fake, label)
        augment.observe((on_real - on_fake).detach().sign().mean(), len(real))
        loss = F.softplus(on_fake - on_real).mean()
        if done % config.penalty_every == 0:
            penalised = torch.arange(0, len(real), config.penalty_one_in)
            penalised = penalised + torch.randint(config.penalty_one_in, penalised.shape)
            for half in (real, fake):
                leaf = half[penalised].requires_grad_()
                (slope,) = torch.autograd.grad(realness(leaf, label[penalised]).sum(), leaf, create_graph=True)
                loss = loss + config.penalty_every / 2 * slope.square().sum(dim=(1, 2, 3)).mean()
        optimizer_d.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(discriminator.parameters(), config.clip_norm)
        optimizer_d.step()

        discriminator.requires_grad_(False)
        on_fake = realness(generator(latents(), label), label)
        with torch.no_grad():
            on_real = realness(real, label)
        loss = F.softplus(on_real - on_fake).mean()
        optimizer_g.zero_grad(set_to_none=True)
        loss.backward()
        torch.nn.utils.clip_grad_norm_(generator.parameters(), config.clip_norm)
        optimizer_g.step()
        discriminator.requires_grad_(True)

        with torch.no_grad():
            torch._foreach_lerp_(list(average.parameters()), list(generator.parameters()), 0.002)
        done += 1

    def train() -> None:
        for _ in range(steps):
            step()

    return train
