"""Images that the generator is not to make: how they join those that the discriminator takes for generated ones."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

import pytest
import torch
from torch import Tensor

from medgan import losses
from medgan.core import GAN, Batch, DataSpec, LabelSpec
from medgan.errors import ConfigError

Stream = Callable[..., Iterator[Batch]]


def watching(plain: type[GAN], seen: list[Batch]) -> Any:
    """The plain architecture, which notes what its discriminator is shown as generated."""

    class Other(plain.Trainer):  # type: ignore[misc,name-defined]
        def discriminator_loss(self, real: Batch, fake: Batch) -> dict[str, Tensor]:
            seen.append(Batch(fake.images.clone(), fake.labels))
            on_real, on_fake = self.discriminator(real.images), self.discriminator(fake.images)
            return {"hinge": losses.hinge_discriminator(on_real.realness, on_fake.realness)}

    return type("Watching", (plain,), {"Trainer": Other})


def marked(data: DataSpec, labels: Tensor | None, n: int | None = None) -> Batch:
    """Images of one value each that no generator makes, by which they are known again."""
    count = len(labels) if labels is not None else n or 1
    values = 5 + torch.arange(count, dtype=torch.float32)
    return Batch(values.view(-1, 1, 1, 1).expand(-1, data.channels, *data.size).clone(), labels)


def test_a_share_of_the_generated_images_makes_way_for_some_of_their_class(
    plain: type[GAN], data: DataSpec, stream: Stream
) -> None:
    seen: list[Batch] = []
    trainer = watching(plain, seen)(data).make_trainer(device="cpu")
    labels = torch.tensor([1, 0, 1, 0, 0])  # none of class 2
    trainer.reject(marked(data, labels), share=0.4)
    trainer.fit(stream(), 200)
    images, of = torch.cat([batch.images for batch in seen]), torch.cat([batch.labels for batch in seen])
    values = images.flatten(1).mean(1)
    rejected = values > 4
    assert (images[~rejected].abs() <= 1).all()
    assert not rejected[of == 2].any()
    share = rejected[of != 2].float().mean()
    assert abs(share - 0.4) < 3 * (0.24 / int((of != 2).sum())) ** 0.5
    which = values[rejected].round().long() - 5
    assert torch.equal(labels[which], of[rejected])
    assert set(which.tolist()) == {0, 1, 2, 3, 4}


def test_without_labels_all_may_come(plain: type[GAN], stream: Stream) -> None:
    data = DataSpec(1, (8, 6))
    seen: list[Batch] = []
    trainer = watching(plain, seen)(data).make_trainer(device="cpu")
    trainer.reject(marked(data, None, 3), share=0.5)
    trainer.fit((Batch(batch.images) for batch in stream()), 40)
    values = torch.cat([batch.images for batch in seen]).flatten(1).mean(1)
    assert set(values[values > 4].round().long().tolist()) == {5, 6, 7}


def test_findings_come_with_their_own_labels(plain: type[GAN], stream: Stream) -> None:
    data = DataSpec(1, (8, 6), LabelSpec(("Edema", "Effusion"), "multilabel"))
    seen: list[Batch] = []
    trainer = watching(plain, seen)(data).make_trainer(device="cpu")
    trainer.reject(marked(data, torch.tensor([[1.0, 0.0], [0.0, 1.0]])), share=0.5)
    trainer.fit((Batch(batch.images, torch.ones(4, 2)) for batch in stream()), 40)
    for batch in seen:
        for image, label in zip(batch.images, batch.labels, strict=True):
            value = round(float(image.mean()))
            assert label.tolist() == {5: [1, 0], 6: [0, 1]}.get(value, [1, 1])


def test_none_rejected_changes_nothing(plain: type[GAN], data: DataSpec, stream: Stream) -> None:
    """A training without rejected images draws no number more; one with a share of 0 has the same images."""
    weights = []
    for share in (None, 0.3):
        trainer = plain(data).make_trainer(device="cpu")
        if share is not None:
            trainer.reject(marked(data, torch.tensor([0, 1, 2])), share=share)
        trainer.fit(stream(), 5)
        weights.append(torch.cat([value.flatten() for value in trainer.discriminator.parameters()]))
    assert not torch.equal(*weights)
    again = plain(data).make_trainer(device="cpu")
    again.fit(stream(), 5)
    assert torch.equal(weights[0], torch.cat([value.flatten() for value in again.discriminator.parameters()]))


@pytest.mark.parametrize("share", [-0.1, 1.0, float("nan")])
def test_shares_that_are_none(plain: type[GAN], data: DataSpec, share: float) -> None:
    trainer = plain(data).make_trainer(device="cpu")
    with pytest.raises(ConfigError, match="at least 0 and below 1"):
        trainer.reject(marked(data, torch.tensor([0])), share=share)


def test_labels_have_to_be_there_where_the_data_has_them(plain: type[GAN], data: DataSpec) -> None:
    trainer = plain(data).make_trainer(device="cpu")
    with pytest.raises(ConfigError, match="need labels where the data has them"):
        trainer.reject(marked(data, None, 2), share=0.2)


def test_resumed_with_them_is_the_same_training(plain: type[GAN], data: DataSpec, stream: Stream) -> None:
    def begun() -> Any:
        trainer = plain(data).make_trainer(device="cpu")
        trainer.reject(marked(data, torch.tensor([0, 1, 2])), share=0.5)
        return trainer

    whole = begun()
    whole.fit(stream(), 6)
    half = begun()
    half.fit(stream(), 3)
    rest = begun()
    rest.load_state_dict(half.state_dict())
    rest.fit(stream(3), 3)
    for name, value in whole.discriminator.state_dict().items():
        assert torch.equal(value, rest.discriminator.state_dict()[name]), name
