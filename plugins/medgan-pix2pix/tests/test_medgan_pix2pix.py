"""Translation: the compliance kit, the losses and parameters by independent arithmetic, the noise of a U-Net."""

from __future__ import annotations

from itertools import pairwise
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from torch import nn

from medgan.core import Batch, Callback, DataSpec, LabelSpec
from medgan.errors import ConfigError
from medgan.testing import parametrize_with_checks
from medgan_pix2pix import CycleGAN, Pix2Pix, cyclegan
from medgan_pix2pix.cyclegan import Pool
from medgan_pix2pix.patches import PatchNetwork

PAIRS = DataSpec(1, (32, 32), source_channels=1)
LABELS = LabelSpec(("left", "right"))


def count(module):
    return sum(weight.numel() for weight in module.parameters())


def random_batch(n, data, seed=0):
    rng = torch.Generator().manual_seed(seed)
    images = torch.rand(n, data.channels, *data.size, generator=rng) * 2 - 1
    labels = None if data.labels is None else torch.arange(n) % len(data.labels)
    return Batch(images, labels, torch.rand(n, data.source_channels, *data.size, generator=rng) * 2 - 1)


@parametrize_with_checks([Pix2Pix, CycleGAN])
def test_compliance(architecture, check):
    check(architecture)


# ------------------------------------------------------------------------------------------------ pix2pix


def test_pix2pix_losses():
    """½ (−log σ(D(s, x)) − log(1 − σ(D(s, G)))) and −log σ(D(s, G)) + 100 |x − G|, means over patches; in numpy."""
    trainer = Pix2Pix(PAIRS, preset="tiny").make_trainer(device="cpu")
    real, fake = random_batch(3, PAIRS, 0), random_batch(3, PAIRS, 1)
    fake = Batch(fake.images, None, real.sources)
    with torch.no_grad():
        patches = [trainer.discriminator.network(torch.cat([half.sources, half.images], 1)) for half in (real, fake)]
        discriminator, generator = trainer.discriminator_loss(real, fake), trainer.generator_loss(real, fake)
    on_real, on_fake = (1 / (1 + np.exp(-patch.double().numpy())) for patch in patches)
    assert on_real.shape[1] > 1
    expected = (-np.log(on_real).mean() - np.log(1 - on_fake).mean()) / 2
    assert float(discriminator["adversarial"]) == pytest.approx(expected, rel=1e-5)
    assert float(generator["adversarial"]) == pytest.approx(-np.log(on_fake).mean(), rel=1e-5)
    distance = np.abs(real.images.double().numpy() - fake.images.double().numpy()).mean()
    assert float(generator["l1"]) == pytest.approx(100 * distance, rel=1e-5)
    assert len(discriminator) == 1
    assert len(generator) == 2


def convolution(i, o, *, norm):
    """Weights of 4×4 kernels; a bias, or the scale and the shift of the normalisation behind it."""
    return 16 * i * o + (2 * o if norm else o)


@pytest.mark.parametrize(("preset", "w", "patch_layers"), [("tiny", 4, 1), ("small", 16, 2), ("paper", 64, 3)])
@pytest.mark.parametrize(("size", "source", "target", "labels"), [(64, 1, 1, None), (256, 3, 2, LABELS)])
def test_pix2pix_parameter_counts(preset, w, patch_layers, size, source, target, labels):
    depth = min(8, int(np.log2(size)))
    widths = [w * min(2**level, 8) for level in range(depth)]
    planes = 0 if labels is None else 2
    ends = (0, depth - 1)
    down = zip([source + planes, *widths], widths, strict=False)
    generator = sum(convolution(i, o, norm=level not in ends) for level, (i, o) in enumerate(down))
    generator += convolution(widths[-1], widths[-2], norm=True)
    generator += sum(convolution(2 * widths[level + 1], widths[level], norm=True) for level in range(depth - 2))
    generator += convolution(2 * w, target, norm=False)
    judged = [source + target + planes, *(w * min(2**level, 8) for level in range(patch_layers + 1))]
    layers = pairwise(judged)
    discriminator = sum(convolution(i, o, norm=level > 0) for level, (i, o) in enumerate(layers))
    discriminator += convolution(judged[-1], 1, norm=False)
    data = DataSpec(target, (size, size), labels, source)
    gan = Pix2Pix(data, preset=preset)
    assert count(gan.generator) == generator
    assert count(gan.make_discriminator(gan.config, data)) == discriminator


