"""The store: never stale, never half written, never a pickle."""

from __future__ import annotations

import errno
import os
import tracemalloc
from array import array
from collections.abc import Sequence
from concurrent.futures import Future, ProcessPoolExecutor, ThreadPoolExecutor
from concurrent.futures.process import BrokenProcessPool
from dataclasses import replace
from pathlib import Path
from typing import BinaryIO

import numpy as np
import pandas as pd
import pytest
from PIL import Image

from medgan.data import default_cache_dir, open_dataset
from medgan.data.decoded import DecodedImage, ReadError, Reading
from medgan.data.sources import Entry, FolderSource, list_folder
from medgan.data.store import _HEADER_BYTES, Preprocessing, _Done, _Growing, _Refused, _write_header, open_store
from medgan.data.transforms import Resizer
from medgan.errors import DataError


@pytest.fixture
def cache(tmp_path: Path) -> Path:
    return tmp_path / "cache"


def _stores(cache: Path) -> list[Path]:
    return sorted(path for path in (cache / "datasets").iterdir() if not path.name.startswith("."))


def test_the_second_opening_decodes_nothing(make_folder, cache: Path) -> None:
    root = make_folder()
    calls: list[tuple[int, int]] = []
    first = open_dataset(root, size=16, cache_dir=cache, progress=lambda *done: calls.append(done))
    assert calls == [(number, 15) for number in range(1, 16)]
    second = open_dataset(root, size=16, cache_dir=cache, progress=lambda *done: pytest.fail("decoded again"))
    assert second.fingerprint == first.fingerprint
    assert second.images_at(range(15)).equal(first.images_at(range(15)))
    assert second.index.equals(first.index)
    assert not list((cache / "datasets").glob(".*"))  # nothing is left aside


def test_another_size_is_another_store(make_folder, cache: Path) -> None:
    root = make_folder()
    small, large = (open_dataset(root, size=size, cache_dir=cache) for size in (8, 16))
    padded = open_dataset(root, size=16, fit="pad", cache_dir=cache)
    assert small.images_at([0]).shape[-1] == 8
    assert large.images_at([0]).shape[-1] == 16
    assert not padded.images_at([0]).equal(large.images_at([0]))
    assert len({small.fingerprint, large.fingerprint, padded.fingerprint}) == len(_stores(cache)) == 3


def test_a_replaced_file_is_read_again_even_with_the_same_size_and_time(make_folder, cache: Path, picture) -> None:
    root = make_folder()
    path = root / "NORMAL" / "patient0_0.bmp"
    (root / "NORMAL" / "patient0_0.png").unlink()
    Image.fromarray(picture(0)).save(path)
    before = open_dataset(root, size=16, cache_dir=cache)
    status = path.stat()
    Image.fromarray(picture(99)).save(path)
    os.utime(path, ns=(status.st_atime_ns, status.st_mtime_ns))
    assert path.stat().st_size == status.st_size
    after = open_dataset(root, size=16, cache_dir=cache)
    assert after.fingerprint != before.fingerprint
    assert not after.images_at([0]).equal(before.images_at([0]))


def test_two_folders_of_equal_names_sizes_and_times_do_not_mix(make_folder, cache: Path, picture) -> None:
    roots = [make_folder("a", A=1), make_folder("b", A=1)]
    for seed, root in enumerate(roots):
        Image.fromarray(picture(seed)).save(root / "A" / "x.bmp")
        (root / "A" / "patient0_0.png").unlink()
        os.utime(root / "A" / "x.bmp", ns=(0, 0))
    first, second = (open_dataset(root, size=16, cache_dir=cache) for root in roots)
    assert not first.images_at([0]).equal(second.images_at([0]))


def test_the_fingerprint_is_of_content_and_not_of_place(make_folder, tmp_path: Path, cache: Path) -> None:
    root = make_folder("a")
    first = open_dataset(root, size=16, cache_dir=cache)
    moved = open_dataset(root.rename(tmp_path / "elsewhere"), size=16, cache_dir=cache)
    assert moved.fingerprint == first.fingerprint
    (tmp_path / "elsewhere" / "NORMAL" / "patient0_0.png").rename(tmp_path / "elsewhere" / "PNEUMONIA" / "p.png")
    assert open_dataset(tmp_path / "elsewhere", size=16, cache_dir=cache).fingerprint != first.fingerprint


