"""Checks of training, sampling and files."""

from __future__ import annotations

import re
import tempfile
import time
from collections.abc import Mapping
from dataclasses import replace
from itertools import islice
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from medgan.core.gan import GAN
from medgan.core.randomness import seeded
from medgan.core.saving import read_state, write_state
from medgan.core.spec import Batch, DataSpec
from medgan.core.trainer import AdversarialTrainer, Callback, Metrics, Trainer
from medgan.errors import ConfigError, TrainingDivergedError
from medgan.testing.probe import (
    begin,
    copy_state,
    differences,
    main_spec,
    main_specs,
    make,
    make_batch,
    make_if_possible,
    make_labels,
    make_sources,
    perturbed,
    require,
    sample,
    specs,
    stream,
    train,
)

__all__ = [
    "SECONDS",
    "check_accumulation",
    "check_adaptive_resume",
    "check_batch_untouched",
    "check_discriminator_steps",
    "check_every_kind_of_data",
    "check_frozen_stages",
    "check_losses_pure",
    "check_metrics",
    "check_mixed_penalties",
    "check_mixed_precision",
    "check_resume",
    "check_rewind",
    "check_sample_mode",
    "check_sample_number",
    "check_sample_repeats",
    "check_save_load",
    "check_separate_updates",
    "check_stabilisers_act",
    "check_stabilisers_resume",
    "check_tiny_speed",
    "check_trainable_after_step",
    "check_training_moves_both",
    "check_truncation",
    "check_truncation_labels",
    "check_truncation_number",
    "check_unknown_labels",
    "check_way_back",
]

SECONDS = 20.0
"""Processor time within which the preset tiny has to be made, trained for two steps and sampled."""


def check_training_moves_both(architecture: type[GAN]) -> None:
    """One step changes the weights of both networks."""
    gan = make(architecture)
    trainer = begin(gan)
    before = {name: copy_state(_weights(trainer, name)) for name in ("generator", "discriminator")}
    train(gan, 1)
    for name, weights in before.items():
        require(
            bool(differences(weights, _weights(trainer, name))),
            f"One step leaves all weights of the {name} as they were",
            "it to train both networks",
        )


def check_trainable_after_step(architecture: type[GAN]) -> None:
    """After a step both networks are in training mode and no weight has been frozen."""
    gan = make(architecture)
    trainer = begin(gan)
    before = {name: _switches(trainer, name) for name in ("generator", "discriminator")}
    train(gan, 1)
    for name, switches in before.items():
        changed = differences(switches, _switches(trainer, name))
        require(
            not changed,
            f"After a step the {name} differs in {', '.join(changed[:3])}",
            "training mode and requires_grad as they were before",
        )


def check_batch_untouched(architecture: type[GAN]) -> None:
    """A step does not write into the batch that it is given."""
    gan = make(architecture)
    trainer = begin(gan)
    batch = next(stream(gan))
    before = copy_state(list(batch))
    trainer.fit([batch], 1)
    require(not differences(before, list(batch)), "A step changes the images or labels of its batch", "it to copy them")


def check_metrics(architecture: type[GAN]) -> None:
    """A step returns finite numbers: 0-d, detached, named like 'generator/adversarial'."""
    gan = make(architecture)
    trainer = begin(gan)
    with seeded(0):
        metrics: Any = trainer.train_step(next(stream(gan)))
    require(isinstance(metrics, dict) and bool(metrics), f"A step returns {metrics!r}", "a dict of named values")
    for name, value in metrics.items():
        require(
            isinstance(name, str) and re.fullmatch(r"[a-z0-9_]+(/[a-z0-9_]+)+", name) is not None,
            f"A step logs {name!r}",
            "'network/term' in lower case, such as 'discriminator/adversarial'",
        )
        require(
            isinstance(value, Tensor) and value.ndim == 0 and not value.requires_grad,
            f"A step logs {name} as {value!r}",
            "a 0-d tensor, detached",
        )
        require(bool(value.isfinite()), f"A step logs {name} = {value}", "a finite number")


