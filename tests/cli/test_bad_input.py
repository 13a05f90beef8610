"""Each mistake gives one message, exit code 2 and no traceback; nothing is lost and nothing is left behind."""

from __future__ import annotations

import json
import re

import numpy as np
import pytest
import torch
from PIL import Image

from medgan.models import ACGAN

pytestmark = pytest.mark.filterwarnings("default:.*is split file by file")


def draw(path, *, constant=False):
    """Write a small picture."""
    path.parent.mkdir(parents=True, exist_ok=True)
    rng = np.random.default_rng(sum(map(ord, path.name)))
    pixels = np.full((40, 40), 7, np.uint8) if constant else rng.integers(0, 256, (40, 40), dtype=np.uint8)
    Image.fromarray(pixels).save(path)


# ------------------------------------------------------------------------------ fit: options

OPTIONS = {
    "architecture": (("--arch", "acgann"), ["'acgann' is not installed", "Did you mean 'acgan'?"]),
    "preset": (("--preset", "modrn"), ["'modrn' is unknown to acgan", "Did you mean 'modern'?"]),
    "option": (("--batchsize", 4), ["--batchsize", "--batch-size"]),
    "option of the run": (("--sampleevery", 4), ["--sampleevery", "--sample-every"]),
    "no value": (("--outdir",), ["--outdir"]),
    "no name": (("--arch",), ["--arch"]),
    "extra word": (("word",), ["word"]),
    "choice": (("--device", "tpu"), ["tpu", "cuda"]),
    "number": (("--steps", "many"), ["--steps", "many"]),
    "too few steps": (("--steps", 0), ["steps", "0", "at least 1"]),
    "negative seed": (("--seed", -1), ["seed", "-1", "at least 0"]),
    "infinite rate": (("--generator-lr", "inf"), ["generator_lr", "inf", "finite"]),
    "NaN rate": (("--generator-lr", "nan"), ["generator_lr", "nan", "finite"]),
    "both lengths": (("--steps", 4, "--kimg", 4), ["--steps", "--kimg"]),
    "steps and a budget": (("--steps", 4, "--budget", "45m"), ["--steps", "--budget", "one of them"]),
    "size": (("--size", 48), ["32, 64, 128 or 256", "48×48", "--size 32"]),
    "size of the other networks": (("--size", 36, "--preset", "original"), ["divisible by 8", "36×36", "--size"]),
    "size of nothing": (("--size", 1), ["size", "1"]),
    "augmentation": (("--augment", "rotate"), ["'rotate' is unknown", "brightness"]),
    "augmentation of colours": (("--augment", "rgb"), ["--augment rgb", "the images are grey"]),
    "augmentation that is none": (("--augment", "none", "--ada-target", 0.6), ["--ada-target", "--augment xray"]),
    "weight of no penalty": (("--penalty-weight", 1), ["--penalty-weight 1.0 acts on nothing", "--gradient-penalty"]),
    "ramp of no head": (("--head", "projection", "--label-ramp", 9), ["--label-ramp 9 acts on nothing", "--head"]),
    "chance of no augmentation": (
        ("--augment", "none", "--augment-probability", 0.4),
        ["--augment-probability 0.4 acts on nothing", "--augment xray", "--augment-probability 0.5"],
    ),
    "penalty of the other networks": (("--l2", 0.1), ["--l2 0.1 acts on nothing", "--generator-weight-decay"]),
    "switch of the other networks": (
        ("--preset", "original", "--spectral-norm"),
        ["--spectral-norm acts on nothing", "--backbone residual", "--no-spectral-norm"],
    ),
    "betas without Adam": (("--optimizer", "rmsprop", "--beta1", 0.5), ["--beta1 0.5 acts", "--optimizer adam"]),
    "ramp of no average": (("--ema-halflife", 0, "--ema-rampup", 0.2), ["--ema-rampup 0.2 acts", "--ema-halflife"]),
    "fakes of no label loss": (("--label-weight", 0, "--label-on-fakes"), ["--label-on-fakes acts", "--label-weight"]),
    "share of nothing": (("--rejected-share", 0.3), ["--rejected-share 0.3 acts on nothing", "--rejected FOLDER"]),
    "batch smaller than a group": (("--batch-size", 4), ["batch of 4", "group of 8", "--minibatch-std 4"]),
    "critic without a bound": (("--adversarial", "wgan", "--no-spectral-norm"), ["--gradient-penalty wgan-gp"]),
    "name": (("--name", "../elsewhere"), ["--name", "'../elsewhere'"]),
    "hidden name": (("--name", ".hidden"), ["--name", "'.hidden'"]),
    "precision": (("--precision", "fp16"), ["fp16", "CUDA", "fp32"]),
    "held-out share": (("--validation", 0.95), ["validation", "0.95", "0.9"]),
    "too much held out": (("--batch-size", -3), ["batch_size", "-3"]),
    "two divisions": (
        ("--splits", "one.json", "--validation", 0.2, "--split-by", "patient"),
        ["--validation 0.2, --split-by patient act on nothing: --splits one.json says already who is held out"],
    ),
    "groups that a batch has none of": (
        ("--batch-size", 11),
        ["batch of 11", "no equal groups of 2 to 8 images", "--batch-size 10", "--minibatch-std 0"],
    ),
    "a group of one": (("--minibatch-std", 1), ["--minibatch-std 1", "no spread", "--minibatch-std 0"]),
    "others of a batch of one": (
        ("--head", "d2dce", "--batch-size", 1, "--minibatch-std", 0),
        ["--head d2dce compares images, but a batch is a single one", "--batch-size"],
    ),
    "resume": (("--resume", "missing"), ["missing cannot be resumed", "--resume auto"]),
}


