"""Reading volumes: NIfTI, MetaImage and NRRD files and DICOM series, all turned the same way, whole or as slices.

Decisions, for those who compare with another reader:

* Orientation comes first. The axes of a volume are depth, from superior to inferior; height, from anterior to
  posterior; width, from the patient's right to the left (nibabel and MONAI write ``IPL``). So each slice is what a
  radiologist expects to see: an axial one from the feet, anterior on top, a coronal one from the front and a sagittal
  one with the face on the left, both with the head up; in axial and coronal ones the patient's right is on the left.
* Axes are swapped and flipped, never interpolated: an oblique scan stays on the grid nearest to the body's axes, and a
  CT with tilted gantry stays sheared.
* A file that does not say where left and right are is refused: NIfTI with both codes 0, NRRD without a space of the
  patient, DICOM without positions. A MetaImage always says it, as its format has a default.
* Slices of a DICOM series are sorted by their positions, never by name or number. Of one series, localizers, copies and
  a few images of another orientation (up to 10 %) are left out. Several images at one place (phases, echoes) and slices
  that are missing or unevenly spaced are refused.
* The values stay physical, such as Hounsfield units, until the window; its limits are those of the whole volume. Most
  files do not say which range their values have, so most volumes need a window.
* Padding of DICOM slices becomes black, and counts neither for the window nor for its neighbours in resampling.
* Resampling averages where voxels become larger. MONAI 1.6's ``Spacing`` interpolates between the nearest voxels, so
  fine structures turn into coarse ones that the body does not have.
* A header may name the file of its voxels only in its own folder or below: a data set must not read other files.
* Of several volumes in one file, as in a fourth axis for time, none is taken: which of them is meant is not ours to
  guess. Colour is refused as well.
"""

from __future__ import annotations

import os
import re
import warnings
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, get_args

import numpy as np
from numpy.typing import NDArray

from medgan.data.decoded import DecodedImage, PassingError, ReadError, Reading, raise_if_passing
from medgan.data.window import Window
from medgan.errors import ConfigError, nearest

if TYPE_CHECKING:
    from pydicom import Dataset

__all__ = [
    "VOLUME_SUFFIXES",
    "Slices",
    "data_files",
    "decode_volume",
    "find_series",
    "is_volume",
    "parse_slices",
    "read_volume",
]

VOLUME_SUFFIXES = (".nii", ".nii.gz", ".mha", ".mhd", ".nrrd", ".nhdr")

Plane = Literal["axial", "coronal", "sagittal"]
_PLANES: tuple[Plane, ...] = get_args(Plane)  # in the order of a volume's axes
_ENDS = "IPL"  # where depth, height and width end
_LPS_TO_RAS = np.diag([-1.0, -1.0, 1.0])
_MOST_VOXELS = 2**30  # 4 GiB of float32
_TO_MM = {"meter": 1000.0, "micron": 0.001}  # units of NIfTI; files that say nothing mean mm
_UNEVEN = 0.2  # of the distance between slices: how far a slice may lie from where it should
_STRAYS = 0.1  # of the slices: how many images of another orientation are left out
_DAMAGED = "the file is damaged or not what its name says: copy it again from its origin, or delete it"
_NRRD_DATA = {b"data file", b"datafile"}
_MOST_HEADER = 2**20  # bytes of a text header
_OWN_FOLDER = "give each of them a folder of its own"


@dataclass(frozen=True)
class Slices:
    """Which slices of a volume become images.

    Attributes:
        plane: Their plane. Axial slices count from the head down, coronal ones from the front to the back, sagittal
            ones from the patient's right to the left.
        start: Where they begin, as a share of the volume's extent, 0...1.
        stop: Where they end, as `start`; equal to `start` for a single slice.
    """

    plane: Plane
    start: float = 0.0
    stop: float = 1.0

    def indices(self, length: int) -> list[int]:
        """Return the indices of the slices of a volume.

        Args:
            length: Number of slices that the volume has in this plane; at least 1.

        Returns:
            The slices whose middle lies within the range, from 0; at least one, the nearest.
        """
        middles = (np.arange(length) + 0.5) / length
        inside = np.flatnonzero((middles >= self.start) & (middles <= self.stop))
        if not inside.size:
            return [min(int((self.start + self.stop) / 2 * length), length - 1)]
        return [int(index) for index in inside]


