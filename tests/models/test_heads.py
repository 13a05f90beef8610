"""ACGAN's heads and adversarial losses: each term of a step against its equation, and options that do not fit."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest
import torch
import torch.nn.functional as F
from torch import Tensor

from medgan.core import Batch, Callback, DataSpec, LabelSpec, Trainer
from medgan.errors import ConfigError
from medgan.models import ACGAN, ACGANConfig
from medgan.models.heads import ADCHead, D2DCEHead, LabelHead, TwinHead
from medgan.testing import check_architecture

SMALL = {
    "ada_target": None,
    "lr_decay": 0.0,
    "head": "ac",
    "adversarial": "hinge",
    "spectral_norm": True,
    "gradient_penalty": "none",
    "penalty_one_in": 1,
    "generator_width": 2,
    "discriminator_width": 2,
    "latent_dim": 8,
    "batch_size": 4,
    "minibatch_std": 4,
    "augment": "none",
}
NAMES = ("first", "second", "third")


def spec(kind: Any) -> DataSpec:
    return DataSpec(1, (32, 32), LabelSpec(NAMES, kind))


def make_batch(data: DataSpec, n: int, seed: int = 0, *, unknown: bool = True) -> Batch:
    rng = torch.Generator().manual_seed(seed)
    images = torch.rand(n, data.channels, *data.size, generator=rng) * 2 - 1
    assert data.labels is not None
    if data.labels.kind in ("categorical", "ordinal"):
        return Batch(images, torch.randint(3, (n,), generator=rng))
    labels = torch.randn(n, 3, generator=rng)
    labels = (labels > 0).float() if data.labels.kind == "multilabel" else labels
    if unknown:
        labels[0, 1] = labels[1, 0] = labels[-1] = math.nan
    return Batch(images, labels)


def log_softmax(values: np.ndarray) -> np.ndarray:
    values = values - values.max(-1, keepdims=True)
    return values - np.log(np.exp(values).sum(-1, keepdims=True))


def softplus(values: np.ndarray) -> np.ndarray:
    return np.log1p(np.exp(-np.abs(values))) + np.maximum(values, 0)


def linear(layer: Any, features: Tensor) -> np.ndarray:
    weight, bias = (part.detach().double().numpy() for part in (layer.weight, layer.bias))
    return features.double().numpy() @ weight.T + bias


def label_loss(said: np.ndarray, labels: Tensor, kind: str) -> float:
    truth = labels.double().numpy()
    if kind in ("categorical", "ordinal"):
        return float(-log_softmax(said)[np.arange(len(said)), labels.numpy()].mean())
    errors = softplus(said) - truth * said if kind == "multilabel" else (said - truth) ** 2
    return float(np.nanmean(errors))


def adc_loss(said: np.ndarray, labels: Tensor, kind: str, side: int) -> float:
    """−log C(y⁺ or y⁻ | x), entry by entry."""
    terms = []
    for row, label in zip(said, labels.numpy(), strict=True):
        if kind != "multilabel":
            terms.append(-log_softmax(row)[3 * side + int(label)])
            continue
        for finding, value in enumerate(label):
            if not np.isnan(value):
                four = row.reshape(2, 2, 3)[:, :, finding]  # real or generated, absent or present
                terms.append(np.log(np.exp(four).sum()) - four[side, int(value)])
    return float(np.mean(terms))


def d2dce_loss(embedded: np.ndarray, proxies: np.ndarray, labels: np.ndarray) -> float:
    """The equation, image by image: margins .98 and .02, temperature .5."""
    f = embedded / np.linalg.norm(embedded, axis=1, keepdims=True)
    v = proxies / np.linalg.norm(proxies, axis=1, keepdims=True)
    terms = []
    for i, label in enumerate(labels):
        near = np.exp(min(f[i] @ v[label] - 0.98, 0) / 0.5)
        others = [np.exp(max(f[i] @ f[j] - 0.02, 0) / 0.5) for j in range(len(f)) if labels[j] != label]
        terms.append(-np.log(near / (near + sum(others))))
    return float(np.mean(terms))


def trainer_of(kind: Any = "categorical", **options: Any) -> Any:
    trainer = ACGAN(spec(kind), **{**SMALL, **options}).make_trainer(device="cpu")
    trainer.discriminator.eval()
    return trainer


KINDS = {
    "ac": ("categorical", "ordinal", "multilabel", "continuous"),
    "tac": ("categorical", "ordinal", "multilabel", "continuous"),
    "adc": ("categorical", "ordinal", "multilabel"),
    "d2dce": ("categorical", "ordinal"),
    "projection": ("categorical", "ordinal", "multilabel", "continuous"),
}


@pytest.mark.parametrize(
    ("head", "kind", "on_fakes"),
    [
        (head, kind, on_fakes)
        for head, kinds in KINDS.items()
        for kind in kinds
        for on_fakes in (False, True)
        if not (on_fakes and head in ("adc", "projection"))
    ],
)
def test_terms_of_each_head(head: str, kind: Any, on_fakes: bool) -> None:
    options = {} if head == "projection" else {"label_weight": 0.7, "label_on_fakes": on_fakes}
    trainer = trainer_of(kind, head=head, **options)
    real, fake = make_batch(trainer.data, 6, 1), make_batch(trainer.data, 6, 2)
    with torch.no_grad():
        found = trainer.discriminator_loss(real, fake), trainer.generator_loss(real, fake)
        on_real, on_fake = trainer.discriminator(*real), trainer.discriminator(*fake)
    network = trainer.discriminator.label

    def image_loss(output: Any, labels: Tensor) -> float:
        match head:
            case "ac":
                return label_loss(linear(network, output.features), labels, kind)
            case "tac":
                return label_loss(linear(network.main, output.features), labels, kind)
            case "adc":
                return adc_loss(linear(network.classifier, output.features), labels, kind, 0)
        proxies = network.proxies.detach().double().numpy()
        return d2dce_loss(linear(network.embedding, output.features), proxies, labels.numpy())

    def fake_loss(output: Any, labels: Tensor) -> float:
        if head == "tac":
            return label_loss(linear(network.twin, output.features), labels, kind)
        return adc_loss(linear(network.classifier, output.features), labels, kind, 1) if head == "adc" else 0.0

    for terms in found:
        assert set(terms) == ({"adversarial"} if head == "projection" else {"adversarial", "label"})
    if head == "projection":
        assert network is None
        assert on_real.label_logits is None
        return
    expected = image_loss(on_real, real.labels)
    if on_fakes:
        expected = (expected + image_loss(on_fake, fake.labels)) / 2
    expected += fake_loss(on_fake, fake.labels)
    assert float(found[0]["label"]) == pytest.approx(0.7 * expected, rel=1e-4)
    expected = image_loss(on_fake, fake.labels) - fake_loss(on_fake, fake.labels)
    assert float(found[1]["label"]) == pytest.approx(0.7 * expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize(("head", "kind"), [("adc", "continuous"), ("d2dce", "multilabel"), ("d2dce", "continuous")])
def test_labels_that_a_head_cannot_learn(head: str, kind: Any) -> None:
    with pytest.raises(
        ConfigError, match=rf"--head {head} learns categorical or ordinal.* the data's are {kind}. Type"
    ):
        ACGAN(spec(kind), **SMALL | {"head": head})
    ACGAN(DataSpec(1, (32, 32)), **SMALL | {"head": head})  # without labels there is none


@pytest.mark.parametrize("head", ["tac", "adc", "d2dce", "projection"])
def test_kit_with_each_head(head: str) -> None:
    config = ACGAN.get_preset("tiny").replace(head=head)
    kinds = KINDS[head]
    check_architecture(
        type(
            "Headed",
            (ACGAN,),
            {"__doc__": "x", "presets": {"tiny": config, "modern": config}, "label_kinds": kinds, "spatial_dims": (2,)},
        )
    )


@pytest.mark.parametrize(("head", "made"), [("tac", TwinHead), ("adc", ADCHead), ("d2dce", D2DCEHead)])
def test_label_logits_say_the_label(head: str, made: type[LabelHead]) -> None:
    trainer = trainer_of(head=head)
    network: Any = trainer.discriminator.label
    assert isinstance(network, made)
    output = trainer.discriminator(*make_batch(trainer.data, 5))
    shares = np.exp(log_softmax(output.label_logits.detach().double().numpy()))
    features = output.features.detach()
    if head == "tac":
        expected = np.exp(log_softmax(linear(network.main, features)))
    elif head == "adc":  # the label's probability, real or not
        both = np.exp(log_softmax(linear(network.classifier, features)))
        expected = both[:, :3] + both[:, 3:]
    else:
        f, v = linear(network.embedding, features), network.proxies.detach().double().numpy()
        cosines = f @ v.T / np.linalg.norm(f, axis=1)[:, None] / np.linalg.norm(v, axis=1)
        expected = np.exp(log_softmax(cosines / 0.5))
    np.testing.assert_allclose(shares, expected, rtol=1e-4)


def test_label_logits_of_findings() -> None:
    """ADC: the log-odds of a finding, whether the image is real or not."""
    trainer = trainer_of("multilabel", head="adc")
    output = trainer.discriminator(*make_batch(trainer.data, 5))
    network: Any = trainer.discriminator.label
    four = np.exp(linear(network.classifier, output.features.detach()).reshape(5, 2, 2, 3))
    odds = four[:, :, 1].sum(1) / four[:, :, 0].sum(1)
    np.testing.assert_allclose(output.label_logits.detach().numpy(), np.log(odds), rtol=1e-3, atol=1e-5)


def test_d2dce_is_finite_where_a_softmax_overflows_and_zero_without_other_classes() -> None:
    from medgan import losses

    embeddings, proxies = torch.randn(4, 5, generator=torch.Generator().manual_seed(0)), torch.eye(2, 5)
    embeddings.requires_grad_()
    one_class = losses.data_to_data_cross_entropy(embeddings, proxies, torch.zeros(4, dtype=torch.int64))
    assert one_class.item() == 0
    (gradient,) = torch.autograd.grad(one_class, embeddings)
    assert not gradient.any()
    labels = torch.tensor([0, 1, 0, 1])
    cold = losses.data_to_data_cross_entropy(embeddings, proxies, labels, temperature=1e-3)
    (gradient,) = torch.autograd.grad(cold, embeddings)
    assert cold.isfinite()
    assert gradient.isfinite().all()


def test_images_that_are_near_enough_are_let_alone() -> None:
    """Beyond the margins nothing pulls and nothing pushes."""
    from medgan import losses

    proxies = torch.eye(2, 3)
    embeddings = torch.eye(2, 3).requires_grad_()  # on their proxies, at right angles to each other
    loss = losses.data_to_data_cross_entropy(embeddings, proxies, torch.arange(2))
    assert loss.item() == pytest.approx(math.log(2))
    (gradient,) = torch.autograd.grad(loss, embeddings)
    torch.testing.assert_close(gradient, torch.zeros(2, 3))


@pytest.mark.parametrize("head", ["ac", "tac", "adc"])
def test_unknown_findings_teach_nothing(head: str) -> None:
    trainer = trainer_of("multilabel", head=head)
    images = make_batch(trainer.data, 4).images
    batch = Batch(images, torch.full((4, 3), math.nan))
    for terms in (trainer.discriminator_loss(batch, batch), trainer.generator_loss(batch, batch)):
        assert terms["label"].item() == 0
        gradients = torch.autograd.grad(terms["label"], list(trainer.discriminator.label.parameters()))
        assert not any(gradient.any() for gradient in gradients)


# ------------------------------------------------------------------------------ losses on the realness


@pytest.mark.parametrize("adversarial", ["hinge", "bce", "lsgan", "wgan", "relativistic"])
@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_adversarial_losses(adversarial: str, smoothing: float) -> None:
    if smoothing and adversarial not in ("bce", "lsgan"):
        with pytest.raises(ConfigError, match=f"--label-smoothing 0.1 acts on nothing: the loss {adversarial}"):
            ACGANConfig(adversarial=adversarial, label_smoothing=0.1)  # type: ignore[arg-type]
        return
    trainer = trainer_of(adversarial=adversarial, label_smoothing=smoothing)
    real, fake = make_batch(trainer.data, 6, 1), make_batch(trainer.data, 6, 2)
    with torch.no_grad():
        found = trainer.discriminator_loss(real, fake), trainer.generator_loss(real, fake)
        r, f = (trainer.discriminator(*half).realness.double().numpy() for half in (real, fake))
    s = smoothing
    expected = {
        "hinge": (np.maximum(0, 1 - r).mean() + np.maximum(0, 1 + f).mean(), -f.mean()),
        "bce": ((1 - s) * softplus(-r).mean() + s * softplus(r).mean() + softplus(f).mean(), softplus(-f).mean()),
        "lsgan": (((r - (1 - s)) ** 2).mean() / 2 + (f**2).mean() / 2, ((f - 1) ** 2).mean()),
        "wgan": (f.mean() - r.mean(), -f.mean()),
        "relativistic": (softplus(-(r - f)).mean(), softplus(-(f - r)).mean()),
    }[adversarial]
    assert [float(terms["adversarial"]) for terms in found] == pytest.approx(expected, rel=1e-4, abs=1e-6)


@pytest.mark.parametrize("adversarial", ["wgan", "relativistic"])
def test_relativistic_generators_learn_from_their_images_alone(adversarial: str) -> None:
    trainer = trainer_of(adversarial=adversarial)
    real, fake = make_batch(trainer.data, 4, 1), make_batch(trainer.data, 4, 2)
    real, fake = (Batch(half.images.requires_grad_(), half.labels) for half in (real, fake))
    term = trainer.generator_loss(real, fake)["adversarial"]
    gradients = torch.autograd.grad(term, [fake.images, real.images], allow_unused=True)
    assert gradients[0].any()
    assert gradients[1] is None


# ---------------------------------------------------------------------------------------- the ramp


def test_label_weight_rises_with_the_images() -> None:
    """label_weight · min(1, images / label_ramp), in both networks' terms."""
    trainer = trainer_of(label_weight=0.8, label_ramp=10)
    batch = make_batch(trainer.data, 4)
    for images in (0, 4, 8, 10, 400):
        trainer.images_seen = images
        with torch.no_grad():
            for terms in (trainer.discriminator_loss(batch, batch), trainer.generator_loss(batch, batch)):
                plain = label_loss(
                    linear(trainer.discriminator.label, trainer.discriminator(*batch).features),
                    batch.labels,
                    "categorical",
                )
                assert float(terms["label"]) == pytest.approx(0.8 * min(1, images / 10) * plain, rel=1e-4)