@pytest.mark.parametrize("name", OPTIONS)
def test_options(medgan, here, name):
    arguments, parts = OPTIONS[name]
    message = medgan.fails("fit", *medgan.small, "--steps", 1, *arguments)
    for part in parts:
        assert part in message
    assert list(here.iterdir()) == []


def test_absent_device(medgan, here, monkeypatch):
    monkeypatch.setattr("torch.cuda.is_available", lambda: False)
    message = medgan.fails("fit", *medgan.small, "--steps", 1, "--device", "cuda")
    assert "'cuda'" in message
    assert "Expected one of: auto, cpu" in message


# ------------------------------------------------------------------------------ fit: configuration

CONFIGURATIONS = {
    "no JSON": ('{"size": 32', ["is not JSON"]),
    "empty": ("", ["is not JSON"]),
    "binary": (b"\xff\xfe\x00", ["is not JSON"]),
    "no object": ("[1, 2]", ["list", "object"]),
    "unknown option": ('{"batch_sise": 4}', ["'batch_sise' is unknown", "Did you mean 'batch_size'?"]),
    "type": ('{"size": "32"}', ["'size'", "'32' (str)", "expected int"]),
    "bool": ('{"steps": true}', ["'steps'", "True (bool)"]),
    "null": ('{"size": null}', ["'size'", "None", "expected int"]),
    "choice": ('{"device": "tpu"}', ["'device'", "'tpu'", "cuda"]),
    "architecture": ('{"arch": "acgann"}', ["'acgann'", "Did you mean 'acgan'?"]),
    "architecture's type": ('{"arch": 5}', ["5"]),
    "preset": ('{"preset": "tinny"}', ["'tinny'", "Did you mean 'tiny'?"]),
    "preset's type": ('{"preset": 5}', ["preset", "5"]),
    "preset is a list": ('{"preset": ["tiny"]}', ["preset", "tiny"]),
    "both lengths": ('{"steps": 4, "kimg": 5}', ["--steps", "--kimg"]),
}


@pytest.mark.parametrize("name", CONFIGURATIONS)
def test_configuration(medgan, here, tmp_path, name):
    text, parts = CONFIGURATIONS[name]
    file = tmp_path / "options.json"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    message = medgan.fails("fit", "--data", "phantom://chest?n=40&seed=1", "--config", file)
    for part in parts:
        assert part in message
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("what", ["missing", "folder"])
def test_no_configuration(medgan, here, tmp_path, what):
    path = tmp_path if what == "folder" else tmp_path / "missing.json"
    message = medgan.fails("fit", "--config", path)
    assert f"The configuration {path} cannot be read" in message


# ------------------------------------------------------------------------------ fit: data


def no_data(root):
    return root / "missing"


def file_as_data(root):
    (root / "scan.txt").write_text("no image")
    return root / "scan.txt"


def empty_folder(root):
    return root


def no_images(root):
    (root / "notes.txt").write_text("nothing here")
    return root


def mixed(root):
    for name in ("A/1.png", "A/2.png", "B/1.png", "loose.png"):
        draw(root / name)
    return root


