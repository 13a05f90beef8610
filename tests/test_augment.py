from __future__ import annotations

import copy
from collections.abc import Callable

import pytest
import torch
from torch import Tensor

from medgan.augment import POLICY_SETS, AdaptiveAugment, DiffAugment, policy_names
from medgan.errors import ConfigError

ALL = "brightness,contrast,translation,cutout"
COLOUR = f"{ALL},saturation,flip"
SIZES = [(32,), (24, 32), (16, 8, 24)]


def noise(n: int, channels: int, *size: int, dtype: torch.dtype = torch.float32) -> Tensor:
    rng = torch.Generator().manual_seed(0)
    return torch.rand(n, channels, *size, generator=rng, dtype=dtype) * 1.8 - 0.9


@pytest.fixture(autouse=True)
def _seed() -> None:
    torch.manual_seed(0)


def test_none_changes_nothing() -> None:
    images = noise(2, 1, 8, 8)
    assert DiffAugment()(images) is images
    assert repr(DiffAugment(ALL)) == f"DiffAugment({ALL}, probability=1)"


@pytest.mark.parametrize("policy", ["rotation", "", "brightness,", "Brightness", "none,cutout"])
def test_unknown_policies_are_refused(policy: str) -> None:
    known = "brightness, contrast, ct, cutout, flip, mri, none, rgb, saturation, translation, xray"
    with pytest.raises(ConfigError, match=rf"is unknown. .*{known}"):
        DiffAugment(policy)


@pytest.mark.parametrize(
    ("policy", "named"), [("cutout,cutout", "cutout"), ("xray,contrast", "contrast"), ("ct,mri", "translation")]
)
def test_repeated_policies_are_refused(policy: str, named: str) -> None:
    with pytest.raises(ConfigError, match=f"holds {named} twice. Name it once: "):
        DiffAugment(policy)


def test_sets_of_the_modalities() -> None:
    assert policy_names("none") == ()
    assert policy_names("xray") == policy_names("brightness,contrast,translation,cutout")
    assert policy_names("ct, brightness") == ("translation", "cutout", "brightness")
    assert set(POLICY_SETS) == {"xray", "ct", "mri", "rgb"}
    for name, policies in POLICY_SETS.items():
        assert "flip" not in policies, name
        assert policy_names(f"{name},flip") == (*policies, "flip")
    # Hounsfield units mean something.
    assert not {"brightness", "contrast"} & set(POLICY_SETS["ct"])
    assert [name for name in POLICY_SETS if "saturation" in POLICY_SETS[name]] == ["rgb"]


@pytest.mark.parametrize("name", list(POLICY_SETS))
def test_a_set_is_the_chain_of_its_policies(name: str) -> None:
    images = noise(4, 3, 16, 16)
    results = []
    for policy in (name, ",".join(POLICY_SETS[name])):
        torch.manual_seed(1)
        results.append(DiffAugment(policy, 0.7)(images))
    assert torch.equal(*results)


@pytest.mark.parametrize("size", SIZES)
def test_flip_mirrors_half_of_the_images(size: tuple[int, ...]) -> None:
    images = noise(1, 2, *size).repeat(400, *[1] * (1 + len(size)))
    flipped = DiffAugment("flip")(images)
    mirrored = images.flip(-1)
    same = (flipped == images).flatten(1).all(1)
    assert torch.equal(~same, (flipped == mirrored).flatten(1).all(1))
    assert float(same.float().mean()) == pytest.approx(0.5, abs=0.08)


def test_saturation_scales_the_channels_about_grey() -> None:
    images = noise(1, 3, 16, 16).repeat(400, 1, 1, 1)
    changed = DiffAugment("saturation")(images)
    grey = images.mean(1, keepdim=True)
    torch.testing.assert_close(changed.mean(1, keepdim=True), grey, atol=1e-5, rtol=0)
    scale = ((changed - grey) * (images - grey)).flatten(1).sum(1) / (images - grey).square().flatten(1).sum(1)
    torch.testing.assert_close(changed - grey, (images - grey) * scale.view(-1, 1, 1, 1), atol=1e-5, rtol=0)
    assert 0 <= scale.min() < 0.05
    assert 1.95 < scale.max() <= 2.0001


