"""The simulated tomography of the chest: Hounsfield units, anatomy where it belongs, the same for the same seed."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from medgan.data import open_dataset
from medgan.data.phantom import open_phantom
from medgan.data.thorax import EXTENT_MM, render_thorax
from medgan.errors import ConfigError, DataError

SIDE = 32


def render(seed: int, **how: object) -> np.ndarray:
    return render_thorax([seed], size=(SIDE, SIDE, SIDE), **how)  # type: ignore[arg-type]


def test_volumes_are_whole_hounsfield_units_and_differ() -> None:
    volumes = [render(seed, pneumonia=bool(seed % 2)) for seed in range(4)]
    for volume in volumes:
        assert volume.shape == (SIDE, SIDE, SIDE)
        assert volume.dtype == np.float32
        np.testing.assert_array_equal(volume, np.rint(volume))
        assert volume.min() >= -1024
        assert 200 < volume.max() <= 3071
    assert len({volume.tobytes() for volume in volumes}) == 4


def test_same_seed_same_volume_and_other_scan_other_pose() -> None:
    np.testing.assert_array_equal(render(3), render(3))
    one, other = render(3), render(3, scan=1)
    assert np.abs(one - other).max() > 100  # a rib, or the diaphragm, elsewhere
    assert np.corrcoef(one.ravel(), other.ravel())[0, 1] > 0.9  # yet the same patient


def test_anatomy_is_where_it_belongs() -> None:
    """Axial slices from the head down; in each, the front on top and the patient's right on the left."""
    mean = np.mean([render(seed) for seed in range(12)], axis=0)
    middle = mean[SIDE // 2]
    assert max(middle[0].max(), middle[-1].max(), mean[:, 0].max()) < -900  # air around
    right_lung, left_lung = middle[12:20, 6:9], middle[16:21, 24:26]
    assert right_lung.mean() < -600
    assert left_lung.mean() < -600
    assert -20 < middle[11:16, 16:19].mean() < 70  # the heart lies to the patient's left, in front
    assert middle[11:16, 16:19].mean() > middle[11:16, 12:15].mean() + 50
    spine = mean[8:26, 20:22, 15:17]
    assert spine.mean() > 120
    assert mean[4:8, 16:18, 15:17].min() < -250  # the trachea
    liver, stomach = mean[28:31, 14:19, 7:11], mean[27:30, 14:19, 20:22]
    assert liver.mean() == pytest.approx(60, abs=15)
    assert stomach.mean() < liver.mean() - 50
    shell = mean[6:22].max(axis=(1, 2))
    assert shell.min() > 150  # bone in every slice of the chest


def test_lungs_are_denser_behind() -> None:
    mean = np.mean([render(seed) for seed in range(6)], axis=0)[14:18, :, 7:9].mean(axis=(0, 2))
    assert mean[20] > mean[12] + 15


def test_pneumonia_fills_the_lungs_only() -> None:
    changed = []
    for seed in range(12):
        well, sick = render(seed), render(seed, pneumonia=True)
        tissue = well > -150
        # What is left is noise, to which less air means more.
        assert np.abs(sick - well)[tissue].mean() < 5
        assert (sick - well)[well < -990].max() < 50  # nothing in the air around, in trachea or stomach
        lungs = (well < -600) & (well > -930)
        changed.append((sick - well)[lungs].mean())
        assert (sick - well)[lungs].max() > 150
    assert np.mean(changed) > 60


def test_the_anatomy_does_not_depend_on_the_grid() -> None:
    fine, coarse = (render_thorax([4], pneumonia=True, size=(side,) * 3) for side in (48, 24))
    shrunk = fine.reshape(24, 2, 24, 2, 24, 2).mean(axis=(1, 3, 5))
    assert np.abs(shrunk - coarse).mean() < 25
    assert np.abs(shrunk - coarse).mean() > 0


def test_small_voxels_are_noisier() -> None:
    """By the root of the ratio of their volumes."""

    def noise(size: tuple[int, int, int]) -> float:
        scans = [render_thorax([5], scan=scan, size=size) for scan in (0, 1)]
        depth, height, width = (int(0.9 * size[0]), int(0.5 * size[1]), int(0.3 * size[2]))
        return float(np.mean([scan[depth, height - 1 : height + 3, width - 1 : width + 3].std() for scan in scans]))

    assert noise((64, 64, 64)) > 1.5 * noise((24, 24, 24))


def test_opening_volumes(tmp_path: Path) -> None:
    dataset = open_dataset("phantom://thorax?n=12&seed=5", size=(16, 16, 16), cache_dir=tmp_path)
    assert (len(dataset), dataset.name, dataset.licence) == (12, "phantom-thorax", "Apache-2.0, procedural")
    assert dataset.spec.channels == 1
    assert dataset.spec.labels.names == ("NORMAL", "PNEUMONIA")
    assert dataset.spacing_mm == pytest.approx([extent / 16 for extent in EXTENT_MM], rel=1e-4)
    assert dataset.index.groupby("patient_id")["label"].nunique().max() == 1
    assert dataset.index["window"].unique().tolist() == ["-200,1600"]
    images = dataset.images_at([0, 1])
    assert images.shape == (2, 1, 16, 16, 16)
    # -1000 HU is black, 600 white: air, lungs, and soft tissue in between.
    expected = render_thorax([5, 1, 0], size=(32, 32, 32))
    shown = np.clip((expected + 1000) / 1600, 0, 1).reshape(16, 2, 16, 2, 16, 2).mean(axis=(1, 3, 5)) * 2 - 1
    assert np.abs(images[0, 0].numpy() - shown).max() < 1e-3
    other = open_dataset("phantom://thorax?n=12&seed=6", size=(16, 16, 16), cache_dir=tmp_path)
    assert other.fingerprint != dataset.fingerprint


def test_slices_windows_and_spacing(tmp_path: Path) -> None:
    source = "phantom://thorax?n=2"
    slices = open_dataset(source, size=24, slices="axial:0.4-0.6", cache_dir=tmp_path)
    assert len(slices) == 2 * 10  # of 48
    assert slices.index["part"].str.startswith("axial ").all()
    assert slices.index["patient_id"].nunique() == 2
    lungs = open_dataset(source, size=(16, 16, 16), window="-600,1500", cache_dir=tmp_path)
    whole = open_dataset(source, size=(16, 16, 16), pipeline="ct", cache_dir=tmp_path)
    assert lungs.images_at([0]).mean() > whole.images_at([0]).mean()
    coarse = open_dataset(source, size=(16, 16, 16), spacing="20,12,12", cache_dir=tmp_path)
    assert coarse.index["depth"].tolist() == [15, 15]
    assert coarse.index["width"].tolist() == [30, 30]


def test_the_number_of_volumes_has_a_default() -> None:
    assert len(open_phantom("phantom://thorax", (32, 32, 32))[0].entries) == 300
    assert len(open_phantom("phantom://chest", (32, 32))[0].entries) == 1000


def test_mistakes() -> None:
    with pytest.raises(ConfigError, match=r"has volumes.*--depth 32.*--slices axial.*phantom://chest"):
        open_dataset("phantom://thorax", size=32)
    with pytest.raises(ConfigError, match=r"has pictures, not volumes.*phantom://thorax"):
        open_dataset("phantom://chest", size=(32, 32, 32))
    with pytest.raises(DataError, match=r"unknown option 'm'.*phantom://thorax\?n=500"):
        open_dataset("phantom://thorax?m=1", size=(32, 32, 32))
    with pytest.raises(DataError, match=r"Did you mean 'thorax'"):
        open_dataset("phantom://torax", size=(32, 32, 32))
    with pytest.raises(DataError, match="has no source images"):
        open_dataset("phantom://thorax", size=(32, 32, 32), layout="unpaired")