def check_losses_pure(architecture: type[GAN]) -> None:
    """The loss hooks change nothing: called again from the same state they give the same terms."""
    gan = make(architecture)
    trainer = begin(gan)
    if not isinstance(trainer, AdversarialTrainer):
        return
    train(gan, 1)
    real = make_batch(gan.data, gan.config.batch_size, seed=1)
    with torch.no_grad(), seeded(0):
        _, *given = real
        fake = Batch(trainer.generator(trainer.generator.make_latents(len(real.images)), *given), *given)
    start = copy_state(trainer.state_dict())
    for hook in (trainer.discriminator_loss, trainer.generator_loss):
        name = f"{hook.__name__}()"
        inputs = copy_state([list(real), list(fake)])
        gradients = copy_state(_gradients(trainer))
        with seeded(1):
            terms: Any = hook(real, fake)
        require(
            isinstance(terms, Mapping) and bool(terms) and all(isinstance(value, Tensor) for value in terms.values()),
            f"{name} returns {terms!r}",
            "a dict of named scalars",
        )
        for term, value in terms.items():
            require(value.ndim == 0, f"{name} returns {term!r} of shape {tuple(value.shape)}", "a scalar")
        require(any(value.requires_grad for value in terms.values()), f"{name} returns no term with a gradient", "one")
        require(not differences(inputs, [list(real), list(fake)]), f"{name} changes its batches", "it to copy them")
        changed = differences(gradients, _gradients(trainer))
        require(not changed, f"{name} leaves gradients in {', '.join(changed[:3])}", "Trainer.update to compute them")
        # A forward in training mode may update buffers, such as those of a spectral norm: not weights.
        changed = [
            f"{network}.{place}"
            for network in ("generator", "discriminator")
            for place in differences(_part(start[network], trainer, network), _weights(trainer, network))
        ]
        changed += differences(start["optimizers"], trainer.state_dict()["optimizers"])
        require(not changed, f"{name} changes {', '.join(changed[:3])}", "it to change nothing")
        first = copy_state(dict(terms))
        trainer.load_state_dict(copy_state(start))  # torch's optimizers write into what they load
        with seeded(1):
            again = hook(real, fake)
        trainer.load_state_dict(copy_state(start))  # torch's optimizers write into what they load
        changed = differences(first, copy_state(dict(again)))
        require(
            not changed,
            f"{name} gives another {', '.join(changed)} when it is called again from the same state",
            "the same values: keep what has to survive in Trainer.state_dict, and change it in train_step",
        )


def check_separate_updates(architecture: type[GAN]) -> None:
    """The update of one network changes neither the weights nor, by the discriminator, the gradients of the other."""
    gan = make(architecture)
    trainer = begin(gan)
    update = trainer.update
    others = {"generator": "discriminator", "discriminator": "generator"}

    def watched(network: str, terms: Mapping[str, Tensor]) -> Metrics:
        other = others[network]
        before = copy_state([_weights(trainer, other), _gradients(trainer)[other]])
        metrics = update(network, terms)
        after = [_weights(trainer, other), _gradients(trainer)[other]]
        require(not differences(before[0], after[0]), f"The update of the {network} moves the {other}", "it to stay")
        require(
            network == "generator" or not differences(before[1], after[1]),
            "The discriminator's loss sends gradients into the generator",
            "fakes made under torch.no_grad() or detached; otherwise half of the work is thrown away",
        )
        return metrics

    # An attribute of the instance hides the method of the class.
    trainer.update = watched  # type: ignore[method-assign]
    train(gan, 1)


def check_every_kind_of_data(architecture: type[GAN]) -> None:
    """It trains and samples with every kind of labels that it declares, without them, in grey and in RGB."""
    for data in specs(architecture):
        gan = make(architecture, data)
        try:
            train(gan, 1)
            images = sample(gan, 2).images
        except Exception as error:
            message = f"A step and a sample with {data} fail with {type(error).__name__}: {error}"
            require(False, message, "it to work, or check() to refuse such data with a ConfigError")
        require(images.shape == (2, data.channels, *data.size), f"{data} gives {tuple(images.shape)}", "such images")


