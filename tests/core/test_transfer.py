"""Weights of one model for another."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn

from medgan.core import GAN, DataSpec, LabelSpec
from medgan.core.transfer import label_axes, transfer_weights
from medgan.errors import ConfigError
from medgan.models import ACGAN

CLASSES = LabelSpec(("NORMAL", "PNEUMONIA"))
SIZE = (32, 32)


def make(labels: LabelSpec | None = CLASSES, channels: int = 1, size: tuple[int, ...] = SIZE, seed: int = 0) -> ACGAN:
    gan = ACGAN(DataSpec(channels, size, labels), preset="tiny", head="ac", seed=seed)
    gan.make_trainer(device="cpu")
    return gan


def states(gan: GAN) -> dict[str, dict[str, Tensor]]:
    assert gan.trainer is not None
    return {
        name: {key: value.clone() for key, value in getattr(gan.trainer, name).state_dict().items()}
        for name in ("generator", "averaged_generator", "discriminator")
    }


def assert_equal(one: dict[str, Tensor], other: dict[str, Tensor], *, but: set[str] = frozenset()) -> None:  # type: ignore[assignment]
    assert one.keys() == other.keys()
    for name, value in one.items():
        assert torch.equal(value, other[name]) == (name not in but), name


@pytest.fixture
def source() -> ACGAN:
    return make(seed=5)


def test_a_model_like_it_is_taken_whole(source: ACGAN) -> None:
    gan = make()
    theirs = states(source)
    done = gan.take_weights(source, discriminator=theirs["discriminator"])
    assert {name: transfer.share for name, transfer in done.items()} == {"generator": 1, "discriminator": 1}
    assert not done["generator"].fresh
    for name, state in states(gan).items():
        assert_equal(state, theirs["generator" if name == "averaged_generator" else name])
    images = gan.sample(4, seed=3).images
    assert torch.equal(images, source.sample(4, seed=3).images)


def test_without_a_discriminator_that_stays_fresh(source: ACGAN) -> None:
    gan = make()
    before = states(gan)["discriminator"]
    done = gan.take_weights(source)
    assert list(done) == ["generator"]
    assert_equal(states(gan)["discriminator"], before)


def test_classes_are_taken_by_name(source: ACGAN) -> None:
    """The other order, and one that is new."""
    gan = make(LabelSpec(("PNEUMONIA", "COVID", "NORMAL")))
    mine, theirs = states(gan), states(source)
    done = gan.take_weights(source, discriminator=theirs["discriminator"])
    now = states(gan)

    embed = now["generator"]["embed.weight"]
    assert torch.equal(embed[0], theirs["generator"]["embed.weight"][1])
    assert torch.equal(embed[1], mine["generator"]["embed.weight"][1])
    assert torch.equal(embed[2], theirs["generator"]["embed.weight"][0])
    head = now["discriminator"]["label.bias"]
    assert head.tolist() == [
        theirs["discriminator"]["label.bias"][1],
        mine["discriminator"]["label.bias"][1],
        theirs["discriminator"]["label.bias"][0],
    ]
    assert done["generator"].by_class == {"embed.weight": ("PNEUMONIA", "NORMAL")}
    assert {"label.weight", "label.bias"} <= set(done["discriminator"].by_class)
    assert "the classes NORMAL, PNEUMONIA" in done["generator"].describe()

    # What does not depend on the classes is theirs, and so is the image of a class, whatever its number.
    assert_equal(now["generator"], theirs["generator"], but={"embed.weight"})
    one, other = gan.sample(3, labels="NORMAL").images, source.sample(3, labels="NORMAL").images
    torch.testing.assert_close(one, other)


def test_equal_numbers_of_other_classes_are_not_mixed_up(source: ACGAN) -> None:
    gan = make(LabelSpec(("PNEUMONIA", "NORMAL")))
    gan.take_weights(source)
    assert torch.equal(states(gan)["generator"]["embed.weight"], source.generator.embed.weight.flip(0))  # type: ignore[union-attr, operator]
    gan = make(LabelSpec(("A", "B")))
    before = states(gan)["generator"]["embed.weight"]
    done = gan.take_weights(source)
    assert torch.equal(states(gan)["generator"]["embed.weight"], before)
    assert done["generator"].fresh == {"embed.weight": "other classes"}


def test_a_layer_that_mixes_classes_with_others_is_fresh() -> None:
    """The report's first layer takes latents and classes side by side."""
    data = DataSpec(1, SIZE, CLASSES)
    gan, source = (ACGAN(data, preset="original", seed=seed) for seed in (0, 1))
    axes = label_axes(lambda spec: gan.make_generator(gan.config, spec), data)  # type: ignore[arg-type]
    assert axes == {"dense1.weight": None}
    assert gan.take_weights(source)["generator"].share == 1  # but not of the same classes
    other = ACGAN(DataSpec(1, SIZE, LabelSpec(("A", "B"))), preset="original")
    assert other.take_weights(source)["generator"].fresh == {"dense1.weight": "other classes"}


