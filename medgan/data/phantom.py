r"""Procedural chest radiographs: an analytic thorax, X-rayed by Beer and Lambert. No patient, no download.

For trying medgan out, for tests, and for teaching; never for conclusions about patients. Each image is simulated:

1. *Anatomy.* A patient is a set of numbers (width of the rib cage, heart, spacing and slope of ribs, ...), drawn once.
   Soft tissue, lungs, heart and vertebrae are closed-form thickness maps. Ribs, clavicles and vessels are space curves,
   whose points are projected onto the detector and swept with the disc that gives a tube its thickness: where a curve
   runs towards the viewer, as a rib does at the side of the chest, its shadow is denser of itself.
2. *Physics.* Thickness times attenuation coefficient adds up to :math:`p = \int \mu\,dl`; the detector gets
   :math:`I = I_0 e^{-p}`, plus scattered radiation (a wide blur), plus Poisson noise by its photon count.
3. *Display.* :math:`-\log I`, edges enhanced, through a sigmoid window, as film and its digital successors show it:
   bone bright, air dark.

The class PNEUMONIA fills part of the lungs' air with fluid: a lobe, some patches, or a veil over both lungs.
Coordinates: ``x`` from -1 (patient's right) to 1, ``y`` from -1 (top) to 1; one unit is `_CM` centimetres.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from functools import cached_property
from typing import Any, ClassVar
from urllib.parse import parse_qsl, urlsplit

import numpy as np
from numpy.typing import NDArray
from scipy import fft, ndimage

from medgan.core.spec import LabelSpec
from medgan.data.decoded import DecodedImage, Reading
from medgan.data.sources import Entry
from medgan.data.thorax import EXTENT_MM, VERSION, render_thorax
from medgan.data.volumes import decode_volume
from medgan.data.window import Window
from medgan.errors import ConfigError, DataError, nearest

__all__ = ["ChestPhantom", "ThoraxPhantom", "open_phantom", "render_chest"]

_VERSION = 1  # raise it whenever the same seed would give other images
_CM = 11.0
_WATER, _BONE = 0.20, 0.52  # attenuation per centimetre at about 60 keV effective, 1/cm
_LUNG = 0.28  # density of inflated lung, relative to water
_THORAX_WINDOW = Window("fixed", centre=-200, width=1600)  # from air to bone: lungs, their fluid, and organs differ
_COUNTS = {"chest": 1000, "chest-lowdose": 1000, "thorax": 300}  # images of each phantom, where not told otherwise

_Map = NDArray[Any]  # float32, (size, size)


@dataclass(frozen=True, kw_only=True)
class _Phantom:
    """What the embedded sources share: patients of two classes.

    Attributes:
        count: Number of images.
        seed: Same seed, same patients.
    """

    count: int
    seed: int
    name: str
    licence: str | None = "Apache-2.0, procedural"
    citation: str | None = "medgan, whose formulas made them"
    labels: ClassVar[LabelSpec | None] = LabelSpec(("NORMAL", "PNEUMONIA"))
    _address: ClassVar[str]

    @property
    def description(self) -> str:
        """The source in full."""
        return f"phantom://{self._address}?n={self.count}&seed={self.seed}"

    @property
    def ignored(self) -> dict[str, int]:
        """Nothing is left aside."""
        return {}

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """Images of 1 to 3 exposures a patient; two patients in five are healthy."""
        rng = np.random.default_rng([self.seed, 0])
        entries: list[Entry] = []
        patient = 0
        while len(entries) < self.count:
            normal, exposures = rng.random() < 0.4, int(rng.choice(3, p=[0.7, 0.2, 0.1])) + 1
            if patient < 2:  # one image of each class, however few there are
                normal, exposures = patient == 0, 1
            label = "NORMAL" if normal else "PNEUMONIA"
            for exposure in range(min(exposures, self.count - len(entries))):
                file = f"{label}/patient{patient:05d}_{exposure}"
                entries.append(Entry(file, label, f"patient{patient:05d}"))
            patient += 1
        return tuple(entries)

    def _draw(self, position: int) -> tuple[list[int], int, bool]:
        """Return the seed of an entry's patient, the number of its exposure, and whether there is a pneumonia."""
        entry = self.entries[position]
        patient, exposure = int(entry.patient_id.removeprefix("patient")), int(entry.file.rsplit("_", 1)[1])
        return [self.seed, 1, patient], exposure, "PNEUMONIA/" in entry.file