def check_unknown_labels(architecture: type[GAN]) -> None:
    """Findings and quantities that are not known (NaN) neither spoil the training nor the images."""
    for data in specs(architecture):
        if data.labels is None or data.labels.kind not in ("multilabel", "continuous"):
            continue
        gan = make(architecture, data)
        trainer = begin(gan)
        batch = make_batch(data, gan.config.images_per_step)
        labels = make_labels(data, len(batch.images), torch.Generator().manual_seed(1))
        assert labels is not None  # for the type checker
        gaps = torch.arange(labels.numel()).view(labels.shape) % 2 == 0  # in every row some, and in each column
        batch = replace(batch, labels=labels.masked_fill(gaps, torch.nan))
        expected = "what is NaN to condition nothing and to be left out of the losses; medgan.nn.label_vectors does so"
        try:
            trainer.fit([batch, batch], 2)
            images = gan.sample(2, labels=torch.full((2, len(data.labels)), torch.nan), **_source(gan, 2)).images
        except (RuntimeError, TrainingDivergedError) as error:
            require(False, f"With {data}, some of them NaN, training fails: {error}", expected)
        spoilt = [
            f"{network}.{name}"
            for network in ("generator", "discriminator")
            for name, weight in _weights(trainer, network).items()
            if not weight.isfinite().all()
        ]
        require(not spoilt, f"With {data}, some of them NaN, {', '.join(spoilt[:3])} are not finite", expected)
        require(bool(images.isfinite().all()), f"With {data}, all of them NaN, some pixels are not finite", expected)


def check_mixed_precision(architecture: type[GAN]) -> None:
    """A step works in bfloat16, of images as of volumes, and the weights stay float32."""
    for data in main_specs(architecture):
        _check_mixed(make(architecture, data), 1)


def check_mixed_penalties(architecture: type[GAN]) -> None:
    """Gradient penalties, which differentiate twice and in float32, work in a bfloat16 training, or are refused."""
    for penalty in ("r1", "wgan-gp"):
        options = {**_UNSTABILISED, **_penalty(penalty)}
        if make_if_possible(architecture, **options) is not None:
            # The second penalty is that of networks which have passed a step in bfloat16.
            _check_mixed(make(architecture, **options), 2, f" and gradient_penalty {penalty}")


def _check_mixed(gan: GAN, steps: int, options: str = "") -> None:
    """Train some steps in bfloat16; `options` are for the message."""
    trainer: Trainer[Any] = gan.make_trainer(device="cpu", precision="bf16")
    size = "×".join(map(str, gan.data.size))
    try:
        trainer.fit(stream(gan), steps)
    except (RuntimeError, TrainingDivergedError) as error:
        message = f"A step with precision bf16{options} fails at {size}: {error}"
        require(False, message, "tensors of mixed types to be converted, and numbers of a range that bf16 has")
    for name in ("generator", "discriminator"):
        types = {weight.dtype for weight in _weights(trainer, name).values()}
        require(types == {torch.float32}, f"With precision bf16{options} the {name} has weights of {types}", "float32")


def check_tiny_speed(architecture: type[GAN]) -> None:
    """The preset tiny is made, trained for two steps and sampled within seconds of processor time."""
    data = main_spec(architecture)
    start = time.process_time()
    gan = make(architecture, data)
    train(gan, 2)
    sample(gan, 2)
    spent = time.process_time() - start
    require(
        spent <= SECONDS,
        f"Two steps and two images with the preset tiny at {data} take {spent:.1f} s of processor time",
        f"at most {SECONDS:g} s; make its networks or its batch smaller",
    )


def check_sample_repeats(architecture: type[GAN]) -> None:
    """The same seed makes the same images; another seed, or in a translation another source, makes others."""
    gan = make(architecture)
    train(gan, 1)
    one, again, other = (sample(gan, 3, seed=seed) for seed in (5, 5, 50))
    require(
        not differences(list(one), list(again)),
        "sample() gives other images for the same seed",
        "the same: all randomness has to come from the latents",
    )
    require(not torch.equal(one.images, other.images), "sample() gives the same images for another seed", "others")