# -------------------------------------------------------------------------------------- by class


@pytest.mark.parametrize("head", ["ac", "tac", "adc", "d2dce"])
@pytest.mark.parametrize("kind", ["categorical", "ordinal"])
def test_label_terms_of_each_class(head: str, kind: Any) -> None:
    """Their mean over the images is the term, where the head has no more to it."""
    trainer = trainer_of(kind, head=head, label_weight=0.5)
    images = make_batch(trainer.data, 6).images
    batch = Batch(images, torch.tensor([0, 2, 2, 0, 0, 2]))
    with torch.no_grad():
        terms = {
            "discriminator": trainer.discriminator_loss(batch, batch),
            "generator": trainer.generator_loss(batch, batch),
        }
        realness = trainer.discriminator(*batch).realness.numpy()
    figures = trainer.class_metrics
    assert set(figures) == {"discriminator/real", "discriminator/fake", "discriminator/label", "generator/label"}
    for name, values in figures.items():
        assert values.isnan().tolist() == [False, True, False], name
    for network, parts in terms.items():
        mean = float(figures[f"{network}/label"][[0, 2]].mean())
        if head in ("ac", "d2dce"):
            assert mean == pytest.approx(float(parts["label"]), rel=1e-4)
        assert mean > 0
    np.testing.assert_allclose(figures["discriminator/real"][0], realness[[0, 3, 4]].mean(), rtol=1e-4)