@dataclass(frozen=True, kw_only=True)
class ChestPhantom(_Phantom):
    """The source behind ``phantom://chest``.

    Attributes:
        size: Side of the simulated detector, in pixels.
    """

    size: int
    name: str = "phantom-chest"
    _address: ClassVar[str] = "chest"
    _dose: ClassVar[float] = 1.0

    def identity(self) -> Iterator[Any]:
        """Yield version, seed, count and size."""
        yield ["phantom", self.name, _VERSION, self.seed, self.count, self.size]

    def read(self, position: int) -> Sequence[DecodedImage]:
        """Simulate one exposure."""
        patient, exposure, pneumonia = self._draw(position)
        image = render_chest(patient, exposure=exposure, pneumonia=pneumonia, size=self.size, dose=self._dose)
        return [DecodedImage(np.rint(image * 255).astype(np.uint8)[..., None], "simulated", 8)]


@dataclass(frozen=True, kw_only=True)
class ThoraxPhantom(_Phantom):
    """The source behind ``phantom://thorax``: volumes in Hounsfield units, or slices of them.

    Attributes:
        size: Depth, height and width of the simulated volumes, in voxels.
        reading: How they become images: window, slices and spacing.
    """

    size: tuple[int, int, int]
    reading: Reading = field(default_factory=Reading)
    name: str = "phantom-thorax"
    _address: ClassVar[str] = "thorax"

    def identity(self) -> Iterator[Any]:
        """Yield version, seed, count and size."""
        yield ["phantom", self.name, VERSION, self.seed, self.count, list(self.size)]

    def read(self, position: int) -> Sequence[DecodedImage]:
        """Simulate one scan."""
        patient, scan, pneumonia = self._draw(position)
        values = render_thorax(patient, scan=scan, pneumonia=pneumonia, size=self.size)
        depth, height, width = (extent / length for extent, length in zip(EXTENT_MM, self.size, strict=True))
        return decode_volume(
            values,
            (depth, height, width),
            self.reading,
            mode="simulated",
            bits=12,
            known=(-1024, 3071),
            window=_THORAX_WINDOW,
        )


@dataclass(frozen=True, kw_only=True)
class _LowDoseTarget(ChestPhantom):
    """The images of ``phantom://chest-lowdose``: those of ``phantom://chest``, without their classes.

    Attributes:
        parity: Only patients of even (0) or odd (1) number; None for all.
    """

    parity: int | None = None
    name: str = "chest-lowdose"
    labels: ClassVar[LabelSpec | None] = None
    _address: ClassVar[str] = "chest-lowdose"
    _side: ClassVar[str] = "target"
    _other: ClassVar[str] = "source"

    @cached_property
    def entries(self) -> tuple[Entry, ...]:
        """Those of `ChestPhantom`, under a folder of their own; each names its other side."""
        return tuple(
            replace(
                entry,
                file=f"{self._side}/{entry.file}",
                label="",
                facts={"source_path": f"{self._other}/{entry.file}"} if self._side == "target" else {},
            )
            for entry in super().entries
            if self.parity in (None, int(entry.patient_id.removeprefix("patient")) % 2)
        )

    def identity(self) -> Iterator[Any]:
        """Yield version, seed, count, size, and which side and patients it is."""
        yield from super().identity()
        yield [self._side, self.parity]


class _LowDoseSource(_LowDoseTarget):
    """The sources of ``phantom://chest-lowdose``: the same exposures with 0.5 % of the photons."""

    _dose = 0.005
    _side = "source"


def open_phantom(
    source: str, size: tuple[int, ...], *, reading: Reading | None = None, unpaired: bool = False
) -> tuple[ChestPhantom | ThoraxPhantom, ChestPhantom | None]:
    """Open ``phantom://chest``, ``phantom://chest-lowdose`` or ``phantom://thorax``, optionally with ``?n=500&seed=1``.

    The second has pairs: chests with 0.5 % of the photons, and the same ones with all of them. The third has volumes.

    Args:
        source: The address.
        size: Height and width that images will be brought to, or depth, height and width; what is simulated is finer.
        reading: How volumes become images; None for as they are.
        unpaired: Whether sources and images are to be of other patients.

    Returns:
        The images; and the source images, None where there are none.

    Raises:
        ConfigError: If volumes are wanted of a phantom of pictures, or pictures of one of volumes.
        DataError: If there is no such phantom or an option is unknown or not a number in range.
    """
    address = urlsplit(source)
    name = address.netloc
    if name not in _COUNTS or address.path.strip("/"):
        wanted = name + address.path
        raise DataError(f"There is no phantom {wanted!r}. {nearest(wanted, _COUNTS)} Type phantom://chest.")
    if unpaired and name != "chest-lowdose":
        raise DataError(f"{source} has no source images. Type phantom://chest-lowdose, or leave --layout out.")
    options = {"n": _COUNTS[name], "seed": 0}
    example = f"Type phantom://{name}?n=500&seed=1."
    for key, text in parse_qsl(address.query, keep_blank_values=True):
        if key not in options:
            raise DataError(f"{source}: unknown option {key!r}. {nearest(key, options)} {example}")
        if not text.isdecimal():
            raise DataError(f"{source}: {key} must be a whole number, got {text!r}. {example}")
        options[key] = int(text)
    if options["n"] < 2:
        raise DataError(f"{source}: n must be at least 2, one image a class. {example}")
    common: dict[str, Any] = {"count": options["n"], "seed": options["seed"]}
    reading = reading or Reading()
    if name == "thorax":
        if len(size) == 2 and reading.slices is None:
            raise ConfigError(
                f"{source} has volumes, and {size[0]} × {size[1]} is the size of a picture. Add --depth {size[0]} for "
                "volumes, or --slices axial:0.3-0.7 for slices of them; or type phantom://chest."
            )
        return ThoraxPhantom(**common, size=_thorax_size(size), reading=reading), None
    if len(size) == 3:
        raise ConfigError(f"{source} has pictures, not volumes. Leave out --depth, or type phantom://thorax.")
    longest = max(size)
    side = max(2 * longest, 96) if longest <= 128 else 3 * longest // 2
    if name == "chest":
        return ChestPhantom(**common, size=side), None
    return (
        _LowDoseTarget(**common, size=side, parity=1 if unpaired else None),
        _LowDoseSource(**common, size=side, parity=0 if unpaired else None),
    )


