"""NIfTI files of synthetic volumes: where their voxels lie, and what they say of themselves."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import nibabel
import numpy as np
import pytest

from medgan.data.decoded import Reading
from medgan.data.nifti_writer import write_nifti
from medgan.data.volumes import read_volume
from medgan.errors import ConfigError

VOLUME = np.random.default_rng(0).integers(0, 256, (4, 5, 6), np.uint8)
SPACING = (3.0, 2.0, 0.5)


def test_is_read_as_it_was(tmp_path: Path) -> None:
    write_nifti(tmp_path / "a.nii.gz", VOLUME, spacing_mm=SPACING, comment="Synthetic.")
    (image,) = read_volume(tmp_path / "a.nii.gz", Reading(volumes=True))
    assert np.array_equal(np.rint(image.pixels[..., 0] * 255), VOLUME)
    assert image.facts["spacing_mm"] == "3,2,0.5"


def test_lies_in_the_patient_as_volumes_are_read(tmp_path: Path) -> None:
    """The first voxel is superior, anterior and at the patient's right; the middle of the volume is the origin."""
    write_nifti(tmp_path / "a.nii", VOLUME, spacing_mm=SPACING, comment="Synthetic.")
    image = nibabel.load(tmp_path / "a.nii")
    turned = nibabel.as_closest_canonical(image)
    voxels = np.asarray(turned.dataobj)
    # In nibabel's own order: towards the right, the front, the head.
    assert voxels[-1, -1, -1] == VOLUME[0, 0, 0]
    assert voxels[-1, 0, -1] == VOLUME[0, -1, 0]
    assert voxels[0, -1, -1] == VOLUME[0, 0, -1]
    assert voxels[-1, -1, 0] == VOLUME[-1, 0, 0]
    corners = nibabel.affines.apply_affine(turned.affine, [[0, 0, 0], np.array(voxels.shape) - 1])
    assert corners == pytest.approx(np.array([[-1.25, -4, -4.5], [1.25, 4, 4.5]]))
    assert image.header.get_xyzt_units()[0] == "mm"


def test_says_what_it_is_and_is_the_same_each_time(tmp_path: Path) -> None:
    for name in ("a.nii.gz", "b.nii.gz"):
        write_nifti(tmp_path / name, VOLUME, comment="Synthetic ü " + 100 * "x")
    assert (tmp_path / "a.nii.gz").read_bytes() == (tmp_path / "b.nii.gz").read_bytes()
    assert nibabel.load(tmp_path / "a.nii.gz").header["descrip"].item() == b"Synthetic ? " + 67 * b"x"


@pytest.mark.parametrize(
    ("shape", "spacing", "message"),
    [
        ((4, 5), SPACING, "depth, height and width, got an array of shape"),
        ((4, 5, 6), (1.0, 0.0, 1.0), "three lengths in mm"),
        ((4, 5, 6), (1.0, 1.0), "three lengths in mm"),
        ((4, 5, 6), (1.0, np.nan, 1.0), "three lengths in mm"),
        ((4, 5, 6), (1.0, -2.0, 1.0), "three lengths in mm"),
        # What a damaged or hostile model.json may hold.
        ((4, 5, 6), "1,1,1", "three lengths in mm"),
        ((4, 5, 6), {"z": 1}, "three lengths in mm"),
        ((4, 5, 6), [[1.0], [1.0], [1.0]], "three lengths in mm"),
        ((4, 5, 6), [1.0, [2.0], 3.0], "three lengths in mm"),
    ],
)
def test_what_is_no_volume(tmp_path: Path, shape: tuple[int, ...], spacing: Any, message: str) -> None:
    with pytest.raises(ConfigError, match=message):
        write_nifti(tmp_path / "a.nii", np.zeros(shape, np.uint8), spacing_mm=spacing, comment="Synthetic.")  # type: ignore[arg-type]