def parse_slices(text: str) -> Slices:
    """Read which slices are wanted.

    Args:
        text: A plane, ``axial``, ``coronal`` or ``sagittal``, for all its slices; with ``:0.3-0.7`` those of that share
            of the extent; with ``:0.5`` the single one there.

    Returns:
        The slices.

    Raises:
        ConfigError: If the text is something else.

    Examples:
        >>> parse_slices("axial:0.3-0.7")
        Slices(plane='axial', start=0.3, stop=0.7)
    """
    name, colon, extent = text.strip().partition(":")
    plane = next((plane for plane in _PLANES if plane == name), None)
    if plane is None:
        raise ConfigError(f"The plane {name!r} of slices {text!r} is unknown. {nearest(name, _PLANES)}")
    if not colon:
        return Slices(plane)
    match = re.fullmatch(r"\s*(\d*\.?\d+)\s*(?:-\s*(\d*\.?\d+)\s*)?", extent)
    if match is not None:
        start, stop = float(match[1]), float(match[2] or match[1])
        if start <= stop <= 1:
            return Slices(plane, start, stop)
    raise ConfigError(
        f"The range {extent!r} of slices {text!r} is not usable. Type two shares of the extent that rise from 0 to 1, "
        f"such as {plane}:0.3-0.7, or one for a single slice, such as {plane}:0.5."
    )


def is_volume(path: Path) -> bool:
    """Tell from its name whether a file holds a volume.

    Args:
        path: The file; it is not opened. DICOM files are none of these: see `medgan.data.dicom.is_dicom`.

    Returns:
        True if it ends with one of `VOLUME_SUFFIXES`, in small letters or large.
    """
    return path.name.lower().endswith(VOLUME_SUFFIXES)


def data_files(path: Path) -> list[Path]:
    """List the files that hold the voxels of a volume's header, for MetaImage and NRRD.

    Args:
        path: The volume's file; only its text header is read.

    Returns:
        The files as the header names them, each beside the header unless its name is absolute. Whether they exist, and
        whether `read_volume` accepts them, is not checked. Empty for volumes of one file, and for all other files.

    Raises:
        OSError: If the header cannot be read.
    """
    names = _data_names(path)
    return [] if names is None or _is_pattern(names) else [path.parent / name for name in names]


def find_series(folder: Path) -> dict[str, list[Path]]:
    """Find the DICOM series of a folder, without decoding any pixels.

    Args:
        folder: The folder; folders within are left alone, as are hidden files and files that are not DICOM images.
            What is named as a DICOM file must be one: else a damaged slice would be missing without a word.

    Returns:
        Paths of each series, by SeriesInstanceUID, in the order of the slices along their normal, which points to the
        head for axial slices; images without position come first.

    Raises:
        ReadError: If a DICOM file or the folder cannot be read.
    """
    # An enhanced file holds many slices.
    return {uid: list(dict.fromkeys(each.path for each in found)) for uid, found in _list_series(folder).items()}


def read_volume(path: Path, reading: Reading) -> list[DecodedImage]:
    """Read a volume, or slices of it.

    Args:
        path: A NIfTI, MetaImage, NRRD or enhanced DICOM file, or a folder that holds one DICOM series.
        reading: Its `window`, `slices` and `spacing_mm` are heeded. The result of resampling has whole voxels, so its
            spacing may differ from the wanted one by what half a voxel makes in the whole extent; the fact
            ``spacing_mm`` has the exact one.

    Returns:
        Without `reading.slices`, one image of shape ``(depth, height, width, 1)``, float32 in [0, 1]. With them, one of
        shape ``(height, width, 1)`` for each slice that is not constant, which slices beside the body are; `part` says
        which, such as ``axial 42``, counting from 1. The module's text has the orientation. The fact ``spacing_mm``
        holds the distances of the image's own axes, in their order.

    Raises:
        ReadError: If it cannot be read, does not say how it lies in the patient, has no known range and the window sets
            none, is constant or has slices that are all constant.
        ConfigError: If `reading.slices` is not usable.
    """
    volume = _load(path)
    values, padded, spacing = _turn(volume)
    return _decode(values, padded, spacing, volume, reading)


def decode_volume(
    values: NDArray[np.float32],
    spacing_mm: tuple[float, float, float],
    reading: Reading,
    *,
    mode: str,
    bits: int,
    known: tuple[float, float],
    window: Window,
) -> list[DecodedImage]:
    """Make images of a volume that is no file, as `read_volume` does of one that is.

    Args:
        values: Shape ``(depth, height, width)``, with the axes of this module, in the unit of the modality.
        spacing_mm: Distances of the voxels along these axes, in mm.
        reading: As for `read_volume`.
        mode: Kind of origin; see `DecodedImage`.
        bits: Bits that a value has.
        known: The range that the values can have.
        window: A fixed window, the volume's own, which ``auto`` takes.

    Returns:
        As `read_volume`.

    Raises:
        ReadError: As `read_volume`.
        ConfigError: As `read_volume`.
    """
    own = (window.limits(values, None), str(window))
    return _decode(values, None, spacing_mm, _Volume(values, np.eye(3), mode, bits, known, own), reading)