def _thorax_size(size: tuple[int, ...]) -> tuple[int, int, int]:
    """Return a size to simulate volumes at: finer than small ones, as the time grows with the third power."""
    wanted = size if len(size) == 3 else (max(size),) * 3
    depth, height, width = (max(length, min(2 * length, 48)) for length in wanted)
    return depth, height, width


@dataclass(frozen=True)
class _Anatomy:
    """One patient; lengths in units, see the module. Drawn by `_draw_anatomy`."""

    cage_width: float  # half-width of the rib cage at its widest
    cage_top: float  # y of the lungs' apices
    cage_bottom: float  # y of the widest level
    cage_power: float  # shape of the dome: low is pointed
    wall: float  # soft tissue outside of the ribs
    depth_cm: float  # front to back, at the middle
    rib_spacing: float
    rib_slope: float
    rib_radius: float
    bone: float  # relative density of bone
    heart_width: float
    heart_height: float
    heart_x: float
    heart_y: float
    heart_tilt: float
    dome: tuple[float, float]  # y of the diaphragm's top, patient's right and left
    spine_width: float
    spine_bend: float
    clavicle_y: float
    clavicle_rise: float
    arm_angle: float
    arm_y: float
    stomach: float  # size of the air bubble under the left dome; 0 is none
    vessels: float


def _draw_anatomy(rng: np.random.Generator) -> _Anatomy:
    """Draw one patient."""
    width = rng.normal(0.70, 0.045)
    bottom = rng.normal(0.52, 0.06)
    right_dome = rng.normal(0.50, 0.07)
    heart_width = rng.normal(0.36, 0.03)
    return _Anatomy(
        cage_width=width,
        cage_top=rng.normal(-0.80, 0.04),
        cage_bottom=bottom,
        cage_power=rng.uniform(1.9, 2.5),
        wall=rng.uniform(0.07, 0.20),
        depth_cm=rng.normal(13.5, 1.2),
        rib_spacing=rng.normal(0.165, 0.010),
        rib_slope=rng.normal(1.0, 0.15),
        rib_radius=rng.normal(0.028, 0.0025),
        bone=rng.normal(1.0, 0.12),
        heart_width=heart_width,
        heart_height=heart_width * rng.normal(1.08, 0.07),
        heart_x=rng.normal(0.10, 0.02),
        heart_y=right_dome - rng.normal(0.20, 0.03),
        heart_tilt=rng.normal(0.70, 0.12),
        dome=(right_dome, right_dome + rng.normal(0.05, 0.03)),
        spine_width=rng.normal(0.105, 0.008),
        spine_bend=rng.normal(0.0, 0.02),
        clavicle_y=rng.normal(-0.66, 0.03),
        clavicle_rise=rng.normal(0.14, 0.06),
        arm_angle=rng.normal(0.2, 0.5),
        arm_y=rng.normal(-0.78, 0.06),
        stomach=max(0.0, rng.normal(0.06, 0.07)),
        vessels=rng.uniform(0.7, 1.3),
    )