def test_paper_has_the_known_numbers_of_parameters():
    """54.4 and 2.8 million for colour images of 256 pixels; 256×256 → 30×30 patches."""
    data = DataSpec(3, (256, 256), source_channels=3)
    gan = Pix2Pix(data, preset="paper")
    discriminator = gan.make_discriminator(gan.config, data)
    assert (count(gan.generator), count(discriminator)) == (54_414_531, 2_768_705)
    ups = [(part.in_channels, part.out_channels) for part in gan.generator.up.modules() if hasattr(part, "in_channels")]
    assert ups == [(512, 512), *[(1024, 512)] * 3, (1024, 256), (512, 128), (256, 64)]
    assert discriminator(*random_batch(1, data)).features.shape == (1, 900)


@pytest.mark.parametrize(("layers", "field"), [(1, 16), (2, 34), (3, 70)])
def test_a_patch_is_as_wide_as_the_paper_says(layers, field):
    network = PatchNetwork(1, 2, layers)
    for part in network.modules():
        if isinstance(part, nn.InstanceNorm2d):  # which looks at all of an image
            part.forward = lambda hidden: hidden
    images = torch.rand(1, 1, 128, 128, requires_grad=True)
    side = int(network(images).shape[1] ** 0.5)
    network(images)[0, side * (side // 2) + side // 2].backward()
    rows = images.grad[0, 0].abs().sum(1).nonzero()
    assert int(rows.max() - rows.min()) + 1 == field


def test_latents_are_the_dropout():
    """Half of them 0, half 2; at 64×64 those of the decoder's layers at 2², 4² and 8² pixels."""
    gan = Pix2Pix(DataSpec(1, (64, 64), source_channels=1), width=4)
    latents = gan.generator.make_latents(50, torch.Generator().manual_seed(0))
    assert latents.shape == (50, 32 * 2**2 + 32 * 4**2 + 16 * 8**2)
    assert set(latents.unique().tolist()) == {0, 2}
    assert latents.mean() == pytest.approx(1, abs=0.02)
    assert torch.equal(gan.generator.truncate(latents, 1), latents)
    assert torch.equal(gan.generator.truncate(latents, 0), torch.ones_like(latents))


def test_dropout_is_that_of_torch():
    """Activations that are dropped are 0, the others are scaled: forward hooks see what comes out of each layer."""
    gan = Pix2Pix(PAIRS, preset="tiny", dropout=0.25)
    sources = random_batch(2, PAIRS).sources
    seen = []
    gan.generator.up[1].register_forward_pre_hook(lambda _, inputs: seen.append(inputs[0]))
    latents = gan.generator.make_latents(2, torch.Generator().manual_seed(0))
    gan.generator(torch.ones_like(latents), None, sources)
    gan.generator(latents, None, sources)
    width = gan.generator.shapes[0][0]
    whole, dropped = (hidden[:, :width] for hidden in seen)
    mask = latents[:, : width * 4].view(2, width, 2, 2)
    torch.testing.assert_close(dropped, (whole * mask).relu())
    assert set(np.round(mask.unique().tolist(), 5)) == {0, 1.33333}


def test_samples_keep_their_noise_and_truncation_takes_it():
    gan = Pix2Pix(PAIRS, preset="tiny")
    source = random_batch(1, PAIRS).sources.repeat(6, 1, 1, 1)
    spread = [gan.sample(sources=source, truncation=psi).images.var(dim=0).sum() for psi in (1.0, 0.5, 0.0)]
    assert spread[0] > spread[1] > spread[2]
    assert spread[2] == 0
    certain = Pix2Pix(PAIRS, preset="tiny", dropout=0.0)
    assert certain.generator.latent_dim == 0
    assert certain.sample(sources=source).images.var(dim=0).sum() == 0


def test_learns_a_translation():
    """Negatives of blobs: the distance falls to less than a third in 60 steps."""
    rng = torch.Generator().manual_seed(0)
    images = nn.functional.interpolate(torch.rand(8, 1, 4, 4, generator=rng) * 2 - 1, size=32, mode="bilinear")
    batch = Batch(images, None, -images)
    gan = Pix2Pix(PAIRS, preset="tiny", width=8, batch_size=8, generator_lr=2e-3, dropout=0.0, ema_halflife=0)
    before = (gan.sample(sources=-images).images - images).abs().mean()
    gan.make_trainer(device="cpu").fit([batch] * 60, 60)
    assert (gan.sample(sources=-images).images - images).abs().mean() < before / 3


@pytest.mark.parametrize(
    ("data", "options", "hint"),
    [
        (DataSpec(1, (28, 28), source_channels=1), {}, "sides divisible by 16, got 28×28. Try --size 32"),
        (DataSpec(1, (16, 16), source_channels=1), {"patch_layers": 3}, "sides divisible by 32, got 16×16"),
        (DataSpec(1, (64, 64), source_channels=1, paired=False), {}, "--arch cyclegan"),
        (PAIRS, {"latent_dim": 5}, "the noise of pix2pix is its dropout"),
        (DataSpec(1, (64, 64)), {}, "--layout pairs"),
    ],
)
def test_what_cannot_be_is_refused(data, options, hint):
    with pytest.raises(ConfigError, match=hint):
        Pix2Pix(data, **options)


@pytest.mark.parametrize("size", [(48, 80), (96, 64), (16, 16)])
def test_other_sizes(size):
    data = DataSpec(1, size, source_channels=2)
    gan = Pix2Pix(data, preset="tiny")
    gan.make_trainer(device="cpu").fit([random_batch(2, data)], 1)
    assert gan.sample(sources=random_batch(2, data).sources).images.shape == (2, 1, *size)


# ----------------------------------------------------------------------------------------------- cyclegan


def test_cyclegan_losses():
    """½ ((D(x) − 1)² + D(G)²) of both; (D(G) − 1)² + 10 |cycle| + 5 |identity|, of both ways; in numpy."""
    trainer = CycleGAN(PAIRS, preset="tiny").make_trainer(device="cpu")
    real, made = random_batch(3, PAIRS, 0), random_batch(3, PAIRS, 1)
    given = (real.images, real.sources, made.images, made.sources)
    generator, judges = trainer.generator, trainer.discriminator
    with torch.no_grad():
        found = trainer.discriminator_terms(*given), trainer.generator_terms(*given)
        said = [judges.of_images(real.images), judges.of_images(made.images)]
        said += [judges.of_sources(real.sources), judges.of_sources(made.sources)]
        cycled = generator.back(made.images), generator.there(made.sources)
        kept = generator.there(real.images), generator.back(real.sources)
    x, gx, y, gy = (patches.double().numpy() for patches in said)
    assert float(found[0]["images"]) == pytest.approx((((x - 1) ** 2).mean() + (gx**2).mean()) / 2, rel=1e-5)
    assert float(found[0]["sources"]) == pytest.approx((((y - 1) ** 2).mean() + (gy**2).mean()) / 2, rel=1e-5)
    adversarial = ((gx - 1) ** 2).mean() + ((gy - 1) ** 2).mean()
    assert float(found[1]["adversarial"]) == pytest.approx(adversarial, rel=1e-5)

    def distance(one, other):
        return np.abs(one.double().numpy() - other.double().numpy()).mean()

    cycle = distance(cycled[0], real.sources) + distance(cycled[1], real.images)
    assert float(found[1]["cycle"]) == pytest.approx(10 * cycle, rel=1e-5)
    identity = distance(kept[0], real.images) + distance(kept[1], real.sources)
    assert float(found[1]["identity"]) == pytest.approx(5 * identity, rel=1e-5)


def resnet(i, o, w, blocks):
    """7×7, two 3×3 of stride 2, residual blocks, two transposed ones, 7×7; two numbers a channel normalise."""
    ends = 49 * i * w + 2 * w + 49 * w * o + o
    middle = 2 * (9 * w * 2 * w + 9 * 2 * w * 4 * w) + 2 * (2 * w + 4 * w) + 2 * (2 * w + w)
    return ends + middle + blocks * 2 * (9 * 16 * w * w + 2 * 4 * w)


@pytest.mark.parametrize(
    ("preset", "w", "blocks", "layers"), [("tiny", 4, 1, 1), ("small", 16, 4, 2), ("paper", 64, 9, 3)]
)
def test_cyclegan_parameter_counts(preset, w, blocks, layers):
    gan = CycleGAN(DataSpec(1, (64, 64), source_channels=3), preset=preset, identity_weight=0.0)
    assert count(gan.generator) == resnet(3, 1, w, blocks) + resnet(1, 3, w, blocks)
    widths = [w * min(2**level, 8) for level in range(layers + 1)]
    judge = sum(convolution(i, o, norm=True) for i, o in pairwise(widths)) + convolution(widths[-1], 1, norm=False)
    expected = 2 * judge + convolution(1, w, norm=False) + convolution(3, w, norm=False)
    assert count(gan.make_discriminator(gan.config, gan.data)) == expected


def test_cyclegan_of_the_paper_has_the_known_numbers_of_parameters():
    """Two generators of 11.4 and two discriminators of 2.8 million, for colour images."""
    gan = CycleGAN(DataSpec(3, (64, 64), source_channels=3), preset="paper")
    assert count(gan.generator) / 2e6 == pytest.approx(11.4, abs=0.05)
    assert count(gan.make_discriminator(gan.config, gan.data)) / 2e6 == pytest.approx(2.8, abs=0.05)


def test_pool_keeps_fifty_and_shows_old_ones_half_of_the_time():
    pool = Pool(50, (1, 1, 1))
    rng = torch.Generator().manual_seed(0)
    images = torch.arange(2000.0).view(-1, 1, 1, 1)
    shown = [pool.exchange(image[None], torch.rand(1, 2, generator=rng)).item() for image in images]
    assert shown[:50] == list(range(50))
    fresh = np.mean([image == number for number, image in enumerate(shown)][50:])
    assert fresh == pytest.approx(0.5, abs=0.05)
    assert len(set(shown[50:])) == 1950  # what was shown has left the pool
    ages = [number - image for number, image in enumerate(shown) if image != number]
    assert np.mean(ages) == pytest.approx(100, rel=0.15)  # one of 50 leaves at every other step
    assert int(pool.filled) == 50
    none = Pool(0, (1, 1, 1))
    assert none.exchange(torch.ones(1, 1, 1, 1), torch.zeros(1, 2)).item() == 1


def test_pool_survives_a_resume_and_rates_fall():
    gan = CycleGAN(PAIRS, preset="tiny")
    trainer = gan.make_trainer(device="cpu")
    rates = []

    class Watch(Callback):
        def on_step(self, trainer, metrics):
            rates.append(trainer.optimizers["generator"].param_groups[0]["lr"])

    trainer.fit([random_batch(2, PAIRS, seed) for seed in range(4)], 4, [Watch()])
    assert int(trainer.images_pool.filled) == 3
    assert rates == pytest.approx([2e-4, 2e-4, 2e-4, 1e-4])
    other = CycleGAN(PAIRS, preset="tiny").make_trainer(device="cpu")
    other.load_state_dict(trainer.state_dict())
    assert torch.equal(other.images_pool.images, trainer.images_pool.images)
    assert torch.equal(other.sources_pool.images, trainer.sources_pool.images)


def test_pools_take_the_translations_of_all_processes(monkeypatch):
    """Two processes are shown what one with a batch twice as large is, each its half, and keep the same pool."""
    made = torch.rand(8, 4, 1, 32, 32, generator=torch.Generator().manual_seed(0)) * 2 - 1
    numbers = []  # of each step, from the process that is alone

    def show(processes, rank):
        trainer = CycleGAN(PAIRS, preset="tiny").make_trainer(device="cpu")
        trainer.accelerator = SimpleNamespace(num_processes=processes, process_index=rank)
        own = slice(rank * 4 // processes, (rank + 1) * 4 // processes)
        shown = torch.empty_like(made[:, own])

        def gather_rows(accelerator, rows):
            assert accelerator is trainer.accelerator
            if processes == 1 and rows.ndim == 2:
                numbers.append(rows)
            everywhere = made[step] if rows.ndim == 4 else numbers[step]
            assert torch.equal(rows, everywhere[own])
            return everywhere

        monkeypatch.setattr(cyclegan, "gather_rows", gather_rows)
        for step, translations in enumerate(made):
            shown[step] = trainer.exchange(trainer.images_pool, translations[own])
        return shown, trainer.images_pool.images

    whole, first, second = show(1, 0), show(2, 0), show(2, 1)
    assert torch.equal(torch.cat([first[0], second[0]], dim=1), whole[0])
    assert torch.equal(first[1], whole[1])
    assert torch.equal(second[1], whole[1])
    assert not torch.equal(whole[0], made)


def test_reverse_is_the_way_back():
    data = DataSpec(1, (32, 32), source_channels=3, paired=False)
    gan = CycleGAN(data, preset="tiny", identity_weight=0.0)
    images = random_batch(2, data).images
    back = gan.reverse()
    assert (back.data.channels, back.data.source_channels) == (3, 1)
    with torch.inference_mode():
        expected = gan.generator.back(images)
    torch.testing.assert_close(back.sample(sources=images).images, expected)
    assert torch.equal(
        back.reverse().sample(sources=back.sample(sources=images).images).images,
        gan.sample(sources=back.sample(sources=images).images).images,
    )
    with pytest.raises(ConfigError, match="pix2pix translates one way"):
        Pix2Pix(PAIRS, preset="tiny").reverse()


@pytest.mark.parametrize(
    ("data", "options", "hint"),
    [
        (DataSpec(1, (30, 30), source_channels=1), {}, "sides divisible by 16, got 30×30. Try --size 32"),
        (
            DataSpec(1, (32, 32), source_channels=3),
            {},
            r"^cyclegan \(from .*\) shows .* sources have 3 and images 1\. Type --identity-weight 0, or --channels 1",
        ),
        (PAIRS, {"augment": "flip"}, "Leave --augment flip out"),
        (PAIRS, {"discriminator_steps": 2}, "moves all networks once"),
        (PAIRS, {"latent_dim": 3}, "one translation only"),
        (DataSpec(1, (32, 32), LABELS, source_channels=1), {}, r"learns no labels, .* dataset.without_labels\(\)"),
    ],
)
def test_what_cyclegan_cannot_do_is_refused(data, options, hint):
    with pytest.raises(ConfigError, match=hint):
        CycleGAN(data, preset="tiny", **options)
