from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from safetensors.torch import load_file, save_file

from medgan.core import GAN, Batch, DataSpec, GANConfig, Generator, LabelSpec, Sides
from medgan.errors import CheckpointError, ConfigError, DataError


def with_labels(kind: Any) -> DataSpec:
    return DataSpec(1, (8, 6), LabelSpec(("a", "b", "c"), kind))


# ---------------------------------------------------------------------------------------- creation


def test_options_win_over_the_config_and_the_config_over_the_preset(plain: type[GAN], data: DataSpec) -> None:
    assert plain(data).config.latent_dim == 4
    assert plain(data, preset="large").config.latent_dim == 64
    assert plain(data, preset="large", latent_dim=5).config.latent_dim == 5
    assert plain(data, GANConfig(latent_dim=6)).config == GANConfig(latent_dim=6)
    assert plain(data, GANConfig(latent_dim=6), batch_size=2).config == GANConfig(latent_dim=6, batch_size=2)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"latent_dims": 3}, "'latent_dims' is unknown to GANConfig. Did you mean 'latent_dim'"),
        ({"latent_dim": 0}, "at least 1"),
        ({"preset": "larg"}, "'larg' is unknown to plain. Did you mean 'large'"),
        ({"preset": "tiny", "config": GANConfig()}, "Both config and preset"),
    ],
)
def test_wrong_options_are_refused(plain: type[GAN], data: DataSpec, arguments: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        plain(data, **arguments)


def test_config_of_another_architecture_is_refused(data: DataSpec) -> None:
    from medgan.models import ACGAN

    with pytest.raises(ConfigError, match="acgan takes a ACGANConfig, got GANConfig"):
        ACGAN(data, GANConfig())


def test_data_that_an_architecture_cannot_do_is_refused(plain: type[GAN], data: DataSpec) -> None:
    message = r"^plain \(from \w+\) makes images, but the data's are volumes of 8×8×8. Type --slices axial in place"
    with pytest.raises(ConfigError, match=message):
        plain(DataSpec(1, (8, 8, 8)))
    flexible = type("Flexible", (plain,), {"spatial_dims": (1, 3), "sides": Sides.powers_of_two(64, 128)})
    message = r"makes 1-D images or volumes, but the data's are images of 8×6. Type --depth 64 --size 64, where"
    with pytest.raises(ConfigError, match=message):
        flexible(data)
    choosy = type("Choosy", (plain,), {"label_kinds": ("ordinal",), "needs_labels": True})
    message = r"\) learns ordinal labels, but the data's are categorical. .* or --label-kind ordinal for a manifest"
    with pytest.raises(ConfigError, match=message):
        choosy(data)
    classes = type("Classes", (plain,), {"label_kinds": ("categorical",)})
    message = "learns categorical labels, but the data's are multilabel. .* or --labels 'first finding': a single"
    with pytest.raises(ConfigError, match=message):
        classes(DataSpec(1, (8, 6), LabelSpec(("first finding", "second"), "multilabel")))
    with pytest.raises(ConfigError, match="needs labels, but the data has none"):
        choosy(DataSpec(1, (8, 6)))


def test_seed_decides_the_weights(plain: type[GAN], data: DataSpec) -> None:
    torch.manual_seed(1)
    one = plain(data, seed=3).generator.state_dict()
    torch.manual_seed(2)
    again, other = plain(data, seed=3).generator.state_dict(), plain(data, seed=4).generator.state_dict()
    assert all(torch.equal(one[name], again[name]) for name in one)
    assert not torch.equal(one["hidden.weight"], other["hidden.weight"])


def test_untrained_model_is_ready_to_sample(gan: GAN) -> None:
    assert gan.trainer is None
    assert not gan.generator.training
    assert not any(weight.requires_grad for weight in gan.generator.parameters())


# -------------------------------------------------------------------------------------------- fit


def test_fit_asks_for_the_right_batches(plain: type[GAN], data: DataSpec, images: Any) -> None:
    gan = plain(data, seed=7, batch_size=3, discriminator_steps=2, gradient_accumulation_steps=3, class_sampling="sqrt")
    assert gan.fit(images, steps=2, device="cpu") is gan
    gan.fit(images, steps=1)
    assert [asked["start_step"] for asked in images.asked] == [0, 2 * 6]
    first = images.asked[0]
    assert (first["batch_size"], first["seed"], first["class_sampling"]) == (3, 7, "sqrt")
    assert (first["rank"], first["world_size"], torch.device(first["device"])) == (0, 1, torch.device("cpu"))
    assert gan.trainer is not None
    assert gan.trainer.step == 3
    assert gan.trainer.images_seen == 3 * 6 * 3
    assert gan.provenance == {"source": "noise", "licence": "CC0"}


def test_fit_twice_is_fit_once(plain: type[GAN], data: DataSpec, images: Any) -> None:
    once = plain(data).fit(images, steps=4, device="cpu")
    twice = plain(data).fit(images, steps=2, device="cpu").fit(images, steps=2)
    assert torch.equal(once.sample(3).images, twice.sample(3).images)


def test_fit_refuses_other_data(plain: type[GAN], images: Any) -> None:
    gan = plain(DataSpec(3, (8, 6), images.spec.labels))
    with pytest.raises(DataError, match=r"made for 3×8×6.*the data set has 1×8×6"):
        gan.fit(images, steps=1)


# ----------------------------------------------------------------------------------------- sample


def test_samples(gan: GAN) -> None:
    batch = gan.sample(5)
    assert batch.images.shape == (5, 1, 8, 6)
    assert batch.images.dtype == torch.float32
    assert batch.images.abs().max() <= 1
    assert batch.labels is not None
    assert batch.labels.tolist() == [0, 1, 2, 0, 1]
    assert not batch.images.requires_grad
    batch.images.mul_(2)  # ordinary tensors, not those of inference mode
    batch.images.requires_grad_(True)


def test_same_seed_same_image_whatever_else_is_sampled(gan: GAN, images: Any) -> None:
    gan.fit(images, steps=3, device="cpu")
    many = gan.sample(40, labels="OTHER").images
    for seed in (0, 15, 16, 37, 39):
        assert torch.equal(many[seed], gan.sample(1, seed=seed, labels="OTHER").images[0])
    torch.manual_seed(9)
    assert torch.equal(many[5:25], gan.sample(20, seed=5, labels="OTHER").images)
    assert not torch.equal(many[0], many[1])


@pytest.mark.parametrize(("inputs", "outputs"), [(7, 4), (11, 8), (13, 12), (102, 3)])
def test_same_seed_same_image_with_narrow_layers(plain: type[GAN], inputs: int, outputs: int) -> None:
    """Some matrix products with few columns round a row by its place in memory."""
    gan = plain(DataSpec(1, (1, outputs)), latent_dim=inputs)
    gan.generator.hidden = torch.nn.Linear(inputs, 8)
    gan.generator.to_image = torch.nn.Linear(8, outputs)
    many = gan.sample(33, seed=3).images
    assert all(torch.equal(many[row], gan.sample(1, seed=3 + row).images[0]) for row in range(33))


def test_any_seeds_in_any_order(gan: GAN) -> None:
    reference = gan.sample(64, labels="NORMAL").images
    seeds = [5, 21, 37, 5, 0, 63, 16, 1, 2, 3]
    parts = list(gan.sample_batches(seeds, labels="NORMAL"))
    assert torch.equal(torch.cat([part.images for part in parts]), reference[seeds])
    assert sum(len(part.images) for part in parts) == len(seeds)


def test_batches_are_made_one_at_a_time(gan: GAN) -> None:
    parts = gan.sample_batches(range(1_000_000), labels="NORMAL")
    first = next(parts)
    assert len(first.images) < 100
    assert torch.equal(first.images, gan.sample(len(first.images), labels="NORMAL").images)
    parts.close()  # type: ignore[attr-defined]


def test_labels_go_with_their_seeds(gan: GAN) -> None:
    names = ["OTHER", "NORMAL"]
    parts = list(gan.sample_batches(range(3, 43), labels=names))
    labels = torch.cat([part.labels for part in parts if part.labels is not None])
    assert labels.tolist() == [2, 0] * 20
    one = gan.sample(1, seed=10, labels="NORMAL").images[0]
    assert torch.equal(torch.cat([part.images for part in parts])[7], one)


def test_sampling_restores_mode_and_randomness(gan: GAN) -> None:
    for training in (True, False):
        gan.generator.train(training)
        before = torch.get_rng_state()
        gan.sample(2)
        assert gan.generator.training is training
        assert gan.generator.dropout.training is training
        assert torch.equal(before, torch.get_rng_state())


def test_mode_is_restored_when_sampling_fails_or_is_left(gan: GAN) -> None:
    gan.generator.train()
    parts = gan.sample_batches(range(100))
    next(parts)
    parts.close()  # type: ignore[attr-defined]
    assert gan.generator.training


def test_truncation(gan: GAN) -> None:
    full, half, none = (gan.sample(8, labels="NORMAL", truncation=value).images for value in (1.0, 0.5, 0.0))
    assert torch.equal(full, gan.sample(8, labels="NORMAL").images)
    assert full.std(0).mean() > half.std(0).mean() > none.std(0).mean()
    torch.testing.assert_close(none, none[:1].expand_as(none))


def test_sampling_leaves_the_truncation_to_the_generator(gan: GAN) -> None:
    plain = gan.sample(2, labels="NORMAL").images

    class Faded(type(gan.generator)):  # type: ignore[misc]
        def generate(self, latents: Any, labels: Any = None, *, truncation: float = 1.0) -> Any:
            return truncation * self(latents, labels)

    gan.generator.__class__ = Faded
    assert torch.equal(gan.sample(2, labels="NORMAL", truncation=0.25).images, 0.25 * plain)


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"n": 0}, "n must be at least 1, got 0"),
        ({"n": -3}, "n must be at least 1, got -3"),
        ({"labels": "NORML"}, "'NORML' is unknown. Did you mean 'NORMAL'"),
        ({"labels": ["NORMAL", "X"]}, "'X' is unknown"),
        ({"labels": []}, "No label was given"),
        ({"labels": torch.tensor([0])}, "Got 1 labels for 2 images"),
        ({"labels": torch.tensor([0, 3])}, "Labels must be"),
        ({"labels": torch.tensor([0, -1])}, "Labels must be"),
        ({"labels": torch.tensor([0.0, 1.0])}, r"integers of shape \(2,\)"),
        ({"labels": torch.tensor([[0], [1]])}, r"integers of shape \(2,\)"),
        ({"truncation": -1.0}, "Truncation"),
        ({"truncation": math.nan}, "Truncation"),
        ({"seed": -1}, "Seeds must be"),
        ({"seed": 2**64}, "Seeds must be"),
    ],
)
def test_wrong_arguments_are_refused(gan: GAN, arguments: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        gan.sample(**{"n": 2, **arguments})


def test_seeds_of_32_bits_are_all_different(gan: GAN) -> None:
    last = gan.sample(1, seed=2**32 - 1, labels="NORMAL").images
    assert not torch.equal(last, gan.sample(1, seed=2**31 - 1, labels="NORMAL").images)
    with pytest.raises(ConfigError, match="Seeds must be"):
        gan.sample(2, seed=2**32 - 1)


def test_model_without_labels(plain: type[GAN]) -> None:
    gan = plain(DataSpec(1, (8, 6)))
    batch = gan.sample(3)
    assert batch.labels is None
    assert batch.images.shape == (3, 1, 8, 6)
    with pytest.raises(ConfigError, match="trained without labels, but labels='a'"):
        gan.sample(3, labels="a")


def test_labels_of_every_kind(plain: type[GAN]) -> None:
    for kind in ("categorical", "ordinal"):
        gan = plain(with_labels(kind))
        labels = gan.sample(4, labels=["c", "a"]).labels
        assert labels is not None
        assert (labels.tolist(), labels.dtype) == ([2, 0, 2, 0], torch.int64)
        assert torch.equal(gan.sample(2, labels=torch.tensor([2, 0])).images, gan.sample(2, labels=["c", "a"]).images)
        small = gan.sample(2, labels=torch.tensor([2, 0], dtype=torch.uint8))
        assert torch.equal(small.images, gan.sample(2, labels=["c", "a"]).images)
    for kind in ("multilabel", "continuous"):
        gan = plain(with_labels(kind))
        labels = gan.sample(2, labels=["c", "a"]).labels
        assert labels is not None
        assert (labels.tolist(), labels.dtype) == ([[0, 0, 1], [1, 0, 0]], torch.float32)
        both = torch.tensor([[1.0, 0.0, 1.0]])
        assert torch.equal(gan.sample(1, labels=both).labels, both)  # type: ignore[arg-type]
        with pytest.raises(ConfigError, match=r"of shape \(2, 3\)"):
            gan.sample(2, labels=torch.zeros(2, 2))
        with pytest.raises(ConfigError, match=r"of shape \(2, 3\)"):
            gan.sample(2, labels=torch.tensor([0, 1]))


def test_labels_by_value(plain: type[GAN]) -> None:
    findings = plain(with_labels("multilabel"))
    both = torch.tensor([[1.0, 0.0, 1.0]])
    expected = findings.sample(1, labels=both).images
    for labels in ("a=1,c=1", {"a": 1, "c": 1, "b": 0}, ["a=1,c=1"], [{"c": 1.0, "a": True}]):
        batch = findings.sample(1, labels=labels)  # type: ignore[arg-type]
        assert torch.equal(batch.labels, both)  # type: ignore[arg-type]
        assert torch.equal(batch.images, expected)
    turns = findings.sample(3, labels=["b", {"a": 1, "b": 1}]).labels
    assert turns is not None
    assert turns.tolist() == [[0, 1, 0], [1, 1, 0], [0, 1, 0]]
    quantities = plain(with_labels("continuous")).make_labels(1, {"b": 2.5, "c": -1})
    assert quantities is not None
    assert str(quantities.tolist()) == "[[nan, 2.5, -1.0]]"
    grades = plain(with_labels("ordinal")).make_labels(3, ["severity=2", "a"])
    assert grades is not None
    assert (grades.tolist(), grades.dtype) == ([2, 0, 2], torch.int64)
    with pytest.raises(ConfigError, match=r"expected 0 \(absent\)"):
        findings.sample(1, labels={"a": 0.5})


# ------------------------------------------------------------------------------------ save and load


def test_save_and_load(plain: type[GAN], gan: GAN, images: Any, tmp_path: Path) -> None:
    gan.fit(images, steps=3, device="cpu")
    folder = gan.save(tmp_path / "model")
    loaded = plain.load(str(folder))
    assert (loaded.config, loaded.data, loaded.provenance) == (gan.config, gan.data, gan.provenance)
    assert loaded.trainer is None
    one, other = gan.sample(20, seed=4), loaded.sample(20, seed=4)
    assert torch.equal(one.images, other.images)
    facts = json.loads((folder / "model.json").read_text())
    assert facts["training"] == {"steps": 3, "images_seen": 12}
    assert facts["architecture"] == "plain"


def test_loaded_model_trains_on(plain: type[GAN], gan: GAN, images: Any, tmp_path: Path) -> None:
    before = plain.load(gan.save(tmp_path / "model")).sample(2).images
    trained = plain.load(tmp_path / "model").fit(images, steps=2, device="cpu")
    assert not torch.equal(before, trained.sample(2).images)


def test_load_refuses_other_architectures_and_weights(plain: type[GAN], gan: GAN, images: Any, tmp_path: Path) -> None:
    folder = gan.save(tmp_path / "model")
    other = type("Other", (plain,), {"name": "other"})
    with pytest.raises(CheckpointError, match=r"a model of 'plain', not of 'other'.*load_model"):
        other.load(folder)

    facts = json.loads((folder / "model.json").read_text())
    facts["config"]["latent_dim"] = 9
    (folder / "model.json").write_text(json.dumps(facts))
    with pytest.raises(CheckpointError, match="do not fit plain"):
        plain.load(folder)

    weights = load_file(folder / "model.safetensors")
    save_file({name: value + 1e-3 for name, value in weights.items()}, folder / "model.safetensors")
    with pytest.raises(CheckpointError, match="damaged: its checksum"):
        plain.load(folder)


def test_saving_into_a_foreign_folder_is_refused(gan: GAN, tmp_path: Path) -> None:
    (tmp_path / "thesis.txt").write_text("years of work")
    with pytest.raises(CheckpointError, match="Name another folder"):
        gan.save(tmp_path)
    assert (tmp_path / "thesis.txt").read_text() == "years of work"


def test_batch_of_the_protocol(images: Any) -> None:
    assert isinstance(next(images.batches(2, start_step=0)), Batch)


def test_labels_as_numbers(plain: type[GAN], data: DataSpec) -> None:
    gan = plain(data)
    names = [data.labels.names[index] for index in (1, 0, 1)]  # type: ignore[union-attr]
    expected = gan.sample(3, labels=names)
    for labels in ([1, 0, 1], np.array([1, 0, 1]), torch.tensor([1, 0, 1])):
        assert torch.equal(gan.sample(3, labels=labels).images, expected.images)  # type: ignore[arg-type]
    assert torch.equal(gan.sample(2, labels=1).images, gan.sample(2, labels=names[0]).images)
    for wrong in ([0, "a", 1], [0.5, 1.0, 0.0]):
        with pytest.raises(ConfigError, match="names, or an integer for each image"):
            gan.sample(3, labels=wrong)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match="2 labels for 3 images"):
        gan.sample(3, labels=[0, 1])


