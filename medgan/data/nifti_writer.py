"""Writing volumes as NIfTI files that say that they are synthetic.

A voxel's place is that in the patient which the axes of `medgan.data.volumes` stand for: depth from superior to
inferior, height from anterior to posterior, width from the patient's right to the left. The middle of the volume is the
origin, as a synthetic volume has no place in a scanner.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from medgan.errors import ConfigError

__all__ = ["write_nifti"]

_MOST_TEXT = 79  # bytes of the header's description, which a zero ends


def write_nifti(
    path: Path,
    volume: np.ndarray[Any, np.dtype[np.uint8]],
    *,
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0),
    comment: str,
) -> None:
    """Write one volume; `medgan.data.volumes.read_volume` reads it as it was.

    Args:
        path: File to create, ``.nii`` or ``.nii.gz``. Equal volumes make equal files.
        volume: Shape ``(depth, height, width)``.
        spacing_mm: Distances of the voxels along these axes, in mm.
        comment: The header's description, of which 79 bytes are kept; it has to say that the volume is synthetic.

    Raises:
        ConfigError: If the volume has not three axes, or a distance is not a positive number.
        OSError: If the file cannot be written.
    """
    from nibabel import Nifti1Image
    from nibabel.affines import from_matvec

    if volume.ndim != 3:
        raise ConfigError(f"A NIfTI volume has depth, height and width, got an array of shape {volume.shape}.")
    try:
        spacing = np.asarray(spacing_mm, np.float64)
    except (TypeError, ValueError):  # from a damaged model.json, for example
        spacing = np.empty(0)
    if spacing.shape != (3,) or not (np.isfinite(spacing).all() and (spacing > 0).all()):
        raise ConfigError(f"spacing_mm must be three lengths in mm, such as (1.0, 1.0, 1.0), got {spacing_mm!r}.")
    # NIfTI counts rightwards, forwards and upwards; here all three axes run against that.
    steps = -np.diag(spacing[::-1])
    voxels = volume.transpose()
    middle = (np.asarray(voxels.shape) - 1) / 2
    image = Nifti1Image(voxels, from_matvec(steps, -steps @ middle))
    header: Any = image.header
    header.set_xyzt_units("mm")
    header["descrip"] = comment.encode("ascii", "replace")[:_MOST_TEXT]
    image.to_filename(path)