def test_nearest_policy_is_suggested() -> None:
    with pytest.raises(ConfigError, match="Did you mean 'translation'"):
        DiffAugment("brightness, translaton")


@pytest.mark.parametrize("size", SIZES)
@pytest.mark.parametrize("channels", [1, 3])
@pytest.mark.parametrize("policy", [*ALL.split(","), ALL])
def test_any_dimension_and_channels(policy: str, channels: int, size: tuple[int, ...]) -> None:
    images = noise(3, channels, *size)
    before = images.clone()
    distorted = DiffAugment(policy)(images)
    assert distorted.shape == images.shape
    assert distorted.dtype == images.dtype
    assert distorted.isfinite().all()
    assert torch.equal(images, before)
    assert not torch.equal(distorted, images)


@pytest.mark.parametrize("policy", [*COLOUR.split(","), COLOUR])
@pytest.mark.parametrize("size", [(5,), (4, 6), (4, 3, 5)])
def test_gradient_is_exact(policy: str, size: tuple[int, ...]) -> None:
    augment = DiffAugment(policy)
    images = noise(2, 2, *size, dtype=torch.float64).requires_grad_()

    def again(images: Tensor) -> Tensor:
        torch.manual_seed(3)
        return augment(images)

    assert torch.autograd.gradcheck(again, (images,))


@pytest.mark.parametrize("policy", ALL.split(","))
def test_each_image_is_distorted_in_its_own_way(policy: str) -> None:
    image = noise(1, 1, 32, 32)
    distorted = DiffAugment(policy)(image.repeat(16, 1, 1, 1))
    assert len({tuple(one.flatten().tolist()) for one in distorted}) > 8


def test_colour_channels_share_their_distortion() -> None:
    distorted = DiffAugment(ALL)(noise(8, 1, 16, 16).repeat(1, 3, 1, 1))
    torch.testing.assert_close(distorted[:, 0], distorted[:, 1])
    torch.testing.assert_close(distorted[:, 0], distorted[:, 2])


