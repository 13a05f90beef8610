"""The GANs for volumes: the compliance kit, their losses and parameters by independent arithmetic, HA-GAN's parts."""

from __future__ import annotations

import numpy as np
import pytest
import torch
from torch import nn

from medgan.core import Batch, DataSpec, LabelSpec
from medgan.errors import ConfigError
from medgan.testing import parametrize_with_checks
from medgan_3d import DCGAN3D, HAGAN
from medgan_3d.hierarchy import FACTOR, HAGANDiscriminator, HAGANGenerator, Views, thickness

LABELS = LabelSpec(("NORMAL", "EMPHYSEMA"))
GREY = DataSpec(1, (64, 64, 64), LABELS)
SMALL = DataSpec(1, (32, 16, 16), LABELS)


def count(module):
    return sum(weight.numel() for weight in module.parameters())


def random_volumes(n, size, seed=0):
    return torch.rand(n, 1, *size, generator=torch.Generator().manual_seed(seed)) * 2 - 1


def gradients(loss, module):
    """Return which of a module's parts have a gradient of a loss."""
    module.zero_grad()
    loss.backward(retain_graph=True)
    return {name for name, part in module.named_children() if any(w.grad is not None for w in part.parameters())}


@parametrize_with_checks([DCGAN3D, HAGAN])
def test_compliance(architecture, check):
    check(architecture)


# ------------------------------------------------------------------------------------------------- dcgan-3d


@pytest.mark.parametrize("loss", ["hinge", "non-saturating"])
def test_dcgan_losses(loss):
    """Hinge: max(0, 1 − D(x)) + max(0, 1 + D(G(z))), −D(G(z)); else cross-entropies of σ(D); in numpy."""
    trainer = DCGAN3D(SMALL, preset="tiny", loss=loss).make_trainer(device="cpu")
    trainer.discriminator.eval()  # the estimates of the spectral norms stay
    labels = torch.tensor([0, 1, 1, 0])
    real, fake = (Batch(random_volumes(4, SMALL.size, seed), labels) for seed in (0, 1))
    with torch.no_grad():
        on_real, on_fake = (trainer.discriminator(*half).realness.double().numpy() for half in (real, fake))
        found = float(trainer.discriminator_loss(real, fake)["adversarial"])
        found_generator = float(trainer.generator_loss(real, fake)["adversarial"])
    if loss == "hinge":
        expected = np.maximum(0, 1 - on_real).mean() + np.maximum(0, 1 + on_fake).mean()
        expected_generator = -on_fake.mean()
    else:
        sigmoid_real, sigmoid_fake = 1 / (1 + np.exp(-on_real)), 1 / (1 + np.exp(-on_fake))
        expected = -np.log(sigmoid_real).mean() - np.log(1 - sigmoid_fake).mean()
        expected_generator = -np.log(sigmoid_fake).mean()
    assert found == pytest.approx(expected, rel=1e-5)
    assert found_generator == pytest.approx(expected_generator, rel=1e-5)


@pytest.mark.parametrize(("preset", "width", "latent"), [("tiny", 4, 16), ("small", 16, 128), ("paper", 64, 200)])
def test_dcgan_parameter_counts(preset, width, latent):
    """4³ kernels; w, 2w, 4w and 8w channels at 32³, 16³, 8³ and 4³."""
    w, kernel, seed = width, 4**3, 4**3 * 8 * width
    up = [(8 * w, 4 * w), (4 * w, 2 * w), (2 * w, w)]
    generator = (latent + 2) * seed + 2 * 8 * w + sum(i * o * kernel + 2 * o for i, o in up) + w * kernel + 1
    down = [(1, w), *((o, i) for i, o in reversed(up))]
    discriminator = sum(i * o * kernel + o for i, o in down) + seed + 1 + 2 * seed
    gan = DCGAN3D(GREY, preset=preset)
    assert count(gan.generator) == generator
    assert count(gan.make_discriminator(gan.config, GREY)) == discriminator