def check_sample_number(architecture: type[GAN]) -> None:
    """A seed makes the same image, bit for bit, whatever else is sampled with it."""
    for data in main_specs(architecture):
        gan = make(architecture, data)
        train(gan, 1)
        _check_number(gan, truncation=1.0)


def check_truncation(architecture: type[GAN]) -> None:
    """Truncation at 1 changes nothing; the further below, the more alike the images. Or it is refused."""
    gan = make(architecture)
    train(gan, 1)
    # A fresh network may have layers of zeros behind which no latents are seen.
    gan.generator = perturbed(gan.generator)
    label = _first_label(gan, 16)
    latents = gan.generator.make_latents(16, torch.Generator().manual_seed(0))
    given = [label, *_source(gan, 16).values()]
    with torch.inference_mode():
        forward = gan.generator(latents, *given)
        cases: dict[str, dict[str, Any]] = {"Without truncation": {}, "With truncation 1": {"truncation": 1.0}}
        for what, options in cases.items():
            images = gan.generator.generate(latents, *given, **options)
            require(
                images.shape == forward.shape and torch.allclose(images, forward, atol=1e-4),
                f"{what} generate() makes other images than forward()",
                "those that forward() makes of the same latents",
            )
    spreads = []
    for truncation in (1.0, 0.5, 0.0):
        if not _can_truncate(gan, truncation):
            return
        images = gan.sample(16, labels=label, truncation=truncation, **_source(gan, 16)).images
        where = f"With truncation {truncation:g} the images are of shape {tuple(images.shape)}"
        require(images.shape == forward.shape, where, f"{tuple(forward.shape)}")
        where = f"With truncation {truncation:g} the pixels reach from {images.min():.4g} to {images.max():.4g}"
        require(bool((images.abs() <= 1).all()), where, "[-1, 1]")
        spreads.append(float(images.std(dim=0).mean()))
    require(
        spreads[0] > spreads[1] > spreads[2],
        f"With truncation 1, 0.5 and 0 the pixels of 16 images of a label spread by {spreads[0]:.3g}, "
        f"{spreads[1]:.3g} and {spreads[2]:.3g}",
        "them to spread less and less. Override Generator.truncate or generate, or refuse what does nothing with a "
        "ConfigError",
    )


def check_truncation_labels(architecture: type[GAN]) -> None:
    """However far images are truncated, they are of the label that was asked for."""
    gan = make(architecture)
    gan.generator = perturbed(gan.generator)
    if gan.data.labels is None or not _can_truncate(gan, 0.0):
        return
    source = _source(gan, 1)
    one, other = (gan.sample(1, labels=name, truncation=0.0, **source).images for name in gan.data.labels.names[:2])
    require(
        not torch.equal(one, other),
        "With truncation 0 two labels make the same image",
        "each label to keep a centre of its own: a mean image of all labels shows none of them",
    )


def check_truncation_number(architecture: type[GAN]) -> None:
    """A truncated image, too, depends on nothing but its seed and label, bit for bit."""
    gan = make(architecture)
    train(gan, 1)
    if not _can_truncate(gan, 0.5):
        return
    one, again = (gan.sample(3, seed=5, truncation=0.5, **_source(gan, 3)).images for _ in range(2))
    require(torch.equal(one, again), "With truncation 0.5 the same seed makes other images", "the same")
    _check_number(gan, truncation=0.5)


def _can_truncate(gan: GAN, truncation: float) -> bool:
    """Whether a model does not refuse such a truncation."""
    try:
        gan.sample(1, truncation=truncation, **_source(gan, 1))
    except ConfigError:
        return False
    return True


def _source(gan: GAN, n: int) -> dict[str, Any]:
    """Return what `GAN.sample` needs to translate one source n times; nothing where it does not translate."""
    source = make_sources(gan.data, 1)
    return {} if source is None else {"sources": source.repeat_interleave(n, dim=0)}


def _first_label(gan: GAN, n: int) -> Tensor | None:
    """Return the first label n times."""
    return None if gan.data.labels is None else gan.make_labels(n, gan.data.labels.names[0])