def test_values_of_a_wrong_type(plain: type[GAN], data: DataSpec, images: Any) -> None:
    with pytest.raises(ConfigError, match="whole numbers"):
        plain(data).sample(2.5)  # type: ignore[arg-type]
    with pytest.raises(ConfigError, match=r"Pass dataset\.spec"):
        plain(images)
    with pytest.raises(ConfigError, match="at least 0, got -1"):
        plain(data).fit(images, steps=-1, device="cpu")


class _Shortcut(Generator):
    """A 1×1 convolution rounds differently in another memory format."""

    def __init__(self) -> None:
        super().__init__(16)
        self.seed = torch.nn.Linear(16, 32 * 16)
        self.conv = torch.nn.Conv2d(32, 32, 3, padding=1)
        self.skip = torch.nn.Conv2d(32, 32, 1)
        self.out = torch.nn.Conv2d(32, 1, 1)

    def forward(self, latents: torch.Tensor, labels: torch.Tensor | None = None) -> torch.Tensor:
        hidden = torch.nn.functional.interpolate(self.seed(latents).view(-1, 32, 4, 4), scale_factor=2)
        return torch.tanh(self.out(self.conv(hidden).relu() + self.skip(hidden)))


def test_sampling_has_the_memory_format_of_training(plain: type[GAN], data: DataSpec, tmp_path: Path) -> None:
    shortcut = type("ShortcutGAN", (plain,), {"make_generator": lambda self, config, data: _Shortcut()})
    gan = shortcut(data)
    assert gan.generator.skip.weight.is_contiguous(memory_format=torch.channels_last)
    gan.make_trainer(device="cpu")
    loaded = shortcut.load(gan.save(tmp_path / "model"))
    assert torch.equal(loaded.sample(20).images, gan.sample(20).images)
