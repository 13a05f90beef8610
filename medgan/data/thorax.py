r"""A procedural computed tomography of the chest: an analytic thorax in Hounsfield units. No patient, no download.

The three-dimensional counterpart of `medgan.data.phantom`, for the same purposes: trying out, tests, teaching.

1. *Anatomy.* A patient is a set of numbers, drawn once. The trunk and the rib cage are elliptic cylinders that close
   towards the neck, heart and abdominal organs ellipsoids, airways and great vessels tubes; the ribs are tubes that
   wind around the cage and lean forward and down, the lungs what the cage leaves above the diaphragm. Each voxel takes
   the value of what it lies in, mixed with its neighbour's at a border, as the partial volume effect has it.
2. *Physics.* Values are Hounsfield units of the tissues. Lungs are denser where blood settles, behind, as the patient
   lies on the back; fluid in the stomach has a level. Noise has the variance of filtered back projection: a voxel
   gathers that of all rays through it, :math:`e^{p}` for a ray of attenuation :math:`p`, here of the two along the
   axes, and a large voxel averages it away.
3. *Disease.* PNEUMONIA fills part of the lungs' air with fluid: a lobe up to its fissure, some patches, or a veil.

Coordinates in mm, in the order of a volume's axes: ``z`` from the head down, ``y`` from front to back, ``x`` from the
patient's right to the left; the middle of the chest is 0.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

__all__ = ["EXTENT_MM", "VERSION", "render_thorax"]

VERSION = 1
"""Raise it whenever the same seed would give other volumes."""

EXTENT_MM = (300.0, 360.0, 360.0)
"""Depth, height and width of the scanned region."""

_TOP = -155.0  # z of its upper end
_AIR, _FAT, _ORGAN_FAT, _MUSCLE, _BLOOD, _FLUID, _LIVER = -1000, -100, -80, 50, 42, 20, 60
_CARTILAGE, _DISC, _SPONGY, _CORTICAL = 130, 90, 190, 620
_WATER = 0.02  # attenuation per mm at about 70 keV effective
_NOISE = 25.0  # standard deviation behind 250 mm of water, HU, in a voxel of 1.2 mm³

_Map = NDArray[Any]  # float32
_Point = tuple[float, float, float]


@dataclass(frozen=True)
class _Anatomy:
    """One patient; lengths in mm. Drawn by `_draw_anatomy`."""

    cage_width: float  # half of the distance between the ribs of both sides, at the widest level
    cage_depth: float  # likewise from front to back
    apex: float  # z of the lungs' upper ends
    muscle: float  # thickness outside of the ribs
    fat: float  # thickness under the skin
    dome: tuple[float, float]  # z of the diaphragm's top, patient's right and left
    heart: float  # factor of its size
    heart_tilt: float
    rib_spacing: float
    rib_drop: float  # how much lower a rib ends in front than it begins behind
    rib_radius: float
    bone: float  # relative density
    lung: float  # of healthy lung, HU
    stomach: float  # share of it that is gas
    vessels: float


def _draw_anatomy(rng: np.random.Generator) -> _Anatomy:
    """Draw one patient."""
    stature = rng.normal(1, 0.05)
    right_dome = rng.normal(52, 9)
    return _Anatomy(
        cage_width=stature * rng.normal(130, 6),
        cage_depth=stature * rng.normal(94, 6),
        apex=rng.normal(-140, 4),
        muscle=rng.uniform(11, 18),
        fat=rng.uniform(5, 22),
        dome=(right_dome, right_dome + rng.normal(11, 5)),
        heart=rng.normal(1, 0.08),
        heart_tilt=rng.normal(0.75, 0.12),
        rib_spacing=stature * rng.normal(26, 1.2),
        rib_drop=rng.normal(72, 8),
        rib_radius=rng.normal(5.2, 0.4),
        bone=rng.normal(1, 0.12),
        lung=rng.normal(-850, 18),
        stomach=rng.uniform(0.1, 0.6),
        vessels=rng.uniform(0.8, 1.3),
    )


class _Grid:
    """Voxels that see the patient shifted and rolled by the pose.

    Attributes:
        size: Depth, height and width in voxels.
        voxel: The same of a voxel, in mm.
        blur: Width of a border, in mm: a voxel.
        z: Shape ``(depth, 1, 1)``.
        y: Shape ``(height, width)``.
        x: Shape ``(height, width)``.
    """

    def __init__(self, size: tuple[int, int, int], rng: np.random.Generator) -> None:
        """Draw a pose."""
        self.size = size
        self.voxel = tuple(extent / length for extent, length in zip(EXTENT_MM, size, strict=True))
        self.blur = sum(self.voxel) / 3
        roll, self._shift = rng.normal(0, 0.04), rng.normal((0, 0, 0), (5, 4, 4)).tolist()
        self._cosine, self._sine = math.cos(roll), math.sin(roll)
        starts = (_TOP, -EXTENT_MM[1] / 2, -EXTENT_MM[2] / 2)
        self._origin = [start + voxel / 2 for start, voxel in zip(starts, self.voxel, strict=True)]
        z, v, u = (
            origin + voxel * np.arange(length) - shift
            for origin, voxel, length, shift in zip(self._origin, self.voxel, size, self._shift, strict=True)
        )
        self.z: _Map = z[:, None, None].astype(np.float32)
        self.y: _Map = (self._cosine * v[:, None] - self._sine * u[None, :]).astype(np.float32)
        self.x: _Map = (self._cosine * u[None, :] + self._sine * v[:, None]).astype(np.float32)

    def place(self, points: NDArray[np.float64]) -> NDArray[np.float64]:
        """Return where points, shape ``(n, 3)``, lie, in voxels."""
        z, y, x = np.moveaxis(points, -1, 0)
        turned = np.stack([z, self._cosine * y + self._sine * x, self._cosine * x - self._sine * y], axis=-1)
        placed: NDArray[np.float64] = (turned + np.subtract(self._shift, self._origin)) / self.voxel
        return placed

    def box(self, low: Sequence[float], high: Sequence[float]) -> tuple[slice, slice, slice]:
        """Return the voxels that may have a share of a box; possibly none."""
        z, y, x = ((one + other) / 2 for one, other in zip(low, high, strict=True))
        deep, tall, wide = ((other - one) / 2 for one, other in zip(low, high, strict=True))
        middle = (z, self._cosine * y + self._sine * x, self._cosine * x - self._sine * y)
        turn = abs(self._sine)
        reach = (deep, tall + turn * wide, wide + turn * tall)
        found = []
        for axis, length in enumerate(self.size):
            place = (middle[axis] + self._shift[axis] - self._origin[axis]) / self.voxel[axis]
            half = reach[axis] / self.voxel[axis] + 1
            found.append(slice(min(max(int(place - half), 0), length), min(max(int(place + half) + 2, 0), length)))
        return found[0], found[1], found[2]

    def inside(self, distance: _Map) -> _Map:
        """Return the share of each voxel on the inner side of a surface, by its signed distance in mm."""
        share: _Map = np.clip(np.float32(0.5) - distance * np.float32(1 / self.blur), 0, 1)
        return share

    def field(self, rng: np.random.Generator, length: float) -> _Map:
        """Smooth noise of mean 0 and deviation 1, with a correlation length in mm, the same on any grid."""
        waves = 12
        kz, ky, kx = rng.standard_normal((3, waves, 1)) / length
        along = kz * self.z.reshape(1, -1) + rng.uniform(0, 2 * np.pi, (waves, 1))
        across = ky * self.y.reshape(1, -1) + kx * self.x.reshape(1, -1)
        # In float64: how a matrix product is divided among threads must not show.
        waved = np.cos(along).T @ np.cos(across) - np.sin(along).T @ np.sin(across)
        scaled: _Map = waved.astype(np.float32).reshape(self.size)
        scaled *= math.sqrt(2 / waves)
        return scaled


def render_thorax(
    patient: Sequence[int],
    *,
    scan: int = 0,
    pneumonia: bool = False,
    size: tuple[int, int, int] = (64, 64, 64),
) -> NDArray[np.float32]:
    """Simulate one scan of the chest.

    Args:
        patient: Seed of the anatomy (and of the disease).
        scan: Number of the scan; gives pose, breath and noise.
        pneumonia: Whether part of the lungs is filled.
        size: Depth, height and width of the volume in voxels; it always shows `EXTENT_MM`.

    Returns:
        Shape ``(depth, height, width)``, float32 in Hounsfield units, whole numbers from -1024 to 3071. The axes are
        those of `medgan.data.volumes`.
    """
    body = _draw_anatomy(np.random.default_rng(patient))
    rng = np.random.default_rng([*patient, 1, scan])
    grid = _Grid(size, rng)
    breath = rng.normal(0, 5)
    shell = _shell(body, grid)
    values = _trunk(body, grid)
    cavity = grid.inside(shell + np.float32(6))
    _mix(values, cavity, _ORGAN_FAT)
    dome = _diaphragm(body, grid, breath)
    above = grid.inside(grid.z - dome)
    _paint_abdomen(values, body, grid, cavity * (1 - above), breath)
    _paint_mediastinum(values, body, grid, breath)
    lungs = cavity * above * _beside_mediastinum(body, grid, breath)
    air = _lung_density(body, grid, shell, lungs, patient, pneumonia=pneumonia)
    values += lungs * (air - values)
    _paint_airways(values, body, grid, breath)
    _paint_ribs(values, body, grid, shell)
    _paint_spine(values, body, grid)
    _paint_shoulders(values, body, grid, shell)
    values += _noise(values, grid, rng)
    rounded: NDArray[np.float32] = np.clip(np.rint(values), -1024, 3071)
    return rounded


def _mix(values: _Map, share: _Map, value: Any) -> None:
    """Put a tissue into voxels, in place, by its share of each."""
    values += share * (np.asarray(value, dtype=np.float32) - values)


def _rise(values: Any, width: float) -> Any:
    """Rise from 0 to 1 around 0."""
    return np.clip(values / width + 0.5, 0, 1)


def _paint_tube(values: _Map, grid: _Grid, start: _Point, end: _Point, radius: float, value: float) -> None:
    """Put a straight tube with round ends into the volume."""
    low, high = np.minimum(start, end) - radius, np.maximum(start, end) + radius
    box = grid.box(low.tolist(), high.tolist())
    z, y, x = grid.z[box[0]] - start[0], grid.y[box[1:]] - start[1], grid.x[box[1:]] - start[2]
    dz, dy, dx = (b - a for a, b in zip(start, end, strict=True))
    along = np.clip((z * dz + (y * dy + x * dx)) / max(dz * dz + dy * dy + dx * dx, 1e-6), 0, 1)
    distance = np.sqrt((z - along * dz) ** 2 + (y - along * dy) ** 2 + (x - along * dx) ** 2) - radius
    _mix(values[box], grid.inside(distance.astype(np.float32)), value)


def _ellipsoid(grid: _Grid, centre: _Point, radii: _Point, tilt: float = 0.0) -> tuple[tuple[slice, ...], _Map]:
    """Return the box around an ellipsoid, and its share of each voxel there; it may be tilted in the axial plane."""
    reach = max(radii[1:])
    box = grid.box(
        (centre[0] - radii[0], centre[1] - reach, centre[2] - reach),
        (centre[0] + radii[0], centre[1] + reach, centre[2] + reach),
    )
    y, x = grid.y[box[1:]] - centre[1], grid.x[box[1:]] - centre[2]
    cosine, sine = math.cos(tilt), math.sin(tilt)
    along, across = cosine * x - sine * y, cosine * y + sine * x
    level = ((grid.z[box[0]] - centre[0]) / radii[0]) ** 2 + ((across / radii[1]) ** 2 + (along / radii[2]) ** 2)
    return box, grid.inside(((np.sqrt(level) - 1) * min(radii)).astype(np.float32))


def _cage(body: _Anatomy, z: Any) -> tuple[Any, Any]:
    """Return the half axes of the rib cage at a level, from right to left and from front to back."""
    level = np.clip((z - body.apex) / 150, 0, 1)
    dome = (1 - (1 - level) ** 2.3) ** 0.5
    return np.maximum(body.cage_width * dome, 42), np.maximum(body.cage_depth * dome**0.8, 38)


def _shell(body: _Anatomy, grid: _Grid) -> _Map:
    """Return the distance from the rib cage, which runs through the middle of the ribs; negative inside."""
    width, depth = _cage(body, grid.z.astype(np.float64))
    # Beside the spine the cage reaches further back than in the middle.
    gutter = 1 - 0.14 * np.exp(-(((np.abs(grid.x) - 52) / 34) ** 2)) * _rise(grid.y - 30, 60)
    x, y = grid.x, (grid.y * gutter).astype(np.float32)
    level = np.sqrt((width**-2).astype(np.float32) * x**2 + (depth**-2).astype(np.float32) * y**2)
    shell: _Map = np.hypot(x, y) * (1 - 1 / np.maximum(level, np.float32(1e-3)))
    return shell


def _trunk(body: _Anatomy, grid: _Grid) -> _Map:
    """Return air, and fat and muscle of the trunk; arms are raised, as they are for such a scan."""
    z = grid.z.astype(np.float64)
    neck = 1 - _rise(z + 125, 70)  # 1 at the upper end
    width = body.cage_width + body.muscle + body.fat + 6 * neck
    depth = (body.cage_depth + body.muscle + 0.8 * body.fat) * (1 - 0.10 * neck) + 4
    power = 2.4
    y, x = np.abs(grid.y) ** power, np.abs(grid.x) ** power
    values = np.full(grid.size, _AIR, np.float32)
    for layer, value in ((0.0, _FAT), (1.0, _MUSCLE)):
        # Subcutaneous fat is thickest in front and at the sides.
        wide, deep = width - layer * body.fat, depth - layer * 0.8 * body.fat
        level = (wide**-power).astype(np.float32) * x + (deep**-power).astype(np.float32) * y
        _mix(values, grid.inside((level - 1) * np.float32((body.cage_depth + body.muscle) / power)), value)
    return values


def _diaphragm(body: _Anatomy, grid: _Grid, breath: float) -> _Map:
    """Return z of the diaphragm, shape ``(height, width)``: two domes that fall off towards the ribs."""
    top = np.where(grid.x < 0, body.dome[0], body.dome[1]) + breath
    middle = 0.46 * body.cage_width
    side = (np.abs(grid.x) - middle) / (0.55 * body.cage_width)
    along = (grid.y + 12) / (0.85 * body.cage_depth)
    dome: _Map = (top + 34 * side**2 * (np.abs(grid.x) > middle) + 9 * side**2 + 36 * along**2).astype(np.float32)
    return dome


def _heart(body: _Anatomy, breath: float) -> tuple[_Point, _Point]:
    """Return middle and half axes of the heart, which rests on the diaphragm."""
    size = body.heart
    return (body.dome[0] + 0.8 * breath - 38, -28.0, 22.0), (47 * size, 46 * size, 66 * size)


def _paint_mediastinum(values: _Map, body: _Anatomy, grid: _Grid, breath: float) -> None:
    """Put heart and great vessels between the lungs."""
    centre, radii = _heart(body, breath)
    box, share = _ellipsoid(grid, centre, radii, body.heart_tilt)
    _mix(values[box], share, _BLOOD)
    base = centre[0] - 0.8 * radii[0]
    arch = base - 42
    tubes: list[tuple[_Point, _Point, float]] = [
        ((base + 12, -20, -6), (arch + 6, -24, -16), 16),  # ascending aorta
        ((arch, -22, -14), (arch + 2, 34, 20), 13),
        ((arch + 4, 38, 22), (170, 42, 12), 12),  # descending aorta
        ((base + 14, -14, -34), (arch - 8, -16, -30), 9),  # superior vena cava
        ((base + 2, -26, 14), (base - 16, 2, 24), 14),  # pulmonary trunk
        ((base - 16, 4, 22), (base - 8, 14, -40), 10),
        ((base - 16, 4, 22), (base - 6, 20, 42), 10),
        ((arch - 6, -14, -18), (-170, -6, -26), 6),  # to head and arms
        ((arch - 6, -2, 2), (-170, 2, 14), 5),
        ((arch - 6, 12, 16), (-170, 10, 30), 5),
        ((-170, 32, 4), (120, 30, 2), 7),  # oesophagus
    ]
    for start, end, radius in tubes:
        _paint_tube(values, grid, start, end, radius, _BLOOD)


def _beside_mediastinum(body: _Anatomy, grid: _Grid, breath: float) -> _Map:
    """Return the share of each voxel that neither the mediastinum nor heart or spine take from the lungs."""
    z = grid.z.astype(np.float64)
    (middle, _, _), radii = _heart(body, breath)
    width = np.interp(z, [-150, middle - radii[0] - 20, middle, 120], [34, 36, 27, 24])
    y, x = grid.y + 6, grid.x - 2
    level = (width**-2).astype(np.float32) * x**2 + (y / 76) ** 2
    free = grid.inside((1 - level) * np.float32(13))
    # Right and left lung meet in front, but for a septum, and lie against the spine behind.
    septum = np.abs(x) - 3 - 0.10 * np.maximum(-grid.y - 40, 0)
    spine = np.hypot(grid.x / 1.15, grid.y - 70) - 25
    free *= grid.inside(-np.minimum(septum, spine))
    free *= 1 - _rise(-(z - body.apex), 12).astype(np.float32)
    centre, axes = _heart(body, breath)
    box, share = _ellipsoid(grid, centre, (axes[0] + 4, axes[1] + 4, axes[2] + 4), body.heart_tilt)
    free[box] *= 1 - share
    return free


def _lung_density(
    body: _Anatomy, grid: _Grid, shell: _Map, lungs: _Map, patient: Sequence[int], *, pneumonia: bool
) -> _Map:
    """Return the values of the lungs: air, blood that settles behind, vessels, and fluid if there is a pneumonia."""
    rng = np.random.default_rng([*patient, 3])
    values = grid.field(rng, 9) * np.float32(16)
    values += np.float32(body.lung) + np.float32(0.45) * grid.y
    if pneumonia:
        _mix(values, _opacity(body, grid, shell, np.random.default_rng([*patient, 2])), _FLUID)
    _mix(values, np.float32(body.vessels) * _vessels(body, grid, rng), _BLOOD)
    return values


def _vessels(body: _Anatomy, grid: _Grid, rng: np.random.Generator) -> _Map:
    """Return the share of the lungs' vessels: trees that leave the hila, thinner the further they go."""
    count, points = 44, math.ceil(260 / min(grid.voxel)) + 2
    t = np.linspace(0, 1, points)
    side = np.repeat([-1.0, 1.0], count // 2)[:, None]
    azimuth, rise = rng.uniform(-1.5, 1.5, (count, 1)), rng.normal(0.25, 0.75, (count, 1))
    length = rng.uniform(55, 120, (count, 1)) * body.cage_width / 130
    bend, climb = rng.normal(0, 0.5, (count, 1)), rng.normal(0.2, 0.4, (count, 1))
    hilum = np.array([body.dome[0] - 82, 14, 44]) + rng.normal(0, 7, (count, 3))
    z = hilum[:, :1] + 1.25 * length * t * np.sin(rise + climb * t)
    y = hilum[:, 1:2] + length * t * np.cos(rise) * np.sin(azimuth + bend * t)
    x = side * (hilum[:, 2:] + length * t * np.cos(rise) * np.cos(azimuth + bend * t))
    radius = np.broadcast_to(3.4 * (1 - t) + 0.7, (count, points))
    placed = grid.place(np.stack([z, y, x], axis=-1).reshape(-1, 3))
    volume = (np.pi * radius**2 * length / (points - 1)).ravel() / math.prod(grid.voxel)
    low = np.floor(placed).astype(int)
    numbers, shares = [], []
    for corner in np.ndindex(2, 2, 2):
        where = low + corner
        inside = ((where >= 0) & (where < grid.size)).all(axis=1)
        shares.append((volume * np.abs(1 - np.array(corner) - (placed - low)).prod(axis=1))[inside])
        numbers.append(np.ravel_multi_index(tuple(where[inside].T), grid.size))
    total = np.bincount(np.concatenate(numbers), np.concatenate(shares), math.prod(grid.size))
    filled: _Map = np.minimum(total, 0.9).astype(np.float32).reshape(grid.size)
    return filled


def _opacity(body: _Anatomy, grid: _Grid, shell: _Map, rng: np.random.Generator) -> _Map:
    """Return the share of the lungs' air that is replaced by fluid."""
    cloud = grid.field(rng, 14)
    kind = rng.choice(["lobe", "patches", "veil"], p=[0.4, 0.4, 0.2])
    if kind == "lobe":
        side = -1 if rng.random() < 0.6 else 1
        lower = rng.random() < 0.6
        # The oblique fissure runs from behind and above to the front and below.
        below = grid.z - (rng.normal(-12, 8) - np.float32(0.75) * grid.y) + 5 * cloud
        amount = _rise(below if lower else -below, rng.uniform(8, 30)) * _rise(side * grid.x, 10)
        if not lower:
            amount *= _rise(grid.z - rng.uniform(-150, -60), 30)  # often one of its segments alone
        strength = rng.uniform(0.75, 1.0)
    elif kind == "patches":
        amount = np.zeros(grid.size, np.float32)
        for _ in range(rng.integers(3, 8)):
            z, y = rng.uniform(-90, max(body.dome)), rng.uniform(-0.45, 0.75) * body.cage_depth
            x = float(rng.choice([-1, 1])) * rng.uniform(0.38, 0.85) * body.cage_width
            radius = rng.uniform(16, 36)
            flat = np.exp(-((grid.y - y) ** 2 + (grid.x - x) ** 2) / radius**2)
            amount = np.maximum(amount, np.exp(-(((grid.z - z) / radius) ** 2)) * flat)
        amount = _rise(amount + 0.10 * cloud - 0.45, 0.5)
        strength = rng.uniform(0.7, 0.95)
    else:
        # Ground glass: everywhere, most of it near the ribs and behind.
        amount = np.clip(1 + shell / 50, 0.25, 1) * (0.75 + np.float32(0.003) * grid.y)
        strength = rng.uniform(0.4, 0.65)
    filled: _Map = np.clip(strength * amount * (0.88 + 0.16 * cloud), 0, 0.97).astype(np.float32)
    return filled


def _paint_airways(values: _Map, body: _Anatomy, grid: _Grid, breath: float) -> None:
    """Put trachea and main bronchi into the mediastinum."""
    centre, radii = _heart(body, breath)
    carina = centre[0] - radii[0] - 14
    tubes: list[tuple[_Point, _Point, float]] = [
        ((-175, 14, 0), (carina, 20, 0), 8.5),
        ((carina, 20, 0), (carina + 30, 18, -38), 6.5),
        ((carina, 20, 0), (carina + 34, 20, 42), 5.5),
    ]
    for start, end, radius in tubes:
        _paint_tube(values, grid, start, end, radius, _AIR)


def _paint_abdomen(values: _Map, body: _Anatomy, grid: _Grid, below: _Map, breath: float) -> None:
    """Put liver, spleen and stomach under the diaphragm, where the share `below` of a voxel is."""
    edge = grid.x - 18 + 0.35 * np.maximum(grid.y, 0)
    _mix(values, below * grid.inside(edge.astype(np.float32)), _LIVER)
    top = body.dome[1] + breath
    box, share = _ellipsoid(grid, (top + 52, 38, 88), (46, 40, 26), 0.5)
    _mix(values[box], share * below[box], _MUSCLE)
    box, share = _ellipsoid(grid, (top + 44, -22, 58), (44, 38, 42))
    # Gas lies above the fluid, that is in front.
    level = -22 + 38 * (2 * body.stomach - 1)
    gas = _rise(level - grid.y[box[1:]], grid.blur)
    _mix(values[box], share * below[box], (_FLUID + (_AIR + 30 - _FLUID) * gas).astype(np.float32)[None])


def _paint_ribs(values: _Map, body: _Anatomy, grid: _Grid, shell: _Map) -> None:
    """Put twelve ribs of both sides, their cartilages, and the breastbone into the wall."""
    z = grid.z.astype(np.float64)
    turn = grid.y / np.maximum(np.hypot(grid.x, grid.y), 1)  # 1 behind, -1 in front
    drop = body.rib_drop * (1 - turn) / 2
    phase = ((z - body.apex - 6) / body.rib_spacing).astype(np.float32) - (drop / body.rib_spacing).astype(np.float32)
    number = np.rint(phase)
    height, thickness = 1.05 * body.rib_radius, body.rib_radius
    level = np.sqrt(
        ((phase - number) * np.float32(body.rib_spacing / height)) ** 2 + (shell / np.float32(thickness)) ** 2
    )
    share = grid.inside((level - 1) * np.float32(thickness))
    share *= (number >= 0) & (number < 12) & (np.abs(grid.x) > 14)
    where = np.nonzero(share)
    marrow = np.clip((0.7 - level[where]) / 0.2, 0, 1)
    bone = body.bone * (_CORTICAL + (_SPONGY - _CORTICAL) * marrow)
    gristle = _rise(-0.72 - turn, 0.1)[where[1:]]
    tissue = bone + gristle * (_CARTILAGE - bone)
    values[where] += share[where] * (tissue.astype(np.float32) - values[where])

    front = float(_cage(body, 0.0)[1])
    box = grid.box((-122, -front - 15, -24), (52, -20, 24))
    flat = grid.inside((np.abs(grid.x[box[1:]]) - 18).astype(np.float32)) * (grid.y[box[1:]] < 0)
    height_share = _rise(z[box[0]] + 115, 8) * _rise(45 - z[box[0]], 8)
    breastbone = grid.inside(np.abs(shell[box]) - np.float32(6)) * flat * height_share.astype(np.float32)
    _mix(values[box], breastbone, 0.5 * body.bone * (_SPONGY + _CORTICAL))


def _paint_spine(values: _Map, body: _Anatomy, grid: _Grid) -> None:
    """Put vertebrae, a pair of ribs each, with discs, canal and processes into the volume."""
    box = grid.box((-200, 40, -50), (200, 128, 50))
    z, y, x = grid.z[box[0]], grid.y[box[1:]], grid.x[box[1:]]
    phase = np.mod((z - np.float32(body.apex + 6)) / np.float32(body.rib_spacing) + 0.5, 1)
    vertebra = _rise(0.38 - np.abs(phase - 0.5), 0.14)
    level = np.hypot(x / 19, (y - 62) / 16)
    rim = _rise(level - 0.86, 0.12) * (_CORTICAL - _SPONGY)
    value = body.bone * (_SPONGY + 0.7 * rim) * vertebra + _DISC * (1 - vertebra)
    _mix(values[box], grid.inside((level - 1) * np.float32(16)), value.astype(np.float32))
    canal = np.hypot(x / 1.15, y - 87)
    ring = np.abs(canal - 11) - 3.2
    wings = (np.hypot((np.abs(x) - 27) / 15, (y - 88 - 0.15 * (np.abs(x) - 27)) / 5) - 1) * 5
    process = (np.hypot(x / 4, (y - 98) / 10) - 1) * 4
    behind = grid.inside(np.minimum(np.minimum(ring, wings), process).astype(np.float32))
    behind = behind * _rise(0.46 - np.abs(phase - 0.5), 0.3)
    _mix(values[box], behind.astype(np.float32), 0.75 * body.bone * _CORTICAL)
    _mix(values[box], grid.inside((canal - 8).astype(np.float32)), _FLUID)


def _paint_shoulders(values: _Map, body: _Anatomy, grid: _Grid, shell: _Map) -> None:
    """Put shoulder blades and clavicles around the upper chest."""
    box = grid.box((-135, 0, -175), (30, 135, 175))
    z, y, x = grid.z[box[0]], grid.y[box[1:]], grid.x[box[1:]]
    turn = np.arctan2(np.abs(x), y)  # 0 behind, a right angle at the side
    reach = _rise(turn - 0.62, 0.15) * _rise(1.25 - turn, 0.15)
    height = _rise(z + 125, 20) * _rise(15 - z, 30)
    distance = np.abs(shell[box] - np.float32(14)) - np.float32(2.6)
    share = grid.inside(distance) * (reach.astype(np.float32) * height.astype(np.float32))
    _mix(values[box], share, 0.8 * body.bone * _CORTICAL)
    for side in (-1, 1):
        start, end = (body.apex + 24, -0.62 * body.cage_depth, 24.0 * side), (body.apex - 4, -16.0, 122.0 * side)
        _paint_tube(values, grid, start, end, 6, 0.8 * body.bone * _CORTICAL)


def _noise(values: _Map, grid: _Grid, rng: np.random.Generator) -> _Map:
    """Return the noise of a scan: most where rays have a long way through the body, less in large voxels."""
    dose = rng.uniform(0.7, 1.6)
    attenuation = np.maximum(1 + values / 1000, 0)
    paths = [attenuation.sum(axis, keepdims=True) * (_WATER * grid.voxel[axis]) for axis in (1, 2)]
    gathered = (np.exp(paths[0] - 250 * _WATER) + np.exp(paths[1] - 250 * _WATER)) / 2
    noise: _Map = rng.standard_normal(grid.size, dtype=np.float32) * np.sqrt(gathered)
    noise *= _NOISE * math.sqrt(1.2 / math.prod(grid.voxel) / dose)
    return noise