def _decode(
    values: NDArray[np.float32],
    padded: NDArray[np.bool_] | None,
    spacing: tuple[float, ...],
    volume: _Volume,
    reading: Reading,
) -> list[DecodedImage]:
    """Make images of values, and of where they are padding, that are turned the right way."""
    slices = None if reading.slices is None else parse_slices(reading.slices)
    if padded is not None and padded.all():
        raise ReadError("check", "nothing but padding", "delete it: it teaches nothing")
    content = values if padded is None else values[~padded]
    low, high = float(content.min()), float(content.max())
    if not (np.isfinite(low) and np.isfinite(high)):
        raise ReadError("check", "NaN or infinite values", "mend the program that wrote the file, or delete it")
    if low == high:
        raise ReadError("check", f"constant volume: every voxel is {low:g}", "delete it: it teaches nothing")
    if reading.spacing_mm is not None:
        if padded is not None:
            values = np.where(padded, np.float32(high if volume.inverted else low), values)  # as dark as what is dark
            mask, _ = _resample(padded.astype(np.float32), spacing, reading.spacing_mm)
            padded = mask > 0.5
        values, spacing = _resample(values, spacing, reading.spacing_mm)
        content = values if padded is None or padded.all() else values[~padded]
    limits, window = _limits(content, volume, reading.window)
    facts = {**volume.facts, "window": window}
    if volume.inverted:
        facts["inverted"] = "yes"

    images = []
    axis = 0 if slices is None else _PLANES.index(slices.plane)
    stack = np.moveaxis(values, axis, 0)
    masks = None if padded is None else np.moveaxis(padded, axis, 0)
    whole = np.empty(values.shape if slices is None else 0, np.float32)
    for index in range(len(stack)) if slices is None else slices.indices(len(stack)):
        # Slice by slice, as a window needs several times the memory of what it is applied to.
        pixels = Window.apply(stack[index], *limits)
        if volume.inverted:
            pixels = 1 - pixels
        if masks is not None:
            pixels[masks[index]] = 0
        if slices is None:
            whole[index] = pixels
        elif pixels.min() < pixels.max():
            own = {**facts, "spacing_mm": _text(np.delete(spacing, axis))}
            part = f"{slices.plane} {index + 1}"
            images.append(DecodedImage(pixels[..., None], volume.mode, volume.bits, part, own))
    if slices is None and whole.min() < whole.max():
        facts["spacing_mm"] = _text(spacing)
        images.append(DecodedImage(whole[..., None], volume.mode, volume.bits, "", facts))
    if not images:
        what = "the volume is" if slices is None else f"the slices {reading.slices} are"
        error = f"{what} constant between black, {limits[0]:g}, and white, {limits[1]:g}; values are {low:g}...{high:g}"
        raise ReadError("check", error, "choose another window, such as --window percentile, or other slices")
    return images


# ------------------------------------------------------------------------------------- what all have in common


@dataclass(frozen=True, eq=False)
class _Volume:
    """A volume as its file has it.

    Attributes:
        values: Three axes, float32, in the unit of the modality.
        axes: 3 x 3: where one step along each axis leads, a column each; in mm rightwards, forwards and upwards (RAS+).
        mode: As in `DecodedImage`.
        bits: As in `DecodedImage`.
        known: The range that the values can have, None if unknown.
        window: The values that the file itself wants black and white, and their text; None if it wants none.
        inverted: Whether high values are dark.
        padded: Where values are padding, shape as `values`; None where there is none.
        facts: As in `DecodedImage`.
    """

    values: NDArray[np.float32]
    axes: NDArray[np.float64]
    mode: str
    bits: int
    known: tuple[float, float] | None = None
    window: tuple[tuple[float, float], str] | None = None
    inverted: bool = False
    padded: NDArray[np.bool_] | None = None
    facts: dict[str, str] = field(default_factory=dict)


def _load(path: Path) -> _Volume:
    """Read what `path` is."""
    with _guard():
        if path.is_dir():
            return _load_series(_list_series(path))
        if path.stat().st_size == 0:
            raise ReadError("open", "empty file (0 bytes)", "copy the file again from its origin, or delete it")
        if path.name.lower().endswith((".nii", ".nii.gz")):
            return _load_nifti(path)
        if is_volume(path):
            return _load_with_itk(path)
        return _load_series(_by_series(_read_header(path)))


