"""The compliance kit: a good architecture passes, and each check catches a broken one."""

from __future__ import annotations

import copy
import random
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, ClassVar

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgan import losses, registry
from medgan.core import (
    GAN,
    AdversarialTrainer,
    Batch,
    DataSpec,
    Discriminator,
    DiscriminatorOutput,
    GANConfig,
    Generator,
    Sides,
    Trainer,
    Translator,
    option,
)
from medgan.core.randomness import seeded
from medgan.errors import ConfigError
from medgan.models import ACGAN
from medgan.nn import label_vectors
from medgan.runs import RunConfig
from medgan.testing import (
    RESERVED,
    ComplianceError,
    check_architecture,
    checks,
    declaration,
    kit,
    networks,
    parametrize_with_checks,
    run_checks,
    training,
)

# ------------------------------------------------------------------ a good third-party architecture


@dataclass(frozen=True, kw_only=True)
class SmallConfig(GANConfig):
    """Options of Small."""

    width: int = option(16, "Width of the hidden layers.", ge=1)


def encode(labels: Tensor | None, data: DataSpec, n: int) -> Tensor:
    """Any kind of labels as (N, K)."""
    if labels is None or data.labels is None:
        return torch.zeros(n, data.num_labels)
    return label_vectors(labels, data.num_labels, data.labels.kind)