def test_dcgan_networks_are_those_of_3d_gan():
    """Wu et al., figure 1: 200 latents; 512, 256, 128 and 64 channels at 4³, 8³, 16³ and 32³; one at 64³."""
    gan = DCGAN3D(DataSpec(1, (64, 64, 64)), preset="paper")
    ups = [part for part in gan.generator.modules() if isinstance(part, nn.ConvTranspose3d)]
    assert [(part.in_channels, part.out_channels) for part in ups] == [(512, 256), (256, 128), (128, 64), (64, 1)]
    assert {(part.kernel_size, part.stride, part.padding) for part in ups} == {((4, 4, 4), (2, 2, 2), (1, 1, 1))}
    assert gan.generator.latent_dim == 200


def test_dcgan_discriminator_layers_have_spectral_norm_one():
    discriminator = DCGAN3D(SMALL, preset="tiny").make_discriminator(DCGAN3D.get_preset("tiny"), SMALL).train()
    for _ in range(100):  # each pass sharpens the estimates
        discriminator(random_volumes(1, SMALL.size), torch.tensor([1]))
    layers = [part for part in discriminator.eval().modules() if isinstance(part, nn.Conv3d | nn.Linear)]
    assert len(layers) == 2 + 2
    for layer in layers:
        norm = np.linalg.norm(layer.weight.detach().flatten(1).double().numpy(), 2)
        assert norm == pytest.approx(1, abs=0.01)


# --------------------------------------------------------------------------------------------------- ha-gan


def block(channels_in, channels_out, kernel=3):
    """Weights and biases of a convolution, and of the group normalisation behind it."""
    return channels_in * channels_out * kernel**3 + channels_out + 2 * channels_out


