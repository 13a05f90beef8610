from __future__ import annotations

import csv
import io
import json
import re

import nibabel
import numpy as np
import pytest
from PIL import Image

from medgan.data import phantom
from medgan.errors import ConfigError
from medgan.models import ACGAN, ACGANConfig, load_model
from medgan.runs import RunConfig

# ------------------------------------------------------------------------------ the run folder


def test_run_folder(fitted):
    assert {str(path.relative_to(fitted)) for path in fitted.rglob("*") if path.is_file()} == {
        ".lock",
        "config.json",
        "log.txt",
        "metrics.jsonl",
        "data/index.csv",
        "data/quarantine.csv",
        "data/duplicates.csv",
        "data/splits.json",
        "samples/real.png",
        "samples/000000.png",
        "samples/000003.png",
        "samples/000006.png",
        "plots/losses.png",
        "checkpoints/latest/trainer.pt",
        "model/model.safetensors",
        "model/model.json",
        "model/README.md",
    }


def test_config_says_everything(fitted):
    config = json.loads((fitted / "config.json").read_text())
    options = {item.name for item in (*RunConfig.options(), *ACGANConfig.options())}
    assert set(config) == options | {"provenance"}
    assert (config["size"], config["steps"], config["preset"], config["seed"]) == (32, 6, "tiny", 0)
    assert config["batch_size"] == ACGAN.get_preset("tiny").batch_size

    provenance = config["provenance"]
    assert provenance["architecture"] == {
        "name": "acgan",
        "value": "medgan.models.acgan:ACGAN",
        "origin": f"medgan {provenance['versions']['medgan']}",
    }
    assert {"python", "medgan", "torch"} <= set(provenance["versions"])
    assert provenance["data"] == {
        "channels": 1,
        "size": [32, 32],
        "labels": {"kind": "categorical", "names": ["NORMAL", "PNEUMONIA"]},
    }
    assert re.fullmatch(r"[0-9a-f]{64}", provenance["training_data"]["fingerprint"])
    assert provenance["training_data"]["images"] + provenance["held_out_images"]["validation"] == 40


def test_model_knows_its_data(fitted):
    config = json.loads((fitted / "config.json").read_text())
    facts = json.loads((fitted / "model" / "model.json").read_text())
    assert facts["training_data"] == config["provenance"]["training_data"]
    assert facts["training"] == {"steps": 6, "images_seen": 48}
    assert load_model(fitted).config == load_model(fitted / "model").config


def test_everything_is_written_before_the_first_step(medgan, tmp_path, monkeypatch):
    def fail(self, batch):
        raise ConfigError("The first step.")

    monkeypatch.setattr(ACGAN.Trainer, "train_step", fail)
    message = medgan.fails("fit", *medgan.small, "--steps", 6, "--outdir", tmp_path, "--name", "run")
    assert message == "The first step."
    config = json.loads((tmp_path / "run" / "config.json").read_text())
    assert config["steps"] == 6
    assert "provenance" in config
    assert (tmp_path / "run" / "data" / "splits.json").is_file()
    assert (tmp_path / "run" / "samples" / "000000.png").is_file()
    assert not (tmp_path / "run" / "checkpoints").exists()
    assert "The first step." in (tmp_path / "run" / "log.txt").read_text()


def test_config_file_repeats_the_run(medgan, fitted, tmp_path, contents):
    medgan.works("fit", "--config", fitted / "config.json", "--outdir", tmp_path, "--name", "again")
    first, second = contents(fitted), contents(tmp_path / "again")
    assert set(first) == set(second)
    same = {name for name in first if first[name] == second[name]}
    assert set(first) - same <= {"config.json", "log.txt", "metrics.jsonl"}  # names, and times


def test_splits_keep_patients_apart(fitted):
    splits = json.loads((fitted / "data" / "splits.json").read_text())
    rows = list(csv.DictReader((fitted / "data" / "index.csv").read_text().splitlines()))
    patients = {row["file"]: row["patient_id"] for row in rows}
    assert len(patients) == len(rows) == 40
    splits = splits["parts"]
    assert sorted(splits["train"] + splits["validation"]) == sorted(patients)
    assert splits["validation"]
    assert all(patients.values())
    assert {patients[file] for file in splits["train"]}.isdisjoint(patients[file] for file in splits["validation"])


