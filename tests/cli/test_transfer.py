"""`medgan fit --init-from`, and what is known of it afterwards."""

from __future__ import annotations

import json
import shutil

import pytest
import torch

from medgan.core.saving import read_state
from medgan.models import ACGAN, load_model


def facts(folder, name="config.json"):
    return json.loads((folder / name).read_text())


def initial(folder):
    """What a run's files say of the model that it began from; the same in both."""
    of_config = facts(folder)["provenance"]["training_data"]["initial_model"]
    assert facts(folder / "model", "model.json")["training_data"]["initial_model"] == of_config
    return of_config


@pytest.fixture(scope="module")
def begun(medgan, fitted, tmp_path_factory):
    """A run that began from another and did next to nothing, and what it said."""
    folder = tmp_path_factory.mktemp("transfer") / "run"
    result = medgan.works(
        *("fit", *medgan.small, "--init-from", fitted, "--steps", 1, "--test", 0.2, "--seed", 3),
        *("--generator-lr", 0, "--discriminator-lr", 0, "--outdir", folder.parent, "--name", folder.name),
    )
    return folder, result.stdout


def test_both_networks_begin_from_the_run(begun, fitted):
    folder, output = begun
    assert f"Generator begins from {fitted}: " in output
    assert "100.0% of the numbers." in output
    assert output.count("begins from") == 2
    there, here = (read_state(run / "checkpoints" / "latest" / "trainer.pt")["trainer"] for run in (fitted, folder))
    names = [name for name in here["discriminator"] if name.endswith(("original", "bias"))]
    assert len(names) > 10
    for name in names:
        assert torch.equal(here["discriminator"][name], there["discriminator"][name]), name
    before = load_model(fitted).sample(4).images
    assert torch.equal(load_model(folder).sample(4).images, before)  # of the averaged generator


def test_it_is_recorded(begun, fitted):
    record = initial(begun[0])
    model = facts(fitted / "model", "model.json")
    assert record["sha256"] == model["sha256"]
    assert record["training_data"] == model["training_data"]
    assert record["images_listed"] is True
    assert record["taken"] == {"generator": 1, "discriminator": 1}
    assert facts(begun[0])["init_from"] == str(fitted)
    card = (begun[0] / "model" / "README.md").read_text()
    assert f"| Began from | acgan {model['sha256'][:12]}, trained on phantom-chest |" in card


def test_resume_keeps_the_record(medgan, begun, tmp_path):
    folder = shutil.copytree(begun[0], tmp_path / "run")
    before = initial(folder)
    medgan.works("fit", "--resume", folder, "--steps", 2)
    assert initial(folder) == before
    assert (folder / "data" / "initial_images.json").is_file()


def test_a_model_alone_has_no_discriminator(medgan, fitted, tmp_path):
    model = shutil.copytree(fitted / "model", tmp_path / "alone")
    output = medgan.works("fit", *medgan.small, "--init-from", model, "--steps", 1, "--outdir", tmp_path).stdout
    assert f"Discriminator is fresh: {model} has no checkpoint" in output


def test_the_folder_of_a_runs_model_is_as_good_as_the_run(medgan, fitted):
    output = medgan.works("fit", *medgan.small, "--init-from", fitted / "model", "--steps", 1, "--dry-run").stdout
    assert output.count("begins from") == 2


def test_so_is_that_of_its_best_model(medgan, fitted, tmp_path):
    """The generator is the best one; the discriminator and the list of images are the run's."""
    run = shutil.copytree(fitted, tmp_path / "run")
    best = ACGAN.load(run / "model")
    with torch.no_grad():
        next(best.generator.parameters()).add_(1)
    best.save(run / "checkpoints" / "best")
    sha256 = facts(run / "checkpoints" / "best", "model.json")["sha256"]
    assert sha256 != facts(run / "model", "model.json")["sha256"]
    for number, source in enumerate((run, run / "checkpoints" / "best")):
        place = ("--outdir", tmp_path, "--name", f"from{number}")
        output = medgan.works("fit", *medgan.small, "--init-from", source, "--steps", 1, *place).stdout
        assert output.count("begins from") == 2
        assert (initial(tmp_path / f"from{number}")["sha256"], facts(tmp_path / f"from{number}")["init_from"]) == (
            sha256,
            str(source),
        )
        assert (tmp_path / f"from{number}" / "data" / "initial_images.json").is_file()