def test_figures_of_classes_have_the_factor_of_their_term() -> None:
    """As a reaction to a collapse lowers the term, it lowers what is logged of each class."""
    figures: list[dict[str, float]] = []
    for factor in (1.0, 0.5):
        trainer = trainer_of(head="ac", label_weight=0.8)
        trainer.factors["label"] = factor
        metrics = trainer.train_step(make_batch(trainer.data, 4))
        by_class = {f"{name}/": values.nanmean() for name, values in trainer.class_metrics.items()}
        figures.append({name: float(value) for name, value in (metrics | by_class).items()})
    whole, half = figures
    for name in ("discriminator/label", "discriminator/label/"):
        assert half[name] == pytest.approx(0.5 * whole[name], rel=1e-5), name
    assert half["discriminator/real/"] == pytest.approx(whole["discriminator/real/"], rel=1e-5)


def test_figures_of_classes_cost_no_gradient() -> None:
    """With and without them a training is the same, bit for bit."""
    states = []
    for silent in (False, True):
        trainer = ACGAN(spec("categorical"), **SMALL | {"head": "adc"}).make_trainer(device="cpu")
        if silent:
            trainer.log_by_class = lambda *_: None  # type: ignore[method-assign]
        trainer.fit([make_batch(trainer.data, 4, step) for step in range(2)], 2)
        states.append(trainer.discriminator.state_dict())
    for name, value in states[0].items():
        assert torch.equal(value, states[1][name])


