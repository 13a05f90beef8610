"""What all tests share."""

from __future__ import annotations

import os
import socket
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from importlib.util import module_from_spec, spec_from_file_location
from pathlib import Path
from typing import ClassVar

# Before anything imports matplotlib: no test needs a screen.
os.environ["MPLBACKEND"] = "Agg"

import pytest
import torch
import torch.nn.functional as F
from torch import Tensor, nn

from medgan import losses
from medgan.core import (
    GAN,
    AdversarialTrainer,
    Batch,
    DataSpec,
    Discriminator,
    DiscriminatorOutput,
    GANConfig,
    Translator,
)

ROOT = Path(__file__).parents[1]


def _find_benchmarks() -> None:
    """Make the package of benchmarks known without its folder's parent, which holds a medgan that is not installed."""
    place = ROOT / "benchmarks"
    spec = spec_from_file_location("benchmarks", place / "__init__.py", submodule_search_locations=[str(place)])
    assert spec is not None
    assert spec.loader is not None
    sys.modules["benchmarks"] = package = module_from_spec(spec)
    spec.loader.exec_module(package)


_find_benchmarks()


def pytest_configure(config: pytest.Config) -> None:
    """Give each of several test processes one thread; more only get into each other's way.

    The processes that tests start get one too: weights are compared bit for bit, and another number of threads adds
    up in another order.
    """
    if hasattr(config, "workerinput"):
        torch.set_num_threads(1)
        os.environ["OMP_NUM_THREADS"] = "1"


@pytest.fixture(scope="session", autouse=True)
def _own_environment(tmp_path_factory: pytest.TempPathFactory) -> Iterator[None]:
    """Keep the tests, and the processes they start, out of the user's cache and the user's plugins."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setenv("MEDGAN_CACHE", str(tmp_path_factory.mktemp("cache")))
        patch.delenv("MEDGAN_PLUGINS", raising=False)
        yield


Processes = list[subprocess.Popen[str]]


@pytest.fixture
def start_processes() -> Iterator[Callable[..., Processes]]:
    """A function that starts Python in some processes that know of each other, as torchrun and accelerate launch do."""
    started: Processes = []

    def start(arguments: Sequence[object], *, count: int = 2, folder: Path | None = None) -> Processes:
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            port = str(probe.getsockname()[1])
        shared = {"WORLD_SIZE": str(count), "LOCAL_WORLD_SIZE": str(count)}
        shared |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": port, "OMP_NUM_THREADS": "1"}
        command = [sys.executable, *map(str, arguments)]
        ranks = [{"RANK": str(rank), "LOCAL_RANK": str(rank)} for rank in range(count)]
        processes = [
            subprocess.Popen(
                command,
                env={**os.environ, **shared, **rank},
                cwd=folder,
                stdout=subprocess.PIPE,
                stderr=subprocess.PIPE,
                text=True,
            )
            for rank in ranks
        ]
        started.extend(processes)
        return processes

    yield start
    for process in started:
        process.kill()
        process.communicate()


@pytest.fixture
def run_processes(start_processes: Callable[..., Processes]) -> Callable[..., list[str]]:
    """A function that starts such processes, waits for them, and returns what each has written, if all is well."""

    def run(arguments: Sequence[object], *, count: int = 2, folder: Path | None = None) -> list[str]:
        processes = start_processes(arguments, count=count, folder=folder)
        written = [process.communicate(timeout=600) for process in processes]
        assert [process.returncode for process in processes] == [0] * count, written
        return [out for out, _ in written]

    return run


class PlainTranslator(Translator):
    """One convolution of source, noise and label."""

    def __init__(self, config: GANConfig, data: DataSpec) -> None:
        super().__init__(config.latent_dim)
        self.labels = data.num_labels
        self.to_image = nn.Conv2d(
            data.source_channels + config.latent_dim + data.num_labels, data.channels, 3, padding=1
        )

    def forward(self, latents: Tensor, labels: Tensor | None = None, sources: Tensor | None = None) -> Tensor:
        assert sources is not None
        vectors = latents if labels is None else torch.cat([latents, F.one_hot(labels, self.labels)], dim=1)
        planes = vectors[:, :, None, None].expand(-1, -1, *sources.shape[2:])
        return torch.tanh(self.to_image(torch.cat([sources, planes], dim=1)))


class PairDiscriminator(Discriminator):
    """One convolution of source and image."""

    def __init__(self, data: DataSpec) -> None:
        super().__init__()
        self.judge = nn.Conv2d(data.source_channels + data.channels, 4, 3, stride=2, padding=1)
        self.realness = nn.Linear(4, 1)

    def forward(
        self, images: Tensor, labels: Tensor | None = None, sources: Tensor | None = None
    ) -> DiscriminatorOutput:
        assert sources is not None
        features = F.leaky_relu(self.judge(torch.cat([sources, images], dim=1)), 0.2).sum((2, 3))
        return DiscriminatorOutput(self.realness(features).squeeze(1), None, features)


class PairTrainer(AdversarialTrainer[GANConfig]):
    """Cross-entropy and the distance from the true image."""

    def discriminator_loss(self, real: Batch, fake: Batch) -> dict[str, Tensor]:
        on_real, on_fake = self.discriminator(*real).realness, self.discriminator(*fake).realness
        return {"adversarial": losses.non_saturating_discriminator(on_real, on_fake)}

    def generator_loss(self, real: Batch, fake: Batch) -> dict[str, Tensor]:
        adversarial = losses.non_saturating_generator(self.discriminator(*fake).realness)
        return {"adversarial": adversarial, "l1": F.l1_loss(fake.images, real.images)}


class PlainPairs(GAN):
    """The smallest architecture that translates."""

    name = "plain-pairs"
    summary = "One convolution that translates"
    Trainer = PairTrainer
    presets: ClassVar[dict[str, GANConfig]] = {"tiny": GANConfig(latent_dim=2, batch_size=4)}
    default_preset = "tiny"
    translates = True

    def make_generator(self, config: GANConfig, data: DataSpec) -> Translator:
        return PlainTranslator(config, data)

    def make_discriminator(self, config: GANConfig, data: DataSpec) -> Discriminator:
        return PairDiscriminator(data)


@pytest.fixture(scope="session")
def plain_pairs() -> type[GAN]:
    """An architecture that translates."""
    return PlainPairs


@pytest.fixture(scope="session")
def inception_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Weights of Inception v3 as torch-fidelity names them, drawn at random."""
    import torch_fidelity.feature_extractor_inceptionv3 as module

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(module, "load_state_dict_from_url", lambda *_, **__: {})
        patch.setattr(module.FeatureExtractorInceptionV3, "load_state_dict", lambda *_: None)
        network = module.FeatureExtractorInceptionV3("inception-v3-compat", ["2048"])
    generator = torch.Generator().manual_seed(0)
    for layer in network.modules():
        if isinstance(layer, nn.Conv2d):  # at the scale that keeps features from fading with depth
            bound = (6 / layer.weight[0].numel()) ** 0.5
            layer.weight.uniform_(-bound, bound, generator=generator)
    path = tmp_path_factory.mktemp("weights") / "inception.pth"
    torch.save(network.state_dict(), path)
    return path