@contextmanager
def _guard() -> Iterator[None]:
    """Turn whatever the readers raise into a `ReadError`, and keep them from warning and logging of odd headers."""
    from nibabel.imageglobals import LoggingOutputSuppressor

    try:
        with warnings.catch_warnings(), LoggingOutputSuppressor():
            warnings.simplefilter("ignore")
            yield
    except (ReadError, PassingError):
        raise
    except Exception as exception:  # the readers raise anything from EOFError to zlib.error on damaged files
        raise_if_passing(exception)
        stage = "open" if isinstance(exception, OSError) and exception.errno is not None else "decode"
        error = f"{type(exception).__name__}: {' '.join(str(exception).split())}"
        raise ReadError(stage, error, _DAMAGED) from exception


def _turn(volume: _Volume) -> tuple[NDArray[np.float32], NDArray[np.bool_] | None, tuple[float, ...]]:
    """Bring the axes into the order and directions of this module.

    Returns:
        The values, where they are padding, and their spacing in mm.
    """
    from nibabel.affines import from_matvec, voxel_sizes
    from nibabel.orientations import apply_orientation, axcodes2ornt, io_orientation, ornt_transform

    if not np.isfinite(volume.axes).all() or np.linalg.matrix_rank(volume.axes) < 3:
        raise ReadError("check", "its axes do not span a space", "mend the program that wrote the file, or delete it")
    affine = from_matvec(volume.axes)
    # What MONAI's Orientation stands on, without the seconds that its import takes.
    turn = ornt_transform(io_orientation(affine), axcodes2ornt(_ENDS))
    spacing = voxel_sizes(affine)[np.argsort(turn[:, 0])]
    padded = None if volume.padded is None else apply_orientation(volume.padded, turn)
    return apply_orientation(volume.values, turn), padded, tuple(map(float, spacing))


def _resample(
    values: NDArray[np.float32], spacing: tuple[float, ...], wanted: tuple[float, float, float]
) -> tuple[NDArray[np.float32], tuple[float, ...]]:
    """Bring a volume near to the wanted spacing, in mm; it keeps its extent. Returns it and its spacing."""
    from medgan.data.transforms import Resizer

    extent = np.multiply(values.shape, spacing)
    size = tuple(max(1, round(length)) for length in extent / wanted)
    _check_size(size, "choose a wider --spacing")
    resized: NDArray[np.float32] = Resizer(size)(values[None])[0]
    return resized, tuple(map(float, extent / size))


def _limits(values: NDArray[np.float32], volume: _Volume, window: Window) -> tuple[tuple[float, float], str]:
    """Return the values that become black and white, and the window as text."""
    if window.kind == "auto" and volume.window is not None:
        return volume.window
    try:
        low, high = window.limits(values, volume.known)
    except ConfigError as exception:
        error = f"nothing says which of its values, {values.min():g}...{values.max():g}, are black and white"
        hint = "type --pipeline ct or --pipeline mri, or --window percentile, or a window such as --window -600,1500"
        raise ReadError("check", error, hint) from exception
    if not low < high:
        error = f"nearly constant volume: 99 % of the voxels are {low:g}"
        raise ReadError("check", error, "type a window such as --window -600,1500, or delete the volume")
    if window.kind == "percentile":
        return (low, high), f"percentile {low:.10g},{high:.10g}"
    return (low, high), str(window) if window.kind == "fixed" else "full range"


def _check_size(shape: tuple[int, ...], hint: str) -> None:
    """Refuse what would not fit into memory."""
    if np.prod(shape, dtype=np.float64) > _MOST_VOXELS:
        raise ReadError("open", f"too large: {' x '.join(map(str, shape))} voxels", hint)


def _text(numbers: Any) -> str:
    """Join numbers by commas."""
    return ",".join(f"{number:.6g}" for number in numbers)


# ------------------------------------------------------------------------------- NIfTI, MetaImage and NRRD