@pytest.mark.parametrize("size", SIZES)
def test_brightness_adds_up_to_a_quarter(size: tuple[int, ...]) -> None:
    images = noise(1, 2, *size).repeat(4000 // sum(size), *[1] * (1 + len(size)))
    added = DiffAugment("brightness")(images) - images
    flat = added.flatten(1)
    torch.testing.assert_close(flat, flat[:, :1].expand_as(flat), atol=1e-6, rtol=0)
    assert -0.25 - 1e-6 <= flat.min() < -0.2
    assert 0.2 < flat.max() <= 0.25 + 1e-6


@pytest.mark.parametrize("size", SIZES)
def test_contrast_keeps_the_mean_and_scales_by_a_half_to_one_and_a_half(size: tuple[int, ...]) -> None:
    images = noise(1, 2, *size).repeat(300, *[1] * (1 + len(size)))
    distorted = DiffAugment("contrast")(images)
    torch.testing.assert_close(distorted.flatten(1).mean(1), images.flatten(1).mean(1), atol=1e-5, rtol=0)
    scale = distorted.flatten(1).std(1) / images.flatten(1).std(1)
    assert 0.5 - 1e-4 <= scale.min() < 0.55
    assert 1.45 < scale.max() <= 1.5 + 1e-4


@pytest.mark.parametrize("size", SIZES)
def test_translation_shifts_and_fills_with_black(size: tuple[int, ...]) -> None:
    """Every result is a shift of the image by at most an eighth, each axis by itself; all shifts occur."""
    positions = torch.stack(torch.meshgrid(*[torch.arange(length) for length in size], indexing="ij")).float()
    n = 400
    # Channels that hold their own coordinates, from 1 on: 0 would not differ from nothing.
    moved = DiffAugment("translation")((positions + 1)[None].repeat(n, *[1] * (1 + len(size))))
    inside = (moved != -1).all(1)
    found: list[set[int]] = []
    for axis, length in enumerate(size):
        shift = moved[:, axis] - 1 - positions[axis]
        shifts = [set(one[here].tolist()) for one, here in zip(shift, inside, strict=True)]
        assert all(len(values) == 1 for values in shifts), "not a shift"
        amounts = torch.tensor([values.pop() for values in shifts])
        assert amounts.abs().max() == length / 8
        found.append(set(amounts.tolist()))
        assert len(found[-1]) == 2 * (length // 8) + 1
        # What comes in is black, as wide as the shift.
        across = tuple(other + 1 for other in range(len(size)) if other != axis)
        width = (inside.any(across) if across else inside).sum(1)
        assert torch.equal(width, length - amounts.abs().long())
    assert ((moved == -1).all(1) | inside).all()


def test_translation_is_symmetric() -> None:
    """Left and right, up and down are equally likely."""
    ramp = torch.arange(64.0).view(1, 1, 8, 8).repeat(4000, 1, 1, 1)
    centre = DiffAugment("translation")(ramp)[:, 0, 4, 4]
    shifts = centre - 36
    for value in (-9, -8, -7, -1, 0, 1, 7, 8, 9):
        share = float((shifts == value).float().mean())
        assert share == pytest.approx(1 / 9, abs=0.03)


@pytest.mark.parametrize("size", SIZES)
def test_cutout_hides_a_box_of_half_of_each_side(size: tuple[int, ...]) -> None:
    images = torch.ones(500, 2, *size)
    hidden = DiffAugment("cutout")(images) == -1
    assert torch.equal(hidden[:, 0], hidden[:, 1])
    hidden = hidden[:, 0]
    extents = []
    for axis, length in enumerate(size):
        across = tuple(other + 1 for other in range(len(size)) if other != axis)
        along = hidden.any(across) if across else hidden
        extents.append(along.sum(1))
        assert along.sum(1).max() == length // 2
        assert along.sum(1).min() >= length // 4
        # One piece: the number of edges is 1 at the border, 2 inside.
        edges = (along[:, 1:] ^ along[:, :-1]).sum(1)
        assert edges.max() <= 2
        # Every pixel is hidden now and then, those at both ends equally often.
        assert along.any(0).all()
        assert float(along[:, 0].float().mean()) == pytest.approx(float(along[:, -1].float().mean()), abs=0.08)
    # The hidden pixels are the whole box.
    assert torch.equal(hidden.flatten(1).sum(1), torch.stack(extents).prod(0))
    full = 0.5 ** len(size)
    assert hidden.flatten(1).float().mean(1).max() == pytest.approx(full)


def test_no_flips_and_no_rotations() -> None:
    """Left stays left: a bright left half never becomes a bright right half, on average or in one image."""
    images = -torch.ones(500, 1, 32, 32)
    images[..., :16] = 1
    distorted = DiffAugment("brightness,contrast,translation")(images)
    assert (distorted[..., :8].mean((1, 2, 3)) > distorted[..., 24:].mean((1, 2, 3))).all()
    images = images.transpose(2, 3).clone()
    distorted = DiffAugment("brightness,contrast,translation")(images)
    assert (distorted[..., :8, :].mean((1, 2, 3)) > distorted[..., 24:, :].mean((1, 2, 3))).all()


def test_order_is_that_of_the_names() -> None:
    images = noise(64, 1, 16, 16)
    last = DiffAugment("brightness,cutout")(images)
    first = DiffAugment("cutout,brightness")(images)
    assert ((last == -1).float().mean((1, 2, 3)) > 0.05).all()
    assert ((first == -1).float().mean((1, 2, 3)) == 0).all()


def test_randomness_is_torchs_alone() -> None:
    images = noise(4, 1, 8, 8)
    augment = DiffAugment(ALL)
    results = []
    for one in (augment, augment, copy.deepcopy(augment)):
        torch.manual_seed(1)
        results.append(one(images))
    assert torch.equal(results[0], results[1])
    assert torch.equal(results[0], results[2])
    assert not augment.state_dict()


@pytest.mark.parametrize("probability", [0.5, 1.0])
def test_numbers_can_be_drawn_elsewhere(probability: float) -> None:
    """With the numbers of a larger batch a part of it is distorted as it is there."""
    images = noise(12, 3, 16, 16)
    augment = DiffAugment(ALL, probability)

    def drawn(rows: slice) -> Callable[[], Tensor]:
        rng = torch.Generator().manual_seed(4)
        return lambda: torch.rand(12, generator=rng)[rows]

    before = torch.get_rng_state()
    whole = augment(images, drawn(slice(None)))
    for rows in (slice(0, 5), slice(5, 12)):
        torch.testing.assert_close(augment(images[rows], drawn(rows)), whole[rows])
    assert torch.equal(torch.get_rng_state(), before)


def test_probability_leaves_some_images_alone() -> None:
    torch.manual_seed(0)
    images = torch.rand(400, 1, 8, 8)
    moved = DiffAugment("brightness", probability=0.3)(images)
    touched = (moved != images).flatten(1).any(dim=1)
    assert 0.2 < touched.float().mean() < 0.4
    assert torch.equal(DiffAugment("brightness,translation,cutout", probability=0.0)(images), images)


def test_probability_of_each_policy_is_drawn_by_itself() -> None:
    torch.manual_seed(0)
    images = torch.rand(2000, 1, 8, 8) + 2  # far from what cutout leaves
    out = DiffAugment("cutout,brightness", probability=0.5)(images)
    cut = (out < 0).flatten(1).any(dim=1)
    assert 0.44 < cut.float().mean() < 0.56
    brighter = (out[:, :, 4, 4] != images[:, :, 4, 4]).squeeze(1)[~cut]
    assert 0.4 < brighter.float().mean() < 0.6


@pytest.mark.parametrize("probability", [-0.1, 1.1, float("nan")])
def test_probability_out_of_range(probability: float) -> None:
    with pytest.raises(ConfigError, match="between 0 and 1"):
        DiffAugment("cutout", probability=probability)


# -------------------------------------------------------------------------------------------- adaptive


def test_adaptive_probability_follows_the_signs() -> None:
    """p moves by sign(r − target) · images / (kimg · 1000) once in four steps, r being the mean of the four."""
    augment = AdaptiveAugment("cutout", 0.4, target=0.5, kimg=0.2, limit=0.5)
    signs = [1.0, 1.0, -0.5, 0.6, 0.5, 0.5, 0.5, 0.5, 0.0, 0.4, 0.9, 0.6, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1, 1]
    expected, probability = [], 0.4
    for step in range(1, len(signs) + 1):
        if step % 4 == 0:
            mean = sum(signs[step - 4 : step]) / 4
            direction = (mean > 0.5) - (mean < 0.5)
            probability = min(0.5, max(0.0, probability + direction * 4 * 8 / 200))
        expected.append(probability)
    found = []
    for sign in signs:
        augment.observe(torch.tensor(sign), 8)
        found.append(float(augment.probability))
    assert found == pytest.approx(expected)
    assert {round(value, 6) for value in expected[3::4]} == {0.5, 0.34}
    for _ in range(20):
        augment.observe(torch.tensor(-1.0), 8)
    assert float(augment.probability) == 0


def test_adaptive_state_is_its_buffers() -> None:
    one = AdaptiveAugment("brightness", 0.2, kimg=0.1)
    for _ in range(6):
        one.observe(torch.tensor(1.0), 10)
    other = AdaptiveAugment("brightness", 0.2, kimg=0.1)
    other.load_state_dict(one.state_dict())
    for augment in (one, other):
        for _ in range(2):
            augment.observe(torch.tensor(1.0), 10)
    assert float(one.probability) == float(other.probability) == pytest.approx(0.8)  # two moves of 0.4, and the limit


def test_adaptive_augmentation_is_diffaugment_at_its_probability() -> None:
    images = noise(16, 1, 8, 8)
    results = []
    for augment in (DiffAugment(ALL, 0.3), AdaptiveAugment(ALL, 0.3)):
        torch.manual_seed(2)
        results.append(augment(images))
    assert torch.equal(*results)
    assert repr(AdaptiveAugment("cutout")) == "AdaptiveAugment(cutout, probability=0, target=0.6, kimg=100, limit=0.8)"


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        ({"policy": "none"}, "needs policies. Type for example --augment xray"),
        ({"probability": 0.9}, "probability of 0.9, above its limit 0.8"),
        ({"limit": 1.2}, "limit of 1.2"),
        ({"kimg": 0.0}, "more than 0 thousand images"),
    ],
)
def test_adaptive_arguments_out_of_range(arguments: dict, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        AdaptiveAugment(**{"policy": "cutout", **arguments})