class _Detector:
    """A square grid that sees the patient from the front, shifted, scaled and turned by the pose."""

    def __init__(self, size: int, rng: np.random.Generator) -> None:
        """Draw a pose."""
        self.size = size
        angle, self.scale = rng.normal(0, 0.035), rng.normal(1.0, 0.04)
        self.shift = rng.normal((0, 0.02), 0.025)
        self.turn = rng.normal(0, 0.05)  # about the body's axis: the front moves against the back
        self.cosine, self.sine = np.cos(angle), np.sin(angle)
        centres = ((np.arange(size) + 0.5) / size * 2 - 1).astype(np.float32)
        u, v = centres[None, :] - np.float32(self.shift[0]), centres[:, None] - np.float32(self.shift[1])
        self.x: _Map = ((self.cosine * u + self.sine * v) / self.scale).astype(np.float32)
        self.y: _Map = ((self.cosine * v - self.sine * u) / self.scale).astype(np.float32)
        self._padded = fft.next_fast_len(size + 2 * max(4, size // 8), real=True)
        axis = fft.fftfreq(self._padded, 1 / self._padded)
        self._distance = np.hypot(axis[:, None], axis[None, :]).astype(np.float32)  # from the corner, for kernels

    def project(self, curves: NDArray[np.float64]) -> NDArray[np.float32]:
        """Project space curves to a map of curve length per area.

        Args:
            curves: Shape ``(curves, points, 4)``: x, y, z (positive in front) and a weight.

        Returns:
            Shape ``(padded, padded)``, the length per area, spread to the four nearest pixels.
        """
        x, y, z, weight = np.moveaxis(curves, 2, 0)
        x = x + self.turn * z
        steps = weight * np.sqrt(sum(np.gradient(axis, axis=1) ** 2 for axis in (x, y, z)))
        u = self.scale * (self.cosine * x - self.sine * y) + self.shift[0]
        v = self.scale * (self.sine * x + self.cosine * y) + self.shift[1]
        margin = (self._padded - self.size) // 2
        column, row = (((w + 1) / 2 * self.size - 0.5 + margin).ravel() for w in (u, v))
        steps = steps.ravel()
        left, top = np.floor(column).astype(int), np.floor(row).astype(int)
        total = np.zeros(self._padded**2)
        for right in (0, 1):
            for low in (0, 1):
                share = np.abs(1 - right - (column - left)) * np.abs(1 - low - (row - top))
                inside = (left + right >= 0) & (left + right < self._padded)
                inside &= (top + low >= 0) & (top + low < self._padded)
                place = (top + low)[inside] * self._padded + (left + right)[inside]
                total += np.bincount(place, (steps * share)[inside], self._padded**2)
        pixel = 2 / self.size / self.scale
        return (total / pixel**2).reshape(self._padded, self._padded).astype(np.float32)

    def sweep(self, curves: NDArray[np.float32], radius: float, shell: float = 0.0) -> _Map:
        """Turn a map of curves into the thickness of tubes, in units.

        A line swept with a uniform disc of the tube's radius gets the chord lengths of the tube. With ``shell`` the
        tube has a dense bark and a core of that much less density.
        """
        spectrum = self._disc(radius) - shell * self._disc(0.72 * radius)
        swept = fft.irfft2(fft.rfft2(curves) * spectrum, s=curves.shape)
        margin = (self._padded - self.size) // 2
        thickness: _Map = swept[margin : margin + self.size, margin : margin + self.size]
        return np.maximum(thickness, 0)

    def _disc(self, radius: float) -> NDArray[np.float32]:
        """Fourier transform of a disc, softened to the pixel grid."""
        pixels = radius * self.size / 2 * self.scale
        disc = np.clip(pixels - self._distance + 0.5, 0, 1)
        disc *= np.pi * radius**2 / max(float(disc.sum()), 1e-6)  # keeps the mass where the disc is below a pixel
        spectrum: NDArray[np.float32] = fft.rfft2(disc).real
        return spectrum

    def noise(self, rng: np.random.Generator, length: float) -> _Map:
        """Smooth noise of mean 0 and deviation 1, with a correlation length in units, the same at any grid size."""
        cells = 24
        coarse = rng.standard_normal((cells, cells)).astype(np.float32)
        coarse = ndimage.gaussian_filter(coarse, max(0.3, length * cells / 2), mode="reflect")
        coarse = (coarse - coarse.mean()) / coarse.std()
        fine: _Map = ndimage.zoom(coarse, self.size / cells, order=3, mode="reflect", grid_mode=True)
        return fine


def _root(values: _Map) -> _Map:
    """Square root of the positive part: the thickness profile of a rounded body."""
    root: _Map = np.sqrt(np.maximum(values, 0))
    return root


def _step(values: _Map, width: float) -> _Map:
    """Rise smoothly from 0 to 1 around 0."""
    t: _Map = np.clip(values / np.float32(width) + 0.5, 0, 1)
    rise: _Map = t * t * (3 - 2 * t)
    return rise


def _ellipse(x: _Map, y: _Map, centre: tuple[float, float], radii: tuple[float, float], tilt: float = 0.0) -> _Map:
    """Thickness of an ellipsoid, 1 at its centre."""
    dx, dy = x - np.float32(centre[0]), y - np.float32(centre[1])
    u = np.float32(np.cos(tilt)) * dx + np.float32(np.sin(tilt)) * dy
    v = np.float32(np.cos(tilt)) * dy - np.float32(np.sin(tilt)) * dx
    return _root(1 - (u / np.float32(radii[0])) ** 2 - (v / np.float32(radii[1])) ** 2)


def _cage(body: _Anatomy, y: Any) -> Any:
    """Half-width of the inside of the rib cage at a level."""
    level = np.clip((y - body.cage_top) / (body.cage_bottom - body.cage_top), 0, None)
    dome = (1 - (1 - np.minimum(level, 1)) ** body.cage_power) ** 0.5
    return body.cage_width * (dome + 0.03 * np.maximum(level - 1, 0))


def render_chest(
    patient: list[int], *, exposure: int = 0, pneumonia: bool = False, size: int = 128, dose: float = 1.0
) -> NDArray[np.float32]:
    """Simulate one frontal chest radiograph.

    Args:
        patient: Seed of the anatomy (and of the disease).
        exposure: Number of the exposure; gives pose, technique and noise.
        pneumonia: Whether part of the lungs is filled.
        size: Side of the detector in pixels.
        dose: Share of the photons that an exposure has; all but the noise stays as it is.

    Returns:
        Shape ``(size, size)``, float32 in [0, 1]; air is dark.
    """
    body = _draw_anatomy(np.random.default_rng(patient))
    rng = np.random.default_rng([*patient, 1, exposure])
    detector = _Detector(size, rng)
    lungs = _lungs(body, detector)
    path = _WATER * _CM * _soft_tissue(body, detector)
    air = _lung_air(body, detector, lungs)
    disease = np.random.default_rng([*patient, 2])
    if pneumonia:
        air *= 1 - _opacity(body, detector, lungs, disease)
    path -= _WATER * air
    path += _WATER * _vessels(body, detector, lungs, np.random.default_rng([*patient, 3]))
    path += _BONE * _CM * body.bone * _bones(body, detector)
    path += _spine(body, detector)
    return _expose(np.maximum(path, 0), detector, rng, dose)


def _soft_tissue(body: _Anatomy, detector: _Detector) -> _Map:
    """Thickness of trunk, neck, chin and arms, in units."""
    x, y = detector.x, detector.y
    depth = body.depth_cm / _CM
    side = np.abs(x)
    chest = _cage(body, np.maximum(y, body.cage_top + 0.42)) + body.wall
    waist = 1 - 0.05 * np.maximum(y - 0.5, 0)
    shoulder = body.cage_top - 0.10 + 0.34 * np.maximum(side - 0.20, 0) ** 1.3  # the upper outline
    trunk = _root(1 - np.abs(x / (chest * waist)) ** 2.6) * np.sqrt(np.clip((y - shoulder) / 0.32, 0, 1))
    neck = 0.62 * _root(1 - (x / 0.25) ** 2) * _step(-(y - body.cage_top - 0.10), 0.25)
    chin = 1.0 * _ellipse(x, y, (0, body.cage_top - 0.50), (0.42, 0.36))
    total = depth * np.maximum(np.maximum(trunk, neck), chin)
    for sign in (-1, 1):
        along_x, along_y = np.cos(body.arm_angle), -np.sin(body.arm_angle)
        dx, dy = sign * x - (body.cage_width + body.wall - 0.08), y - (body.arm_y + 0.06)
        along, across = dx * along_x + dy * along_y, dy * along_x - dx * along_y
        arm = 0.45 * _root(1 - (across / 0.20) ** 2) * _step(along + 0.12, 0.4)
        total = np.hypot(total, depth * arm)
    thickness: _Map = total.astype(np.float32)
    return thickness


@dataclass(frozen=True)
class _Lungs:
    """Both lungs in projection.

    Attributes:
        thickness: 0 outside, 1 at the thickest.
        level: 0 at the apex, 1 at the diaphragm.
        across: For each lung, 0 at the mediastinum and 1 at the ribs.
        right: Where the patient's right lung is.
    """

    thickness: _Map
    level: _Map
    across: _Map
    right: NDArray[np.bool_]


def _lungs(body: _Anatomy, detector: _Detector) -> _Lungs:
    """Shape of the lungs."""
    x, y = detector.x + np.float32(body.spine_bend) * detector.y**2, detector.y
    right = x < 0
    side = np.abs(x)
    outer = np.maximum(_cage(body, y) - 0.015, 1e-3)
    inner = 0.105 + 0.05 * np.maximum(y - 0.1, 0)
    across = (side - inner) / np.maximum(outer - inner, 1e-3)
    inside = np.clip(across, 0, 1)
    top = np.where(right, body.dome[0], body.dome[1])
    middle = 0.52 * body.cage_width
    dome = top + 0.36 * ((side - 0.85 * middle) / body.cage_width) ** 2 + 0.30 * np.maximum(across - 0.62, 0) ** 2
    above = dome - y
    # Rounded towards the ribs, and towards the dome, behind which the lung reaches further down.
    profile = _root(1 - np.abs(2 * inside - 0.9) ** 3.2 / 1.36) * _step(across, 0.05) * _step(1 - across, 0.10)
    thickness = profile * (0.72 * _step(above, 0.05) + 0.28 * _step(above + 0.02, 0.3)) * _step(y - body.cage_top, 0.1)
    level = np.clip((y - body.cage_top) / (top - body.cage_top), 0, 1)
    return _Lungs(thickness.astype(np.float32), level.astype(np.float32), inside.astype(np.float32), right)


def _lung_air(body: _Anatomy, detector: _Detector, lungs: _Lungs) -> _Map:
    """Missing water in front of the detector, in centimetres: air in lungs, trachea and stomach, less the heart."""
    x, y = detector.x, detector.y
    depth = body.depth_cm * (0.66 + 0.12 * lungs.level)
    air = (1 - _LUNG) * depth * lungs.thickness
    heart = np.maximum(
        _ellipse(x, y, (body.heart_x, body.heart_y), (body.heart_width, body.heart_height * 0.72), body.heart_tilt),
        _ellipse(x, y, (-0.04, body.heart_y + 0.02), (body.heart_width * 0.58, body.heart_height * 0.80)),
    )
    width, height = body.heart_width, body.heart_height
    waist = _ellipse(x, y, (0.03, body.heart_y - 0.30 * height), (0.62 * width, 0.95 * height))
    arch = _ellipse(x, y, (0.06, body.heart_y - body.heart_height * 1.12), (0.125, 0.13))
    stem = _ellipse(x, y, (0.07, body.heart_y - body.heart_height * 0.62), (0.17, 0.26))
    vena = _ellipse(x, y, (-0.05, body.heart_y - body.heart_height * 1.1), (0.12, 0.55))
    organs = np.maximum.reduce([heart**0.7, 0.8 * waist**0.7, 0.75 * arch**0.7, 0.7 * stem**0.7, 0.6 * vena**0.8])
    air *= 1 - 0.80 * organs
    trachea_x = 0.012 + 0.02 * (y + 0.5)
    bifurcation = body.heart_y - body.heart_height * 0.95
    trachea = _root(1 - ((x + trachea_x) / 0.042) ** 2) * _step(bifurcation - y, 0.06)
    main = np.abs(x) * 0.9 + bifurcation - y  # the two main bronchi
    bronchi = _root(1 - (main / 0.035) ** 2) * _step(0.17 - np.abs(x), 0.08) * _step(np.abs(x), 0.04)
    air += 1.3 * trachea + 0.5 * bronchi
    if body.stomach > 0.03:
        place = (0.36, body.dome[1] + 0.13 + body.stomach * 0.5)
        air += 22 * body.stomach * _ellipse(x, y, place, (0.08 + body.stomach, 0.05 + 0.6 * body.stomach))
    return air.astype(np.float32)


def _bones(body: _Anatomy, detector: _Detector) -> _Map:
    """Thickness of compact bone in ribs, clavicles, shoulder blades and arms, in units."""
    curves = detector.project(_ribs(body)) + detector.project(_clavicles(body))
    limbs = detector.sweep(detector.project(_limbs(body)), 1.7 * body.rib_radius, shell=0.72)
    plates = detector.sweep(detector.project(_shoulder_blades(body)), 0.55 * body.rib_radius)
    return detector.sweep(curves, body.rib_radius, shell=0.72) + limbs + plates


def _ribs(body: _Anatomy) -> NDArray[np.float64]:
    """Ribs 1 to 12 of both sides, as hoops that lean forward and down."""
    number = np.arange(12)
    end = np.pi * np.interp(number, [0, 3, 7, 11], [0.86, 0.76, 0.66, 0.45])  # where bone turns into cartilage
    turn = np.linspace(0, 1, 160)[None, :] * end[:, None]
    start = body.cage_top + 0.02 + body.rib_spacing * number
    slope = body.rib_slope * np.interp(number, [0, 2, 6, 11], [0.14, 0.20, 0.29, 0.30])
    reach = np.maximum(_cage(body, start + slope) + 0.012, 0.36)
    front = 0.55 * body.depth_cm / _CM * np.interp(number, [0, 4, 11], [0.6, 0.9, 0.8])
    base = 0.6 * body.spine_width
    x = base + (reach[:, None] - base) * np.sin(turn)
    y = start[:, None] + slope[:, None] * (1 - np.cos(turn)) - 0.05 * np.sin(2 * turn) * (turn < np.pi / 2)
    z = -front[:, None] * np.cos(turn)
    weight = 2.4 - 0.9 * turn / np.pi - 0.9 * np.sin(turn) ** 6  # flat bones: less than a full tube, least in front
    weight = weight * np.clip((turn[:, -1:] - turn) / 0.25, 0, 1)
    return _both_sides(np.stack([x, y, z, weight], axis=2))


def _clavicles(body: _Anatomy) -> NDArray[np.float64]:
    """Both clavicles, S-shaped, in front."""
    t = np.linspace(0, 1, 120)
    x = 0.07 + t * (body.cage_width + 0.02)
    y = body.clavicle_y - body.clavicle_rise * t - 0.035 * np.sin(2 * np.pi * t)
    z = 0.4 - 0.3 * t
    curve = np.stack([x, y, z, 3.2 + 1.2 * np.abs(2 * t - 1) ** 2], axis=1)
    return _both_sides(curve[None])


def _limbs(body: _Anatomy) -> NDArray[np.float64]:
    """Upper arms, with a round head at the shoulder."""
    t = np.linspace(0, 1, 160)
    x0, y0 = body.cage_width + body.wall + 0.02, body.arm_y
    x = x0 + 0.9 * t * np.cos(body.arm_angle)
    y = y0 - 0.9 * t * np.sin(body.arm_angle)
    shaft = np.stack([x, y, 0 * t, 1.2 + 0.9 * np.exp(-t / 0.05)], axis=1)
    return _both_sides(shaft[None])


def _shoulder_blades(body: _Anatomy) -> NDArray[np.float64]:
    """Edges of the shoulder blades, behind, beside the upper lungs."""
    t = np.linspace(0, 1, 120)
    top, bottom = body.arm_y + 0.02, body.arm_y + 0.62
    outer = np.stack(
        [body.cage_width + body.wall * 0.5 - 0.14 * t + 0.03 * np.sin(np.pi * t), top + (bottom - top) * t], axis=1
    )
    spine = np.stack([body.cage_width + body.wall * 0.6 - 0.30 * t, top - 0.02 + 0.16 * t], axis=1)
    curves = np.stack([outer, spine])
    rest = np.stack([np.full((2, 120), -0.5), np.full((2, 120), 1.2)], axis=2)
    return _both_sides(np.concatenate([curves, rest], axis=2))


def _both_sides(curves: NDArray[np.float64]) -> NDArray[np.float64]:
    """Add the mirror images."""
    return np.concatenate([curves, curves * np.array([-1.0, 1, 1, 1])])


def _spine(body: _Anatomy, detector: _Detector) -> _Map:
    """Attenuation of vertebrae and breastbone beyond that of water."""
    x, y = detector.x + np.float32(body.spine_bend) * detector.y**2, detector.y
    phase = np.mod((y - body.cage_top) / np.float32(body.rib_spacing) + 0.25, 1)  # a vertebra a rib
    width = body.spine_width * (1 + 0.10 * np.cos(2 * np.pi * phase)) * (0.92 + 0.12 * np.clip(y + 0.5, 0, 1))
    bodies = _root(1 - np.abs(x / width) ** 4) * (0.55 + 0.45 * _step(0.36 - np.abs(phase - 0.5), 0.12))
    edge = _step(0.36 - np.abs(phase - 0.5), 0.05) - _step(0.29 - np.abs(phase - 0.5), 0.05)
    sides = (np.abs(x) - 0.62 * width) / 0.018
    pedicles = np.exp(-(sides**2) - ((phase - 0.42) * body.rib_spacing / 0.024) ** 2)
    process = np.exp(-((x / 0.016) ** 2) - ((phase - 0.75) * body.rib_spacing / 0.045) ** 2)
    wings = np.exp(-(((np.abs(x) - 1.35 * width) / 0.06) ** 2) - ((phase - 0.42) * body.rib_spacing / 0.03) ** 2)
    dense = 0.30 * bodies + 0.20 * edge * (np.abs(x) < width) + 0.16 * pedicles + 0.14 * process + 0.16 * wings
    breastbone = 0.10 * _root(1 - (x / 0.09) ** 4) * _step(y - body.clavicle_y, 0.08) * _step(0.15 - y, 0.1)
    return (body.bone * (dense + breastbone)).astype(np.float32)


def _vessels(body: _Anatomy, detector: _Detector, lungs: _Lungs, rng: np.random.Generator) -> _Map:
    """Thickness of the lungs' vessels, in centimetres: trees that leave the hila."""
    count, points = 36, 60
    t = np.linspace(0, 1, points)
    curves = []
    for sign, hilum in ((-1, (-0.13, body.heart_y - 0.18)), (1, (0.15, body.heart_y - 0.22))):
        for angle in rng.uniform(-1.35, 1.35, count // 2):
            length = rng.uniform(0.25, 0.6) * body.cage_width / 0.66
            bend = rng.normal(0, 0.5)
            x = hilum[0] + rng.normal(0, 0.05) + sign * length * t * np.cos(angle + bend * t)
            y = hilum[1] + rng.normal(0, 0.10) + 1.25 * length * t * np.sin(angle + bend * t)
            curves.append(np.stack([x, y, 0 * t, np.minimum(t / 0.15, 1) * (1 - t)], axis=1))
    lines = detector.project(np.stack(curves))
    trunks = detector.sweep(lines, 0.026)
    twigs = detector.sweep(lines, 0.010)
    hila = _ellipse(detector.x, detector.y, (-0.14, body.heart_y - 0.16), (0.09, 0.15)) ** 1.5
    hila += _ellipse(detector.x, detector.y, (0.16, body.heart_y - 0.20), (0.09, 0.15)) ** 1.5
    within = _step(lungs.thickness - 0.15, 0.25)
    thickness = body.vessels * within * (_CM * (0.25 * trunks + 4.5 * twigs) + 1.2 * hila)
    texture = 0.5 * detector.noise(rng, 0.04) * lungs.thickness
    return (thickness + texture).astype(np.float32)


def _opacity(body: _Anatomy, detector: _Detector, lungs: _Lungs, rng: np.random.Generator) -> _Map:
    """Share of the lungs' air that is replaced by fluid."""
    x, y = detector.x, detector.y
    cloud = detector.noise(rng, 0.08)
    texture = np.clip(0.75 + 0.25 * cloud, 0.15, 1.15)
    kind = rng.choice(["lobe", "patches", "veil"], p=[0.4, 0.4, 0.2])
    if kind == "lobe":
        side = lungs.right if rng.random() < 0.6 else ~lungs.right
        upper = rng.random() < 0.4
        edge = rng.uniform(0.42, 0.6)
        tilted = lungs.level - 0.12 * lungs.across * (1 if upper else -1) + 0.03 * cloud
        amount: _Map = side * _step((edge - tilted) if upper else (tilted - edge), rng.uniform(0.08, 0.3))
        strength = rng.uniform(0.7, 0.95)
    elif kind == "patches":
        amount = np.zeros_like(x)
        for _ in range(rng.integers(2, 6)):
            sign = rng.choice([-1, 1])
            centre = (sign * body.cage_width * rng.uniform(0.22, 0.78), rng.uniform(-0.40, max(body.dome) - 0.06))
            radius = rng.uniform(0.12, 0.28)
            distance = ((x - centre[0]) ** 2 + ((y - centre[1]) / rng.uniform(0.8, 1.4)) ** 2) / radius**2
            amount = np.maximum(amount, np.exp(-distance * (1 + 0.35 * np.clip(cloud, -1, 2))))
        strength = rng.uniform(0.7, 0.95)
    else:
        central = np.exp(-((lungs.across - 0.1) ** 2) / 0.35)
        amount = (0.45 + 0.55 * central) * np.clip(0.75 + 0.35 * cloud, 0.2, 1.3)
        strength = rng.uniform(0.5, 0.75)
    return np.clip(strength * amount * texture, 0, 0.92).astype(np.float32)


def _expose(path: _Map, detector: _Detector, rng: np.random.Generator, share: float) -> NDArray[np.float32]:
    """Beer-Lambert, scatter, Poisson noise, and the display of a film."""
    spread, dose = rng.uniform(0.15, 0.45), rng.uniform(0.6, 2.0)
    middle, slope, brightest = rng.normal(1.40, 0.12), rng.normal(1.50, 0.13), rng.uniform(0.93, 1.0)
    primary = np.exp(-path)
    wide = ndimage.gaussian_filter(primary, 0.12 * detector.size, mode="nearest", truncate=2.5)
    scatter = spread * np.minimum(wide, 0.25)
    photons = share * dose * 6e8 / detector.size**2  # in the open beam, a pixel
    counts = rng.poisson((primary + scatter) * photons)
    density = -np.log(np.maximum(counts, 0.5) / photons)
    density = ndimage.gaussian_filter(density, 0.002 * detector.size)  # the screen's unsharpness
    density += 0.5 * (density - ndimage.gaussian_filter(density, 0.03 * detector.size))  # as digital systems enhance
    shown = 1 / (1 + np.exp(-slope * (density - middle)))
    dark = 1 / (1 + np.exp(slope * middle))
    image: NDArray[np.float32] = np.clip((shown - dark) / (brightest - dark), 0, 1).astype(np.float32)
    return image