def _load_nifti(path: Path) -> _Volume:
    """Read a NIfTI file."""
    import nibabel

    image = nibabel.load(path)
    if not isinstance(image, nibabel.Nifti1Pair):
        raise ReadError("open", f"{type(image).__name__} where a NIfTI volume is wanted", "leave the file out")
    header, dtype = image.header, image.get_data_dtype()
    if dtype.kind not in "iuf":
        raise ReadError("open", f"voxels of type {dtype} where one number is wanted", "save the volume in grey")
    shape = _three_axes(image.shape)
    if header["sform_code"] == 0 and header["qform_code"] == 0:
        hint = "find out which way it lies, and write that with image.set_sform(affine, code=1) of nibabel"
        raise ReadError("check", "no orientation: sform and qform have the code 0", hint)
    axes = image.affine[:3, :3] * _TO_MM.get(header.get_xyzt_units()[0], 1.0)
    values = image.get_fdata("unchanged", np.float32).reshape(shape, order="F")
    stored: Any = image.dataobj
    plain = dtype == np.uint8 and (stored.slope, stored.inter) == (1, 0)
    return _Volume(values, axes, "NIfTI", 8 * dtype.itemsize, (0, 255) if plain else None)


def _data_names(path: Path) -> list[str] | None:
    """Return what a MetaImage or NRRD header names as its data files, [] for none; None if it cannot be told.

    A list of files gives their names, a pattern of names the pattern.
    """
    suffix = path.suffix.lower()
    metaimage = suffix in {".mha", ".mhd"}
    if not metaimage and suffix not in {".nrrd", ".nhdr"}:
        return []
    with path.open("rb") as file:
        head = file.read(_MOST_HEADER + 1)
    lines = iter(head.split(b"\n"))
    for line in lines:
        if not metaimage and not line.strip(b"\r"):
            return []  # what follows are the voxels
        for part in line.split(b"\r"):
            match = re.fullmatch(rb"\s*(\w+(?: \w+)*)\s*[:=]\s*(.*?)[\s\0]*", part, re.DOTALL)
            if match is None or match[1].lower() not in ({b"elementdatafile"} if metaimage else _NRRD_DATA):
                continue
            value = os.fsdecode(match[2])
            if metaimage and value.upper() == "LOCAL":
                return []
            if not value.startswith("LIST"):
                return [value]
            names = [os.fsdecode(name.strip()) for name in lines]
            return [name for name in names if name] if len(head) <= _MOST_HEADER else None
    return None if metaimage or len(head) > _MOST_HEADER else []


def _is_pattern(names: list[str]) -> bool:
    """Whether a header names its data files by a pattern, such as ``slice%03d.raw 1 10 1``."""
    return len(names) == 1 and "%" in names[0]


def _check_data_files(path: Path) -> None:
    """Refuse a header whose data files lie outside of its folder, or cannot be told."""
    names = _data_names(path)
    hint = "save the volume as one file, .mha or .nrrd"
    if names is None:
        raise ReadError("open", "the header does not say where its voxels are", _DAMAGED)
    if _is_pattern(names):
        raise ReadError("open", f"data files by a pattern, {names[0]}", hint)
    folder = path.parent.resolve()
    for name in names:
        file = (path.parent / name).resolve()
        if not file.is_relative_to(folder):
            raise ReadError("open", f"data file outside of the folder: {name}", f"move it beside the header; or {hint}")
        if not file.is_file():
            raise ReadError("open", f"data file {name} is missing", f"copy it beside the header; or {hint}")


def _load_with_itk(path: Path) -> _Volume:
    """Read a MetaImage or NRRD file."""
    try:
        import SimpleITK as itk  # noqa: N813 - the usual name is an acronym that says less
    except ImportError:
        hint = 'type pip install "medgan[volumes]", or convert the file to NIfTI'
        raise ReadError("open", "MetaImage and NRRD files need SimpleITK, which is not installed", hint) from None
    _check_data_files(path)
    mode = "MetaImage" if path.suffix.lower() in {".mha", ".mhd"} else "NRRD"
    reader = itk.ImageFileReader()
    reader.SetImageIO({"MetaImage": "MetaImageIO", "NRRD": "NrrdImageIO"}[mode])
    reader.SetFileName(str(path))
    try:
        reader.ReadImageInformation()
        if reader.GetNumberOfComponents() > 1:
            error = f"{reader.GetNumberOfComponents()} numbers a voxel where one is wanted"
            raise ReadError("open", error, "save the volume in grey, one channel a file")
        shape = _three_axes(reader.GetSize())
        if mode == "NRRD" and "NRRD_space" not in reader.GetMetaDataKeys():
            hint = "add the line 'space: left-posterior-superior', or where its axes point, to the file's header"
            raise ReadError("check", "no orientation: the header names no space", hint)
        if mode == "NRRD" and reader.GetMetaData("NRRD_space") != "left-posterior-superior":  # what ITK turns others to
            error = f"no orientation: its space is {reader.GetMetaData('NRRD_space')}, not that of the patient"
            raise ReadError("check", error, "save the volume in the space left-posterior-superior")
        image = reader.Execute()
    except RuntimeError as exception:
        # The first line names a source file of ITK; others name objects by their place in memory, new in every run.
        error = " ".join(str(exception).partition("\n")[2].split()) or str(exception)
        raise ReadError("decode", re.sub(r"\s*\(?\b0x[0-9a-fA-F]+\b\)?", "", error), _DAMAGED) from exception
    count = image.GetDimension()
    directions = np.reshape(image.GetDirection(), (count, count))
    axes = _LPS_TO_RAS @ (directions * image.GetSpacing())[:3, :3]
    stored = itk.GetArrayViewFromImage(image)
    values = stored.astype(np.float32).T.reshape(shape, order="F")
    known = (0.0, 255.0) if stored.dtype == np.uint8 else None
    return _Volume(values, axes, mode, 8 * stored.dtype.itemsize, known)