def empty_class(root):
    for name in ("A/1.png", "A/2.png"):
        draw(root / name)
    (root / "B").mkdir()
    return root


def splits(root):
    for name in ("train/A/1.png", "test/A/2.png"):
        draw(root / name)
    return root


def damaged(root):
    for number in range(4):
        draw(root / "A" / f"{number}.png")
    draw(root / "A" / "constant.png", constant=True)
    (root / "A" / "broken.png").write_bytes((root / "A" / "0.png").read_bytes()[:100])
    return root


def no_phantom(root):
    return "phantom://chest?m=4"


def unknown_phantom(root):
    return "phantom://knee"


def broken_npz(root):
    (root / "set.npz").write_bytes(b"PK\x03\x04 not an archive")
    return root / "set.npz"


def single_images(root):
    draw(root / "A" / "1.png")
    return root


DATA = [
    (no_data, ["There is no", "phantom://chest"]),
    (file_as_data, ["is a file", "folder"]),
    (empty_folder, ["No images found"]),
    (no_images, ["No images found", ".txt"]),
    (mixed, ["1 images beside the class folders A, B", "loose.png"]),
    (empty_class, ["No usable image in B", "A: 2 good"]),
    (splits, ["are splits (test, train)"]),
    (damaged, ["2 of 6 images cannot be used", "broken.png", "constant.png", "--max-bad"]),
    (no_phantom, ["m=4"]),
    (unknown_phantom, ["knee", "phantom://chest"]),
    (broken_npz, ["set.npz"]),
    (single_images, ["cannot be split"]),
]


@pytest.mark.parametrize(("make", "parts"), DATA, ids=[make.__name__ for make, _ in DATA])
def test_data(medgan, here, tmp_path, make, parts):
    root = tmp_path / "scans"
    root.mkdir()
    message = medgan.fails("fit", *medgan.small, "--steps", 1, "--data", make(root))
    for part in parts:
        assert part in message
    assert list(here.iterdir()) == []


def test_wrong_patients(medgan, here, tmp_path):
    root = tmp_path / "scans"
    draw(root / "A" / "1.png")
    message = medgan.fails("fit", *medgan.small, "--steps", 1, "--data", root, "--patient-regex", "kermanny")
    assert "Did you mean 'kermany'?" in message
    assert "A/1.png" in message
    message = medgan.fails("fit", *medgan.small, "--steps", 1, "--data", root, "--patient-regex", "(")
    assert "'('" in message


# ------------------------------------------------------------------------------ fit: where it writes


def test_outdir_is_a_file(medgan, here):
    (here / "runs").write_text("mine")
    message = medgan.fails("fit", *medgan.small, "--steps", 1)
    assert "runs is a file" in message
    assert "--outdir" in message
    assert (here / "runs").read_text() == "mine"


def test_outdir_in_a_file(medgan, here):
    (here / "file").write_text("mine")
    message = medgan.fails("fit", *medgan.small, "--steps", 1, "--outdir", "file/runs")
    assert "No run folder can be made in file/runs" in message
    assert "--outdir" in message


def test_outdir_that_may_not_be_written(medgan, here, monkeypatch):
    def refuse(self, *_, **__):
        raise PermissionError(13, "Permission denied")

    monkeypatch.setattr("pathlib.Path.mkdir", refuse)
    message = medgan.fails("fit", *medgan.small, "--steps", 1)
    assert message == "No run folder can be made in runs: Permission denied. Choose another --outdir."


def test_cache_that_is_a_file(medgan, here, tmp_path, monkeypatch):
    (tmp_path / "cache").write_text("mine")
    monkeypatch.setenv("MEDGAN_CACHE", str(tmp_path / "cache"))
    message = medgan.fails("fit", *medgan.small, "--steps", 1)
    assert str(tmp_path / "cache") in message
    assert list(here.iterdir()) == []


@pytest.mark.parametrize("resume", [(), ("--resume", "auto")])
def test_name_of_a_run_without_a_checkpoint(medgan, here, resume):
    """A folder that no run left is not touched, nor one that a run left unless --resume auto says that it may be."""
    (here / "runs" / "job").mkdir(parents=True)
    (here / "runs" / "job" / ("mine.txt" if resume else "config.json")).touch()
    message = medgan.fails("fit", *medgan.small, "--steps", 1, "--name", "job", *resume)
    assert "runs/job exists already" in message
    assert "--name" in message
    assert "--resume runs/job" not in message  # which could not work


