"""The named pipelines, their steps, and the user's own transforms."""

from __future__ import annotations

import os
import subprocess
import sys
from concurrent.futures import ProcessPoolExecutor
from itertools import count
from multiprocessing import get_context
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from monai.transforms import Compose, ScaleIntensity
from numpy.typing import NDArray
from skimage.exposure import equalize_adapthist

from medgan.data.decoded import ReadError
from medgan.data.pipelines import PIPELINES, Pipeline, load_transforms, make_pipeline
from medgan.data.transforms import Resizer, to_grey
from medgan.errors import ConfigError

SIZE = (64, 64)


def _radiograph(height: int = 200, width: int = 240) -> NDArray[np.float32]:
    """A soft, bright body before a dim background, with a little noise; nothing sharp."""
    y, x = np.mgrid[-1 : 1 : height * 1j, -1 : 1 : width * 1j]
    body = 0.2 + 0.6 * np.exp(-((x / 0.7) ** 4) - (y / 0.8) ** 4)
    noise = np.random.default_rng(0).normal(0, 0.01, (height, width))
    return (body + noise).clip(0, 1).astype(np.float32)[None]


def _with_letter(image: NDArray[np.float32]) -> tuple[NDArray[np.float32], NDArray[np.bool_]]:
    """Add a white L near the upper right corner; returns the image, and where the letter is."""
    letter = np.zeros(image.shape[1:], dtype=bool)
    letter[10:26, 210:214] = True
    letter[22:26, 210:222] = True
    return np.where(letter, np.float32(1), image), letter


# ---------------------------------------------------------------------------------------- named pipelines


@pytest.mark.parametrize("name", PIPELINES)
def test_every_pipeline_gives_its_channels_and_size(name: str) -> None:
    pipeline = make_pipeline(name, size=(16, 24))
    grey = _radiograph()
    colour = np.concatenate([grey, grey**2, grey**3])
    channels = PIPELINES[name].channels
    for image in (grey, colour):
        result, facts = pipeline(image)
        assert result.shape == (len(image) if channels == "auto" else channels, 16, 24)
        assert result.dtype == np.float32
        assert facts == {}
    assert pipeline.channels == channels
    assert make_pipeline(name, size=SIZE, channels=3)(grey)[0].shape == (3, *SIZE)
    assert make_pipeline(name, size=SIZE, channels=1)(colour)[0].shape == (1, *SIZE)
    volume = np.random.default_rng(0).random((1, 20, 30, 40), dtype=np.float32)
    assert make_pipeline(name, size=(8, 9, 10), channels=1)(volume)[0].shape == (1, 8, 9, 10)


def test_defaults_only_resize() -> None:
    image = _radiograph()
    np.testing.assert_array_equal(make_pipeline("xray", size=SIZE, fit="pad")(image)[0], Resizer(SIZE, "pad")(image))


def test_windows() -> None:
    windows = {name: str(defaults.window) for name, defaults in PIPELINES.items()}
    assert windows == {
        "auto": "auto",
        "xray": "auto",
        "ct": "0,2000",
        "mri": "percentile",
        "rgb": "auto",
        "raw": "none",
    }


@pytest.mark.parametrize("contrast", ["none", "clahe", "percentile"])
def test_the_compose_does_what_the_pipeline_does(contrast: Any) -> None:
    image, _ = _with_letter(_radiograph())
    kept = image.copy()
    pipeline = make_pipeline("xray", size=SIZE, contrast=contrast, crop_border=True, mask_markers=True)
    assert type(pipeline.compose) is Compose
    result, _ = pipeline(image)
    np.testing.assert_array_equal(pipeline.compose(image), result)
    np.testing.assert_array_equal(image, kept)