def _three_axes(shape: tuple[int, ...]) -> tuple[int, ...]:
    """Check a shape, and leave out what follows the third axis."""
    if any(length > 1 for length in shape[3:]):
        hint = "save the volume that you want as a file of its own, such as nibabel.funcs.four_to_three(image)[0]"
        raise ReadError("open", f"{' x '.join(map(str, shape))} voxels: several volumes in one file", hint)
    if len(shape) < 3 or min(shape) < 1:
        raise ReadError("open", f"{' x '.join(map(str, shape))} voxels, which is no volume", "leave the file out")
    _check_size(shape, "cut out the part that matters")
    return tuple(shape[:3])


# ----------------------------------------------------------------------------------------------- DICOM


@dataclass(frozen=True, eq=False)
class _Header:
    """One slice of a DICOM series, before it is decoded.

    Attributes:
        path: Its file.
        frame: Which frame of the file, from 0.
        series: SeriesInstanceUID.
        uid: SOPInstanceUID.
        photometric: Photometric interpretation.
        localizer: Whether it is an overview on which the scan was planned.
        shape: Rows and columns.
        position: Of its first pixel, in mm, leftwards, backwards and upwards (LPS+), shape (3,); None if unknown.
        directions: In which columns and rows follow each other, shape (2, 3), likewise; None if unknown.
        spacing: Distance of its rows and of its columns in mm; None if unknown.
        window: The file's first window, centre and width; None if it has none.
    """

    path: Path
    frame: int
    series: str
    uid: str
    photometric: str
    localizer: bool
    shape: tuple[int, int]
    position: NDArray[np.float64] | None
    directions: NDArray[np.float64] | None
    spacing: NDArray[np.float64] | None
    window: tuple[float, float] | None

    @property
    def height(self) -> float:
        """Where it lies along its normal, in mm; lowest if unknown."""
        if self.position is None or self.directions is None:
            return -np.inf
        return float(np.cross(*self.directions) @ self.position)


def _list_series(folder: Path) -> dict[str, list[_Header]]:
    """Find the slices of each series of a folder, by SeriesInstanceUID."""
    from medgan.data.dicom import is_dicom
    from medgan.data.readers import DICOM_SUFFIXES

    with _guard():
        files = [path for path in sorted(folder.iterdir()) if path.is_file() and not path.name.startswith(".")]
        headers: list[_Header] = []
        for path in files:
            if is_dicom(path):
                headers += _read_header(path)
            elif path.suffix.lower() in DICOM_SUFFIXES:
                error = "not a DICOM file" if path.stat().st_size else "empty file (0 bytes)"
                raise ReadError("open", f"{path.name}: {error}", _DAMAGED)
        return _by_series(headers)


def _by_series(headers: list[_Header]) -> dict[str, list[_Header]]:
    """Group slices by series, and sort each by position."""
    series: dict[str, list[_Header]] = {}
    for header in headers:
        series.setdefault(header.series, []).append(header)
    return {uid: sorted(found, key=lambda header: header.height) for uid, found in series.items()}


def _read_header(path: Path) -> list[_Header]:
    """Read where the slices of a DICOM file lie; an object without pixels has none."""
    from pydicom import dcmread

    try:
        dataset = dcmread(path, stop_before_pixels=True, force=True)
        if "Rows" not in dataset:
            kind = dataset.get("SOPClassUID") or dataset.file_meta.get("MediaStorageSOPClassUID")
            if kind and "Image Storage" not in kind.name:
                return []
            raise ReadError("open", f"{path.name}: ends before it describes its pixels", _DAMAGED)
        return [_read_frame(path, dataset, frame) for frame in range(int(dataset.get("NumberOfFrames") or 1))]
    except ReadError:
        raise
    except Exception as exception:  # pydicom raises anything from KeyError to struct.error
        raise_if_passing(exception)
        raise ReadError("open", f"{path.name}: {type(exception).__name__}: {exception}", _DAMAGED) from exception


