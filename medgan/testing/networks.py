"""Checks of the two networks: shapes, ranges, labels, randomness."""

from __future__ import annotations

import copy
import pickle
import random
from collections.abc import Iterator
from contextlib import contextmanager

import numpy as np
import torch
from torch import Tensor

from medgan.core.gan import GAN
from medgan.core.networks import DiscriminatorOutput, Generator
from medgan.core.randomness import seeded
from medgan.core.spec import DataSpec
from medgan.testing.probe import (
    begin,
    conditions,
    differences,
    make,
    make_batch,
    make_sources,
    perturbed,
    require,
    sample,
    specs,
    train,
)

__all__ = [
    "check_copies",
    "check_discriminator_output",
    "check_global_randomness",
    "check_judges_without_labels",
    "check_label_leak",
    "check_labels_matter",
    "check_latents",
    "check_latents_matter",
    "check_mixed_classes",
    "check_range",
    "check_seed",
    "check_shape",
    "check_sources_matter",
]

_UNLIKELY_SEED = 2_903_471_651
# Labels of `probe.label_options` that a generator which takes vectors for classes would not tell apart.
_VALUES = {
    "multilabel": [("first=1", "first=1,third=1")],
    "continuous": [("first=0.2,second=0,third=0", "first=0.7,second=0,third=0")],
}


def check_shape(architecture: type[GAN]) -> None:
    """The generator makes float32 images of the right shape: grey, RGB, two sizes, any labels, n = 1."""
    for data in specs(architecture):
        generator = make(architecture, data).generator.eval()
        for n in (1, 3):
            with torch.inference_mode():
                latents = generator.make_latents(n, torch.Generator().manual_seed(0))
                images = generator(latents, *conditions(data, n))
            expected = (n, data.channels, *data.size)
            found = f"For {data} and n = {n} the generator makes {tuple(images.shape)} {images.dtype}"
            require(images.shape == expected and images.dtype == torch.float32, found, f"{expected} torch.float32")
            require(bool(images.isfinite().all()), f"For {data} and n = {n} some pixels are not finite", "numbers")


def check_range(architecture: type[GAN]) -> None:
    """Images stay within [-1, 1], also for latents × 1000 and for weights × 10."""
    gan = make(architecture)
    latents = gan.generator.make_latents(4, torch.Generator().manual_seed(0))
    given = conditions(gan.data, 4)
    cases = {
        "fresh weights": (gan.generator.eval(), latents),
        "latents × 1000": (gan.generator.eval(), latents * 1000),
        "weights × 10": (perturbed(gan.generator, 10), latents),
    }
    for case, (generator, inputs) in cases.items():
        with torch.inference_mode():
            images = generator(inputs, *given)
        # A fresh network's small weights hide a missing tanh; weights × 10 may overflow, hence `> 1`.
        outside = images.abs() > 1
        require(
            not outside.any(),
            f"With {case} the pixels reach from {images.min():.4g} to {images.max():.4g}",
            "[-1, 1] always. End the generator with torch.tanh",
        )


def check_latents(architecture: type[GAN]) -> None:
    """make_latents draws (n, latent_dim) float32 numbers from the generator of random numbers it is given."""
    generator = make(architecture).generator
    with _unchanged_randomness("make_latents(n, rng)"):
        one = generator.make_latents(5, torch.Generator().manual_seed(1))
        again = generator.make_latents(5, torch.Generator().manual_seed(1))
        other = generator.make_latents(5, torch.Generator().manual_seed(2))
    expected = (5, generator.latent_dim)
    require(
        one.shape == expected and one.dtype == torch.float32,
        f"make_latents(5, rng) gives {tuple(one.shape)} {one.dtype}",
        f"{expected} torch.float32",
    )
    require(torch.equal(one, again), "make_latents gives other latents for the same seed", "the same")
    if _takes_chance(architecture, generator):
        require(not torch.equal(one, other), "make_latents gives the same latents for other seeds", "other ones")


def check_latents_matter(architecture: type[GAN]) -> None:
    """Other latents make other images; only a translation may do without latents (latent_dim 0)."""
    gan = make(architecture)
    if not _takes_chance(architecture, gan.generator):
        return
    given = conditions(gan.data, 1)
    latents = gan.generator.make_latents(2, torch.Generator().manual_seed(0))
    one, other = _images(gan, latents[:1], *given), _images(gan, latents[1:], *given)
    require(not torch.equal(one, other), "Two different latents make the same image", "two different ones")


