from __future__ import annotations

import pytest
import torch
from torch import Tensor, nn

from medgan.core import Discriminator, DiscriminatorOutput, Generator


class OneLayer(Generator):
    def __init__(self) -> None:
        super().__init__(latent_dim=5)
        self.layer = nn.Linear(5, 4)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        return torch.tanh(self.layer(latents)).view(-1, 1, 2, 2)


def test_latents_are_standard_normal_and_follow_their_generator() -> None:
    network = OneLayer()
    one, again = (network.make_latents(4000, torch.Generator().manual_seed(3)) for _ in range(2))
    assert one.shape == (4000, 5)
    assert one.dtype == torch.float32
    assert torch.equal(one, again)
    assert torch.equal(one, torch.randn(4000, 5, generator=torch.Generator().manual_seed(3)))


def test_latents_without_generator_use_the_global_one() -> None:
    torch.manual_seed(1)
    one = OneLayer().make_latents(2)
    torch.manual_seed(1)
    OneLayer()
    assert one.device == torch.device("cpu")
    assert one.shape == (2, 5)


def test_truncation_draws_towards_the_mean() -> None:
    network, latents = OneLayer(), torch.randn(3, 5)
    assert torch.equal(network.truncate(latents, 1), latents)
    assert torch.equal(network.truncate(latents, 0), torch.zeros(3, 5))
    torch.testing.assert_close(network.truncate(latents, 0.5), latents / 2)


def test_generate_truncates_the_latents() -> None:
    network, latents = OneLayer(), torch.randn(3, 5)
    assert torch.equal(network.generate(latents), network(latents))
    assert torch.equal(network.generate(latents, truncation=0.5), network(latents / 2))


def test_abstract_networks_cannot_be_made() -> None:
    with pytest.raises(TypeError, match="abstract"):
        Generator(3)  # type: ignore[abstract]
    with pytest.raises(TypeError, match="abstract"):
        Discriminator()  # type: ignore[abstract]


def test_output_defaults() -> None:
    output = DiscriminatorOutput(torch.zeros(2))
    assert output.label_logits is None
    assert output.features is None