@pytest.mark.parametrize(("preset", "w", "latent"), [("tiny", 8, 16), ("small", 16, 128), ("paper", 64, 1024)])
def test_hagan_parameter_counts(preset, w, latent):
    """At 64³ the features are 16³ and the seed is 4³; a sub-volume is 8 × 64 × 64."""
    project = (latent + 2) * 4**3 * 4 * w + 4**3 * 4 * w
    trunk = block(4 * w, 4 * w) + block(4 * w, 2 * w) + block(2 * w, w)
    low = block(w, w // 2) + block(w // 2, w // 4) + w // 4 * 27 + 1
    high = block(w, w // 2) + w // 2 * 27 + 1
    of_parts = block(1, w // 2, 4) + block(w // 2, w // 2) + block(w // 2, w, 4)
    of_features = block(w, w // 2, 4) + block(w // 2, w, 4) + w * 4**3 * latent + latent
    gan = HAGAN(GREY, preset=preset)
    assert count(gan.generator) == project + trunk + low + high + of_parts + of_features

    # 8 × 64 × 64 → 4 × 32 × 32 → 2 × 16 × 16 → 1 × 8 × 8 → 1 × 4 × 4; the last kernel is 1 × 4 × 4.
    q = w // 4
    convolutions = (q + 2 * q**2 + 8 * q**2) * 64 + 32 * q**2 * 16 + 15 * q
    dense = 8 * q * 16 * 2 * w + 2 * w + (2 * w + 1) * w + w + w + 1
    # 16³ → 8³ → 4³.
    h = w // 2
    whole = (h + 2 * h**2) * 64 + 3 * h + 2 * h * 64 + 1
    labels = 2 * w + 2 * 2 * h * 64
    assert count(gan.make_discriminator(gan.config, GREY)) == convolutions + dense + whole + labels


def test_hagan_networks_are_those_of_the_paper():
    """At 256³: 1024 latents; 512, 512, 256, 128 and 64 channels at 4³ to 64³; 16 to 512 in the discriminator."""
    data = DataSpec(1, (256, 256, 256))
    with torch.device("meta"):
        generator, discriminator = HAGANGenerator(data, 1024, 64), HAGANDiscriminator(data, 64, 8)
    convolutions = {
        name: [part.out_channels for part in module.modules() if isinstance(part, nn.Conv3d)]
        for name, module in [*generator.named_children(), *generator.encoder.named_children()]
    }
    assert generator.project.weight.shape == (512 * 4**3, 1024)
    assert convolutions["trunk"] == [512, 512, 256, 128, 64]
    assert convolutions["low"] == [32, 16, 1]
    assert convolutions["high"] == [32, 1]
    assert convolutions["of_parts"] == [32, 32, 64]
    assert convolutions["of_features"] == [32, 64, 128, 256]
    high, low = (
        [part for part in blocks.modules() if isinstance(part, nn.Conv3d)]
        for blocks in (discriminator.high_blocks, discriminator.low_blocks)
    )
    assert [part.out_channels for part in high] == [16, 32, 64, 128, 256, 512]
    assert [part.out_channels for part in low] == [32, 64, 128, 256]


@pytest.mark.parametrize("training", [True, False])
def test_a_sub_volume_is_what_the_whole_volume_has_there(training):
    data = DataSpec(1, (64, 16, 32))
    generator = HAGAN(data, preset="tiny").generator.train(training)
    with torch.no_grad():
        for weight in generator.parameters():
            weight.add_(torch.randn_like(weight) * 0.1)
        latents = generator.make_latents(2, torch.Generator().manual_seed(0))
        whole, features = generator(latents), generator.features(latents)
        for start, stop in ((0, 1), (0, 2), (3, 5), (7, 8), (14, 16), (0, 16)):
            part = generator.make_part(features, start, stop)
            assert part.shape == (2, 1, 4 * (stop - start), 16, 32)
            torch.testing.assert_close(part, whole[:, :, 4 * start : 4 * stop], rtol=0, atol=1e-5)
        # Without the margin it is not.
        bare = generator.high(features[:, :, 3:5])
        assert (bare - whole[:, :, 12:20]).abs().max() > 1e-3


def test_views_of_generated_and_of_real_volumes_agree():
    gan = HAGAN(DataSpec(1, (64, 16, 16)), preset="tiny")
    generator, starts = gan.generator, [0, 5, 14]
    with torch.no_grad():
        latents = generator.make_latents(3, torch.Generator().manual_seed(0))
        made = generator.make_views(latents, None, starts, 2)
        cut = Views.of(generator(latents), starts, 2)
    torch.testing.assert_close(made.high, cut.high, rtol=0, atol=1e-5)
    assert made.low.shape == cut.low.shape == (3, 1, 16, 4, 4)
    assert made.position.tolist() == cut.position.tolist() == pytest.approx([0, 5 / 14, 1])
    volume = np.arange(64 * 16 * 16, dtype=np.float32).reshape(1, 1, 64, 16, 16)
    views = Views.of(torch.from_numpy(volume), [5], 2)
    assert np.array_equal(views.high.numpy(), volume[:, :, 20:28])
    means = volume.reshape(1, 1, 16, 4, 4, 4, 4, 4).mean(axis=(3, 5, 7))
    np.testing.assert_allclose(views.low.numpy(), means)


def test_hagan_losses():
    """Cross-entropy of each resolution, and mean absolute differences; in numpy."""
    trainer = HAGAN(SMALL, preset="tiny").make_trainer(device="cpu")
    trainer.discriminator.eval()
    generator, labels, starts = trainer.generator, torch.tensor([0, 1, 1]), [0, 3, 7]
    real = Batch(random_volumes(3, SMALL.size), labels)
    views = Views.of(real.images, starts, 1)
    with torch.no_grad():
        fake = generator.make_views(generator.make_latents(3), labels, starts, 1)
        on_real, on_fake = (trainer.discriminator.judge(some, labels) for some in (views, fake))
        found = trainer.discriminator_terms(views, fake, labels)
        found_generator = trainer.generator_terms(fake, labels)
        found_encoder = trainer.encoder_terms(real, views, starts)
        latents = generator.encoder(real.images, 1)
        features = torch.cat([generator.encoder.of_parts(real.images[:, :, 4 * i : 4 * i + 4]) for i in range(8)], 2)
        assert torch.equal(latents, generator.encoder.of_features(features))
        whole, low = generator(latents, labels), generator.low(generator.features(latents, labels))
        parts = generator.high(generator.encoder.of_parts(views.high))
    for name in ("high", "low"):
        sigmoid_real, sigmoid_fake = (
            1 / (1 + np.exp(-getattr(said, name).double().numpy())) for said in (on_real, on_fake)
        )
        expected = -np.log(sigmoid_real).mean() - np.log(1 - sigmoid_fake).mean()
        assert float(found[name]) == pytest.approx(expected, rel=1e-5)
        assert float(found_generator[name]) == pytest.approx(-np.log(sigmoid_fake).mean(), rel=1e-5)
    images, whole = real.images.numpy(), whole.numpy()
    rows = np.concatenate([np.abs(images - whole)[i, :, 4 * start : 4 * start + 4] for i, start in enumerate(starts)])
    expected = (rows.mean() + (views.low - low).abs().numpy().mean()) / 2
    assert float(found_encoder["reconstruction"]) == pytest.approx(expected, rel=1e-5)
    assert float(found_encoder["reconstruction_high"]) == pytest.approx((views.high - parts).abs().numpy().mean())


def test_reconstructions_move_their_own_encoder_alone():
    trainer = HAGAN(SMALL, preset="tiny").make_trainer(device="cpu")
    generator, starts = trainer.generator, [0, 3]
    real = Batch(random_volumes(2, SMALL.size), torch.tensor([0, 1]))
    terms = trainer.encoder_terms(real, Views.of(real.images, starts, 1), starts)
    assert gradients(terms["reconstruction_high"], generator) == {"encoder"}
    assert gradients(terms["reconstruction_high"], generator.encoder) == {"of_parts"}
    assert gradients(terms["reconstruction"], generator) == {"encoder"}
    assert gradients(terms["reconstruction"], generator.encoder) == {"of_features"}
    assert all(weight.requires_grad for weight in generator.parameters())
    fake = generator.make_views(generator.make_latents(2), real.labels, starts, 1)
    moved = gradients(sum(trainer.generator_terms(fake, real.labels).values()), generator)
    assert moved == {"project", "trunk", "low", "high"}


def test_a_step_makes_sub_volumes_only():
    """The layers of high resolution never see more than a sub-volume and its margin, one volume at a time."""
    data = DataSpec(1, (128, 16, 16))
    gan = HAGAN(data, preset="tiny")
    trainer = gan.make_trainer(device="cpu")
    seen = []
    trainer.generator.high.register_forward_pre_hook(lambda _, inputs: seen.append(tuple(inputs[0].shape)))
    judged = []
    trainer.discriminator.high_blocks.register_forward_pre_hook(lambda _, inputs: judged.append(inputs[0].shape[2]))
    trainer.fit([Batch(random_volumes(2, data.size))], 1)
    slices = 128 // 4 // 8
    assert {shape[2] for shape in seen} <= {slices, slices + 1, slices + 2}
    # Three times sub-volumes of single volumes; those of the encoder's features are as small in any number.
    assert sum(shape[0] == 1 for shape in seen) == 6
    assert set(judged) == {4 * slices}
    volumes = gan.sample(1).images
    assert volumes.shape == (1, 1, 128, 16, 16)


@pytest.mark.parametrize(("depth", "parts", "voxels"), [(128, 8, 16), (32, 8, 4), (32, 16, 4), (16, 8, 4), (16, 2, 8)])
def test_sub_volumes_are_as_thick_as_the_help_says(depth, parts, voxels):
    (option,) = [each for each in HAGAN.Config.options() if each.name == "sub_volumes"]
    assert option.help.endswith("none is thinner than 4 voxels.")
    assert FACTOR * thickness(DataSpec(1, (depth, 16, 16)), parts) == voxels == max(4, depth // parts)


def test_sub_volumes_begin_anywhere():
    data = DataSpec(1, (32, 16, 16))
    trainer = HAGAN(data, preset="tiny").make_trainer(device="cpu")
    positions = []
    judge = trainer.discriminator.judge

    def watched(views, labels=None):
        positions.extend(views.position.tolist())
        return judge(views, labels)

    trainer.discriminator.judge = watched
    trainer.fit([Batch(random_volumes(2, data.size))] * 20, 20)
    assert {round(7 * position) for position in positions} == set(range(8))


def test_augmentation_is_refused():
    with pytest.raises(ConfigError, match="--augment none"):
        HAGAN(SMALL, preset="tiny", augment="brightness")


@pytest.mark.parametrize("architecture", [DCGAN3D, HAGAN])
@pytest.mark.parametrize(("size", "near"), [((48, 48, 48), 32), ((32, 32, 20), 16), ((8, 8, 8), 16)])
def test_other_sizes_are_refused(architecture, size, near):
    with pytest.raises(ConfigError, match=f"voxels a side, got {size[0]}×{size[1]}×{size[2]}.*--size {near}"):
        architecture(DataSpec(1, size))


@pytest.mark.parametrize("architecture", [DCGAN3D, HAGAN])
def test_presets(architecture):
    assert set(architecture.presets) == {"tiny", "small", "paper"}