@pytest.mark.parametrize("damage", ["flip", "cut", "empty", "json", "list", "index", "missing"])
def test_a_damaged_store_is_made_again(make_folder, cache: Path, damage: str) -> None:
    root = make_folder()
    before = open_dataset(root, size=16, cache_dir=cache).images_at(range(15))
    (store,) = _stores(cache)
    images = store / "images.npy"
    if damage == "flip":
        data = bytearray(images.read_bytes())
        data[-7] ^= 255
        images.write_bytes(data)
    elif damage == "cut":
        images.write_bytes(images.read_bytes()[:-100])
    elif damage == "empty":
        images.write_bytes(b"")
    elif damage == "list":
        (store / "store.json").write_text("[]")
    elif damage == "json":
        (store / "store.json").write_text("{")
    elif damage == "index":
        (store / "index.csv").write_text((store / "index.csv").read_text().replace("NORMAL", "ABNORM", 1))
    else:
        images.unlink()
    again = open_dataset(root, size=16, cache_dir=cache)
    assert again.images_at(range(15)).equal(before)
    assert again.index["label"].isin(["NORMAL", "PNEUMONIA"]).all()
    open_dataset(root, size=16, cache_dir=cache, progress=lambda *done: pytest.fail("not mended"))
    assert not list((cache / "datasets").glob(".*"))


def test_damaged_labels_are_made_again(make_folder, cache: Path) -> None:
    found = list_folder(make_folder(A=4).resolve(), "name", Reading())
    entries = tuple(replace(entry, values=(1.0, 0.5)) for entry in found.entries)
    source = replace(found, entries=entries)
    path = open_store(source, Preprocessing((16, 16)), cache_dir=cache).folder / "labels.npy"
    whole = path.read_bytes()
    path.write_bytes(whole[:-1] + b"\x7f")
    store = open_store(source, Preprocessing((16, 16)), cache_dir=cache)
    np.testing.assert_array_equal(store.values, [(1.0, 0.5)] * 4)
    assert path.read_bytes() == whole


def test_openings_at_the_same_time_do_not_disturb_each_other(make_folder, cache: Path) -> None:
    root = make_folder()
    with ThreadPoolExecutor(4) as executor:
        datasets = list(executor.map(lambda _: open_dataset(root, size=16, cache_dir=cache), range(8)))
    assert len({dataset.fingerprint for dataset in datasets}) == len(_stores(cache)) == 1
    assert all(dataset.images_at(range(15)).equal(datasets[0].images_at(range(15))) for dataset in datasets)


@pytest.mark.parametrize("stop", [KeyboardInterrupt, MemoryError])
def test_an_interrupted_opening_goes_on_where_it_was(make_folder, tmp_path: Path, cache: Path, stop) -> None:
    def interrupt(done: int, total: int) -> None:
        if done == 7:
            raise stop

    root = make_folder()
    (root / "NORMAL" / "a.png").write_text("not an image")
    whole = open_dataset(root, size=16, max_bad=0.1, cache_dir=tmp_path / "other")
    with pytest.raises(stop):
        open_dataset(root, size=16, max_bad=0.1, cache_dir=cache, progress=interrupt)
    assert not _stores(cache)
    calls: list[int] = []
    dataset = open_dataset(root, size=16, max_bad=0.1, cache_dir=cache, progress=lambda done, total: calls.append(done))
    assert calls == list(range(8, 17))
    assert dataset.fingerprint == whole.fingerprint
    assert dataset.index.equals(whole.index)
    assert dataset.quarantine.equals(whole.quarantine)
    assert dataset.images_at(range(15)).equal(whole.images_at(range(15)))
    assert not list((cache / "datasets").glob(".*"))


def test_an_opening_that_is_interrupted_before_its_first_image(make_folder, cache: Path, monkeypatch) -> None:
    def stop(*_: object) -> None:
        raise KeyboardInterrupt

    root = make_folder()
    with monkeypatch.context() as patch:
        patch.setattr("medgan.data.store._process", stop)
        with pytest.raises(KeyboardInterrupt):
            open_dataset(root, size=16, cache_dir=cache)
    assert open_dataset(root, size=16, cache_dir=cache).class_counts() == {"NORMAL": 6, "PNEUMONIA": 9}


