from __future__ import annotations

import json
import logging
import os
import sys

import numpy as np
import pytest
import torch
from PIL import Image

from medgan import registry
from medgan.core.trainer import Callback
from medgan.data.splits import Splits
from medgan.errors import CheckpointError, ConfigError, DataError, UnknownArchitectureError
from medgan.models import ACGAN
from medgan.runs import Run, RunConfig, find_run, find_run_of, read_config, read_parts, reading_of, reopen, resolve

FLAGS = {"data": "phantom://chest?n=40&seed=1", "size": 32, "preset": "tiny", "device": "cpu", "steps": 2}


# ------------------------------------------------------------------------------ options


def test_resolve():
    run, architecture, config = resolve({"preset": "tiny", "size": 32}, {"size": 64, "latent_dim": 5})
    assert architecture is ACGAN
    assert (run.size, run.preset, config.latent_dim) == (32, "tiny", 5)
    assert config == ACGAN.get_preset("tiny").replace(latent_dim=5)
    assert resolve({})[2] == ACGAN.get_preset()


@pytest.mark.parametrize(
    ("flags", "file", "length"),
    [
        ({}, {"steps": 3}, (3, None)),
        ({"kimg": 1.0}, {"steps": 3}, (None, 1.0)),
        ({"steps": 3}, {"kimg": 1.0}, (3, None)),
        ({"steps": 3}, {"steps": 4}, (3, None)),
    ],
)
def test_length_of_flags_and_file(flags, file, length):
    run, _, _ = resolve(flags, file)
    assert (run.steps, run.kimg) == length


@pytest.mark.parametrize("other", [{"steps": 3}, {"kimg": 1.0}])
def test_budget_of_flags_and_file(other):
    for flags, file, expected in (({"budget": "45m"}, other, {"budget": "45m"}), (other, {"budget": "45m"}, other)):
        run, _, _ = resolve(flags, file)
        lengths = {"steps": run.steps, "kimg": run.kimg, "budget": run.budget}
        assert {unit: value for unit, value in lengths.items() if value is not None} == expected


def test_resolve_refuses():
    with pytest.raises(ConfigError, match="Did you mean 'batch_size'"):
        resolve({"batch_sizes": 4})
    with pytest.raises(ConfigError, match="Both --steps and --kimg"):
        resolve({"steps": 1, "kimg": 1})
    with pytest.raises(UnknownArchitectureError):
        resolve({"arch": "nothing"})


def test_no_option_has_two_meanings():
    """An option of the run and one of an architecture of the same name could not be told apart."""
    ours = {item.name for item in RunConfig.options()}
    assert ours.isdisjoint(item.name for item in ACGAN.Config.options())


@pytest.mark.parametrize(
    ("options", "images", "steps"),
    [
        ({"steps": 7}, 32, 7),
        ({"kimg": 1}, 32, 32),  # 31.25
        ({"kimg": 0}, 32, 1),
        ({"data": "scans"}, 32, 4688),
    ],
)
def test_total_steps(options, images, steps):
    assert RunConfig(**options).total_steps(images) == steps


def test_the_phantom_has_defaults_of_its_own():
    lengths = {
        (): (32, 40.0, None),
        (("size", 64),): (64, 40.0, None),
        (("steps", 5),): (32, None, 5),
        (("kimg", 1.0),): (32, 1.0, None),
        (("data", "scans"),): (64, 150.0, None),
        (("data", "scans"), ("steps", 5)): (64, None, 5),
    }
    for flags, expected in lengths.items():
        run, _, _ = resolve(dict(flags))
        assert (run.size, run.kimg, run.steps) == expected, flags


def test_the_phantom_fits_the_architecture(plain_pairs):
    registry.register(plain_pairs)
    try:
        run, _, _ = resolve({"arch": "plain-pairs"})
    finally:
        registry.unregister("plain-pairs")
    assert (run.data, run.size, run.depth, run.kimg) == ("phantom://chest-lowdose", 32, None, 40.0)
    run, _, _ = resolve({"depth": 16})
    assert (run.data, run.size, run.depth, run.kimg) == ("phantom://thorax", 16, 16, 4.0)
    again, _, _ = resolve({}, run.to_dict())  # as a run that is resumed has it
    assert again == run