# -------------------------------------------------------------------------- parts of the discriminator


def test_minibatch_discrimination_reaches_the_realness_alone() -> None:
    trainer = trainer_of(minibatch_discrimination=5, minibatch_std=0)
    images = make_batch(trainer.data, 4).images
    alone = trainer.discriminator(images[:1])
    among = trainer.discriminator(images)
    copies = trainer.discriminator(images[:1].repeat(4, 1, 1, 1))
    torch.testing.assert_close(among.features[:1], alone.features)
    torch.testing.assert_close(copies.label_logits[:1], alone.label_logits)
    assert not torch.allclose(copies.realness[:1], alone.realness)
    layer = trainer.discriminator.neighbours.projection
    assert hasattr(layer, "parametrizations")


# ----------------------------------------------------------------------------------- contradictions


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"head": "projection", "projection": False}, "leave nothing that looks at the labels"),
        ({"head": "projection", "label_weight": 1.0}, r"--label-weight 1.0 acts on nothing: --head projection has no"),
        ({"head": "projection", "label_ramp": 100}, "--label-ramp 100 acts on nothing"),
        ({"head": "projection", "label_on_fakes": True}, "--label-on-fakes acts on nothing"),
        ({"head": "adc", "label_on_fakes": True}, "always learns generated images"),
        ({"label_weight": 0.0, "label_ramp": 100}, "--label-ramp 100 acts on nothing: the label weight is 0"),
        ({"label_weight": 0.0, "label_on_fakes": True}, "--label-on-fakes acts on nothing: the label weight is 0"),
        ({"label_weight": 0.0, "head": "tac"}, "--head tac acts on nothing: the label weight is 0"),
        ({"label_smoothing": 0.1}, "--label-smoothing 0.1 acts on nothing: the loss hinge"),
        ({"backbone": "report", "head": "tac"}, "--head tac acts on nothing: the report's networks"),
        ({"backbone": "report", "minibatch_discrimination": 4}, "--minibatch-discrimination 4 acts on nothing"),
        (
            {"backbone": "report", "minibatch_std": 4, "generator_width": 8, "discriminator_width": 8},
            "--generator-width 8, --discriminator-width 8, --minibatch-std 4 act on nothing: .* "
            "Or type --generator-width 16 --discriminator-width 32 --minibatch-std 0",
        ),
        ({"l2": 0.001}, "--l2 0.001 acts on nothing: it is for the report's networks"),
        ({"optimizer": "rmsprop", "beta1": 0.5}, "--beta1 0.5 acts on nothing: rmsprop has no betas"),
        ({"optimizer": "rmsprop", "beta2": 0.9}, "--beta2 0.9 acts on nothing"),
        ({"adversarial": "wgan", "spectral_norm": False}, "needs a discriminator whose slope is bounded"),
        ({"adversarial": "wgan", "backbone": "report"}, r"Add --gradient-penalty wgan-gp"),
        ({"batch_size": 4}, r"batch of 4 is smaller than the group of 8 images .* Type --minibatch-std 4"),
        ({"batch_size": 1, "minibatch_std": 2}, "Type --minibatch-std 0"),
        (
            {"batch_size": 1, "minibatch_std": 0, "minibatch_discrimination": 4},
            "compares images, but a batch is a single",
        ),
    ],
)
def test_options_that_contradict_each_other(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        ACGANConfig(**options)


@pytest.mark.parametrize(
    "options",
    [
        {"adversarial": "wgan", "spectral_norm": False, "gradient_penalty": "wgan-gp"},
        {"adversarial": "wgan", "backbone": "report", "gradient_penalty": "wgan-gp"},
        {"backbone": "report", "batch_size": 2},
        {"backbone": "report", "spectral_norm": False, "minibatch_std": 0, "projection": False},
        {"adversarial": "lsgan", "label_smoothing": 0.1},
    ],
)
def test_options_that_fit_each_other(options: dict[str, Any]) -> None:
    ACGANConfig(**options)


@pytest.mark.parametrize(
    ("preset", "options", "others"),
    [
        ("modern", {"gradient_penalty": "none"}, {"penalty_one_in": 1}),
        ("modern", {"backbone": "report"}, {"head": "ac", "minibatch_std": 0, "projection": False}),
        ("original", {"label_weight": 0.0}, {"label_on_fakes": False}),
        ("original", {"backbone": "residual"}, {"l2": 0.0}),
    ],
)
def test_what_a_preset_says_gives_way_to_what_is_given(
    preset: str, options: dict[str, Any], others: dict[str, Any]
) -> None:
    """Where it would act on nothing; else one option would need others beside it."""
    before = ACGAN.presets[preset]
    assert before.replace(**options).to_dict() == before.to_dict() | options | others
    for name in others:
        given = getattr(before, name)
        with pytest.raises(ConfigError, match="acts on nothing"):
            before.replace(**options, **{name: given})


@pytest.mark.parametrize("option", ["spectral_norm", "projection"])
def test_a_switch_that_the_report_networks_do_not_have(option: str) -> None:
    flag = option.replace("_", "-")
    with pytest.raises(ConfigError, match=f"^--{flag} acts on nothing: .* Or type --no-{flag}"):
        ACGAN.presets["original"].replace(**{option: True})


def test_presets_say_nothing_that_acts_on_nothing() -> None:
    for preset in ACGAN.presets.values():
        assert preset.replace() == preset
        assert preset.replace(**preset.to_dict()) == preset


# ---------------------------------------------------------------------------------- a whole training

TRAININGS = {
    "adc, r1 now and then": {"head": "adc", "gradient_penalty": "r1", "penalty_every": 2, "spectral_norm": False},
    "tac, relativistic, both penalties": {"head": "tac", "adversarial": "relativistic", "gradient_penalty": "r1r2"},
    "d2dce, LeCam": {"head": "d2dce", "lecam_weight": 0.3, "label_ramp": 10},
    "wgan": {"adversarial": "wgan", "gradient_penalty": "wgan-gp", "head": "projection", "spectral_norm": False},
    "adaptive": {"augment": "xray", "ada_target": 0.2, "ada_kimg": 0.05, "augment_probability": 0.1, "lr_decay": 0.5},
    "discrimination": {"minibatch_discrimination": 4, "adversarial": "bce", "label_smoothing": 0.1},
    "original, penalised": {"preset": "original", "gradient_penalty": "r1", "ema_halflife": 10},
}


@pytest.mark.parametrize("name", TRAININGS)
@pytest.mark.parametrize("precision", ["fp32", "bf16"])
def test_resume_is_exact(name: str, precision: str) -> None:
    options: dict[str, Any] = {**({} if "original" in name else SMALL), **TRAININGS[name]}
    data = spec("categorical")

    def begin() -> Trainer[Any]:
        return ACGAN(data, **options).make_trainer(device="cpu", precision=precision)

    batches = [make_batch(data, 4, step) for step in range(4)]
    whole = begin()
    whole.fit(batches, 4)
    whole.check_finite()
    first = begin()
    first.fit(batches[:3], 3, total_steps=4)
    second = begin()
    second.load_state_dict(first.state_dict())
    second.fit(batches[3:], 1)
    one, other = whole.state_dict(), second.state_dict()
    for part in whole.stateful_modules():
        for key, value in one[part].items():
            assert torch.equal(value, other[part][key]), f"{part}.{key}"


@pytest.mark.parametrize("head", ["tac", "adc", "d2dce", "projection"])
def test_each_head_learns_to_tell_the_classes(head: str) -> None:
    """Bright squares on the left or on the right: after some steps the discriminator knows them."""
    data = DataSpec(1, (32, 32), LabelSpec(("left", "right")))

    def batch(step: int, n: int = 8) -> Batch:
        rng = torch.Generator().manual_seed(step)
        labels = torch.randint(2, (n,), generator=rng)
        images = torch.rand(n, 1, 32, 32, generator=rng) * 0.2 - 1
        for image, label in zip(images, labels, strict=True):
            image[:, 8:24, 16 * int(label) : 16 * int(label) + 16] += 1.5
        return Batch(images, labels)

    options = {} if head == "projection" else {"label_weight": 1.0}
    rates = {"generator_lr": 1e-3, "discriminator_lr": 5e-3}
    trainer = ACGAN(data, preset="tiny", augment="none", head=head, **rates, **options).make_trainer(device="cpu")
    trainer.fit((batch(step) for step in range(40)), 40)
    images, labels = batch(1000, 64)
    assert labels is not None
    discriminator = trainer.discriminator.eval()
    with torch.no_grad():
        if head == "projection":
            right, wrong = discriminator(images, labels).realness, discriminator(images, 1 - labels).realness
            assert float((right > wrong).float().mean()) > 0.9
        else:
            logits = discriminator(images).label_logits
            assert logits is not None
            assert float((logits.argmax(1) == labels).float().mean()) > 0.9


class Keep(Callback):
    """Keeps the metrics of a step."""

    def on_step(self, trainer: Trainer[Any], metrics: dict[str, Tensor]) -> None:
        self.metrics = metrics


def test_terms_of_a_step_with_everything() -> None:
    data = spec("categorical")
    options = {**TRAININGS["adaptive"], "gradient_penalty": "r1", "lecam_weight": 0.1, "head": "adc"}
    keep = Keep()
    ACGAN(data, **{**SMALL, **options}).make_trainer(device="cpu").fit([make_batch(data, 4)], 1, [keep])
    of_discriminator = {"adversarial", "label", "lecam", "gradient_penalty", "accuracy"}
    expected = {f"discriminator/{name}" for name in of_discriminator}
    assert set(keep.metrics) == expected | {"generator/adversarial", "generator/label", "augment/probability"}


def test_cross_entropy_of_a_head_is_torchs() -> None:
    """The plain head, on classes, without anything around it."""
    trainer = trainer_of(label_weight=1.0)
    batch = make_batch(trainer.data, 5)
    with torch.no_grad():
        logits = trainer.discriminator(*batch).label_logits
        found = trainer.generator_loss(batch, batch)["label"]
    torch.testing.assert_close(found, F.cross_entropy(logits, batch.labels))
