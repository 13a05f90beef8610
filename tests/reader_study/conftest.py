from __future__ import annotations

import json
import shutil
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path

import httpx
import numpy as np
import pytest

from medgan.data import ImageDataset
from medgan.models import ACGAN
from medgan.reader_study import ReaderStudy, ReaderStudyConfig, load_study, new_study
from medgan.reader_study.store import Answer, AnswerStore, _answers

READERS = ("ada", "ben", "cleo", "dan")


@pytest.fixture(scope="session")
def real() -> ImageDataset:
    """120 patients with two images each, in two classes."""
    rng = np.random.default_rng(3)
    return ImageDataset.from_arrays(
        rng.integers(0, 256, (240, 32, 32), dtype=np.uint8),
        np.repeat([0, 1], 120),
        names=["NORMAL", "PNEUMONIA"],
        patient_ids=[f"p{number // 2}" for number in range(240)],
        name="noise",
    )


@pytest.fixture(scope="session")
def gan(real) -> ACGAN:
    return ACGAN(real.spec, preset="tiny")


@pytest.fixture(scope="session")
def draw(real, gan) -> Callable[..., ReaderStudy]:
    """A function that draws a study."""

    def draw(folder: Path, *, readers: tuple[str, ...] = READERS, seed: int = 1, **options: object) -> ReaderStudy:
        config = ReaderStudyConfig.from_dict({"num": 24, "training": 2, **options})
        return load_study(new_study(real, gan, folder, config, readers=readers, model="noise-gan", seed=seed))

    return draw


@pytest.fixture(scope="session")
def drawn(draw, tmp_path_factory) -> ReaderStudy:
    """A study with all questions; look, but do not write."""
    folder = tmp_path_factory.mktemp("studies") / "all"
    return draw(folder, repeats=0.25, realism=True, diagnosis=True, comment=True)


@pytest.fixture(scope="session")
def pairs(draw, tmp_path_factory) -> ReaderStudy:
    """A study of pairs; look, but do not write."""
    return draw(tmp_path_factory.mktemp("studies") / "pairs", mode="forced-choice", repeats=0.25)


@pytest.fixture
def study(drawn, tmp_path) -> ReaderStudy:
    """A copy of the study with all questions."""
    return load_study(shutil.copytree(drawn.folder, tmp_path / "study"))


@pytest.fixture
def pair_study(pairs, tmp_path) -> ReaderStudy:
    """A copy of the study of pairs."""
    return load_study(shutil.copytree(pairs.folder, tmp_path / "pairs"))


@pytest.fixture
def store(study) -> Iterator[AnswerStore]:
    with AnswerStore(study) as opened:
        yield opened


Served = tuple[subprocess.Popen[str], str, dict[str, str]]


@pytest.fixture
def serve() -> Iterator[Callable[..., Served]]:
    """A function that serves a study in a process of its own; returns it, its address, and the readers' links."""
    started = []

    def start(study: ReaderStudy, port: int = 0) -> Served:
        command = [sys.executable, "-m", "medgan", "study", "serve", str(study.folder), "--port", str(port)]
        process = subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)
        started.append(process)
        links = {}
        for line in process.stdout:
            if line.startswith("Serving"):
                break
            name, _, link = line.strip().rpartition("  ")
            links[name.strip()] = link
        else:
            raise AssertionError(f"it did not start: {line}")
        address = next(iter(links.values())).partition("/r/")[0]
        for _ in range(200):  # the port is taken, but nobody may be listening yet
            try:
                httpx.get(f"{address}/study.css")
                break
            except httpx.TransportError:
                time.sleep(0.05)
        return process, address, links

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture(scope="session")
def an_answer() -> Callable[..., Answer]:
    """A function that returns an answer to all questions of single images."""

    def make(**values: object) -> Answer:
        given = {"confidence": 4, "choice": None, "realism": 2, "diagnosis": "NORMAL", "comment": "", "seconds": 3.5}
        return Answer(**{**given, **values})

    return make


@pytest.fixture(scope="session")
def key_of() -> Callable[[ReaderStudy], dict[str, dict[str, object]]]:
    """A function that returns the key's entries by image."""
    return lambda study: json.loads((study.folder / "key.json").read_text(encoding="utf-8"))["items"]


@pytest.fixture(scope="session")
def fill(key_of) -> Callable[..., None]:
    """A function that lets simulated readers read."""
    return partial(_fill, key_of)


def _fill(
    key_of, study: ReaderStudy, skill: float, *, readers: int | None = None, seed: int = 0, leave: int = 0
) -> None:
    """Let simulated readers read; the last one leaves so many cases unanswered. All is stored at once, to be quick."""
    readers = len(study.readers) if readers is None else readers
    rng = np.random.default_rng(seed)
    kinds = {item: entry["kind"] == "synthetic" for item, entry in key_of(study).items()}
    labels = {item: str(entry["label"]) for item, entry in key_of(study).items()}
    config, rows = study.config, []
    for number, reader in enumerate(study.readers[:readers]):
        last = len(reader.presentations) - (leave if number == readers - 1 else 0)
        for position, shown in enumerate(reader.presentations[:last]):
            seen = [skill * kinds[item] + rng.standard_normal() for item in shown.items]
            forced = len(seen) == 2
            answer = Answer(
                confidence=None if forced else int(np.digitize(seen[0], [-1, 0, 0.6, 1.5])) + 1,
                choice=int(np.argmax(seen)) if forced else None,
                realism=int(rng.integers(1, 6)) if config.realism else None,
                diagnosis=labels[shown.items[0]] if config.diagnosis else "",
                comment="=1+1" if config.comment and position == 0 else "",
                seconds=float(rng.uniform(2, 9)),
                answered_at="2026-01-02T03:04:05.678+00:00",
            )
            place = {"study": study.id, "reader": reader.name, "position": position}
            rows.append({**place, "attempt": 1, "submission": f"filled{position:08d}", **asdict(answer)})
    with AnswerStore(study) as store:
        for reader in study.readers[:readers]:
            store.record(reader, "consent", study.consent_sha256)
        with store._begin() as connection:
            connection.execute(_answers.insert(), rows)