@pytest.mark.parametrize("name", ["", ".", "..", "a/b", ".a", "-a", "a b", "a\n", "a\0"])
def test_names_that_are_refused(name):
    with pytest.raises(ConfigError, match="is not usable"):
        RunConfig(name=name)


def test_read_config(tmp_path):
    path = tmp_path / "config.json"
    path.write_text(json.dumps({"size": 32, "provenance": {"versions": {}}}))
    assert read_config(path) == {"size": 32}


@pytest.mark.skipif(sys.platform != "linux", reason="file names are bytes on Linux only")
def test_names_that_are_not_utf8_are_read_back(tmp_path):
    odd = os.fsdecode(b"/mnt/R\xf6ntgen")
    run = tmp_path / "run"
    (run / "data").mkdir(parents=True)
    facts = {"data": odd, "window": "auto", "provenance": {"transforms": None}}
    for name, value in (("config.json", facts), ("data/initial_images.json", {"images": [f"{odd}/0.png"]})):
        (run / name).write_text(json.dumps(value, ensure_ascii=False), encoding="utf-8", errors="surrogateescape")
    assert read_config(run / "config.json")["data"] == odd
    assert reading_of(run) == {"window": "auto"}
    Splits("image", 0, {"train": ("a.png",)}).write(run / "data" / "splits.json")
    assert read_parts(run) == {"a.png": "train", f"{odd}/0.png": "initial"}


# ------------------------------------------------------------------------------ which run


def make_run(folder, age):
    path = folder / "checkpoints" / "latest" / "trainer.pt"
    path.parent.mkdir(parents=True)
    path.write_bytes(b"")
    (folder / "config.json").write_text("{}")
    os.utime(path, (10_000 - age, 10_000 - age))
    return folder


def test_find_run(tmp_path):
    assert find_run("auto", tmp_path / "missing") is None
    assert find_run("auto", tmp_path) is None
    old, new = make_run(tmp_path / "b", 5), make_run(tmp_path / "a", 1)
    (tmp_path / "c" / "checkpoints" / "latest").mkdir(parents=True)
    assert find_run("auto", tmp_path) == new
    assert find_run("auto", tmp_path, "b") == old
    assert find_run("auto", tmp_path, "c") is None
    assert find_run(str(old), tmp_path) == old
    with pytest.raises(CheckpointError, match="cannot be resumed"):
        find_run(str(tmp_path / "c"), tmp_path)


# ------------------------------------------------------------------------------ from Python


@pytest.fixture(scope="module")
def result(tmp_path_factory):
    said: list[str] = []
    run = Run({**FLAGS, "outdir": str(tmp_path_factory.mktemp("runs"))}, say=said.append)
    assert run.folder is None
    return run, run.fit(), said


def test_result(result):
    run, made, said = result
    assert made.folder == run.folder
    assert made.samples == made.folder / "samples" / "000002.png"
    assert made.samples.is_file()
    assert torch.equal(ACGAN.load(made.model).sample(3).images, made.gan.sample(3).images)
    assert any("Run folder" in line for line in said)


def test_the_best_is_kept(tmp_path):
    said: list[str] = []
    flags = {**FLAGS, "evaluate_every": 1, "validation": 0.4, "outdir": str(tmp_path)}
    made = Run(flags, say=said.append).fit()
    best = made.folder / "checkpoints" / "best"
    kept = json.loads((best / "model.json").read_text())["evaluation"]
    assert f"Best:   step {kept['step']} in {best}, score {kept['score']:.3f}" in "\n".join(said)
    assert find_run_of(best) == find_run_of(made.model) == find_run_of(made.folder) == made.folder
    assert find_run_of(tmp_path / "elsewhere" / "model") == tmp_path / "elsewhere" / "model"
    again = Run({"steps": 3, "evaluate_every": 0}, resume=made.folder, say=said.append).fit()
    assert json.loads((best / "model.json").read_text())["evaluation"] == kept
    assert again.gan.trainer.step == 3