def test_steps_come_in_order() -> None:
    pipeline = make_pipeline("xray", size=SIZE, contrast="clahe", crop_border=True, mask_markers=True)
    steps = "to_grey → CropBorder() → MaskMarkers() → Shrink() → CLAHE() → Resizer((64, 64), 'stretch')"
    assert repr(pipeline) == f"<Pipeline xray: {steps}>"


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"name": "xrya"}, "Did you mean 'xray'"),
        ({"channels": 2}, "channels must be 1, 3"),
        ({"contrast": "clahee"}, "Did you mean 'clahe'"),
        ({"fit": "padd"}, "Did you mean 'pad'"),
        ({"size": (8, 8, 8), "mask_markers": True}, "Leave --mask-markers out"),
        ({"transforms": "medgan.data.transforms:to_grey", "contrast": "clahe"}, "or --transforms"),
        ({"transforms": "medgan.data.transforms:to_grey", "crop_border": True}, "or --transforms"),
        ({"transforms": "medgan.data.transforms:to_grey", "mask_markers": True}, "or --transforms"),
    ],
)
def test_wrong_options(options: dict[str, Any], message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        make_pipeline(options.pop("name", "xray"), **{"size": SIZE, **options})


@pytest.mark.parametrize("value", [np.nan, np.inf, 1.5, -0.5])
def test_a_bad_image_is_refused_before_a_step_hides_it(value: float) -> None:
    image = _radiograph()
    image[0, 5, 5] = value
    with pytest.raises(ReadError, match="the reader") as caught:
        make_pipeline("xray", size=SIZE, contrast="clahe")(image)
    assert caught.value.stage == "check"


# ---------------------------------------------------------------------------------------- borders


def test_borders_are_cut_and_what_is_written_on_them() -> None:
    inner = _radiograph()
    image = np.pad(inner, ((0, 0), (30, 40), (50, 60)))
    image[0, 5:9, 10:30] = 1  # text
    pipeline = make_pipeline("xray", size=inner.shape[1:], crop_border=True)
    np.testing.assert_array_equal(pipeline(image)[0], inner)


def test_borders_of_large_images_are_cut_to_a_pixel_of_512() -> None:
    image = np.zeros((1, 3000, 1200), dtype=np.float32)
    image[:, 600:2400, 300:1000] = 0.5
    step = make_pipeline("xray", size=SIZE, crop_border=True).compose.transforms[1]
    cropped = step(image)
    assert cropped.shape[1:] == pytest.approx((1800, 700), abs=2 * 3000 / 512)
    assert (cropped > 0).mean() > 0.98


def test_borders_of_volumes_are_cut() -> None:
    volume = np.zeros((1, 20, 30, 40), dtype=np.float32)
    volume[:, 4:16, 5:25, 10:35] = 0.8
    volume[:, 0, 0, 0] = 1
    pipeline = make_pipeline("ct", size=(12, 20, 25), crop_border=True)
    np.testing.assert_array_equal(pipeline(volume)[0], np.full((1, 12, 20, 25), 0.8, dtype=np.float32))


@pytest.mark.parametrize("side", [0, 15])
def test_an_image_that_would_hardly_be_left_is_not_cropped(side: int) -> None:
    image = np.zeros((1, 64, 64), dtype=np.float32)
    image[:, 20 : 20 + side, 10:60] = 1
    np.testing.assert_array_equal(make_pipeline("xray", size=SIZE, crop_border=True)(image)[0], image)


# ---------------------------------------------------------------------------------------- markers


def test_letters_near_the_corner_are_masked() -> None:
    clean = _radiograph()
    image, letter = _with_letter(clean)
    pipeline = make_pipeline("xray", size=image.shape[1:], mask_markers=True)
    masked, facts = pipeline(image)
    assert abs(masked - clean)[0, letter].max() < 0.1
    changed = (masked != image)[0]
    assert changed[letter].all()
    assert changed[10:26, 210:222].all()  # the whole box, so that no shadow of the letter stays
    assert changed[:, :200].sum() == changed[40:].sum() == 0
    assert float(facts["masked_area"]) == pytest.approx(changed.mean(), abs=1e-4)


def test_letters_in_colour_are_masked_in_every_channel() -> None:
    grey, letter = _with_letter(_radiograph())
    image = np.concatenate([grey, 0.5 * grey, 0.2 * grey])
    masked, _ = make_pipeline("rgb", size=image.shape[1:], mask_markers=True)(image)
    for channel, brightness in zip(masked, (1, 0.5, 0.2), strict=True):
        assert channel[letter].max() < 0.5 * brightness


def test_what_is_no_marker_stays() -> None:
    pipeline = make_pipeline("xray", size=(200, 240), mask_markers=True)
    soft, y_x = _radiograph(), np.mgrid[:200, :240]
    soft[0] += 0.7 * np.exp(-((y_x[0] - 20) ** 2 + (y_x[1] - 20) ** 2) / 2 / 12**2)  # bright and small, edges fade
    central = 0.6 * _radiograph()
    central[0, 90:100, 100:110] = 1  # a device
    large = _radiograph()
    large[0, 5:40, 150:230] = 1
    for image in (_radiograph(), soft.clip(0, 1), central, large):
        masked, facts = pipeline(image)
        np.testing.assert_array_equal(masked, image)
        assert facts == {"masked_area": "0.0000"}


# ---------------------------------------------------------------------------------------- contrast


def test_clahe_is_that_of_scikit_image() -> None:
    image = _radiograph(256, 240)
    result, _ = make_pipeline("xray", size=(256, 240), contrast="clahe")(image)
    np.testing.assert_allclose(result[0], equalize_adapthist(image[0]), atol=1e-6)
    assert abs(result - image).mean() > 0.05


def test_clahe_keeps_the_hue() -> None:
    grey = 0.2 + 0.5 * _radiograph(64, 64)
    image = np.concatenate([grey, 0.5 * grey, 0.25 * grey])
    image[:, :5] = 0
    result, _ = make_pipeline("rgb", size=SIZE, contrast="clahe")(image)
    bright = result[0, 5:] > 0.01
    np.testing.assert_allclose((result[1, 5:] / result[0, 5:])[bright], 0.5, rtol=1e-4)
    np.testing.assert_allclose((result[2, 5:] / result[0, 5:])[bright], 0.25, rtol=1e-4)
    assert (result[:, :5] == result[:1, :5]).all()  # black has no hue


def test_clahe_takes_no_volume_for_a_picture() -> None:
    volume = np.random.default_rng(0).random((1, 40, 30, 3), dtype=np.float32)
    result, _ = make_pipeline("mri", size=(40, 30, 3), contrast="clahe")(volume)
    turned, _ = make_pipeline("mri", size=(3, 30, 40), contrast="clahe")(np.ascontiguousarray(volume.T[..., 0][None]))
    np.testing.assert_allclose(result[0], turned[0].T, atol=0.02)


def test_contrast_leaves_flat_images_alone() -> None:
    for contrast in ("clahe", "percentile"):
        flat = np.full((1, 32, 32), 0.3, dtype=np.float32)
        np.testing.assert_array_equal(make_pipeline("raw", size=(32, 32), contrast=contrast)(flat)[0], flat)
        flat[0, 3, 3] = 0.3 + 4e-6  # less than scikit-image can tell apart
        np.testing.assert_allclose(make_pipeline("raw", size=(32, 32), contrast=contrast)(flat)[0], flat)


def test_percentiles() -> None:
    image = np.linspace(0.2, 0.6, 10_000, dtype=np.float32).reshape(1, 100, 100)
    image[0, 0, 0], image[0, 0, 1] = 0, 1  # a few outliers
    result, _ = make_pipeline("xray", size=(100, 100), contrast="percentile")(image)
    np.testing.assert_allclose(result[0, 50, 0], 0.5, atol=0.01)
    assert result.min() == 0
    assert result.max() == 1
    assert (result == 0).mean() == pytest.approx(0.005, abs=1e-3)
    assert (result == 1).mean() == pytest.approx(0.005, abs=1e-3)


def test_contrast_works_on_a_shrunk_image() -> None:
    image = _radiograph(1024, 2048)
    for size, fit, expected in [
        ((64, 64), "stretch", (256, 256)),
        ((64, 64), "pad", (128, 256)),
        ((64, 64), "crop", (128, 256)),
        ((512, 512), "stretch", (512, 512)),
        ((16, 4096), "stretch", (16, 2048)),
    ]:
        pipeline = make_pipeline("xray", size=size, fit=fit, contrast="percentile")  # type: ignore[arg-type]
        assert pipeline.compose.transforms[1](image).shape[1:] == expected
    small = image[:, :100, :90]
    assert make_pipeline("xray", size=SIZE, contrast="clahe").compose.transforms[1](small) is small


# ---------------------------------------------------------------------------------------- the user's own

_module_numbers = count()


@pytest.fixture
def write_module(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Return a function that writes a module into the current directory, and returns its name."""
    monkeypatch.chdir(tmp_path)

    def write(code: str) -> str:
        name = f"transforms_of_a_user_{next(_module_numbers)}"
        (tmp_path / f"{name}.py").write_text(code)
        monkeypatch.delitem(sys.modules, name, raising=False)
        return name

    return write


def _run(text: str, image: NDArray[np.float32], name: str = "xray", size: tuple[int, ...] = SIZE) -> Any:
    return make_pipeline(name, size=size, transforms=text)(image)[0]


def test_a_function_of_the_current_directory(write_module: Any) -> None:
    name = write_module("def prepare(image):\n    image *= image\n    return image[:, 10:-10]\n")
    path = list(sys.path)
    image = _radiograph()
    kept = image.copy()
    result = _run(f"{name}:prepare", image)
    np.testing.assert_allclose(result, Resizer(SIZE)(kept[:, 10:-10] ** 2), atol=1e-6)
    np.testing.assert_array_equal(image, kept)  # although the function works in place
    assert sys.path == path


def test_a_compose_of_monai(write_module: Any) -> None:
    name = write_module(
        "from monai.transforms import Compose, HistogramNormalize, SpatialCrop, ScaleIntensityRange\n"
        "class Holder:\n"
        "    steps = Compose([SpatialCrop(roi_start=(0, 0), roi_end=(50, 60)), Compose([\n"
        "        ScaleIntensityRange(0.2, 0.8, 0, 1, clip=True)])])\n"
    )
    image = _radiograph()
    result = _run(f"{name}:Holder.steps", image)
    assert type(result) is np.ndarray
    expected = Resizer(SIZE)(((image[:, :50, :60] - 0.2) / 0.6).clip(0, 1).astype(np.float32))
    np.testing.assert_allclose(result, expected, atol=1e-6)


def test_the_image_comes_with_the_wanted_channels_and_rounding_is_forgiven(write_module: Any) -> None:
    name = write_module(
        "import numpy as np\n"
        "def prepare(image):\n"
        "    assert image.shape == (1, 64, 64) and type(image) is np.ndarray and image.dtype == np.float32\n"
        "    return image.astype(np.float64) + 5e-5\n"
    )
    image = np.random.default_rng(0).random((3, *SIZE), dtype=np.float32)
    image[:, :2] = 1
    result = _run(f"{name}:prepare", image)
    assert result.dtype == np.float32
    np.testing.assert_allclose(result, to_grey(image), atol=1e-4)
    assert result.max() == 1


@pytest.mark.parametrize(
    ("body", "error"),
    [
        ("return image * float('nan')", "NaN"),
        ("return image * 255", "expected 0...1"),
        ("return image - 0.5", "expected 0...1"),
        ("return image[0]", "made the shape"),
        ("return image.transpose(1, 2, 0)", "made the shape"),
        ("return image.repeat(3, axis=0)", "made the shape"),
        ("return image[:, :0]", "made the shape"),
        ("return 0.5", "made the shape"),
        ("image += 1", "NoneType"),
        ("return {'image': image}", "dict"),
        ("raise RuntimeError('no such luck')", "RuntimeError: no such luck"),
    ],
)
def test_one_image_is_refused_by_the_name_of_the_transforms(write_module: Any, body: str, error: str) -> None:
    name = write_module(f"def prepare(image):\n    {body}\n")
    with pytest.raises(ReadError) as caught:
        _run(f"{name}:prepare", _radiograph())
    assert f"{name}:prepare" in caught.value.error
    assert error in caught.value.error
    assert caught.value.stage == "check"


def test_the_failing_part_of_a_compose_is_told(write_module: Any) -> None:
    name = write_module(
        "from monai.transforms import Compose\n"
        "def fail(image):\n    raise KeyError('depth')\n"
        "prepare = Compose([abs, fail])\n"
    )
    with pytest.raises(ReadError) as caught:
        _run(f"{name}:prepare", _radiograph())
    assert "KeyError: 'depth'" in caught.value.error


@pytest.mark.parametrize(
    ("code", "wanted", "message"),
    [
        ("def prepare(image): ...", "prepair", "Did you mean 'prepare'"),
        ("prepare = 3", "prepare", "is of type int, which cannot be called"),
        ("class Prepare:\n    def __call__(self, image): ...", "Prepare", "is a class. Make an object of it"),
        ("import no_such_package", "prepare", "imports 'no_such_package', which is not installed"),
        ("def prepare(image) ...", "prepare", "cannot be imported: SyntaxError"),
        ("1 / 0", "prepare", "cannot be imported: ZeroDivisionError"),
    ],
)
def test_transforms_that_cannot_be_loaded(write_module: Any, code: str, wanted: str, message: str) -> None:
    name = write_module(code)
    path = list(sys.path)
    with pytest.raises(ConfigError, match=message):
        load_transforms(f"{name}:{wanted}")
    assert sys.path == path


@pytest.mark.parametrize("text", ["prepare", "mytransforms.py:prepare", "folder/mytransforms:prepare", ":", "m:", ":f"])
def test_what_is_not_module_and_object(text: str) -> None:
    with pytest.raises(ConfigError, match="Type for example --transforms mytransforms:prepare"):
        load_transforms(text)


def test_modules_that_are_not_there(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    for name, file in (("no_such_module", "no_such_module.py"), ("no_such.module", "no_such/module.py")):
        with pytest.raises(ConfigError, match=rf"There is no module '{name}', neither in .* in {file}"):
            load_transforms(f"{name}:prepare")
    with pytest.raises(ConfigError, match="has no file of its own"):
        load_transforms("sys:intern")


@pytest.mark.parametrize(
    ("expression", "random"),
    [
        ("RandFlip(prob=1)", "RandFlip"),
        ("Compose([ScaleIntensity(), Compose([RandGaussianNoise()])])", "RandGaussianNoise"),
        ("OneOf([ScaleIntensity(), HistogramNormalize()])", "OneOf"),
        ("Compose([SomeOf([ScaleIntensity()])])", "SomeOf"),
        ("RandomOrder([ScaleIntensity()])", "RandomOrder"),
    ],
)
def test_chance_is_refused(write_module: Any, expression: str, random: str) -> None:
    name = write_module(f"from monai.transforms import *\nprepare = {expression}\n")
    with pytest.raises(ConfigError, match=f"holds {random}, which is random"):
        load_transforms(f"{name}:prepare")


_IDENTITY = "from medgan.data.pipelines import load_transforms; print(load_transforms('mine:prepare')[1])"


def test_another_source_is_another_identity(tmp_path: Path) -> None:
    identities = []
    for exponent in (2, 3, 2):
        code = f"def prepare(image):\n    return image ** {exponent}\n"
        (tmp_path / "mine.py").write_text(code)
        command = [sys.executable, "-P", "-c", _IDENTITY]  # -P: the current directory is not on the path already
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1"}
        done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True, check=True, env=environment)
        identities.append(done.stdout.strip())
    assert identities[0].startswith("mine:prepare sha256:")
    assert identities[0] == identities[2] != identities[1]


def test_a_module_edited_after_its_import_is_refused(write_module: Any) -> None:
    name = write_module("def prepare(image):\n    return image\n")
    load_transforms(f"{name}:prepare")
    load_transforms(f"{name}:prepare")
    Path(f"{name}.py").write_text("def prepare(image):\n    return 1 - image\n")
    with pytest.raises(ConfigError, match="was edited after Python imported it"):
        load_transforms(f"{name}:prepare")


def test_worker_processes_load_them_again(write_module: Any) -> None:
    name = write_module("def prepare(image):\n    return 1 - image\n")
    here = load_transforms(f"{name}:prepare")
    with ProcessPoolExecutor(1, get_context("spawn")) as executor:
        assert executor.submit(load_transforms, f"{name}:prepare").result() == here


# ---------------------------------------------------------------------------------------- another Compose


def test_the_compose_can_be_replaced() -> None:
    pipeline: Pipeline = make_pipeline("xray", size=SIZE)
    pipeline.compose = Compose([to_grey, ScaleIntensity(0, 0.5), Resizer(SIZE)])
    result, _ = pipeline(_radiograph())
    assert type(result) is np.ndarray
    assert result.max() <= 0.5
    pipeline.compose = Compose([to_grey])
    with pytest.raises(ReadError, match="ends with the shape"):
        pipeline(_radiograph())