def _check_number(gan: GAN, *, truncation: float) -> None:
    """Compare images that are sampled alone with the same among others."""
    labels = gan.make_labels(20)
    sources = make_sources(gan.data, 20)
    given: dict[str, Any] = {"labels": labels, **({} if sources is None else {"sources": sources})}
    many = gan.sample(20, seed=3, truncation=truncation, **given)
    at = f"At {'×'.join(map(str, gan.data.size))}" + ("" if truncation == 1 else f" with truncation {truncation:g}")
    for position in (0, 7, 18):
        own = {name: None if part is None else part[position : position + 1] for name, part in given.items()}
        alone = gan.sample(1, seed=3 + position, truncation=truncation, **own)
        require(
            torch.equal(alone.images[0], many.images[position]),
            f"{at} seed {3 + position} makes another image alone than among 20",
            "the same: in evaluation mode an image must not depend on the rest of its batch",
        )


def check_sample_mode(architecture: type[GAN]) -> None:
    """Sampling leaves every module in the mode, training or evaluation, in which it was."""
    gan = make(architecture)
    begin(gan)
    for training in (True, False):
        gan.generator.train(training)
        before = {name: module.training for name, module in gan.generator.named_modules()}
        sample(gan, 1)
        after = {name: module.training for name, module in gan.generator.named_modules()}
        require(
            before == after,
            f"After sample() the generator's mode has changed (training was {training})",
            "the mode that it was in",
        )


def check_save_load(architecture: type[GAN]) -> None:
    """A trained model that is saved and loaded makes the same images."""
    for data in main_specs(architecture):
        _check_save_load(make(architecture, data))


def _check_save_load(gan: GAN) -> None:
    """Compare a model with what is loaded after it was saved."""
    train(gan, 2)
    with tempfile.TemporaryDirectory() as folder:
        loaded = type(gan).load(gan.save(Path(folder) / "model"))
    require(loaded.config == gan.config, f"A loaded model has the options {loaded.config}", f"{gan.config}")
    require(loaded.data == gan.data, f"A loaded model is for {loaded.data}", f"{gan.data}")
    require(
        torch.equal(sample(gan, 3).images, sample(loaded, 3).images),
        "A loaded model makes other images than the one that was saved",
        "the same: all that the generator needs has to be in its parameters and buffers",
    )


def check_stabilisers_act(architecture: type[GAN]) -> None:
    """Gradient penalties, LeCam and the adaptive augmentation act, or are refused with a ConfigError at once."""
    penalties: tuple[dict[str, Any], ...] = ({}, _penalty("r1r2"), _penalty("wgan-gp"))
    # Some losses cannot do without a penalty: what else acts is seen beside the first one that is taken.
    found = ({**_UNSTABILISED, **penalty} for penalty in penalties)
    base, plain = next(((base, gan) for base in found if (gan := make_if_possible(architecture, **base))), (None, None))
    if base is None or plain is None:
        return
    before = copy_state(_weights(train(plain, 1), "discriminator"))
    for options in (_penalty("r1"), _penalty("wgan-gp"), {"lecam_weight": 10.0}, _ADAPTIVE):
        if options.items() <= base.items():
            continue
        gan = make_if_possible(architecture, **{**base, **options})
        if gan is None or gan.trainer is None:
            continue
        what = ", ".join(f"{name} {value}" for name, value in options.items())
        start = copy_state(gan.trainer.augment.state_dict())
        try:
            trainer = train(gan, 1)
        except RuntimeError as error:
            require(False, f"A step with {what} fails: {error}", "it to work, or a ConfigError before the first step")
        acted = differences(before, _weights(trainer, "discriminator"))
        if options is _ADAPTIVE:  # other than the networks it moves at every fourth step only
            acted = differences(start, trainer.augment.state_dict())
        require(
            bool(acted),
            f"The option {what} changes nothing",
            "train_step to do what AdversarialTrainer.train_step does with it, or check() to refuse it",
        )