@pytest.mark.parametrize("damage", ["longer", "shorter", "no mark", "nonsense"])
def test_a_killed_opening_goes_on_from_its_last_mark(make_folder, cache: Path, damage: str, monkeypatch) -> None:
    """A process that is killed may have written more than it marked; a machine that loses power may have lost some."""
    monkeypatch.setattr("medgan.data.store._MARK_SECONDS", 0.0)
    root = make_folder()
    whole = open_dataset(root, size=16, cache_dir=cache / "other")

    def interrupt(done: int, total: int) -> None:
        if done == 7:
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        open_dataset(root, size=16, cache_dir=cache, progress=interrupt)
    (aside,) = (cache / "datasets").glob(".*")
    for path in aside.iterdir():
        if damage == "longer" and path.name != "mark.json":
            path.write_bytes(path.read_bytes() + b"half a row")
        if damage == "shorter" and path.name == "index.csv":
            path.write_bytes(path.read_bytes()[:-1])
        if path.name == "mark.json" and damage == "no mark":
            path.unlink()
        if path.name == "mark.json" and damage == "nonsense":
            path.write_text("[]")
    calls: list[int] = []
    dataset = open_dataset(root, size=16, cache_dir=cache, progress=lambda done, total: calls.append(done))
    assert calls[0] == (8 if damage == "longer" else 1)
    assert dataset.fingerprint == whole.fingerprint
    assert dataset.index.equals(whole.index)


def test_a_full_disk_is_said_and_mended_by_the_next_opening(make_folder, cache: Path, monkeypatch) -> None:
    def full(stream: object) -> None:
        raise OSError(28, "No space left on device")

    root = make_folder()
    with monkeypatch.context() as patch:
        patch.setattr("medgan.data.store.os.fsync", full)
        with pytest.raises(DataError, match=r"No space left on device.*Free some space"):
            open_dataset(root, size=16, cache_dir=cache)
    assert len(open_dataset(root, size=16, cache_dir=cache)) == 15