def test_no_validation(medgan, tmp_path):
    folder = medgan.fit(tmp_path / "run", "--steps", 1, "--validation", 0)
    assert list(json.loads((folder / "data" / "splits.json").read_text())["parts"]) == ["train"]
    assert json.loads((folder / "config.json").read_text())["provenance"]["held_out_images"] == {}


CLASSES = ("NORMAL", "PNEUMONIA")


def test_metrics(fitted):
    rows = [json.loads(line) for line in (fitted / "metrics.jsonl").read_text().splitlines()]
    assert [(row["step"], row["images"]) for row in rows] == [(2, 16), (4, 32), (6, 48)]
    for row in rows:
        assert set(row) == {
            "step",
            "images",
            "images_per_second",
            "discriminator/adversarial",
            "discriminator/label",
            "generator/adversarial",
            "generator/label",
            *(f"discriminator/{figure}/{name}" for figure in ("real", "fake", "label") for name in CLASSES),
            *(f"generator/label/{name}" for name in CLASSES),
            *(["discriminator/accuracy"] if row["step"] == 2 else []),  # of every tenth step, the first one among them
        }
        assert np.isfinite(list(row.values())).all()
        assert row["images_per_second"] > 0


def test_log(fitted):
    lines = (fitted / "log.txt").read_text().splitlines()
    assert all(re.match(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\d,\d{3} INFO ", line) for line in lines)
    text = "\n".join(lines)
    assert "35 images (NORMAL 12, PNEUMONIA 23), 5 held out" in text
    assert "000006.png" in text


@pytest.mark.parametrize("name", ["real.png", "000000.png", "000006.png"])
def test_grids(fitted, name):
    with Image.open(fitted / "samples" / name) as picture:
        pixels = np.asarray(picture)
    rows = 4  # 16 images of each of two classes, eight in a row
    if name == "real.png":
        rows = 2 + 2  # 13 and 16
    assert pixels.shape[0] == rows * (96 + 2) + 2
    assert pixels.shape[1] > 8 * (96 + 2)
    left, tiles = pixels[:, : -(8 * 98 + 2)], pixels[:, -(8 * 98 + 2) :]
    half = len(left) // 2
    assert (left[:half] < 128).any()  # the name of each class is there
    assert (left[half:] < 128).any()
    assert tiles[:98, :98].std() > 0
    assert tiles.std() > 5


def test_plot(fitted):
    with Image.open(fitted / "plots" / "losses.png") as picture:
        assert picture.width > 500
        assert len(picture.convert("RGB").getcolors(1 << 24)) > 10


# ------------------------------------------------------------------------------ what is printed


def test_it_ends_by_saying_where_everything_is(medgan, here):
    result = medgan.works("fit", *medgan.small, "--steps", 2, "--log-every", 1)
    folder = "runs/00000-acgan-phantom-chest"
    assert f"Run folder: {folder}" in result.stdout
    assert result.stdout.splitlines()[-3:] == [
        f"Images: {folder}/samples/000002.png (real ones: {folder}/samples/real.png)",
        f"Model:  {folder}/model",
        f"More:   medgan sample --model {folder} -n 64 --out samples --grid",
    ]


def test_without_data_it_says_what_it_takes(medgan, here, monkeypatch):
    """Volumes, as a depth was given; and it ends with a command that works."""
    monkeypatch.setitem(phantom._COUNTS, "thorax", 20)
    small = ("--preset", "tiny", "--batch-size", 4, "--minibatch-std", 4, "--device", "cpu")
    lines = medgan.works("fit", "--depth", 16, *small, "--steps", 1).stdout.splitlines()
    folder = "runs/00000-acgan-phantom-thorax"
    assert lines[0].startswith("Data: phantom-thorax (phantom://thorax, as there is no --data), ")
    assert "; 1×16×16×16, " in lines[0]
    assert lines[-1] == f"More:   medgan sample --model {folder} -n 64 --out samples --grid --format nifti"
    medgan.works("sample", "--model", folder, "-n", 2, "--grid", "--format", "nifti")
    volumes = list((here / "samples").rglob("*.nii.gz"))
    assert len(volumes) == 2
    assert nibabel.load(volumes[0]).header.get_zooms() == pytest.approx((22.5, 22.5, 18.75))
    resumed = medgan.works("fit", "--resume", folder, "--steps", 2)
    assert resumed.stdout.startswith("Data: phantom-thorax, ")
    assert "phantom://thorax" in medgan.works("fit", "--arch", "acgan", "--help").stdout


def test_progress_is_plain_lines_without_a_terminal(medgan, tmp_path):
    result = medgan.works("fit", *medgan.small, "--steps", 4, "--log-every", 2, "--outdir", tmp_path)
    lines = [line for line in result.stderr.splitlines() if line.startswith("step ")]
    assert len(lines) == 2
    assert re.fullmatch(
        r"step 4/4  \d+ images/s  0:00 left  D adversarial \S+  D label \S+  G adversarial \S+  G label \S+", lines[1]
    )
    assert "\x1b" not in result.output
    assert "\r" not in result.output


# ------------------------------------------------------------------------------ names of folders


def test_a_tracker_has_all_lines_of_the_log(medgan, tmp_path):
    """Those of evaluations, too, with what the health monitor measured."""
    pytest.importorskip("tensorboard", reason="needs tensorboard")
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    options = ("--steps", 4, "--log-every", 2, "--evaluate-every", 2, "--validation", 0.4)
    folder = medgan.fit(tmp_path / "run", *options, "--tracker", "tensorboard")
    rows = [json.loads(line) for line in (folder / "metrics.jsonl").read_text().splitlines()]
    found = EventAccumulator(str(folder / "tensorboard")).Reload()
    names = {name for row in rows for name in row} - {"step"}
    assert {"evaluation/score", "evaluation/coverage/PNEUMONIA", "generator/adversarial"} <= names
    assert any(name.startswith("health/") for name in names)
    for name in names:
        expected = [(row["step"], row[name]) for row in rows if name in row]
        events = [(event.step, event.value) for event in found.Scalars(name)]
        assert [step for step, _ in events] == [step for step, _ in expected], name
        assert [value for _, value in events] == pytest.approx([value for _, value in expected], rel=1e-5), name


def test_runs_are_numbered(medgan, here):
    for _ in range(2):
        medgan.works("fit", *medgan.small, "--steps", 1)
    (here / "runs" / "00007-acgan-other").mkdir()
    (here / "runs" / "notes").mkdir()
    medgan.works("fit", *medgan.small, "--steps", 1)
    assert sorted(path.name for path in (here / "runs").iterdir()) == [
        "00000-acgan-phantom-chest",
        "00001-acgan-phantom-chest",
        "00007-acgan-other",
        "00008-acgan-phantom-chest",
        "notes",
    ]


def test_name_and_outdir(medgan, tmp_path):
    medgan.works("fit", *medgan.small, "--steps", 1, "--outdir", tmp_path / "a" / "b", "--name", "first.try+1")
    assert [path.name for path in (tmp_path / "a" / "b").iterdir()] == ["first.try+1"]


def test_existing_run_is_not_touched(medgan, fitted, contents):
    before = contents(fitted)
    message = medgan.fails("fit", *medgan.small, "--steps", 1, "--outdir", fitted.parent, "--name", fitted.name)
    assert "exists already" in message
    assert f"--resume {fitted}" in message
    assert contents(fitted) == before


# ------------------------------------------------------------------------------ options


def test_precedence(medgan, tmp_path):
    default = medgan.options("--data", "phantom://chest?n=80&seed=1", "--size", 32)
    assert default["batch_size"] == ACGAN.get_preset().batch_size
    assert default["log_every"] == RunConfig().log_every

    preset = medgan.options(*medgan.small)
    assert preset["batch_size"] == ACGAN.get_preset("tiny").batch_size != default["batch_size"]

    file = tmp_path / "options.json"
    file.write_text(json.dumps({"batch_size": 9, "latent_dim": 5, "preset": "tiny", "size": 32}))
    from_file = medgan.options("--data", "phantom://chest?n=80&seed=1", "--config", file)
    assert (from_file["batch_size"], from_file["latent_dim"], from_file["size"]) == (9, 5, 32)
    assert from_file["generator_width"] == preset["generator_width"]

    flags = medgan.options("--data", "phantom://chest?n=80&seed=1", "--config", file, "--batch-size", 10)
    assert (flags["batch_size"], flags["latent_dim"]) == (10, 5)


def test_file_wins_over_the_preset_that_a_flag_names(medgan, tmp_path):
    file = tmp_path / "options.json"
    file.write_text(json.dumps({"batch_size": 9}))
    assert medgan.options(*medgan.small, "--config", file)["batch_size"] == 9


def test_flag_may_repeat_the_default(medgan, tmp_path):
    """A flag wins over the file even when it says what the default is."""
    file = tmp_path / "options.json"
    file.write_text(json.dumps({"log_every": 7}))
    assert medgan.options(*medgan.small, "--config", file, "--log-every", RunConfig().log_every)["log_every"] == 20


@pytest.mark.parametrize(
    ("arguments", "steps"),
    [
        (("--steps", 5), "5"),
        (("--kimg", 0.1), "13"),  # 100 images, 8 in a step
        (("--kimg", 0.1, "--discriminator-steps", 2), "7"),
        ((), "5,000"),
    ],
)
def test_length(medgan, arguments, steps):
    assert f"Would train {steps} steps." in medgan.works("fit", *medgan.small, *arguments, "--dry-run").stdout


def test_length_as_a_flag_replaces_the_one_of_the_file(medgan, tmp_path):
    file = tmp_path / "options.json"
    file.write_text(json.dumps({"steps": 5}))
    output = medgan.works("fit", *medgan.small, "--config", file, "--kimg", 0.016, "--dry-run").stdout
    assert "Would train 2 steps." in output


def test_dry_run_writes_nothing(medgan, here):
    result = medgan.works("fit", *medgan.small, "--steps", 5, "--dry-run")
    assert "35 images (NORMAL 12, PNEUMONIA 23)" in result.stdout
    assert "generator 42,941 and discriminator 39,387 parameters" in result.stdout
    assert list(here.iterdir()) == []


def test_help_shows_the_options_of_the_preset(medgan):
    text = medgan.works("fit", "--arch", "acgan", "--preset", "tiny", "--help").stdout
    for item in (*RunConfig.options(), *ACGANConfig.options()):
        assert "--" + item.name.replace("_", "-") in text
    assert re.search(r"--batch-size INTEGER[^-]*\[default: 8\]", text)
    assert "Presets of acgan: modern, original, tiny." in text
    for flag in ("--config", "--resume", "--dry-run"):
        assert flag in text


def test_grey_can_be_trained_as_rgb(medgan, tmp_path):
    folder = medgan.fit(tmp_path / "run", "--steps", 1, "--channels", 3)
    assert load_model(folder).data.channels == 3
    with Image.open(io.BytesIO((folder / "samples" / "000001.png").read_bytes())) as picture:
        assert picture.mode == "RGB"


@pytest.mark.filterwarnings("default:.*is split file by file")
def test_unlabelled_folder(medgan, tmp_path):
    images = tmp_path / "scans"
    images.mkdir()
    rng = np.random.default_rng(0)
    for number in range(10):
        Image.fromarray(rng.integers(0, 256, (40, 40), dtype=np.uint8)).save(images / f"{number}.png")
    result = medgan.works(
        "fit", *medgan.small, "--data", images, "--steps", 1, "--outdir", tmp_path, "--name", "run"
    )  # fmt: skip
    assert "9 images (no labels), 1 held out" in result.stdout
    assert "Warning: The data (10 images) is split file by file" in result.stderr
    assert load_model(tmp_path / "run").data.labels is None
    message = medgan.fails("sample", "--model", tmp_path / "run", "--label", "NORMAL", "--out", tmp_path / "out")
    assert "trained without labels" in message
    assert "NORMAL" in message
    assert not (tmp_path / "out").exists()