def check_frozen_stages(architecture: type[GAN]) -> None:
    """The blocks that a discriminator calls its stages are parts of it, and keep their weights when they are frozen."""
    count = len(begin(make(architecture)).discriminator.stages())
    for frozen in sorted({min(1, count), count} - {0}):
        gan = make(architecture, freeze_discriminator=frozen)
        discriminator = begin(gan).discriminator
        stages = discriminator.stages()
        own = {id(module) for module in discriminator.modules()} - {id(discriminator)}
        require(
            {id(stage) for stage in stages} <= own,
            "Discriminator.stages() returns modules that are not inside the discriminator",
            "blocks of its own, the same at each call",
        )
        weights = [id(weight) for stage in stages for weight in stage.parameters()]
        require(
            len(weights) == len(set(weights)),
            "Two of Discriminator.stages() share a weight",
            "blocks apart from each other",
        )
        require(
            any(weight.requires_grad for weight in discriminator.parameters()),
            f"With freeze_discriminator={frozen}, of {count} blocks, nothing of the discriminator is left to train",
            "what comes after the blocks, such as the head, to be none of them",
        )
        before = [copy_state(stage.state_dict()) for stage in stages]
        train(gan, 2)
        moved = [differences(old, dict(stage.state_dict())) for old, stage in zip(before, stages, strict=True)]
        changed = [number for number, places in enumerate(moved[:frozen], start=1) if places]
        require(
            not changed,
            f"With freeze_discriminator={frozen} the discriminator's blocks {changed} change in training",
            "its weights and statistics to stay. train_step must not turn gradients on, nor call train()",
        )


def check_accumulation(architecture: type[GAN]) -> None:
    """Accumulated batches pass through the networks one by one and make one update, or are refused at once."""
    gan = make_if_possible(architecture, gradient_accumulation_steps=2)
    if gan is None:
        return
    passed, moved = _watch_step(gan)
    config = gan.config
    require(
        passed <= config.batch_size,
        f"With batches of {config.batch_size} and gradient_accumulation_steps=2 the generator makes {passed} "
        "images at once",
        "one batch; that more would not fit into memory is what the option is for",
    )
    expected = {"generator": 1, "discriminator": config.discriminator_steps}
    require(
        moved == expected,
        f"With gradient_accumulation_steps=2 a step moves the generator {moved['generator']} times and the "
        f"discriminator {moved['discriminator']} times",
        f"{expected['generator']} and {expected['discriminator']}: gradients are to be added up, in Trainer.update",
    )


def check_discriminator_steps(architecture: type[GAN]) -> None:
    """With discriminator_steps=3 the discriminator moves thrice, each time by other images, or that is refused."""
    options: dict[str, Any] = {"discriminator_steps": 3}
    gan = make_if_possible(architecture, **options)
    if gan is None:
        return
    passed, moved = _watch_step(gan)
    require(
        moved == {"generator": 1, "discriminator": 3},
        f"With discriminator_steps=3 a step moves the generator {moved['generator']} times and the discriminator "
        f"{moved['discriminator']} times",
        "1 and 3: a part of Batch.chunk(config.discriminator_steps) each. Or check() to refuse the option",
    )
    require(
        passed <= gan.config.batch_size,
        f"With batches of {gan.config.batch_size} and discriminator_steps=3 the generator makes {passed} images "
        "at once",
        "one batch: a step's batch has the images of all discriminator steps",
    )
    ends = []
    for part in (None, 0, 1, 2):
        gan = make(architecture, **options)
        trainer = begin(gan)
        batch = make_batch(gan.data, gan.config.images_per_step)
        if part is not None:
            batch.chunk(3)[part].images.neg_()
        trainer.fit([batch], 1)
        ends.append(copy_state(_weights(trainer, "discriminator")))
    unseen = [number for number, end in enumerate(ends[1:], start=1) if not differences(ends[0], end)]
    require(
        not unseen,
        f"With discriminator_steps=3 the images of the parts {unseen} of the batch change nothing",
        "each step to see images of its own, all of the batch",
    )