# ------------------------------------------------------------------------------ leakage

STUDY = ("--arms", "real,synthetic", "--seeds", 1, "--steps", 1, "--replicates", 100, "--device", "cpu")


def test_test_patients_that_the_initial_model_saw_are_refused(medgan, begun, tmp_path):
    """The first run held other patients out; the second one's own training is clean."""
    message = medgan.fails("evaluate", "--model", begun[0], *STUDY, "--out", tmp_path / "out")
    assert "a model that the generator began from was trained on" in message
    assert "--allow-leakage" in message
    model = shutil.copytree(begun[0] / "model", tmp_path / "alone")
    real = facts(begun[0])["data"]
    splits = begun[0] / "data" / "splits.json"
    arguments = ("--model", model, "--real", real, "--splits", splits, *STUDY, "--out", tmp_path / "out")
    assert "a model that the generator began from" in medgan.fails("evaluate", *arguments)


def test_it_is_known_through_several_models(medgan, begun, tmp_path):
    """A third run, of the splits of the second: what the first saw comes along."""
    place = ("--outdir", tmp_path, "--name", "third", "--splits", begun[0] / "data" / "splits.json", "--size", 32)
    medgan.works("fit", *medgan.small, "--init-from", begun[0], "--steps", 1, *place)
    record = initial(tmp_path / "third")
    assert record["training_data"]["initial_model"]["images_listed"] is True
    message = medgan.fails("evaluate", "--model", tmp_path / "third", *STUDY, "--out", tmp_path / "out")
    assert "a model that the generator began from was trained on" in message


# ------------------------------------------------------------------------------ frozen blocks


def test_frozen_blocks_keep_the_first_models_weights(medgan, fitted, tmp_path):
    medgan.works(
        *("fit", *medgan.small, "--init-from", fitted, "--freeze-discriminator", 2, "--steps", 2),
        *("--outdir", tmp_path, "--name", "run"),
    )
    there, here = (
        read_state(run / "checkpoints" / "latest" / "trainer.pt")["trainer"]["discriminator"]
        for run in (fitted, tmp_path / "run")
    )
    for name, value in here.items():
        if name.startswith(("blocks.0.", "blocks.1.")):
            assert torch.equal(value, there[name]), name
    assert not torch.equal(here["dense.bias"], there["dense.bias"])


def test_random_weights_are_not_frozen(medgan, fitted, tmp_path):
    freeze = ("--freeze-discriminator", 1, "--steps", 1, "--outdir", tmp_path / "runs")
    assert "would keep random weights. Add --init-from RUN" in medgan.fails("fit", *medgan.small, *freeze)
    model = shutil.copytree(fitted / "model", tmp_path / "alone")
    message = medgan.fails("fit", *medgan.small, *freeze, "--init-from", model)
    assert "cannot be taken (it has no checkpoint)" in message
    message = medgan.fails("fit", *medgan.small, *freeze, "--init-from", fitted, "--discriminator-width", 6)
    assert "would keep random weights" in message
    assert not (tmp_path / "runs").exists()


# ------------------------------------------------------------------------------ bad input


def test_no_model(medgan, here):
    assert "There is no folder missing" in medgan.fails("fit", *medgan.small, "--steps", 1, "--init-from", "missing")
    assert list(here.iterdir()) == []


def test_a_damaged_checkpoint(medgan, fitted, tmp_path):
    folder = shutil.copytree(fitted, tmp_path / "broken")
    (folder / "checkpoints" / "latest" / "trainer.pt").write_bytes(b"nothing")
    message = medgan.fails("fit", *medgan.small, "--steps", 1, "--init-from", folder, "--outdir", tmp_path / "runs")
    assert "is damaged or not a checkpoint" in message


def test_a_resumed_run_keeps_its_beginning(medgan, begun, fitted, tmp_path):
    folder = shutil.copytree(fitted, tmp_path / "run")
    message = medgan.fails("fit", "--resume", folder, "--steps", 9, "--init-from", begun[0])
    assert "was begun with init_from None" in message