def _read_frame(path: Path, dataset: Dataset, frame: int) -> _Header:
    """Read where one frame lies, from its functional groups or the data set itself."""

    def numbers(group: str, keyword: str, count: int) -> NDArray[np.float64] | None:
        value = _element(dataset, frame, group, keyword)
        found = np.ravel(np.array([] if value is None else value, dtype=np.float64))
        return found[:count] if found.size >= count and np.isfinite(found).all() else None

    directions = numbers("PlaneOrientationSequence", "ImageOrientationPatient", 6)
    spacing = numbers("PixelMeasuresSequence", "PixelSpacing", 2)
    centre, width = (numbers("FrameVOILUTSequence", f"Window{which}", 1) for which in ("Center", "Width"))
    return _Header(
        path=path,
        frame=frame,
        series=str(dataset.get("SeriesInstanceUID", "")),
        uid=str(dataset.get("SOPInstanceUID", path)),
        photometric=str(dataset.get("PhotometricInterpretation", "")),
        localizer="LOCALIZER" in (dataset.get("ImageType") or ()),
        shape=(int(dataset.Rows), int(dataset.Columns)),
        position=numbers("PlanePositionSequence", "ImagePositionPatient", 3),
        directions=None if directions is None else directions.reshape(2, 3),
        spacing=spacing if spacing is not None and spacing.min() > 0 else None,
        window=None if centre is None or width is None or width[0] <= 1 else (float(centre[0]), float(width[0])),
    )


def _element(dataset: Dataset, frame: int, group: str, keyword: str) -> Any:
    """Return an element of a frame: its own, what all frames share, or that of the data set; None if there is none."""
    frames = dataset.get("PerFrameFunctionalGroupsSequence") or ()
    for groups in (*frames[frame : frame + 1], *(dataset.get("SharedFunctionalGroupsSequence") or ())[:1]):
        for item in groups.get(group) or ():
            if keyword in item:
                return item[keyword].value
    return dataset.get(keyword)