# ------------------------------------------------------------------------------ batches and trackers

# The phantom's training images are 12 NORMAL and 23 PNEUMONIA.
BATCHES = {
    "all": (
        ("--batch-size", 36, "--class-sampling", "natural"),
        ["A step takes 36 images (--batch-size 36), but there are 35", "--batch-size 35 or less."],
    ),
    "accumulated": (
        ("--batch-size", 12, "--gradient-accumulation-steps", 3, "--class-sampling", "natural"),
        # 11 would be few enough, but has no groups for --minibatch-std 8.
        ["A step takes 36 images (--batch-size 12 in 3 accumulated batches)", "--batch-size 10 or less."],
    ),
    "sqrt": (
        ("--batch-size", 32, "--class-sampling", "sqrt"),
        ["sqrt makes 13.4 of them images of NORMAL, and there are 12", "28 or less, or --class-sampling natural."],
    ),
    "both": (("--batch-size", 40, "--class-sampling", "sqrt"), ["images of NORMAL", "--batch-size 28 or less."]),
}


@pytest.mark.parametrize("name", BATCHES)
@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_batches_beyond_the_data(medgan, here, name, dry):
    arguments, parts = BATCHES[name]
    message = medgan.fails("fit", *medgan.small, "--steps", 1, *arguments, *dry)
    assert all(part in message for part in parts), message
    assert list(here.iterdir()) == []
    advice = re.findall(r"--batch-size \d+", message)[-1].split()
    medgan.works("fit", *medgan.small, "--steps", 1, *arguments, *advice, "--dry-run")


def test_class_with_fewer_images_than_its_share(medgan, here, tmp_path):
    for label, count in (("COMMON", 30), ("RARE", 3)):
        (tmp_path / "scans" / label).mkdir(parents=True)
        for number in range(count):
            image = np.random.default_rng([number, count]).integers(0, 255, (32, 32), dtype=np.uint8)
            Image.fromarray(image).save(tmp_path / "scans" / label / f"{label}{number}.png")
    command = ("fit", "--data", tmp_path / "scans", "--size", 32, "--preset", "tiny", "--device", "cpu", "--steps", 1)
    command = (*command, "--validation", 0, "--batch-size", 8, "--minibatch-std", 0)
    message = medgan.fails(*command, "--class-sampling", "uniform")
    assert "--class-sampling uniform makes 4 of them images of RARE, and there are 3 to train on" in message
    assert "--batch-size 6 or less, or --class-sampling natural" in message
    assert list(here.iterdir()) == []
    for way in (("--class-sampling", "natural"), ("--class-sampling", "uniform", "--batch-size", 6)):
        medgan.works(*command, *way, "--dry-run")


@pytest.mark.parametrize("dry", [(), ("--dry-run",)])
def test_tracker_that_is_not_installed(medgan, here, monkeypatch, dry):
    monkeypatch.setattr("medgan.training.trackers.find_spec", lambda name: None)
    message = medgan.fails("fit", *medgan.small, "--steps", 1, "--tracker", "mlflow", *dry)
    assert "--tracker mlflow needs the package mlflow, which is not installed. Type: pip install mlflow" in message
    assert list(here.iterdir()) == []


def test_tracker_that_is_unknown(medgan, here):
    message = medgan.fails("fit", *medgan.small, "--steps", 1, "--tracker", "tensorbord")
    assert "tensorboard" in message
    assert list(here.iterdir()) == []


@pytest.mark.parametrize(
    "error",
    [
        MemoryError(),
        torch.cuda.OutOfMemoryError("CUDA out of memory."),
        RuntimeError("[enforce fail] DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."),
    ],
)
def test_out_of_memory(medgan, here, monkeypatch, error):
    def fail(*_):
        raise error

    monkeypatch.setattr(ACGAN.Trainer, "train_step", fail)
    message = medgan.fails("fit", *medgan.small, "--steps", 1)
    assert "There is not enough memory" in message
    assert "--gradient-accumulation-steps 2" in message


def test_other_errors_of_torch_are_no_mistake_of_the_user(medgan, here, monkeypatch):
    def fail(*_):
        raise RuntimeError("expected scalar type Half")

    monkeypatch.setattr(ACGAN.Trainer, "train_step", fail)
    with pytest.raises(RuntimeError, match="expected scalar type Half"):
        medgan("fit", *medgan.small, "--steps", 1)