class SmallGenerator(Generator):
    def __init__(self, config: SmallConfig, data: DataSpec) -> None:
        super().__init__(config.latent_dim)
        self.data = data
        self.hidden = nn.Linear(config.latent_dim + data.num_labels, config.width)
        self.to_image = nn.Linear(config.width, data.channels * int(np.prod(data.size)))

    def raw(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        hidden = self.hidden(torch.cat([latents, encode(labels, self.data, len(latents))], dim=1))
        return self.to_image(F.relu(hidden)).view(len(latents), self.data.channels, *self.data.size)

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        return torch.tanh(self.raw(latents, labels))


class SmallDiscriminator(Discriminator):
    def __init__(self, config: SmallConfig, data: DataSpec) -> None:
        super().__init__()
        self.data = data
        self.hidden = nn.Linear(data.channels * int(np.prod(data.size)), config.width)
        self.realness = nn.Linear(config.width + data.num_labels, 1)
        self.label = nn.Linear(config.width, max(1, data.num_labels))

    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        features = F.leaky_relu(self.hidden(images.flatten(1)), 0.2)
        known = encode(labels, self.data, len(images))
        return DiscriminatorOutput(self.realness(torch.cat([features, known], dim=1)).squeeze(1), None, features)


class SmallTrainer(AdversarialTrainer[SmallConfig]):
    def discriminator_loss(self, real: Batch, fake: Batch) -> dict[str, Tensor]:
        on_real, on_fake = self.discriminator(*real).realness, self.discriminator(*fake).realness
        return {"hinge": losses.hinge_discriminator(on_real, on_fake)}

    def generator_loss(self, real: Batch, fake: Batch) -> dict[str, Tensor]:
        return {"hinge": losses.hinge_generator(self.discriminator(*fake).realness)}


class Small(GAN):
    """Two dense layers each; for images of any size and labels of any kind."""

    name = "small"
    summary = "Two dense layers each"
    Config = SmallConfig
    Trainer = SmallTrainer
    presets: ClassVar[dict[str, GANConfig]] = {
        "tiny": SmallConfig(latent_dim=8, batch_size=4, width=8, ema_halflife=50)
    }
    default_preset = "tiny"
    spatial_dims = (1, 2, 3)
    label_kinds = ("categorical", "multilabel", "ordinal", "continuous")

    def make_generator(self, config: SmallConfig, data: DataSpec) -> Generator:
        return SmallGenerator(config, data)

    def make_discriminator(self, config: SmallConfig, data: DataSpec) -> Discriminator:
        return SmallDiscriminator(config, data)


class WholeStepTrainer(Trainer[SmallConfig]):
    """Level 3: a step of its own, with least squares, whose last fakes serve both networks."""

    def train_step(self, batch: Batch) -> dict[str, Tensor]:
        for part in batch.chunk(self.config.discriminator_steps):
            latents = self.generator.make_latents(len(part.images))
            fake = self.generator(latents, part.labels)
            real_terms = losses.least_squares(self.discriminator(*part).realness, 1)
            fake_terms = losses.least_squares(self.discriminator(fake.detach(), part.labels).realness, 0)
            metrics = self.update("discriminator", {"real": real_terms, "fake": fake_terms})
        fooled = losses.least_squares(self.discriminator(fake, part.labels).realness, 1)
        return metrics | self.update("generator", {"fooled": fooled})


class NeedsLabels(Small):
    """Does 16-pixel squares of one channel, with multilabel labels, and nothing else."""

    name = "needs-labels"
    Trainer = WholeStepTrainer
    spatial_dims = (2,)
    label_kinds = ("multilabel",)
    needs_labels = True

    @classmethod
    def check(cls, config: GANConfig, data: DataSpec) -> None:
        super().check(config, data)
        if data.size != (16, 16) or data.channels != 1:
            raise ConfigError("16×16 and one channel only.")


@parametrize_with_checks([Small, NeedsLabels])
def test_good_architecture_passes(architecture: type[GAN], check: Callable[[type[GAN]], None]) -> None:
    check(architecture)


# ------------------------------------------------------------------------------------- the mutants

Mutant = Callable[[pytest.MonkeyPatch, Path], type[GAN]]
MUTANTS: list[tuple[str, str, Mutant]] = []
SINGLE: list[tuple[str, Mutant]] = []


def caught_by(check: str, message: str, *, alone: bool = False) -> Callable[[Mutant], Mutant]:
    """Declare a function that returns an architecture which a check has to catch, and what it says.

    Args:
        check: Name of the check.
        message: Pattern of what it says.
        alone: Whether the other checks are to let it pass.
    """

    def declare(mutant: Mutant) -> Mutant:
        MUTANTS.append((check, message, mutant))
        if alone:
            SINGLE.append((check, mutant))
        return mutant

    return declare


def variant(**attributes: Any) -> type[GAN]:
    """Small with other class attributes; its docstring is kept."""
    return type("Variant", (Small,), {"__doc__": "A variant.", **attributes})


def with_generator(forward: Callable[..., Tensor], **attributes: Any) -> type[GAN]:
    """Small with another forward of the generator."""
    network = type("Mutant", (SmallGenerator,), {"forward": forward, **attributes})
    return variant(make_generator=lambda self, config, data: network(config, data))


def with_discriminator(forward: Callable[..., DiscriminatorOutput], **attributes: Any) -> type[GAN]:
    """Small with another forward of the discriminator."""
    network = type("Mutant", (SmallDiscriminator,), {"forward": forward, **attributes})
    return variant(make_discriminator=lambda self, config, data: network(config, data))


def with_trainer(base: type[Trainer[Any]] = SmallTrainer, **methods: Any) -> type[GAN]:
    """Small with other methods of the trainer."""
    return variant(Trainer=type("Mutant", (base,), methods))


@caught_by("check_name", "kebab-case")
def camel_case_name(*_: object) -> type[GAN]:
    return variant(name="SmallGAN")


@caught_by("check_name", "registers .* as 'other'")
def name_unlike_the_entry_point(monkeypatch: pytest.MonkeyPatch, _: Path) -> type[GAN]:
    monkeypatch.setattr(sys.modules[__name__], "NamedOtherwise", variant(), raising=False)
    monkeypatch.setenv(registry.VARIABLE, f"other={__name__}:NamedOtherwise")
    return sys.modules[__name__].NamedOtherwise


@caught_by("check_summary", "summary is ''")
def no_summary(*_: object) -> type[GAN]:
    return variant(summary="")


@caught_by("check_summary", "no docstring")
def no_docstring(*_: object) -> type[GAN]:
    return variant(__doc__=None)


@caught_by("check_summary", "reference is None")
def no_reference(*_: object) -> type[GAN]:
    return variant(reference=None)


@caught_by("check_api_version", "api_version is 0")
def for_another_version(*_: object) -> type[GAN]:
    return variant(api_version=0)


@caught_by("check_parts", "make_generator")
def abstract(*_: object) -> type[GAN]:
    return type("Abstract", (GAN,), {"Trainer": SmallTrainer})


@caught_by("check_parts", "Trainer is")
def trainer_of_another_kind(*_: object) -> type[GAN]:
    return variant(Trainer=dict)


@caught_by("check_parts", "generator_loss")
def abstract_trainer(*_: object) -> type[GAN]:
    return variant(Trainer=AdversarialTrainer)


@caught_by("check_parts", "spatial_dims")
def dims_that_are_a_number(*_: object) -> type[GAN]:
    return variant(spatial_dims=2)


@caught_by("check_parts", "sides is .64, 128.")
def sides_that_are_a_list_of_lengths(*_: object) -> type[GAN]:
    return variant(sides=(64, 128))


@caught_by("check_parts", "label_kinds")
def unknown_label_kind(*_: object) -> type[GAN]:
    return variant(label_kinds=("class",))


@caught_by("check_parts", "no kind of them")
def needs_labels_but_learns_none(*_: object) -> type[GAN]:
    return variant(label_kinds=(), needs_labels=True)


class UndecoratedConfig(SmallConfig):
    depth: int = option(2, "Number of layers.", ge=1)


@caught_by("check_config", "no frozen dataclass")
def config_without_decorator(*_: object) -> type[GAN]:
    return variant(Config=UndecoratedConfig)


@dataclass(frozen=True, kw_only=True)
class PlainFieldConfig(SmallConfig):
    depth: int = 2


@caught_by("check_config", "no option")
def config_with_a_plain_field(*_: object) -> type[GAN]:
    return variant(Config=PlainFieldConfig)


@dataclass(frozen=True, kw_only=True)
class BadDefaultConfig(SmallConfig):
    depth: int = option(0, "Number of layers.", ge=1)


@caught_by("check_config", "do not fit")
def config_with_an_invalid_default(*_: object) -> type[GAN]:
    return variant(Config=BadDefaultConfig)


@caught_by("check_config", "subclass of medgan.core.GANConfig")
def config_of_another_kind(*_: object) -> type[GAN]:
    return variant(Config=dict)


class MutableConfig(SmallConfig):
    def __setattr__(self, name: str, value: object) -> None:
        object.__setattr__(self, name, value)


@caught_by("check_config", "immutable")
def config_that_can_be_changed(*_: object) -> type[GAN]:
    return variant(Config=MutableConfig)


@dataclass(frozen=True, kw_only=True)
class SilentConfig(SmallConfig):
    depth: int = option(2, "")


@caught_by("check_help", "help text of the option 'depth'")
def option_without_help(*_: object) -> type[GAN]:
    return variant(Config=SilentConfig)


@dataclass(frozen=True, kw_only=True)
class ClashingConfig(SmallConfig):
    steps: int = option(2, "Number of flow steps.", ge=1)


@caught_by("check_option_names", "option of `medgan fit`")
def option_named_like_a_flag_of_the_run(*_: object) -> type[GAN]:
    return variant(Config=ClashingConfig)


@dataclass(frozen=True, kw_only=True)
class ShoutingConfig(SmallConfig):
    Depth: int = option(2, "Number of layers.", ge=1)


@caught_by("check_option_names", "no good flag")
def option_in_capitals(*_: object) -> type[GAN]:
    return variant(Config=ShoutingConfig)


@dataclass(frozen=True, kw_only=True)
class ForgetfulConfig(SmallConfig):
    def to_dict(self) -> dict[str, Any]:
        return {name: value for name, value in super().to_dict().items() if name != "width"}


@caught_by("check_config_json", "round trip through JSON, tiny")
def config_that_loses_an_option(*_: object) -> type[GAN]:
    return variant(Config=ForgetfulConfig, presets={"tiny": ForgetfulConfig(width=3)})


@caught_by("check_presets", "'tiny'")
def no_tiny_preset(*_: object) -> type[GAN]:
    return variant(presets={"large": SmallConfig()}, default_preset="large")


@caught_by("check_presets", "default_preset")
def unknown_default_preset(*_: object) -> type[GAN]:
    return variant(default_preset="large")


@caught_by("check_presets", "a GANConfig")
def preset_of_another_class(*_: object) -> type[GAN]:
    return variant(presets={"tiny": GANConfig()})


def refuse_everything(cls: type[GAN], config: GANConfig, data: DataSpec) -> None:
    raise ConfigError("No.")


@caught_by("check_sizes", "refuses all")
def no_size_at_all(*_: object) -> type[GAN]:
    return variant(check=classmethod(refuse_everything))


def accept_everything(cls: type[GAN], config: GANConfig, data: DataSpec) -> None:
    pass


@caught_by("check_other_data", r"super\(\).check")
def check_that_forgets_its_super(*_: object) -> type[GAN]:
    return variant(check=classmethod(accept_everything))


def doubled(self: SmallGenerator, latents: Tensor, labels: Tensor | None = None) -> Tensor:
    image = SmallGenerator.forward(self, latents, labels)
    return image[..., ::2].repeat_interleave(2, dim=-1)


@caught_by("check_other_sizes", "the generator makes")
def odd_sizes_come_out_even(*_: object) -> type[GAN]:
    return with_generator(doubled)


class Halving(SmallDiscriminator):
    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        images.unflatten(-1, (-1, 2))
        return super().forward(images, labels)


@caught_by("check_other_sizes", "fails with RuntimeError")
def odd_sizes_crash(*_: object) -> type[GAN]:
    return variant(make_discriminator=lambda self, config, data: Halving(config, data))


class Quarters(SmallDiscriminator):
    def forward(self, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        if images.shape[-1] > 32:
            images.unflatten(-1, (3, -1))
        return super().forward(images, labels)


@caught_by("check_declared_sizes", r"The size \(64,\) fails with RuntimeError")
def declared_length_that_crashes(*_: object) -> type[GAN]:
    return variant(
        sides=Sides.powers_of_two(16, 64),
        make_discriminator=lambda self, config, data: Quarters(config, data),
    )


def refuse_long_ones(cls: type[GAN], config: GANConfig, data: DataSpec) -> None:
    super(Small, cls).check(config, data)
    if max(data.size) > 64:
        raise ConfigError("Too long.")


@caught_by("check_declared_sizes", r"but check\(\) refuses \(128,\): Too long")
def declared_length_that_is_refused(*_: object) -> type[GAN]:
    return variant(sides=Sides.powers_of_two(16, 128), check=classmethod(refuse_long_ones))


@caught_by("check_import", "torch_random_state and warning_filters")
def import_with_side_effects(monkeypatch: pytest.MonkeyPatch, folder: Path) -> type[GAN]:
    text = "import torch, warnings\ntorch.manual_seed(3)\nwarnings.simplefilter('ignore')\n"
    (folder / "rude_plugin.py").write_text(text)
    monkeypatch.syspath_prepend(folder)
    return variant(__module__="rude_plugin")


@caught_by("check_import", "fresh Python fails: ZeroDivisionError")
def import_that_fails(monkeypatch: pytest.MonkeyPatch, folder: Path) -> type[GAN]:
    (folder / "broken_plugin.py").write_text("1 / 0\n")
    monkeypatch.syspath_prepend(folder)
    return variant(__module__="broken_plugin")


@caught_by("check_shape", "the generator makes")
def always_one_channel(*_: object) -> type[GAN]:
    return with_generator(lambda self, latents, labels=None: torch.tanh(self.raw(latents, labels))[:, :1])


@caught_by("check_shape", "float64")
def double_images(*_: object) -> type[GAN]:
    return with_generator(lambda self, latents, labels=None: torch.tanh(self.raw(latents, labels)).double())


@caught_by("check_shape", "not finite")
def single_image_is_nan(*_: object) -> type[GAN]:
    def standardised(self: SmallGenerator, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        images = self.raw(latents, labels)
        return torch.tanh((images - images.mean(0)) / images.std(0, correction=0))

    return with_generator(standardised)


@caught_by("check_range", r"latents × 1000")
def no_tanh(*_: object) -> type[GAN]:
    return with_generator(SmallGenerator.raw)


@caught_by("check_range", r"weights × 10")
def no_tanh_after_a_norm(*_: object) -> type[GAN]:
    return with_generator(lambda self, latents, labels=None: self.raw(F.normalize(latents), labels))


@caught_by("check_range", "fresh weights")
def images_from_0_to_255(*_: object) -> type[GAN]:
    return with_generator(lambda self, latents, labels=None: torch.sigmoid(self.raw(latents, labels)) * 255)


@caught_by("check_latents", "make_latents.5, rng. gives")
def latents_of_another_shape(*_: object) -> type[GAN]:
    return with_generator(
        SmallGenerator.forward, make_latents=lambda self, n, rng=None: torch.randn(n, 1, self.latent_dim, generator=rng)
    )


@caught_by("check_latents", "random state of torch")
def latents_that_ignore_rng(*_: object) -> type[GAN]:
    return with_generator(
        SmallGenerator.forward, make_latents=lambda self, n, rng=None: torch.randn(n, self.latent_dim)
    )


@caught_by("check_latents", "same latents for other seeds")
def constant_latents(*_: object) -> type[GAN]:
    return with_generator(SmallGenerator.forward, make_latents=lambda self, n, rng=None: torch.ones(n, self.latent_dim))


@caught_by("check_latents_matter", "the same image")
def collapsed(*_: object) -> type[GAN]:
    return with_generator(lambda self, latents, labels=None: torch.tanh(self.raw(latents * 0, labels)))


@caught_by("check_mixed_classes", "another image than the index of that class")
def mixture_that_is_scaled(*_: object) -> type[GAN]:
    def forward(self: SmallGenerator, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        if labels is not None and self.data.labels.kind != "continuous" and labels.is_floating_point():
            labels = labels * 2
        return SmallGenerator.forward(self, latents, labels)

    return with_generator(forward, mixes_classes=True)


@caught_by("check_mixed_classes", "makes the image of one of them")
def mixture_that_is_rounded(*_: object) -> type[GAN]:
    def forward(self: SmallGenerator, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        if labels is not None and self.data.labels.kind == "categorical" and labels.is_floating_point():
            labels = labels.argmax(dim=1)
        return SmallGenerator.forward(self, latents, labels)

    return with_generator(forward, mixes_classes=True)


@caught_by("check_labels_matter", "'first' and 'second' make the same image")
def ignored_labels(*_: object) -> type[GAN]:
    return with_generator(lambda self, latents, labels=None: torch.tanh(self.raw(latents, None)))


def label_means(change: Callable[[Tensor], Tensor], kind: str) -> type[GAN]:
    """Small, whose generator is given other labels of a kind."""

    def forward(self: SmallGenerator, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        if labels is not None and self.data.labels is not None and self.data.labels.kind == kind:
            labels = change(labels)
        return torch.tanh(self.raw(latents, labels))

    return with_generator(forward)


@caught_by("check_labels_matter", "multilabel .*first=1,third=1.*the same image", alone=True)
def findings_taken_for_classes(*_: object) -> type[GAN]:
    return label_means(lambda labels: F.one_hot(labels.nan_to_num().argmax(dim=1), 3).float(), "multilabel")


@caught_by("check_labels_matter", r"continuous .*first=0\.2.*the same image", alone=True)
def quantities_taken_for_findings(*_: object) -> type[GAN]:
    return label_means(lambda labels: (labels > 0.9).float(), "continuous")


class PairGenerator(Translator):
    """A source through one convolution, with noise."""

    def __init__(self, config: GANConfig, data: DataSpec) -> None:
        super().__init__(config.latent_dim)
        self.to_image = nn.Conv2d(data.source_channels, data.channels, 3, padding=1)
        self.noise = nn.Linear(config.latent_dim, data.channels)

    def forward(self, latents: Tensor, labels: Tensor | None = None, sources: Tensor | None = None) -> Tensor:
        assert sources is not None
        return torch.tanh(self.to_image(sources) + self.noise(latents)[:, :, None, None])


class BlindGenerator(PairGenerator):
    def forward(self, latents: Tensor, labels: Tensor | None = None, sources: Tensor | None = None) -> Tensor:
        assert sources is not None
        return super().forward(latents, labels, torch.zeros_like(sources))


class SilentGenerator(PairGenerator):
    def forward(self, latents: Tensor, labels: Tensor | None = None, sources: Tensor | None = None) -> Tensor:
        return super().forward(torch.zeros_like(latents), labels, sources)


class PairDiscriminator(SmallDiscriminator):
    def forward(
        self, images: Tensor, labels: Tensor | None = None, sources: Tensor | None = None
    ) -> DiscriminatorOutput:
        return super().forward(images, labels)


def translator(network: type[Translator] = PairGenerator, **attributes: Any) -> type[GAN]:
    """A variant that translates."""
    return variant(
        translates=True,
        spatial_dims=(2,),
        label_kinds=(),
        make_generator=lambda self, config, data: network(config, data),
        make_discriminator=lambda self, config, data: PairDiscriminator(config, data),
        **attributes,
    )


def test_translator_passes_what_concerns_it() -> None:
    for name in ("sources_matter", "latents_matter", "other_data", "sample_number", "sample_repeats", "losses_pure"):
        CHECKS[f"check_{name}"](translator())


def test_translator_without_chance_passes() -> None:
    class Certain(PairGenerator):
        def __init__(self, config: GANConfig, data: DataSpec) -> None:
            super().__init__(config, data)
            self.latent_dim = 0

        def forward(self, latents: Tensor, labels: Tensor | None = None, sources: Tensor | None = None) -> Tensor:
            assert latents.shape[1] == 0
            return super().forward(torch.zeros(len(latents), self.noise.in_features), labels, sources)

    for name in ("latents", "latents_matter", "sample_repeats"):
        CHECKS[f"check_{name}"](translator(Certain))


@caught_by("check_sources_matter", "two sources make the same image")
def ignored_sources(*_: object) -> type[GAN]:
    return translator(BlindGenerator)


@caught_by("check_latents_matter", "Two different latents make the same image")
def noise_that_a_translator_ignores(*_: object) -> type[GAN]:
    return translator(SilentGenerator)


@caught_by("check_other_data", "accepts data with no source images")
def translator_of_nothing(*_: object) -> type[GAN]:
    def check(cls: type[GAN], config: GANConfig, data: DataSpec) -> None:
        super(variants[0], cls).check(config, data if data.source_channels else replace(data, source_channels=1))

    variants = [translator(check=classmethod(check))]
    return variants[0]


@caught_by("check_other_data", "accepts data with source images")
def sources_that_are_not_looked_at(*_: object) -> type[GAN]:
    def check(cls: type[GAN], config: GANConfig, data: DataSpec) -> None:
        super(variants[0], cls).check(config, replace(data, source_channels=0))

    variants = [variant(check=classmethod(check))]
    return variants[0]


@caught_by("check_discriminator_output", "realness")
def realness_with_a_dimension_too_many(*_: object) -> type[GAN]:
    def forward(self: SmallDiscriminator, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        return DiscriminatorOutput(SmallDiscriminator.forward(self, images, labels).realness.unsqueeze(1))

    return with_discriminator(forward)


@caught_by("check_discriminator_output", "None: there are no labels")
def label_logits_without_labels(*_: object) -> type[GAN]:
    def forward(self: SmallDiscriminator, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        output = SmallDiscriminator.forward(self, images, None)
        return output._replace(label_logits=self.label(output.features))

    return with_discriminator(forward)


@caught_by("check_discriminator_output", "a DiscriminatorOutput")
def discriminator_that_returns_a_tensor(*_: object) -> type[GAN]:
    return with_discriminator(lambda self, images, labels=None: images.mean((1, 2)))


@caught_by("check_discriminator_output", "features")
def features_that_are_maps(*_: object) -> type[GAN]:
    def forward(self: SmallDiscriminator, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        return SmallDiscriminator.forward(self, images, labels)._replace(features=images)

    return with_discriminator(forward)


def judging(known: Callable[[SmallDiscriminator, Tensor, Tensor | None], Tensor]) -> type[GAN]:
    """Small, whose discriminator knows of labels what a function returns."""

    def forward(self: SmallDiscriminator, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        features = F.leaky_relu(self.hidden(images.flatten(1)), 0.2)
        judged = torch.cat([features, known(self, features, labels)], dim=1)
        return DiscriminatorOutput(self.realness(judged).squeeze(1), None, features)

    return with_discriminator(forward)


@caught_by("check_judges_without_labels", "without its labels the discriminator fails with RuntimeError")
def judge_that_leaves_out_what_its_layers_expect(*_: object) -> type[GAN]:
    return judging(lambda self, on, labels: on[:, :0] if labels is None else encode(labels, self.data, len(on)))


@caught_by("check_judges_without_labels", "without its labels the discriminator gives realness that is not finite")
def judge_that_compares_with_no_label(*_: object) -> type[GAN]:
    return judging(lambda self, on, labels: encode(labels, self.data, len(on)) / (labels is not None))


@caught_by("check_label_leak", "auxiliary head")
def label_head_that_sees_the_labels(*_: object) -> type[GAN]:
    def forward(self: SmallDiscriminator, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        output = SmallDiscriminator.forward(self, images, labels)
        logits = self.label(output.features) + encode(labels, self.data, len(images)) if self.data.labels else None
        return output._replace(label_logits=logits)

    return with_discriminator(forward)


class StagedDiscriminator(SmallDiscriminator):
    def stages(self) -> list[nn.Module]:
        return [self.hidden]


def with_stages(trainer: type[Trainer[Any]] = SmallTrainer, **methods: Any) -> type[GAN]:
    """Small, its discriminator with blocks to freeze."""
    base = type("Staged", (StagedDiscriminator,), methods)
    return variant(make_discriminator=lambda self, config, data: base(config, data), Trainer=trainer)


@caught_by("check_frozen_stages", "modules that are not inside the discriminator")
def stages_that_are_made_anew(*_: object) -> type[GAN]:
    return with_stages(stages=lambda self: [nn.Sequential(self.hidden)])


@caught_by("check_frozen_stages", "share a weight")
def stages_that_overlap(*_: object) -> type[GAN]:
    return with_stages(stages=lambda self: [self.hidden, self.hidden])


@caught_by("check_frozen_stages", "nothing of the discriminator is left to train")
def stages_that_are_everything(*_: object) -> type[GAN]:
    return with_stages(stages=lambda self: [self.hidden, self.realness, self.label])


@caught_by("check_frozen_stages", r"blocks \[1\] change in training")
def gradients_turned_on_again(*_: object) -> type[GAN]:
    def train_step(self: Trainer[Any], batch: Batch) -> dict[str, Tensor]:
        self.discriminator.requires_grad_(True)
        return SmallTrainer.train_step(self, batch)  # type: ignore[arg-type]

    return with_stages(type("Thawing", (SmallTrainer,), {"train_step": train_step}))


@caught_by("check_seed", "models with seed 1 differ")
def weights_from_numpy(*_: object) -> type[GAN]:
    def make_generator(self: GAN, config: SmallConfig, data: DataSpec) -> Generator:
        network = SmallGenerator(config, data)
        noise = np.random.default_rng().standard_normal(tuple(network.hidden.weight.shape))
        network.hidden.weight.data = torch.tensor(noise, dtype=torch.float32)
        return network

    return variant(make_generator=make_generator)


@caught_by("check_seed", "generator has the same weights")
def weights_of_a_fixed_seed(*_: object) -> type[GAN]:
    def make_generator(self: GAN, config: SmallConfig, data: DataSpec) -> Generator:
        torch.manual_seed(0)
        return SmallGenerator(config, data)

    return variant(make_generator=make_generator)


@caught_by("check_global_randomness", "Making a model .* numpy")
def draws_from_global_numpy(*_: object) -> type[GAN]:
    def make_generator(self: GAN, config: SmallConfig, data: DataSpec) -> Generator:
        np.random.rand()
        return SmallGenerator(config, data)

    return variant(make_generator=make_generator)


@caught_by("check_global_randomness", "Training .* random")
def trains_with_global_random(*_: object) -> type[GAN]:
    def make_labels(self: AdversarialTrainer[Any], real: Batch) -> Tensor | None:
        random.random()
        return real.labels

    return with_trainer(make_labels=make_labels)


@caught_by("check_global_randomness", "Sampling .* torch")
def forward_that_seeds(*_: object) -> type[GAN]:
    def forward(self: SmallGenerator, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        torch.manual_seed(0)
        return SmallGenerator.forward(self, latents, labels)

    return with_generator(forward)


@caught_by("check_copies", "deep copy of the generator")
def copy_without_its_state(*_: object) -> type[GAN]:
    class Forgets(SmallGenerator):
        def __deepcopy__(self, memo: dict[int, Any]) -> SmallGenerator:
            return Forgets(SmallConfig(latent_dim=self.latent_dim, width=8), self.data)

    return variant(make_generator=lambda self, config, data: Forgets(config, data))


@caught_by("check_training_moves_both", "weights of the discriminator")
def frozen_discriminator(*_: object) -> type[GAN]:
    def train_step(self: SmallTrainer, batch: Batch) -> dict[str, Tensor]:
        latents = self.generator.make_latents(len(batch.images))
        fake = Batch(self.generator(latents, batch.labels), batch.labels)
        return self.update("generator", self.generator_loss(batch, fake))

    return with_trainer(train_step=train_step)


@caught_by("check_trainable_after_step", "requires_grad")
def discriminator_left_frozen(*_: object) -> type[GAN]:
    def train_step(self: SmallTrainer, batch: Batch) -> dict[str, Tensor]:
        metrics = SmallTrainer.train_step(self, batch)
        self.discriminator.requires_grad_(False)
        return metrics

    return with_trainer(train_step=train_step)


@caught_by("check_trainable_after_step", r"generator.training")
def generator_left_in_evaluation_mode(*_: object) -> type[GAN]:
    def train_step(self: SmallTrainer, batch: Batch) -> dict[str, Tensor]:
        metrics = SmallTrainer.train_step(self, batch)
        self.generator.eval()
        return metrics

    return with_trainer(train_step=train_step)


@caught_by("check_batch_untouched", "images or labels")
def noise_added_in_place(*_: object) -> type[GAN]:
    def train_step(self: SmallTrainer, batch: Batch) -> dict[str, Tensor]:
        batch.images.add_(0.1).clamp_(-1, 1)
        return SmallTrainer.train_step(self, batch)

    return with_trainer(train_step=train_step)


def logging(value: object, name: str = "generator/extra") -> type[GAN]:
    def train_step(self: SmallTrainer, batch: Batch) -> dict[str, Tensor]:
        return {**SmallTrainer.train_step(self, batch), name: value}  # type: ignore[dict-item]

    return with_trainer(train_step=train_step)


@caught_by("check_metrics", "0-d tensor")
def logs_a_float(*_: object) -> type[GAN]:
    return logging(0.5)


@caught_by("check_metrics", "detached")
def logs_a_graph(*_: object) -> type[GAN]:
    return logging(torch.ones((), requires_grad=True))


@caught_by("check_metrics", "finite number")
def logs_nan(*_: object) -> type[GAN]:
    return logging(torch.tensor(float("nan")))


@caught_by("check_metrics", "network/term")
def logs_a_bare_name(*_: object) -> type[GAN]:
    return logging(torch.zeros(()), "Loss G")


@caught_by("check_metrics", "dict of named values")
def logs_nothing(*_: object) -> type[GAN]:
    def train_step(self: SmallTrainer, batch: Batch) -> None:
        SmallTrainer.train_step(self, batch)

    return with_trainer(train_step=train_step)


def with_discriminator_loss(change: Callable[..., object]) -> type[GAN]:
    def discriminator_loss(self: SmallTrainer, real: Batch, fake: Batch) -> dict[str, Tensor]:
        terms = SmallTrainer.discriminator_loss(self, real, fake)
        changed = change(self, terms, real)
        return terms if changed is None else changed  # type: ignore[return-value]

    return with_trainer(discriminator_loss=discriminator_loss)


@caught_by("check_losses_pure", "leaves gradients in discriminator")
def loss_that_calls_backward(*_: object) -> type[GAN]:
    return with_discriminator_loss(lambda trainer, terms, real: terms["hinge"].backward(retain_graph=True))


@caught_by("check_losses_pure", "changes discriminator.hidden.weight")
def loss_that_clips_weights(*_: object) -> type[GAN]:
    def clip(trainer: SmallTrainer, terms: object, real: object) -> None:
        for weight in trainer.discriminator.parameters():
            weight.data.clamp_(-1e-3, 1e-3)

    return with_discriminator_loss(clip)


@caught_by("check_losses_pure", "another hinge")
def loss_that_counts_its_calls(*_: object) -> type[GAN]:
    def count(trainer: Any, terms: dict[str, Tensor], real: object) -> dict[str, Tensor]:
        trainer.calls = getattr(trainer, "calls", 0) + 1
        return {"hinge": terms["hinge"] * trainer.calls}

    return with_discriminator_loss(count)


@caught_by("check_losses_pure", "changes its batches")
def loss_that_writes_into_its_batch(*_: object) -> type[GAN]:
    return with_discriminator_loss(lambda trainer, terms, real: real.images.data.add_(1) is None or None)


@caught_by("check_losses_pure", "a scalar")
def loss_without_reduction(*_: object) -> type[GAN]:
    # Summed for the update, so that training itself works.
    def update(self: SmallTrainer, network: str, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        return SmallTrainer.update(self, network, {name: term.sum() for name, term in terms.items()})

    def generator_loss(self: SmallTrainer, real: Batch, fake: Batch) -> dict[str, Tensor]:
        return {"realness": -self.discriminator(*fake).realness}

    return with_trainer(update=update, generator_loss=generator_loss)


@caught_by("check_separate_updates", "gradients into the generator")
def fakes_not_detached(*_: object) -> type[GAN]:
    def train_step(self: WholeStepTrainer, batch: Batch) -> dict[str, Tensor]:
        fake = self.generator(self.generator.make_latents(len(batch.images)), batch.labels)
        terms = {"fake": losses.least_squares(self.discriminator(fake, batch.labels).realness, 0)}
        metrics = self.update("discriminator", terms)
        fake = self.generator(self.generator.make_latents(len(batch.images)), batch.labels)
        terms = {"fooled": losses.least_squares(self.discriminator(fake, batch.labels).realness, 1)}
        return metrics | self.update("generator", terms)

    return with_trainer(WholeStepTrainer, train_step=train_step)


@caught_by("check_separate_updates", "moves the generator")
def one_optimizer_for_both(*_: object) -> type[GAN]:
    def make_optimizers(self: Trainer[Any]) -> dict[str, torch.optim.Optimizer]:
        both = [*self.generator.parameters(), *self.discriminator.parameters()]
        return {name: torch.optim.SGD(both, 0.01, momentum=0.5) for name in ("generator", "discriminator")}

    return with_trainer(make_optimizers=make_optimizers, train_step=fakes_not_detached().Trainer.train_step)


@caught_by("check_every_kind_of_data", "multilabel")
def only_class_indices(*_: object) -> type[GAN]:
    def make_labels(self: AdversarialTrainer[Any], real: Batch) -> Tensor | None:
        return None if real.labels is None else torch.randint_like(real.labels, self.data.num_labels)[torch.arange(4)]

    def discriminator_loss(self: SmallTrainer, real: Batch, fake: Batch) -> dict[str, Tensor]:
        if real.labels is not None:
            F.one_hot(real.labels)
        return SmallTrainer.discriminator_loss(self, real, fake)

    return with_trainer(make_labels=make_labels, discriminator_loss=discriminator_loss)


@caught_by("check_every_kind_of_data", "A step and a sample with 1×32, no labels fail", alone=True)
def only_data_with_labels(*_: object) -> type[GAN]:
    def discriminator_loss(self: SmallTrainer, real: Batch, fake: Batch) -> dict[str, Tensor]:
        len(real.labels)  # type: ignore[arg-type]
        return SmallTrainer.discriminator_loss(self, real, fake)

    return with_trainer(discriminator_loss=discriminator_loss)


@caught_by("check_unknown_labels", "multilabel .*some of them NaN, training fails", alone=True)
def unknown_findings_are_used_as_they_are(*_: object) -> type[GAN]:
    def discriminator_loss(self: SmallTrainer, real: Batch, fake: Batch) -> dict[str, Tensor]:
        terms = SmallTrainer.discriminator_loss(self, real, fake)
        if real.labels is not None and real.labels.is_floating_point():
            guessed = self.discriminator(*real).features[:, : self.data.num_labels]  # type: ignore[index]
            terms["label"] = 0.1 * F.mse_loss(guessed, real.labels)
        return terms

    return with_trainer(discriminator_loss=discriminator_loss)


@caught_by("check_unknown_labels", "all of them NaN, some pixels are not finite", alone=True)
def unknown_quantities_in_samples(*_: object) -> type[GAN]:
    def forward(self: SmallGenerator, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        images = self.raw(latents, labels)
        if not self.training and labels is not None and labels.is_floating_point():
            images = images + labels.mean(dim=1).view(-1, *[1] * (images.ndim - 1))
        return torch.tanh(images)

    return with_generator(forward)


@caught_by("check_discriminator_steps", "discriminator 1 times", alone=True)
def one_discriminator_step_whatever_is_asked_for(*_: object) -> type[GAN]:
    def train_step(self: SmallTrainer, batch: Batch) -> dict[str, Tensor]:
        config, self.config = self.config, self.config.replace(discriminator_steps=1)
        try:
            return SmallTrainer.train_step(self, batch.chunk(config.discriminator_steps)[0])
        finally:
            self.config = config

    return with_trainer(train_step=train_step)


@caught_by("check_discriminator_steps", r"images of the parts \[2, 3\] of the batch change nothing", alone=True)
def the_same_images_at_every_discriminator_step(*_: object) -> type[GAN]:
    def train_step(self: SmallTrainer, batch: Batch) -> dict[str, Tensor]:
        parts = self.config.discriminator_steps
        return SmallTrainer.train_step(self, Batch.join([batch.chunk(parts)[0]] * parts))

    return with_trainer(train_step=train_step)


@caught_by("check_discriminator_steps", "generator makes 12 images at once", alone=True)
def fakes_of_all_discriminator_steps_at_once(*_: object) -> type[GAN]:
    def train_step(self: SmallTrainer, batch: Batch) -> dict[str, Tensor]:
        if self.config.discriminator_steps > 1:
            with torch.no_grad():
                self.generator(self.generator.make_latents(len(batch.images)), batch.labels)
        return SmallTrainer.train_step(self, batch)

    return with_trainer(train_step=train_step)


@caught_by("check_stabilisers_act", "penalty r1, .*changes nothing")
def step_of_its_own_without_penalties(*_: object) -> type[GAN]:
    return with_trainer(train_step=WholeStepTrainer.train_step)


@caught_by("check_stabilisers_act", "lecam_weight 10.0 changes nothing")
def penalties_and_nothing_else(*_: object) -> type[GAN]:
    def train_step(self: SmallTrainer, batch: Batch) -> dict[str, Tensor]:
        with torch.no_grad():
            fake = Batch(self.generator(self.generator.make_latents(len(batch.images)), batch.labels), batch.labels)
        terms = self.discriminator_loss(batch, fake)
        if self.config.gradient_penalty != "none":
            terms["penalty"] = self.gradient_penalty(batch, fake)
        metrics = self.update("discriminator", terms)
        fake = Batch(self.generator(self.generator.make_latents(len(batch.images)), batch.labels), batch.labels)
        return metrics | self.update("generator", self.generator_loss(batch, fake))

    return with_trainer(train_step=train_step)


@caught_by("check_accumulation", "moves the generator 2 times and the discriminator 2 times")
def update_that_moves_at_every_batch(*_: object) -> type[GAN]:
    def update(self: Trainer[Any], network: str, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        self.optimizers[network].zero_grad()
        torch.stack(list(terms.values())).sum().backward()
        self.optimizers[network].step()
        return {f"{network}/{name}": term.detach() for name, term in terms.items()}

    return with_trainer(update=update)


@caught_by("check_accumulation", "the generator makes 8 images at once")
def accumulation_that_is_neither_done_nor_refused(*_: object) -> type[GAN]:
    def check(cls: type[GAN], config: GANConfig, data: DataSpec) -> None:
        """As if super().check() had been forgotten."""

    return variant(Trainer=WholeStepTrainer, check=classmethod(check))


@caught_by("check_stabilisers_act", "ada_target 0.1, .*changes nothing")
def chance_that_follows_nothing(*_: object) -> type[GAN]:
    def _follow(self: Any, means: Tensor, *, images: int) -> None:
        augment, self.augment = self.augment, None
        try:
            AdversarialTrainer._follow(self, means, images=images)
        finally:
            self.augment = augment

    return with_trainer(_follow=_follow)


class Once(torch.autograd.Function):
    """The identity, with a first derivative only."""

    @staticmethod
    def forward(context: Any, images: Tensor) -> Tensor:
        return images.clone()

    @staticmethod
    @torch.autograd.function.once_differentiable
    def backward(context: Any, gradient: Tensor) -> Tensor:
        return gradient


@caught_by("check_stabilisers_act", "penalty r1, .*fails: .*differentiate twice")
def no_second_derivative_of_larger_batches(*_: object) -> type[GAN]:
    def forward(self: SmallDiscriminator, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        return SmallDiscriminator.forward(self, Once.apply(images) if len(images) > 2 else images, labels)

    return with_discriminator(forward)


@caught_by("check_mixed_precision", "bf16 fails")
def mixed_types(*_: object) -> type[GAN]:
    def forward(self: SmallGenerator, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        images = self.raw(latents, labels)
        canvas = torch.zeros(images.shape)
        return torch.tanh(canvas.scatter_(0, torch.arange(len(images)).view(-1, *[1] * (images.ndim - 1)), images))

    return with_generator(forward)


@caught_by("check_mixed_precision", "fails at 16×16×16", alone=True)
def mixed_types_of_volumes(*_: object) -> type[GAN]:
    def forward(self: SmallGenerator, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        images = self.raw(latents, labels)
        if images.ndim == 5:
            positions = torch.arange(len(images)).view(-1, 1, 1, 1, 1).expand_as(images)
            images = torch.zeros(images.shape).scatter_(0, positions, images)
        return torch.tanh(images)

    return with_generator(forward)


@caught_by("check_mixed_penalties", "bf16 and gradient_penalty r1 fails", alone=True)
def half_precision_kept_from_the_losses_to_the_penalty(*_: object) -> type[GAN]:
    def forward(self: SmallDiscriminator, images: Tensor, labels: Tensor | None = None) -> DiscriminatorOutput:
        output = SmallDiscriminator.forward(self, images, labels)
        if self.training:
            kept, self.kept = getattr(self, "kept", None), self.hidden(images.flatten(1)).detach()
            if kept is not None:  # the features of the last call, as an autocast block would multiply them
                output.features.detach() @ kept.T  # type: ignore[union-attr]
        return output

    return with_discriminator(forward)


@caught_by("check_mixed_precision", "weights of")
def weights_cast_down(*_: object) -> type[GAN]:
    def train_step(self: SmallTrainer, batch: Batch) -> dict[str, Tensor]:
        metrics = SmallTrainer.train_step(self, batch)
        self.discriminator.to(torch.bfloat16)
        return metrics

    return with_trainer(train_step=train_step)


@caught_by("check_tiny_speed", "of processor time")
def slow_tiny(monkeypatch: pytest.MonkeyPatch, _: Path) -> type[GAN]:
    monkeypatch.setattr(training, "SECONDS", 1.0)

    def train_step(self: SmallTrainer, batch: Batch) -> dict[str, Tensor]:
        end = time.process_time() + 0.6
        while time.process_time() < end:
            pass
        return SmallTrainer.train_step(self, batch)

    return with_trainer(train_step=train_step)


@caught_by("check_sample_repeats", "other images for the same seed")
def noise_in_forward(*_: object) -> type[GAN]:
    def forward(self: SmallGenerator, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        images = self.raw(latents, labels)
        return torch.tanh(images + torch.randn_like(images))

    return with_generator(forward)


@caught_by("check_sample_repeats", "same images for another seed")
def sample_without_seed(*_: object) -> type[GAN]:
    def sample(self: GAN, n: int, *, labels: Any = None, seed: int = 0, truncation: float = 1.0) -> Batch:
        return GAN.sample(self, n, labels=labels, truncation=truncation)

    return variant(sample=sample)


@caught_by("check_sample_number", "alone than among 20")
def batch_statistics(*_: object) -> type[GAN]:
    def forward(self: SmallGenerator, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        images = self.raw(latents, labels)
        return torch.tanh(images - images.mean(0, keepdim=True) / 2)

    return with_generator(forward)


@caught_by("check_sample_number", "At 16×16×16 seed 3 makes another image alone than among 20", alone=True)
def batch_statistics_of_volumes(*_: object) -> type[GAN]:
    def forward(self: SmallGenerator, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        images = self.raw(latents, labels)
        return torch.tanh(images - images.mean(0, keepdim=True) / 2 if images.ndim == 5 else images)

    return with_generator(forward)


def truncating(generate: Callable[..., Tensor]) -> type[GAN]:
    """Small with a `Generator.generate` of its own."""
    return with_generator(SmallGenerator.forward, generate=generate)


@caught_by("check_truncation", "Without truncation generate.. makes other images", alone=True)
def truncation_by_default(*_: object) -> type[GAN]:
    def generate(
        self: SmallGenerator, latents: Tensor, labels: Tensor | None = None, *, truncation: float = 0.7
    ) -> Tensor:
        return Generator.generate(self, latents, labels, truncation=truncation)

    return truncating(generate)


@caught_by("check_truncation", "With truncation 1 generate.. makes other images", alone=True)
def one_that_truncates(*_: object) -> type[GAN]:
    def generate(
        self: SmallGenerator, latents: Tensor, labels: Tensor | None = None, *, truncation: float = 2.0
    ) -> Tensor:
        return Generator.generate(self, latents, labels, truncation=truncation / 2)

    return truncating(generate)


@caught_by("check_truncation", "spread by", alone=True)
def truncation_that_is_normalised_away(*_: object) -> type[GAN]:
    def raw(self: SmallGenerator, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        return torch.tanh(self.raw(F.normalize(latents), labels))

    return with_generator(raw)


@caught_by("check_truncation", "pixels reach from", alone=True)
def truncation_of_pixels_beyond_their_range(*_: object) -> type[GAN]:
    def generate(
        self: SmallGenerator, latents: Tensor, labels: Tensor | None = None, *, truncation: float = 1.0
    ) -> Tensor:
        images = Generator.generate(self, latents, labels, truncation=truncation)
        return images + 2 * (1 - truncation)

    return truncating(generate)


@caught_by("check_truncation_labels", "two labels make the same image", alone=True)
def one_mean_image_of_all_labels(*_: object) -> type[GAN]:
    def generate(
        self: SmallGenerator, latents: Tensor, labels: Tensor | None = None, *, truncation: float = 1.0
    ) -> Tensor:
        centre = self(torch.zeros_like(latents[:1]), None if labels is None else torch.zeros_like(labels[:1]))
        return torch.lerp(centre, self(latents, labels), truncation)

    return truncating(generate)


@caught_by("check_truncation_number", "same seed makes other images", alone=True)
def a_centre_drawn_anew(*_: object) -> type[GAN]:
    calls = [0]

    def truncate(self: SmallGenerator, latents: Tensor, truncation: float) -> Tensor:
        calls[0] += 1
        return latents * truncation + (1 - truncation) * 0.1 * calls[0] * (truncation > 0)

    return with_generator(SmallGenerator.forward, truncate=truncate)


@caught_by("check_truncation_number", r"with truncation 0\.5 seed 3 makes another image alone", alone=True)
def truncation_towards_the_mean_of_the_batch(*_: object) -> type[GAN]:
    def truncate(self: SmallGenerator, latents: Tensor, truncation: float) -> Tensor:
        return latents if truncation == 1 else torch.lerp(latents.mean(0, keepdim=True), latents, truncation)

    return with_generator(SmallGenerator.forward, truncate=truncate)


@caught_by("check_sample_mode", "mode has changed")
def sampling_leaves_evaluation_mode(*_: object) -> type[GAN]:
    def sample(self: GAN, n: int, **options: Any) -> Batch:
        batch = GAN.sample(self, n, **options)
        self.generator.eval()
        return batch

    return variant(sample=sample)


class Counting(SmallGenerator):
    """Its images depend on a plain attribute that training changes."""

    brightness = 0.0

    def forward(self, latents: Tensor, labels: Tensor | None = None) -> Tensor:
        if self.training:
            self.brightness += 0.1
        return torch.tanh(self.raw(latents, labels) + self.brightness)


@caught_by("check_save_load", "other images")
def attribute_that_is_no_buffer(*_: object) -> type[GAN]:
    config = SmallConfig(latent_dim=8, batch_size=4, width=8, ema_halflife=0)
    return variant(make_generator=lambda self, config, data: Counting(config, data), presets={"tiny": config})


def hidden_counter() -> type[GAN]:
    def train_step(self: Any, batch: Batch) -> dict[str, Tensor]:
        self.calls = getattr(self, "calls", 0) + 1
        return SmallTrainer.train_step(self, Batch(batch.images / self.calls, batch.labels))

    return with_trainer(train_step=train_step)


@caught_by("check_resume", r"2 \+ 2 steps .* differ")
def counter_lost_on_resume(*_: object) -> type[GAN]:
    return hidden_counter()


@caught_by("check_stabilisers_resume", r"2 \+ 2 steps .* differ .*gradient_penalty, .*lecam_weight, .*ada_target")
def penalty_that_counts_its_calls(*_: object) -> type[GAN]:
    def gradient_penalty(self: Any, real: Batch, fake: Batch) -> Tensor:
        self.calls = getattr(self, "calls", 0) + 1
        return AdversarialTrainer.gradient_penalty(self, real, fake) / self.calls

    return with_trainer(gradient_penalty=gradient_penalty)


@caught_by("check_stabilisers_resume", r"2 \+ 2 steps .* differ")
def anchors_and_chance_lost_on_resume(*_: object) -> type[GAN]:
    return with_trainer(stateful_modules=lambda self: ("generator", "discriminator", "averaged_generator"))


@caught_by("check_resume", r"2 \+ 2 steps .* differ")
def counter_of_volumes_lost_on_resume(*_: object) -> type[GAN]:
    def train_step(self: Any, batch: Batch) -> dict[str, Tensor]:
        self.calls = getattr(self, "calls", 0) + (batch.images.ndim == 5)
        return SmallTrainer.train_step(self, Batch(batch.images / (1 + self.calls), batch.labels))

    return with_trainer(train_step=train_step)


@caught_by("check_save_load", "other images")
def volumes_with_an_attribute_that_is_no_buffer(*_: object) -> type[GAN]:
    config = SmallConfig(latent_dim=8, batch_size=4, width=8, ema_halflife=0)

    def make_generator(self: GAN, config: SmallConfig, data: DataSpec) -> Generator:
        return (Counting if len(data.size) == 3 else SmallGenerator)(config, data)

    return variant(make_generator=make_generator, presets={"tiny": config})


def without_augment(self: Any) -> tuple[str, ...]:
    return tuple(name for name in SmallTrainer.stateful_modules(self) if name != "augment")


@caught_by("check_adaptive_resume", "probability and observed are not those")
def chance_and_its_counters_lost_on_resume(*_: object) -> type[GAN]:
    return with_trainer(stateful_modules=without_augment)


@caught_by("check_rewind", "hidden state")
def counter_not_rewound(*_: object) -> type[GAN]:
    return hidden_counter()


@caught_by("check_rewind", "hidden state")
def counter_of_the_class(*_: object) -> type[GAN]:
    calls = [0]

    def train_step(self: Any, batch: Batch) -> dict[str, Tensor]:
        calls[0] += 1
        return SmallTrainer.train_step(self, Batch(batch.images / calls[0], batch.labels))

    return with_trainer(train_step=train_step)


def with_an_average(**methods: Any) -> type[GAN]:
    """A loss that is drawn to a running mean of the realness, which is saved and loaded."""

    def __init__(self: Any, *args: Any, **kwargs: Any) -> None:  # noqa: N807
        SmallTrainer.__init__(self, *args, **kwargs)
        self.mean = nn.Module()
        self.mean.register_buffer("value", torch.zeros(()))

    def generator_loss(self: Any, real: Batch, fake: Batch) -> dict[str, Tensor]:
        terms = SmallTrainer.generator_loss(self, real, fake)
        drawn = self.discriminator(*fake).realness.mean()
        return {**terms, "drawn": (drawn - self.mean.value).square()}

    def update(self: Any, network: str, terms: dict[str, Tensor]) -> dict[str, Tensor]:
        if "drawn" in terms:
            self.mean.value.lerp_(terms["drawn"].detach(), 0.5)
        return SmallTrainer.update(self, network, terms)

    own = {"__init__": __init__, "generator_loss": generator_loss, "update": update}
    return with_trainer(**own, **methods)


@caught_by("check_way_back", r"not finite: Training diverged .* generator/drawn")
def average_that_does_not_go_back(*_: object) -> type[GAN]:
    def state_dict(self: Any) -> dict[str, Any]:
        return {**SmallTrainer.state_dict(self), "mean": self.mean.state_dict()}

    def load_state_dict(self: Any, state: dict[str, Any]) -> None:
        SmallTrainer.load_state_dict(self, state)
        self.mean.load_state_dict(state["mean"])

    return with_an_average(state_dict=state_dict, load_state_dict=load_state_dict)


def test_an_average_that_is_declared_goes_back() -> None:
    def stateful_modules(self: Any) -> tuple[str, ...]:
        return (*SmallTrainer.stateful_modules(self), "mean")

    CHECKS["check_way_back"](with_an_average(stateful_modules=stateful_modules))


@caught_by("check_way_back", "go_back leaves .*augment")
def augmentation_that_does_not_go_back(*_: object) -> type[GAN]:
    def go_back(self: Any, state: dict[str, Any]) -> None:
        augment = copy.deepcopy(self.augment.state_dict())
        SmallTrainer.go_back(self, state)
        self.augment.load_state_dict(augment)

    ada: dict[str, Any] = {"augment": "brightness", "augment_probability": 0.4, "ada_target": 0.1, "ada_kimg": 0.01}
    config = SmallConfig(latent_dim=8, batch_size=4, width=8, ema_halflife=0, **ada)
    return variant(Trainer=type("Mutant", (SmallTrainer,), {"go_back": go_back}), presets={"tiny": config})


CHECKS = {check.__name__: check for check in checks()}  # type: ignore[attr-defined]


@pytest.mark.parametrize(
    ("name", "message", "mutant"), MUTANTS, ids=[f"{name}-{mutant.__name__}" for name, _, mutant in MUTANTS]
)
def test_check_catches_its_mutant(
    name: str, message: str, mutant: Mutant, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    architecture = mutant(monkeypatch, tmp_path)
    with pytest.raises(ComplianceError, match=f"(?s){message}"):
        CHECKS[name](architecture)


@pytest.mark.slow
@pytest.mark.parametrize(("name", "mutant"), SINGLE, ids=[mutant.__name__ for _, mutant in SINGLE])
def test_other_checks_do_not_blame_a_mutant(
    name: str, mutant: Mutant, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    architecture = mutant(monkeypatch, tmp_path)
    # An import in another process sees nothing of a class of this module.
    others = [check for other, check in CHECKS.items() if other not in (name, "check_import")]
    monkeypatch.setattr(kit, "checks", lambda: iter(others))
    assert {result.name: str(result) for result in run_checks(architecture) if result.error is not None} == {}


def test_seeding_is_seen_where_the_experiment_has_the_same_seed() -> None:
    with seeded(0):
        before = torch.get_rng_state()
        with pytest.raises(ComplianceError, match=r"Sampling .* torch"):
            CHECKS["check_global_randomness"](forward_that_seeds())
        assert torch.equal(before, torch.get_rng_state())


def test_every_check_has_a_mutant() -> None:
    assert {name for name, _, _ in MUTANTS} == set(CHECKS)


def test_every_check_of_the_modules_is_yielded() -> None:
    defined = {name for module in (declaration, networks, training) for name in module.__all__ if name[:5] == "check"}
    assert defined == set(CHECKS)
    assert all(check.__doc__ for check in CHECKS.values())


# ------------------------------------------------------------------------------- the ways to run it


def test_check_architecture_passes_a_good_one() -> None:
    check_architecture(NeedsLabels)


@pytest.fixture
def few_checks(monkeypatch: pytest.MonkeyPatch) -> None:
    """Leave only the quick checks."""
    few = [CHECKS[name] for name in ("check_name", "check_summary", "check_presets", "check_shape")]
    monkeypatch.setattr(kit, "checks", lambda: iter(few))


@pytest.mark.usefixtures("few_checks")
def test_check_architecture_names_every_failure() -> None:
    with pytest.raises(ComplianceError) as caught:
        check_architecture(variant(summary="", default_preset="large"))
    message = str(caught.value)
    assert message.startswith("small: 2 of 4 checks failed")
    assert "check_summary: Variant.summary is ''" in message
    assert "check_presets: default_preset is 'large'" in message
    assert isinstance(caught.value, AssertionError)


@pytest.mark.usefixtures("few_checks")
def test_check_architecture_survives_any_error() -> None:
    def make_generator(self: GAN, config: SmallConfig, data: DataSpec) -> Generator:
        raise ZeroDivisionError("by zero")

    with pytest.raises(ComplianceError, match="check_shape: ZeroDivisionError: by zero"):
        check_architecture(variant(make_generator=make_generator))


@pytest.mark.usefixtures("few_checks")
def test_expected_failures_are_left_out() -> None:
    check_architecture(variant(summary=""), expected_failures={"check_summary": "To be written."})


@pytest.mark.usefixtures("few_checks")
def test_expected_failure_that_passes_is_an_error() -> None:
    with pytest.raises(ComplianceError, match=r"check_summary: passes, but was expected to fail .To be written"):
        check_architecture(NeedsLabels, expected_failures={"check_summary": "To be written."})


def test_expected_failure_of_an_unknown_check_is_an_error() -> None:
    with pytest.raises(ConfigError, match=r"'check_sumary'.*Did you mean 'check_summary'"):
        check_architecture(Small, expected_failures={"check_sumary": "A typing error."})
    with pytest.raises(ConfigError, match="'check_sumary'"):
        parametrize_with_checks([Small], expected_failures={"check_sumary": "A typing error."})


def test_parametrize_with_checks_marks_expected_failures() -> None:
    @parametrize_with_checks([Small, NeedsLabels], expected_failures={"check_summary": "To be written."})
    def test(architecture: type[GAN], check: object) -> None: ...

    (mark,) = test.pytestmark  # type: ignore[attr-defined]
    names, cases = mark.args
    assert names == ("architecture", "check")
    assert [case.id for case in cases][:2] == ["small-check_name", "small-check_summary"]
    assert len(cases) == 2 * len(CHECKS)
    marked = [case for case in cases if case.marks]
    assert [case.id for case in marked] == ["small-check_summary", "needs-labels-check_summary"]
    assert marked[0].marks[0].kwargs == {"reason": "To be written.", "strict": True}


def test_kit_does_not_import_pytest() -> None:
    code = "import sys, medgan.testing; print('pytest' in sys.modules)"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "False"


def test_reserved_names_are_those_of_a_run() -> None:
    of_a_run = {item.name for item in RunConfig.options()}
    assert of_a_run | {"config", "resume", "dry_run", "help", "transforms"} == RESERVED
    assert not RESERVED & {item.name for item in GANConfig.options()}


def test_blocks_that_can_be_frozen() -> None:
    CHECKS["check_frozen_stages"](with_stages())


@parametrize_with_checks([ACGAN])
def test_acgan(architecture: type[GAN], check: Callable[[type[GAN]], None]) -> None:
    check(architecture)