def test_without_enough_held_out_images_the_latest_is_kept(result):
    _, made, said = result
    assert not (made.folder / "checkpoints" / "best").exists()
    assert any("the latest is kept" in line for line in said)


def test_resume_from_python(result, tmp_path):
    _, made, _ = result
    run = Run({"steps": 3}, resume=made.folder, say=lambda line: None)
    assert run.config.data == FLAGS["data"]
    assert run.fit().gan.trainer.step == 3


def test_reopen(result):
    run, made, _ = result
    opened, before = reopen(made.folder), run.open_data()
    assert opened.whole.fingerprint == before.whole.fingerprint
    assert {part: images.fingerprint for part, images in opened.parts.items()} == {
        part: images.fingerprint for part, images in before.parts.items()
    }
    assert opened.splits == before.splits


@pytest.fixture
def scans(tmp_path):
    """A folder of images, and a run of it."""
    rng = np.random.default_rng(0)
    for number in range(12):
        file = tmp_path / "scans" / f"{'AB'[number % 2]}" / f"patient{number}.png"
        file.parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(rng.integers(0, 256, (32, 32), dtype=np.uint8)).save(file)
    flags = {
        **FLAGS,
        "data": str(tmp_path / "scans"),
        "patient_regex": r"patient(\d+)",
        "validation": 0.3,
        "outdir": str(tmp_path / "runs"),
        "name": "first",
    }
    return tmp_path / "scans", Run(flags, say=lambda line: None).fit().folder


def test_reopen_data_that_has_moved(scans, tmp_path):
    folder, run = scans
    before = reopen(run)
    folder.rename(tmp_path / "elsewhere")
    with pytest.raises(DataError, match=r"was trained on .*scans; if that has moved"):
        reopen(run)
    after = reopen(run, data=str(tmp_path / "elsewhere"))
    assert after.parts["validation"].fingerprint == before.parts["validation"].fingerprint


def test_reopen_refuses_other_images(scans):
    folder, run = scans
    changed = folder / "A" / "patient0.png"
    Image.fromarray(np.random.default_rng(1).integers(0, 256, (32, 32), dtype=np.uint8)).save(changed)
    with pytest.raises(DataError, match=r"are not those that .* was trained on"):
        reopen(run)
    changed.unlink()
    with pytest.raises(DataError, match="The split is of other data"):
        reopen(run)


def test_reopen_refuses_what_is_no_run(scans, tmp_path):
    _, run = scans
    with pytest.raises(ConfigError, match="is no run folder"):
        reopen(tmp_path)
    with pytest.raises(ConfigError, match="begun with --transforms None, not mine:crop"):
        reopen(run, transforms="mine:crop")


def test_two_runs_that_start_at_once(tmp_path, monkeypatch):
    """The number that both found free belongs to the first."""
    run = Run({**FLAGS, "outdir": str(tmp_path)}, say=lambda line: None)
    mkdir = type(tmp_path).mkdir
    beaten = []

    def race(self, *arguments, **options):
        if self.name.startswith("00000-") and not beaten:
            beaten.append(self)
            mkdir(self)
        return mkdir(self, *arguments, **options)

    monkeypatch.setattr(type(tmp_path), "mkdir", race)
    assert run._make_folder("data").name == "00001-acgan-data"


def test_the_log_is_given_back(tmp_path, monkeypatch):
    logger = logging.getLogger("medgan")
    before = (list(logger.handlers), logger.level)

    class Fail(Callback):
        def on_start(self, trainer):
            raise ConfigError("no")

    monkeypatch.setattr("medgan.training.SampleGrid", lambda *arguments, **options: Fail())
    with pytest.raises(ConfigError, match="no"):
        Run({**FLAGS, "outdir": str(tmp_path)}, say=lambda line: None).fit()
    assert (list(logger.handlers), logger.level) == before


def test_randomness_of_the_caller_is_left_alone(tmp_path):
    torch.manual_seed(3)
    before = torch.get_rng_state()
    Run({**FLAGS, "outdir": str(tmp_path)}, say=lambda line: None).fit()
    assert torch.equal(torch.get_rng_state(), before)