def _watch_step(gan: GAN) -> tuple[int, dict[str, int]]:
    """Do a step of a training that has begun.

    Returns:
        The most images that the generator made at once, and how often each network was moved.
    """
    trainer = gan.trainer or begin(gan)
    passed: list[int] = []
    moved = {"generator": 0, "discriminator": 0}

    def count(network: str) -> None:
        moved[network] += 1

    handles = [trainer.generator.register_forward_pre_hook(lambda _, inputs: passed.append(len(inputs[0])))]
    handles += [
        getattr(optimizer, "optimizer", optimizer).register_step_post_hook(lambda *_, network=network: count(network))
        for network, optimizer in trainer.optimizers.items()
    ]
    train(gan, 1)
    for handle in handles:
        handle.remove()
    return max(passed, default=0), moved


def check_adaptive_resume(architecture: type[GAN]) -> None:
    """A checkpoint keeps the adaptive augmentation's chance and what it has counted since that moved last."""
    gan = make_if_possible(architecture, **_ADAPTIVE)
    if gan is None or gan.trainer is None:
        return
    # The chance moves at every fourth discriminator step: here it has moved, and counted on.
    state = _through_a_file(train(gan, 5))
    before = gan.trainer.augment.state_dict()
    second = begin(make(architecture, **_ADAPTIVE))
    second.load_state_dict(state)
    lost = differences(before, second.augment.state_dict())
    require(
        not lost,
        f"After a resume the adaptive augmentation's {' and '.join(lost)} are not those of the checkpoint",
        "them to be: Trainer.state_dict has to keep the state of `augment`",
    )


def check_stabilisers_resume(architecture: type[GAN]) -> None:
    """Resume is exact with lazy penalties, LeCam, an adaptive augmentation and falling learning rates, too."""
    options: dict[str, Any] = {}
    # What the architecture refuses is left out.
    for some in _STABILISERS:
        if make_if_possible(architecture, **options, **some) is not None:
            options |= some
    _check_resume(architecture, options)


def check_resume(architecture: type[GAN]) -> None:
    """Two steps, a checkpoint and two more give what four steps give, bit for bit, of images as of volumes."""
    for data in main_specs(architecture):
        _check_resume(architecture, {}, data)


# No more than that: what acts beside a stabiliser alone, such as a penalty's weight, would be refused if it were given.
# What ADA alone would move from a chance of 0 would be refused, too, so that there is no augmentation.
_UNSTABILISED: dict[str, Any] = {
    "gradient_penalty": "none",
    "lecam_weight": 0.0,
    "augment": "none",
    "ada_target": None,
}
_ADAPTIVE: dict[str, Any] = {
    "augment": "brightness",
    "augment_probability": 0.4,
    "ada_target": 0.1,
    "ada_kimg": 0.1,
    "ada_limit": 0.8,
}
_STABILISERS: tuple[dict[str, Any], ...] = (
    # A penalty at the steps 0 and 3: one that is counted from the resume on comes at step 2.
    {"gradient_penalty": "r1", "penalty_weight": 1.0, "penalty_every": 3, "penalty_one_in": 2},
    {"lecam_weight": 0.3},
    _ADAPTIVE,
    {"lr_decay": 0.7},
    {"discriminator_steps": 2},
)


def _penalty(kind: str) -> dict[str, Any]:
    """Return the options of a gradient penalty on all images, at each step."""
    return {"gradient_penalty": kind, "penalty_weight": None, "penalty_every": 1, "penalty_one_in": 1}