@pytest.mark.parametrize("kind", ["multilabel", "ordinal"])
def test_labels_of_another_kind(source: ACGAN, kind: str) -> None:
    gan = make(LabelSpec(("NORMAL", "PNEUMONIA"), kind))  # type: ignore[arg-type]
    done = gan.take_weights(source, discriminator=states(source)["discriminator"])
    assert done["generator"].fresh == {"embed.weight": "other classes"}
    assert done["generator"].share > 0.9


def test_other_channels(source: ACGAN) -> None:
    gan = make(channels=3)
    done = gan.take_weights(source, discriminator=states(source)["discriminator"])
    assert done["generator"].fresh == {
        "to_image.weight": "3×4×3×3, was 1×4×3×3",
        "to_image.bias": "3, was 1",
    }
    (first,) = [name for name in done["discriminator"].fresh if name.endswith("original")]
    assert first.startswith("blocks.0.down")
    assert "Fresh: to_image.weight (3×4×3×3, was 1×4×3×3), to_image.bias (3, was 1)." in done["generator"].describe()
    assert gan.sample(2).images.shape == (2, 3, 32, 32)


def test_another_size(source: ACGAN) -> None:
    gan = make(size=(64, 64))
    mine, theirs = states(gan)["generator"], states(source)["generator"]
    done = gan.take_weights(source)["generator"]
    now = states(gan)["generator"]
    assert 0 < done.share < 1
    assert set(done.taken) | set(done.fresh) == set(now)
    for name, value in now.items():
        fits = name in theirs and theirs[name].shape == value.shape
        assert (name in done.taken) == fits
        assert torch.equal(value, theirs[name] if fits else mine[name]), name
    assert any(why == "new" for why in done.fresh.values())
    assert gan.sample(2).images.shape == (2, 1, 64, 64)


def test_the_share_counts_numbers() -> None:
    network, other = nn.Linear(3, 2), nn.Linear(3, 2)
    weights = {"weight": other.weight.detach(), "bias": torch.zeros(7)}
    done = transfer_weights(network, weights, labels=None, source_labels=None, axes={})
    assert done.share == 6 / 8
    assert done.fresh == {"bias": "2, was 7"}
    assert torch.equal(network.weight, other.weight)


def test_what_it_was_trained_on_is_kept(source: ACGAN) -> None:
    source.provenance = {"name": "first", "fingerprint": "1"}
    second = make()
    second.take_weights(source)
    second.provenance = {"name": "second", "fingerprint": "2", "initial_model": second.initial_model}
    third = make()
    third.take_weights(second)
    assert third.initial_model is not None
    assert third.initial_model["architecture"] == "acgan"
    assert third.initial_model["training_data"]["name"] == "second"
    assert third.initial_model["training_data"]["initial_model"]["training_data"] == source.provenance


def test_a_saved_model_that_is_trained_on_is_remembered(gan: GAN, images: Any, tmp_path: Path) -> None:
    gan.fit(images, steps=1)
    assert "initial_model" not in gan.provenance
    gan.fit(images, steps=1)  # the same training, not one that begins from another
    assert "initial_model" not in gan.provenance
    again = type(gan).load(gan.save(tmp_path / "model"))
    again.fit(images, steps=1)
    record = again.provenance["initial_model"]
    assert record["training_data"] == images.provenance()
    assert record["sha256"] == json.loads((tmp_path / "model" / "model.json").read_text())["sha256"]
    assert "Began from" in (again.save(tmp_path / "again") / "README.md").read_text()


def test_refused(source: ACGAN, gan: GAN, data: DataSpec) -> None:
    with pytest.raises(ConfigError, match="A model of plain has no weights for one of acgan"):
        source.take_weights(gan)
    fresh = ACGAN(source.data, preset="tiny")
    with pytest.raises(ConfigError, match="make_trainer first"):
        fresh.take_weights(source, discriminator={})
    assert source.trainer is not None
    source.trainer.step = 3
    with pytest.raises(ConfigError, match="has done 3 steps"):
        source.take_weights(fresh)
    wide = ACGAN(DataSpec(1, SIZE), latent_dim=7, generator_width=3, preset="tiny")
    with pytest.raises(ConfigError, match="No weight of that model fits"):
        ACGAN(DataSpec(3, SIZE), preset="tiny", generator_width=5).take_weights(wide)