# ------------------------------------------------------------------------------ sample

SAMPLES = {
    "no model": (("--model", "missing"), ["There is no folder missing"]),
    "label": (("--label", "PNEUMONA"), ["'PNEUMONA' is unknown", "Did you mean 'PNEUMONIA'?"]),
    "seeds": (("--seeds", "1-"), ["'1-'", "0-35"]),
    "no seeds": (("--seeds", ""), ["0-35"]),
    "words for seeds": (("--seeds", "a,b"), ["'a,b'", "0-35"]),
    "falling seeds": (("--seeds", "9-3"), ["'9-3'", "0-35"]),
    "negative seeds": (("--seeds", "-3"), ["'-3'", "0-35"]),
    "far too many seeds": (("--seeds", "0-99999999999"), ["0-99999999999", "10,000,000"]),
    "large seed": (("--seed", 2**64), ["Seeds must be between"]),
    "seeds and number": (("--seeds", "0-3", "-n", 4), ["--seeds", "-n"]),
    "seeds and seed": (("--seeds", "0-3", "--seed", 4), ["--seeds", "--seed"]),
    "number": (("-n", 0), ["-n", "0"]),
    "far too large a number": (("-n", 10**12), ["-n", "10000000"]),
    "truncation": (("--truncation", -1), ["--truncation", "-1"]),
    "NaN truncation": (("--truncation", "nan"), ["nan"]),
    "format": (("--format", "jpg"), ["jpg", "npz"]),
    "option": (("--lable", "NORMAL"), ["--lable", "--label"]),
    "device": (("--device", "tpu"), ["tpu"]),
}


@pytest.mark.parametrize("name", SAMPLES)
def test_sample(medgan, fitted, here, name):
    arguments, parts = SAMPLES[name]
    message = medgan.fails("sample", "--model", fitted, "--out", "out", *arguments)
    for part in parts:
        assert part in message
    assert list(here.iterdir()) == []


def test_sample_asks_for_the_model(medgan, here):
    assert "--model" in medgan.fails("sample", "--out", "out")


def test_sample_does_not_mix_with_what_is_there(medgan, fitted, here):
    (here / "out").mkdir()
    (here / "out" / "mine.txt").write_text("mine")
    message = medgan.fails("sample", "--model", fitted, "--out", "out")
    assert "out exists and is not an empty folder" in message
    assert "--out" in message
    assert [path.name for path in (here / "out").iterdir()] == ["mine.txt"]
    message = medgan.fails("sample", "--model", fitted, "--out", "out/mine.txt")
    assert "is not an empty folder" in message
    assert (here / "out" / "mine.txt").read_text() == "mine"


def test_sample_into_a_file(medgan, fitted, here):
    (here / "file").write_text("mine")
    message = medgan.fails("sample", "--model", fitted, "--out", "file/out")
    assert "could not be written to file/out" in message


@pytest.mark.parametrize("damage", ["weights", "facts", "facts are a list", "no weights", "lacks", "architecture"])
def test_damaged_model(medgan, fitted, here, damage):
    model = here / "model"
    model.mkdir()
    for path in (fitted / "model").iterdir():
        (model / path.name).write_bytes(path.read_bytes())
    facts = json.loads((model / "model.json").read_text())
    weights = model / "model.safetensors"
    part = {
        "weights": "is damaged",
        "facts": "cannot be read",
        "facts are a list": "model.json",
        "no weights": "holds no saved model",
        "lacks": "lacks config",
        "architecture": "'dcgan' is not installed",
    }[damage]
    if damage == "weights":
        weights.write_bytes(weights.read_bytes()[:-1] + b"\x00\x01")
    elif damage == "facts":
        (model / "model.json").write_text("{")
    elif damage == "facts are a list":
        (model / "model.json").write_text("[]")
    elif damage == "no weights":
        weights.unlink()
    elif damage == "lacks":
        del facts["config"]
        (model / "model.json").write_text(json.dumps(facts))
    else:
        (model / "model.json").write_text(json.dumps(facts | {"architecture": "dcgan"}))
    assert part in medgan.fails("sample", "--model", model, "--out", "out")
    assert not (here / "out").exists()


# ------------------------------------------------------------------------------ everything else


def test_unknown_command(medgan):
    assert "simple" in medgan.fails("simple")


def test_unknown_architecture_in_archs(medgan):
    assert "Did you mean 'acgan'?" in medgan.fails("archs", "acgn")