def _load_series(series: dict[str, list[_Header]]) -> _Volume:
    """Read the one series of slices among the given."""
    from medgan.data.dicom import read_stored_values

    count = sum(map(len, series.values()))
    stacks = [stack for found in series.values() if len(stack := _without_strays(found)) > 1]
    if not stacks:
        error = f"no two slices with positions; DICOM images found: {count}"
        hint = "put the files of one series into a folder; for pictures leave out --slices and --depth"
        raise ReadError("check", error, hint)
    if len(stacks) > 1:
        counts = ", ".join(str(len(stack)) for stack in stacks)
        raise ReadError("check", f"{len(stacks)} series in one folder, of {counts} slices", _OWN_FOLDER)
    headers = stacks[0]
    if {"MONOCHROME1", "MONOCHROME2"} <= {header.photometric for header in headers}:
        error = "a series with slices of MONOCHROME1 and of MONOCHROME2: light and dark are swapped in some"
        raise ReadError("check", error, "leave the series out, or mend the program that wrote the files")
    axes = _axes(headers)
    shape = (len(headers), *headers[0].shape)
    _check_size(shape, "leave out slices, or cut out the part that matters")

    values = np.empty(shape, np.float32)
    padded: NDArray[np.bool_] | None = None
    wanted: dict[Path, list[int]] = {}
    for index, header in enumerate(headers):
        wanted.setdefault(header.path, []).append(index)
    ranges = []
    synthetic: dict[str, str] = {}
    for path, indices in wanted.items():
        try:
            stored = read_stored_values(path)
        except ReadError as exception:
            raise ReadError(exception.stage, f"{path.name}: {exception.error}", exception.hint) from exception
        frames = [headers[index].frame for index in indices]
        values[indices] = stored.values[frames]
        if stored.padded is not None:
            padded = np.zeros(shape, np.bool_) if padded is None else padded
            padded[indices] = stored.padded[frames]
        ranges.append(stored.known)
        if stored.facts.get("origin") == "synthetic":  # a series with a single such slice is
            synthetic = {"origin": "synthetic"}
    known = [limits for limits in ranges if limits is not None]
    dataset = stored.dataset
    return _Volume(
        values,
        axes,
        "DICOM",
        int(dataset.get("BitsStored") or dataset.BitsAllocated),
        known=(min(low for low, _ in known), max(high for _, high in known)) if len(known) == len(ranges) else None,
        window=_own_window(headers[len(headers) // 2], dataset),
        inverted=dataset.PhotometricInterpretation == "MONOCHROME1",
        padded=padded,
        facts=stored.facts | synthetic,
    )


def _own_window(header: _Header, dataset: Dataset) -> tuple[tuple[float, float], str] | None:
    """Return the limits and the text of a slice's own window; None for none, or for one that is no straight line."""
    # LINEAR goes from the middle of one stored value to the middle of another: DICOM PS3.3, C.11.2.1.2.1.
    shift = {"LINEAR": 1, "LINEAR_EXACT": 0}.get(dataset.get("VOILUTFunction") or "LINEAR")
    if header.window is None or shift is None:
        return None
    centre, width = header.window
    return (centre - width / 2, centre + width / 2 - shift), f"{centre:.10g},{width:.10g}"


def _without_strays(headers: list[_Header]) -> list[_Header]:
    """Leave out what is no slice of the series' volume.

    Args:
        headers: All images of one series, sorted.

    Returns:
        Those of the commonest orientation; empty if they have no positions.

    Raises:
        ReadError: If too many have another orientation.
    """
    groups: list[list[_Header]] = []
    unplaced = 0
    copies = {(header.uid, header.frame): header for header in headers if not header.localizer}
    for header in copies.values():
        if header.position is None or header.directions is None:
            unplaced += 1
            continue
        for group in groups:
            if np.allclose(group[0].directions, header.directions, rtol=0, atol=1e-3):  # type: ignore[arg-type]
                group.append(header)
                break
        else:
            groups.append([header])
    largest = max(groups, key=len, default=[])
    strays = sum(map(len, groups)) + unplaced - len(largest)
    if largest and strays > _STRAYS * len(largest):
        error = f"a series with {strays} images of another orientation, or none, beside {len(largest)} slices"
        raise ReadError("check", error, _OWN_FOLDER)
    return largest


def _axes(headers: list[_Header]) -> NDArray[np.float64]:
    """Return where one step to the next slice, row and column leads, as `_Volume` has it.

    Raises:
        ReadError: If the slices do not make up a volume.
    """
    first = headers[0]
    if shapes := {header.shape for header in headers} - {first.shape}:
        sizes = ", ".join(f"{rows} x {columns}" for rows, columns in sorted({first.shape, *shapes}))
        raise ReadError("check", f"slices of different sizes: {sizes}", _OWN_FOLDER)
    spacings = [header.spacing for header in headers if header.spacing is not None]
    if len(spacings) < len(headers):
        raise ReadError("check", "slices without PixelSpacing", "mend the program that wrote the files")
    if not np.allclose(spacings, spacings[0], rtol=1e-3, atol=0):
        low, high = (f"{limit:.6g}" for limit in (np.min(spacings), np.max(spacings)))
        raise ReadError("check", f"slices with different distances of pixels, {low}...{high} mm", _OWN_FOLDER)

    positions = np.array([header.position for header in headers])
    gaps = np.diff([header.height for header in headers])
    widest = int(gaps.argmax())
    if gaps.min() < 0.01 * gaps[widest] or gaps[widest] == 0:
        closest = int(gaps.argmin())
        names = " and ".join(_name(header) for header in headers[closest : closest + 2])
        error = f"several slices at one place, such as {names}: phases, echoes or directions of one scan"
        raise ReadError("check", error, _OWN_FOLDER)
    step = (positions[-1] - positions[0]) / (len(headers) - 1)
    even = positions[0] + np.arange(len(headers))[:, None] * step
    if np.linalg.norm(positions - even, axis=1).max() > _UNEVEN * np.linalg.norm(step):
        names = " and ".join(_name(header) for header in headers[widest : widest + 2])
        error = f"slices {gaps.min():.6g}...{gaps[widest]:.6g} mm apart, farthest {names}: some are missing or shifted"
        raise ReadError("check", error, "copy the series again from its origin, or leave it out")

    assert first.directions is not None  # what _without_strays leaves has them
    along_row, along_column = first.directions
    between_rows, between_columns = spacings[0]
    axes = np.column_stack([step, along_column * between_rows, along_row * between_columns])
    in_ras: NDArray[np.float64] = _LPS_TO_RAS @ axes
    return in_ras


def _name(header: _Header) -> str:
    """Name a slice."""
    return f"{header.path.name}, frame {header.frame + 1}" if header.frame else header.path.name