def _through_a_file(trainer: Trainer[Any]) -> dict[str, Any]:
    """Return a training's state as a checkpoint keeps it."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "checkpoint.pt"
        write_state(path, trainer.state_dict())
        return read_state(path)


def _check_resume(architecture: type[GAN], options: Mapping[str, Any], data: DataSpec | None = None) -> None:
    """Compare four steps with two and two, with options over those of the preset."""
    whole = make(architecture, data, **options)
    train(whole, 4)
    halves = make(architecture, data, **options)
    state = _through_a_file(train(halves, 2))
    resumed = make(architecture, data, **options)
    second = begin(resumed)
    second.load_state_dict(state)
    train(resumed, 2, start=second.step)
    if whole.trainer is not None:
        unlike = differences(whole.trainer.state_dict(), second.state_dict())
        require(
            not unlike,
            f"2 + 2 steps with a checkpoint between them differ from 4 steps in {', '.join(unlike[:3])}"
            + (f" (options {', '.join(options)})" if options else ""),
            "no difference: whatever a step changes belongs into Trainer.state_dict",
        )
    require(
        torch.equal(sample(whole, 3).images, sample(resumed, 3).images),
        "2 + 2 steps with a checkpoint between them make other images than 4 steps",
        "the same",
    )


def check_rewind(architecture: type[GAN]) -> None:
    """Loading an earlier state into a trainer and repeating a step repeats its result, bit for bit."""
    gan = make(architecture)
    trainer = train(gan, 1)
    batch = next(stream(gan, start=1))
    start = copy_state(trainer.state_dict())
    logged: list[Metrics] = []
    ends: list[Any] = []
    for _ in range(2):
        trainer.load_state_dict(copy_state(start))  # torch's optimizers write into what they load
        trainer.fit([batch], 1, [_Log(logged)])
        ends.append(copy_state(trainer.state_dict()))
    unlike = differences(ends[0], ends[1]) + differences(logged[0], logged[1])
    require(
        not unlike,
        f"A step that is repeated from the same state differs in {', '.join(unlike[:3])}",
        "no difference: there is hidden state outside Trainer.state_dict",
    )


def check_way_back(architecture: type[GAN]) -> None:
    """A training whose weights became NaN goes back to an earlier state, and trains on with finite numbers."""
    gan = make(architecture)
    trainer = train(gan, 2)
    state = _through_a_file(trainer)
    with torch.no_grad():
        for network in (trainer.generator, trainer.discriminator):
            for weight in network.parameters():
                weight.fill_(float("nan"))
    # More than one step: on CUDA devices losses are looked at now and then, and lazy penalties come due meanwhile.
    for batch in islice(stream(gan, start=2), 3):
        trainer.train_step(batch)
        trainer.step += 1
    trainer.go_back(state)
    names = [*trainer.stateful_modules(), "optimizers"]
    now = trainer.state_dict()
    unlike = differences({name: state[name] for name in names}, {name: now[name] for name in names})
    require(not unlike, f"go_back leaves {', '.join(unlike[:3])} as they were", "what the state has")
    try:
        train(gan, 3, start=5)
    except TrainingDivergedError as error:
        text = str(error).split(". ", maxsplit=1)[0]
        require(
            False,
            f"After going back from NaN, the training is not finite: {text}",
            "all that a step keeps for later ones to be in Trainer.stateful_modules",
        )


class _Log(Callback):
    """Keeps what was logged."""

    def __init__(self, logged: list[Metrics]) -> None:
        self.logged = logged

    def on_step(self, trainer: Trainer[Any], metrics: Metrics) -> None:
        self.logged.append(copy_state(metrics))


def _weights(trainer: Trainer[Any], network: str) -> dict[str, Tensor]:
    """Return the parameters of a network, without its buffers."""
    return dict(getattr(trainer, network).named_parameters())


def _part(state: Mapping[str, Tensor], trainer: Trainer[Any], network: str) -> dict[str, Tensor]:
    """Return those values of a network's state that are parameters."""
    return {name: state[name] for name in _weights(trainer, network)}


def _gradients(trainer: Trainer[Any]) -> dict[str, dict[str, Tensor | None]]:
    """Return the gradients of both networks."""
    return {
        network: {name: weight.grad for name, weight in _weights(trainer, network).items()}
        for network in ("generator", "discriminator")
    }


def _switches(trainer: Trainer[Any], network: str) -> dict[str, bool]:
    """Return whether each module is in training mode and each weight can be trained."""
    module = getattr(trainer, network)
    modes = {f"{name or network}.training": part.training for name, part in module.named_modules()}
    return modes | {f"{name}.requires_grad": weight.requires_grad for name, weight in module.named_parameters()}