@pytest.fixture
def write_exposure(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a DICOM image with the given elements, below a folder ``scans``."""
    import numpy as np
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import DigitalXRayImageStorageForPresentation, ExplicitVRLittleEndian, generate_uid

    def write(name: str, *, patient: str = "", study: str = "", **elements: object) -> Path:
        dataset = Dataset()
        dataset.SOPClassUID = DigitalXRayImageStorageForPresentation
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=[name])
        dataset.Modality, dataset.PatientID = "DX", patient
        if study:
            dataset.StudyInstanceUID = generate_uid(entropy_srcs=[study])
        dataset.Rows, dataset.Columns = 8, 8
        dataset.SamplesPerPixel, dataset.PhotometricInterpretation = 1, "MONOCHROME2"
        dataset.BitsAllocated, dataset.BitsStored, dataset.HighBit, dataset.PixelRepresentation = 16, 16, 15, 0
        dataset.PixelData = np.arange(64, dtype=np.uint16).tobytes()
        for keyword, value in elements.items():
            setattr(dataset, keyword, value)
        path = tmp_path / "scans" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.save_as(path, enforce_file_format=True)
        return path

    return write


@pytest.fixture
def write_dose_sr(tmp_path: Path) -> Callable[..., Path]:
    """A function that writes a dose report below a folder ``scans``.

    ``content`` is a tree of tuples: a container is ``(code, [children])``, a number ``(code, value, unit)``, with the
    code of a breast after it if it has one, a code ``(code, CODE)``, and a UID ``(code, "UID")``.
    """
    from pydicom import Dataset
    from pydicom.dataset import FileMetaDataset
    from pydicom.uid import ExplicitVRLittleEndian, XRayRadiationDoseSRStorage, generate_uid

    def coded(code: str, scheme: str = "DCM", meaning: str = "") -> Dataset:
        item = Dataset()
        item.CodeValue, item.CodingSchemeDesignator, item.CodeMeaning = code, scheme, meaning or f"the code {code}"
        return item

    def build(node: Sequence[object]) -> Dataset:
        item = Dataset()
        name = str(node[0])
        item.ConceptNameCodeSequence = [coded(name, "SRT" if name.startswith("G-") else "DCM")]
        if isinstance(node[1], list):
            item.ValueType, item.ContentSequence = "CONTAINER", [build(child) for child in node[1]]
        elif len(node) > 2:
            item.ValueType = "NUM"
            value = Dataset()
            if node[1] is not None:
                value.NumericValue = node[1]
            if node[2] is not None:
                scheme, _, unit = str(node[2]).rpartition(":")
                value.MeasurementUnitsCodeSequence = [coded(unit, scheme or "UCUM", unit)]
            item.MeasuredValueSequence = [value]
            if len(node) > 3:
                item.ContentSequence = [build(node[3])]  # type: ignore[arg-type]
        elif str(node[1])[0].isdigit() and "." in str(node[1]):
            item.ValueType, item.UID = "UIDREF", str(node[1])
        else:
            item.ValueType, item.ConceptCodeSequence = "CODE", [coded(str(node[1]), meaning=str(node[1]))]
        return item

    def write(
        name: str, content: Sequence[Sequence[object]], *, patient: str = "", scope: str = "", root: str = "113701",
        time: str = "120000", study: str = "",
    ) -> Path:  # fmt: skip
        dataset = build((root, list(content)))
        if scope:
            told = build(("113705", "113014"))
            told.ContentSequence = [build(("121126", generate_uid(entropy_srcs=[scope])))]
            dataset.ContentSequence.append(told)
        dataset.SOPClassUID = XRayRadiationDoseSRStorage
        dataset.SOPInstanceUID = generate_uid(entropy_srcs=[name])
        dataset.Modality, dataset.PatientID = "SR", patient
        dataset.StudyInstanceUID = generate_uid(entropy_srcs=[study or name])
        dataset.ContentDate, dataset.ContentTime = "20260101", time
        path = tmp_path / "scans" / name
        path.parent.mkdir(parents=True, exist_ok=True)
        dataset.file_meta = FileMetaDataset()
        dataset.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
        dataset.save_as(path, enforce_file_format=True)
        return path

    return write