def check_sources_matter(architecture: type[GAN]) -> None:
    """Other source images make other images, where an architecture translates, for each kind of data."""
    if not architecture.translates:
        return
    for data in specs(architecture):
        gan = make(architecture, data)
        latents = gan.generator.make_latents(1, torch.Generator().manual_seed(0))
        labels, _ = conditions(data, 1)
        one, other = (_images(gan, latents, labels, make_sources(data, 1, seed=seed)) for seed in (0, 1))
        require(not torch.equal(one, other), f"For {data} two sources make the same image", "the sources to be used")


def check_labels_matter(architecture: type[GAN]) -> None:
    """Other labels make other images, for each kind: another class, one finding more, a little more of a quantity."""
    for data in specs(architecture):
        if data.labels is None:
            continue
        gan = make(architecture, data)
        latents = gan.generator.make_latents(1, torch.Generator().manual_seed(0))
        first, second = data.labels.names[:2]
        _, *sources = conditions(data, 1)
        for pair in ((first, second), *_VALUES.get(data.labels.kind, ())):
            one, other = (_images(gan, latents, gan.make_labels(1, label), *sources) for label in pair)
            require(
                not torch.equal(one, other),
                f"For {data} the labels {' and '.join(map(repr, pair))} make the same image",
                "the generator to use its labels",
            )


def check_mixed_classes(architecture: type[GAN]) -> None:
    """A generator that says it mixes classes takes weights of them, and a single 1 means its class."""
    for data in specs(architecture):
        gan = make(architecture, data)
        if not gan.generator.mixes_classes or data.labels is None or data.labels.kind not in ("categorical", "ordinal"):
            continue
        latents = gan.generator.make_latents(1, torch.Generator().manual_seed(0))
        weights = torch.eye(data.num_labels)[:2]
        _, *sources = conditions(data, 1)
        images = [_images(gan, latents, torch.tensor([number]), *sources) for number in (0, 1)]
        ends = [_images(gan, latents, weights[number : number + 1], *sources) for number in (0, 1)]
        middle = _images(gan, latents, weights.mean(dim=0, keepdim=True), *sources)
        require(
            all(torch.allclose(image, end, atol=1e-4) for image, end in zip(images, ends, strict=True)),
            f"For {data} weights of classes with a single 1 make another image than the index of that class",
            "the same image. Use medgan.nn.label_vectors, or leave mixes_classes out",
        )
        require(
            all(not torch.equal(middle, image) for image in images),
            f"For {data} a mixture of two classes makes the image of one of them",
            "an image between them",
        )


def check_discriminator_output(architecture: type[GAN]) -> None:
    """The discriminator gives realness (N,), label logits (N, K) or None, features (N, F) or None."""
    for data in specs(architecture):
        gan = make(architecture, data)
        discriminator = gan.make_discriminator(gan.config, data).eval()
        for n in (1, 3):
            batch = make_batch(data, n)
            with torch.inference_mode():
                output = discriminator(*batch)
            _require_output(f"For {data} and n = {n} the discriminator gives", output, data, n)


def check_judges_without_labels(architecture: type[GAN]) -> None:
    """A discriminator of data with labels takes images without them too, as `medgan features` gives them."""
    for data in specs(architecture):
        if data.labels is None:
            continue
        gan = make(architecture, data)
        discriminator = gan.make_discriminator(gan.config, data).eval()
        images, _, *sources = make_batch(data, 3)
        try:
            with torch.inference_mode():
                output = discriminator(images, None, *sources)
        except Exception as error:
            message = f"For {data} without its labels the discriminator fails with {type(error).__name__}: {error}"
            require(False, message, "what labels do to be left out, or unknown ones in their place")
        _require_output(f"For {data} without its labels the discriminator gives", output, data, 3)


def check_label_leak(architecture: type[GAN]) -> None:
    """An auxiliary head, which has to say the label, does not see it; the realness may."""
    for data in specs(architecture):
        if data.labels is None:
            continue
        gan = make(architecture, data)
        discriminator = perturbed(gan.make_discriminator(gan.config, data))
        images, _, *sources = make_batch(data, 2)
        with torch.inference_mode():
            one, other = (discriminator(images, gan.make_labels(2, name), *sources) for name in data.labels.names[:2])
        if one.label_logits is not None:
            require(
                not differences([one.label_logits], [other.label_logits]),
                f"For {data} the label_logits change with the labels that were passed",
                "an auxiliary head not to see the labels: it would learn to repeat them",
            )


def check_seed(architecture: type[GAN]) -> None:
    """The option seed decides the weights: the same one repeats them, another one changes them."""
    states = []
    for seed in (1, 1, 2):
        gan = make(architecture, seed=seed)
        trainer = begin(gan)
        states.append({"generator": gan.generator.state_dict(), "discriminator": trainer.discriminator.state_dict()})
    unlike = differences(states[0], states[1])
    require(
        not unlike,
        f"Two models with seed 1 differ in {', '.join(unlike[:3])}",
        "equal weights: draw them with torch's random numbers alone, which medgan seeds",
    )
    for network in ("generator", "discriminator"):
        changed = differences(states[0][network], states[2][network])
        require(bool(changed), f"The {network} has the same weights with seed 1 and seed 2", "other ones")