def test_images_of_several_kinds_share_one_array(tmp_path: Path, cache: Path, picture) -> None:
    root = tmp_path / "scans" / "A"
    root.mkdir(parents=True)
    grey = picture(0)
    Image.fromarray(grey).save(root / "0.png")
    Image.fromarray(np.stack([grey, grey // 2, 255 - grey], axis=2)).save(root / "1.png")
    Image.fromarray(grey.astype(np.uint16) * 256 + 7).save(root / "2.png")
    dataset = open_dataset(root.parent, size=(20, 24), cache_dir=cache)
    assert dataset.spec.channels == 3
    values = (dataset.images_at([0, 1, 2]).numpy() + 1) / 2
    np.testing.assert_allclose(values[0], np.broadcast_to(grey / 255, (3, 20, 24)), atol=1e-6)
    np.testing.assert_allclose(values[1, 1], (grey // 2) / 255, atol=1e-6)
    np.testing.assert_allclose(values[2, 0], (grey * 256.0 + 7) / 65535, atol=1e-6)
    (store,) = _stores(cache)
    assert sorted(path.name for path in store.iterdir()) == ["images.npy", "index.csv", "quarantine.csv", "store.json"]


def test_the_header_has_room_for_any_array(tmp_path: Path) -> None:
    for shape, dtype in (((0, 1, 1, 1), "uint8"), ((10**12, 4096, 4096, 4096, 3), "uint16")):
        path = tmp_path / "a.npy"
        path.write_bytes(bytes(_HEADER_BYTES))
        _write_header(path, shape, dtype)
        with path.open("rb") as stream:
            assert np.lib.format.read_magic(stream) == (1, 0)
            assert np.lib.format.read_array_header_1_0(stream) == (shape, False, np.dtype(dtype))
            assert stream.tell() == _HEADER_BYTES == path.stat().st_size


def test_a_store_larger_than_memory_is_finished(tmp_path: Path) -> None:
    """Images are mapped, not loaded: what they would take is never asked for."""
    bytes_each, count = 2**22, 32
    with _Growing(tmp_path / "growing", (2048, 2048)) as growing:
        growing.kinds, growing.kind_of = [(1, "uint8")], array("B", bytes(count))
        pixels = growing.folder / "pixels-1-uint8.npy"
        pixels.touch()
        os.truncate(pixels, _HEADER_BYTES + count * bytes_each)  # a file of holes
        tracemalloc.start()
        try:
            images, _ = growing.finish("auto", 0)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
    assert images.shape == (count, 2048, 2048, 1)
    assert peak < bytes_each


def test_patients_that_only_the_files_name(tmp_path: Path) -> None:
    """A source may know that its headers name images rather than patients."""
    image = _Done(np.zeros((8, 8, 1), np.uint8), "", (8, 8), "DICOM", 8, {"patient_id": "p1"})
    with _Growing(tmp_path / "growing", (8, 8)) as growing:
        growing.add(Entry("0.dcm"), [image])
        growing.add(Entry("1.dcm", patient_in_file=False), [image])
        growing.add(Entry("2.dcm", patient_id="p2"), [image])
        growing.mark()
        table = pd.read_csv(growing.folder / "index.csv", keep_default_na=False)
    assert table["patient_id"].tolist() == ["p1", "", "p2"]


@pytest.mark.parametrize("fault", [OSError(errno.EIO, "Input/output error"), MemoryError()])
def test_a_fault_that_passes_is_not_kept(make_folder, cache: Path, monkeypatch, fault: Exception) -> None:
    """No sound file is left out for ever since a network share was away when it was read."""
    real = Image.open

    def away(file: BinaryIO, **options: object) -> Image.Image:
        if file.name.endswith("2.png"):
            raise fault
        return real(file, **options)  # type: ignore[arg-type]

    source = list_folder(make_folder(A=4).resolve(), "name", Reading())
    with monkeypatch.context() as patch:
        patch.setattr("medgan.data.readers.Image.open", away)
        with pytest.raises(DataError, match=r"A/patient1_2\.png of .*which may pass"):
            open_store(source, Preprocessing((16, 16)), cache_dir=cache)
    calls: list[int] = []
    store = open_store(
        source, Preprocessing((16, 16)), cache_dir=cache, progress=lambda done, total: calls.append(done)
    )
    assert calls == [3, 4]  # what had been read is kept
    assert (len(store.index), len(store.quarantine)) == (4, 0)


@pytest.mark.slow
def test_worker_processes_come_when_it_takes_long(make_folder, tmp_path: Path, monkeypatch) -> None:
    root = make_folder(A=40, B=30)
    alone = open_dataset(root, size=16, cache_dir=tmp_path / "a")
    monkeypatch.setattr("medgan.data.store._TRIAL_SECONDS", -1.0)
    monkeypatch.setattr("medgan.data.store._cores", lambda: 2)
    started: list[int] = []

    def counted(workers: int, *arguments: object) -> ProcessPoolExecutor:
        started.append(workers)
        return ProcessPoolExecutor(workers, *arguments)  # type: ignore[arg-type]

    monkeypatch.setattr("medgan.data.store.ProcessPoolExecutor", counted)
    open_dataset(root, size=16, cache_dir=tmp_path / "b", workers=None)
    assert not started  # little is left to do
    monkeypatch.setattr("medgan.data.store._LONG_SECONDS", 0.0)
    calls: list[int] = []
    together = open_dataset(
        root, size=16, cache_dir=tmp_path / "c", workers=None, progress=lambda done, total: calls.append(done)
    )
    assert started == [2]
    assert calls == list(range(1, 71))
    assert together.fingerprint == alone.fingerprint


@pytest.mark.slow
def test_worker_processes_give_the_same(make_folder, tmp_path: Path) -> None:
    root = make_folder(A=40, B=30)
    (root / "B" / "bad.png").write_text("not an image")
    alone = open_dataset(root, size=16, max_bad=0.1, cache_dir=tmp_path / "a")
    calls: list[int] = []
    together = open_dataset(
        root, size=16, max_bad=0.1, cache_dir=tmp_path / "b", workers=2, progress=lambda done, total: calls.append(done)
    )
    assert together.fingerprint == alone.fingerprint
    assert together.quarantine.equals(alone.quarantine)
    assert calls == list(range(1, 72))


class _Dying:
    """Takes the place of the processes that read: the second of their tasks never ends, and all later ones with it."""

    def __init__(self, *arguments: object) -> None:
        self.futures: list[Future[list]] = []

    def __enter__(self) -> _Dying:
        return self

    def __exit__(self, *_: object) -> None:
        pass

    def submit(self, function: object, positions: range) -> Future[list]:
        future: Future[list] = Future()
        if self.futures:
            future.set_exception(BrokenProcessPool("terminated abruptly"))
        else:
            refused = ReadError("open", "empty", "delete it")
            future.set_result([[_Refused("", refused)] for _ in positions])
        self.futures.append(future)
        return future

    def shutdown(self, **_: object) -> None:
        pass


@pytest.mark.parametrize(("workers", "advice"), [(2, "Type --workers 1"), (1, "Free some memory")])
def test_processes_that_die(make_folder, cache: Path, monkeypatch, workers: int, advice: str) -> None:
    monkeypatch.setattr("medgan.data.store._CHUNK", 4)
    monkeypatch.setattr("medgan.data.store.ProcessPoolExecutor", _Dying)
    root = make_folder(A=9)
    message = rf"has died.* among A/patient2_4.png \.\.\. A/patient4_8.png of .*scans. {advice}.*what has been read is"
    with pytest.raises(DataError, match=message):
        open_dataset(root, size=16, cache_dir=cache, workers=workers)
    calls: list[int] = []
    monkeypatch.undo()
    open_dataset(root, size=16, max_bad=1, cache_dir=cache, progress=lambda done, total: calls.append(done))
    assert calls == [5, 6, 7, 8, 9]


@pytest.mark.slow
def test_a_process_that_really_dies(make_folder, cache: Path, tmp_path: Path, monkeypatch) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "deadly.py").write_text("import os\n\n\ndef end(image):\n    os._exit(9)\n")
    with pytest.raises(DataError, match="has died"):
        open_dataset(make_folder(), size=16, transforms="deadly:end", cache_dir=cache, workers=1)


class _Failing(FolderSource):
    """A folder that has an error of its own, as a program may."""

    def read(self, position: int) -> Sequence[DecodedImage]:
        raise ValueError("an error of reading")


def test_an_error_of_reading_is_not_one_of_writing(make_folder, cache: Path) -> None:
    found = list_folder(make_folder(A=4).resolve(), "name", Reading())
    source = _Failing(found.root, found.name, found.labels, found.entries)
    with pytest.raises(ValueError, match=r"^an error of reading$"):
        open_store(source, Preprocessing((16, 16)), cache_dir=cache)


def test_the_cache_folder(monkeypatch: pytest.MonkeyPatch, tmp_path: Path, make_folder) -> None:
    monkeypatch.setenv("MEDGAN_CACHE", str(tmp_path / "mine"))
    assert default_cache_dir() == tmp_path / "mine"
    open_dataset(make_folder(), size=16)
    assert len(_stores(tmp_path / "mine")) == 1
    monkeypatch.delenv("MEDGAN_CACHE")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "xdg"))
    if os.name != "nt":
        assert default_cache_dir() == tmp_path / "xdg" / "medgan"


def test_a_cache_folder_that_cannot_be_written(make_folder, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("in the way")
    with pytest.raises(DataError, match=r"export MEDGAN_CACHE=/path/with/space"):
        open_dataset(make_folder(), size=16, cache_dir=tmp_path / "file")


def test_no_pickle_and_nothing_but_plain_files(make_folder, cache: Path) -> None:
    open_dataset(make_folder(), size=16, cache_dir=cache)
    (store,) = _stores(cache)
    assert sorted(path.name for path in store.iterdir()) == ["images.npy", "index.csv", "quarantine.csv", "store.json"]
    assert np.load(store / "images.npy", allow_pickle=False).shape == (15, 16, 16, 1)


def test_a_class_called_na_and_odd_file_names_survive(tmp_path: Path, cache: Path, picture) -> None:
    root = tmp_path / "scans"
    names = ["a, b.png", 'quote".png', "Lungenentzündung.png", "nan.png"]
    for label in ("NA", "null"):
        (root / label).mkdir(parents=True)
        for seed, name in enumerate(names):
            Image.fromarray(picture(seed)).save(root / label / name)
    for _ in range(2):  # the second time from the store
        dataset = open_dataset(root, size=16, cache_dir=cache)
        assert dataset.class_counts() == {"NA": 4, "null": 4}
        assert sorted(dataset.index["file"]) == sorted(f"{label}/{name}" for label in ("NA", "null") for name in names)


def test_stored_pixels_are_the_resizers(make_folder, cache: Path, picture) -> None:
    dataset = open_dataset(make_folder(A=1), size=(8, 12), cache_dir=cache)
    expected = Resizer((8, 12))(picture(0)[None].astype(np.float32) / 255)
    np.testing.assert_allclose((dataset.images_at([0])[0].numpy() + 1) / 2, expected, atol=0.51 / 255)


def test_deep_images_that_would_be_black_are_refused(tmp_path: Path, cache: Path, picture) -> None:
    root = tmp_path / "scans" / "A"
    root.mkdir(parents=True)
    Image.fromarray(picture(0).astype(np.uint16)).save(root / "0.png")  # 8 bits of content at the bottom of 16
    Image.fromarray(picture(0).astype(np.uint16) * 2).save(root / "1.png")
    Image.fromarray((picture(0) > 99).astype(np.uint8)).save(root / "2.png")  # 0 and 1 of 255: one step
    dataset = open_dataset(root.parent, size=16, max_bad=None, cache_dir=cache)
    assert dataset.index["file"].tolist() == ["A/1.png", "A/2.png"]
    assert dataset.quarantine["error"].str.startswith("nearly constant image").tolist() == [True]
    assert dataset.quarantine["hint"].tolist() == ["type --contrast percentile, or delete the file"]  # no window
    stretched = open_dataset(root.parent, size=16, contrast="percentile", cache_dir=cache)
    assert len(stretched) == 3