def check_global_randomness(architecture: type[GAN]) -> None:
    """Making, training and sampling a model leaves the global random numbers alone."""
    with _unchanged_randomness("Making a model"):
        gan = make(architecture)
    with _unchanged_randomness("Beginning a training"):
        begin(gan)
    with _unchanged_randomness("Training"):
        train(gan, 1)
    with _unchanged_randomness("Sampling"):
        sample(gan, 2)


def check_copies(architecture: type[GAN]) -> None:
    """copy.deepcopy of a network works alike, and its weights can be pickled."""
    gan = make(architecture)
    batch = make_batch(gan.data, 2)
    latents = gan.generator.make_latents(2, torch.Generator().manual_seed(0))
    networks = {"generator": gan.generator, "discriminator": gan.make_discriminator(gan.config, gan.data)}
    for name, network in networks.items():
        network.eval()
        twin = copy.deepcopy(network)
        images, *given = batch
        inputs = latents if name == "generator" else images
        with torch.inference_mode(), seeded(0):
            output = network(inputs, *given)
        with torch.inference_mode(), seeded(0):
            repeated = twin(inputs, *given)
        unlike = differences(output if isinstance(output, Tensor) else list(output), repeated)
        require(not unlike, f"A deep copy of the {name} gives another output", "the same one")
        weights = network.state_dict()
        unlike = differences(dict(weights), dict(pickle.loads(pickle.dumps(dict(weights)))))
        require(not unlike, f"The {name}'s weights {', '.join(unlike[:3])} change when pickled", "the same ones")


@contextmanager
def _unchanged_randomness(what: str) -> Iterator[None]:
    """Raise if the block changes the state of a global source of random numbers."""
    outer = random.getstate(), np.random.get_state(), torch.get_rng_state()
    # From a state that the block itself seeds, its seeding would go unseen: begin at one that nobody chooses.
    random.seed(_UNLIKELY_SEED)
    np.random.seed(_UNLIKELY_SEED)
    torch.default_generator.manual_seed(_UNLIKELY_SEED)
    try:
        before = _random_states()
        yield
        changed = differences(before, _random_states())
    finally:
        random.setstate(outer[0])
        np.random.set_state(outer[1])
        torch.set_rng_state(outer[2])
    require(
        not changed,
        f"{what} changes the global random state of {', '.join(changed)}",
        "it to be left as it was, so that the user's own experiment can be repeated",
    )


def _random_states() -> dict[str, object]:
    """Return the states of all global sources of random numbers."""
    return {
        "torch": torch.get_rng_state(),
        "numpy": [str(part) for part in np.random.get_state()],
        "random": str(random.getstate()),
    }


def _takes_chance(architecture: type[GAN], generator: Generator) -> bool:
    """Whether images depend on latents, as all do but those of a translation that says otherwise."""
    return not architecture.translates or generator.latent_dim > 0


def _images(gan: GAN, latents: Tensor, *given: Tensor | None) -> Tensor:
    """Return what the generator makes once its weights have moved, with labels and, where there are such, sources."""
    with torch.inference_mode(), seeded(0):
        images: Tensor = perturbed(gan.generator)(latents, *given)
    return images


def _require_output(where: str, output: DiscriminatorOutput, data: DataSpec, n: int) -> None:
    """Raise unless a discriminator's output is of n images of such data."""
    require(isinstance(output, DiscriminatorOutput), f"{where} {type(output)}", "a DiscriminatorOutput")
    _require_shape(f"{where} realness", output.realness, (n,))
    if output.label_logits is not None:
        require(data.labels is not None, f"{where} label logits", "None: there are no labels")
        _require_shape(f"{where} label_logits", output.label_logits, (n, data.num_labels))
    if output.features is not None:
        require(output.features.ndim == 2, f"{where} features {tuple(output.features.shape)}", f"({n}, F)")
        _require_shape(f"{where} features", output.features, (n, output.features.shape[1]))


def _require_shape(where: str, tensor: Tensor, shape: tuple[int, ...]) -> None:
    """Raise unless a tensor is float32, of a shape, and finite."""
    found = f"{where} {tuple(tensor.shape)} {tensor.dtype}"
    require(tensor.shape == shape and tensor.dtype == torch.float32, found, f"{shape} torch.float32")
    require(bool(tensor.isfinite().all()), f"{where} that is not finite", "numbers")
