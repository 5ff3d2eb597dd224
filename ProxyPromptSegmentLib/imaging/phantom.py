"""An analytic phantom of the male pelvis in T2-weighted MRI, for demonstrations and tests without patient data.

It is synthetic: soft shapes in millimetres around the prostate's centre (x to the left, y to
posterior, z to superior), with textures, a coil bias field and Rician noise. Anatomy, contrast and slice
orientation vary with the seed. It shows that the program runs; it says nothing about quality on
patients.
"""

from __future__ import annotations

from typing import Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume

Field = npt.NDArray[Any]
Limits = tuple[float, float]
ALL: Limits = (-500.0, 500.0)

# Signal relative to urine, as percentiles of public T2w prostate volumes suggest.
FAT, MUSCLE, MARROW, CORTEX, GAS, URINE, VESSEL, WALL = 0.45, 0.10, 0.23, 0.05, 0.03, 0.92, 0.04, 0.16
TRANSITION, PERIPHERAL, STROMA, CAPSULE, VESICLE, STOOL = 0.29, 0.53, 0.13, 0.13, 0.62, 0.12

PROSTATE_TERMINOLOGY = {
    "contextName": "Segmentation category and type - 3D Slicer General Anatomy list",
    "category": ["SCT", "123037004", "Anatomical Structure"],
    "type": ["SCT", "41216001", "Prostate"],
}


def pelvis_phantom(
    seed: int,
    size: tuple[int, int, int] = (28, 160, 160),
    fov_mm: float | None = None,
    slice_mm: float | None = None,
    oblique: bool = True,
) -> tuple[Volume, Segmentation]:
    """Generate a pelvis with a prostate on about the middle half of its slices.

    Args:
        seed: Random seed; the same seed gives the same volume, voxel for voxel.
        size: Array shape ``(K, J, I)``; at least ``(8, 32, 32)`` to be recognizable.
        fov_mm: In-plane field of view in mm; by default random in 140-180.
        slice_mm: Slice spacing in mm; by default such that the slices cover 80-95 mm.
        oblique: Whether the slices are slightly tilted, as in prostate protocols.

    Returns:
        The volume (arbitrary units, about 0-1000) and a segmentation with one segment, "prostate".
    """
    rng = np.random.default_rng([seed, 158])
    fov = float(rng.uniform(140, 180)) if fov_mm is None else fov_mm
    depth = float(rng.uniform(80, 95))
    step = depth / size[0] if slice_mm is None else slice_mm
    pixel = fov / size[2]
    geometry = _geometry(rng, size, (pixel, pixel, step), oblique)
    painter = _Painter(rng, size, (step, pixel, pixel))
    distance = painter.draw()
    image = _acquire(rng, painter.signal)
    volume = Volume(image, geometry, f"phantom-{seed}")
    mask = (distance < 0).astype(np.uint8)
    segment = Segment("prostate", mask, (0.90, 0.62, 0.35), PROSTATE_TERMINOLOGY)
    return volume, Segmentation([segment], geometry)


def _geometry(
    rng: np.random.Generator, size: tuple[int, int, int], spacing: tuple[float, float, float], oblique: bool
) -> VolumeGeometry:
    """Return a grid centred near the isocentre and tilted by a few degrees."""
    pitch, yaw = np.deg2rad(rng.uniform(-12, 12)), np.deg2rad(rng.uniform(-3, 3))
    shift = rng.uniform(-20, 20, 3)
    if not oblique:
        pitch = yaw = 0.0
    about_x = np.array([[1, 0, 0], [0, np.cos(pitch), -np.sin(pitch)], [0, np.sin(pitch), np.cos(pitch)]])
    about_z = np.array([[np.cos(yaw), -np.sin(yaw), 0], [np.sin(yaw), np.cos(yaw), 0], [0, 0, 1]])
    direction = about_z @ about_x
    k, j, i = size
    half = np.array([(i - 1) * spacing[0], (j - 1) * spacing[1], (k - 1) * spacing[2]]) / 2
    x, y, z = (float(v) for v in np.round(shift - direction @ half, 3))
    return VolumeGeometry((i, j, k), spacing, (x, y, z), direction)


def _smooth_field(rng: np.random.Generator, shape: tuple[int, ...], cells: tuple[int, int, int]) -> Field:
    """Return smooth noise, mostly in -1..1: random values on a coarse grid, interpolated by cubic B-splines."""
    field: Field = rng.uniform(-1.8, 1.8, tuple(c + 3 for c in cells)).astype(np.float32)
    for axis, (n, c) in enumerate(zip(shape, cells, strict=True)):
        position = (np.arange(n) + 0.5) * c / n
        low = np.minimum(position.astype(int), c - 1)
        t = (position - low).astype(np.float32)
        blend = np.zeros((n, c + 3), np.float32)
        weights = ((1 - t) ** 3, 3 * t**3 - 6 * t**2 + 4, -3 * t**3 + 3 * t**2 + 3 * t + 1, t**3)
        for tap, weight in enumerate(weights):
            blend[np.arange(n), low + tap] = weight / 6
        field = np.moveaxis(np.tensordot(blend, field, (1, axis)), 0, axis)
    return np.ascontiguousarray(field, dtype=np.float32)


def _ellipse(x: Field, y: Field, a: Field | float, b: Field | float, power: float = 2.0) -> Field:
    """Return the approximate distance in mm to a (super)ellipse of half axes a and b; negative inside."""
    u, v = np.abs(x / a), np.abs(y / b)
    if power == 2.0:
        q = np.sqrt(u * u + v * v)
    else:
        q = np.exp(np.log(u**power + v**power + 1e-9) * np.float32(1 / power))
    return np.asarray((q - 1) * np.minimum(a, b), dtype=np.float32)


def _bar(x: Field, y: Field, start: tuple[float, float], end: tuple[float, float], radius: float) -> Field:
    """Return the distance in mm to a thick line between two points ``(x, y)``; negative inside."""
    dx, dy = end[0] - start[0], end[1] - start[1]
    t = np.clip(((x - start[0]) * dx + (y - start[1]) * dy) / (dx * dx + dy * dy), 0, 1)
    ex, ey = x - start[0] - t * dx, y - start[1] - t * dy
    return np.asarray(np.sqrt(ex * ex + ey * ey) - radius, dtype=np.float32)


def _beyond(x: Field, y: Field, point: tuple[float, float], towards: tuple[float, float]) -> Field:
    """Return the distance in mm to the half plane that begins at a point; negative in direction ``towards``."""
    length = float(np.hypot(*towards))
    return np.asarray(((point[0] - x) * towards[0] + (point[1] - y) * towards[1]) / length, dtype=np.float32)


def _ramp(z: Field, start: float, end: float) -> Field:
    """Return 0 before start, 1 after end, and a smooth transition between them."""
    t = np.clip((z - start) / (end - start), 0, 1)
    return (t * t * (3 - 2 * t)).astype(np.float32)


class _Patch:
    """A box of the volume in which soft shapes are painted on top of each other.

    Attributes:
        x: To the left in mm; ``m`` is its absolute value, for paired shapes.
        y: To posterior in mm.
        z: To superior in mm, shape ``(K, 1, 1)``.
        fine: Fine smooth noise.
        signal: The signal to paint on; a view into the whole volume.
    """

    def __init__(self, x: Field, y: Field, z: Field, fine: Field, signal: Field) -> None:
        self.x, self.y, self.z, self.fine, self.signal = x, y, z, fine, signal
        self.m = np.abs(x)

    def paint(self, distance: Field, value: Field | float, weight: Field | float = 1.0, edge: float = 0.7) -> None:
        """Blend in a value where the distance is negative; ``edge`` is half the border's width in mm."""
        amount = np.clip(0.5 - distance / np.float32(2 * edge), 0, 1)
        self.signal += amount * weight * (value - self.signal)


class _Painter:
    """Painter of the organs, one over the other, into ``signal``, shape ``(K, J, I)``."""

    def __init__(self, rng: np.random.Generator, size: tuple[int, int, int], step: tuple[float, float, float]) -> None:
        self.rng, self.shape = rng, size
        k, j, i = (((np.arange(n) - (n - 1) / 2) * s).astype(np.float32) for n, s in zip(size, step, strict=True))
        self.grid = (k, j + np.float32(rng.uniform(-2, 8)), i + np.float32(rng.uniform(-3, 3)))
        self.x = self.grid[2] + 4 * self.noise(3, 5) + 0.9 * self.noise(8, 20)
        self.y = self.grid[1][:, None] + 4 * self.noise(3, 5) + 0.9 * self.noise(8, 20)
        self.signal = np.full(size, FAT, np.float32)
        self.fine = self.noise(size[0], 40)
        scale = float(rng.uniform(0.95, 1.06))
        self.a = float(rng.uniform(22, 27)) * scale  # half width, half depth, half height of the prostate in mm
        self.b = self.a * float(rng.uniform(0.70, 0.86))
        self.h = float(rng.uniform(20, 24))

    def noise(self, through: int, across: int) -> Field:
        """Return smooth noise with the given numbers of cells through the slices and within them."""
        return _smooth_field(self.rng, self.shape, (through, across, across))

    def patch(self, x: Limits = ALL, y: Limits = ALL, z: Limits = ALL) -> _Patch:
        """Return the part of the volume between limits in mm, with a margin for the warp."""
        b = self.box(x, y, z)
        return _Patch(self.x[b], self.y[b], self.grid[0][b[0], None, None], self.fine[b], self.signal[b])

    def box(self, x: Limits = ALL, y: Limits = ALL, z: Limits = ALL) -> tuple[slice, slice, slice]:
        """Return the index ranges of the voxels between limits in mm."""
        found = []
        for axis, (low, high), margin in zip(self.grid, (z, y, x), (0.0, 6.0, 6.0), strict=True):
            start, stop = np.searchsorted(axis, (low - margin, high + margin))
            found.append(slice(int(start), int(stop)))
        return found[0], found[1], found[2]

    def draw(self) -> Field:
        """Paint everything and return the signed distance to the prostate in mm."""
        self.fat()
        self.legs_and_hips()
        self.pelvic_walls()
        self.rectum()
        self.bladder()
        return self.prostate()

    def fat(self) -> None:
        """Paint fat with septa, and the veins around the prostate."""
        self.signal += 0.05 * self.noise(5, 9)
        septa = np.abs(self.noise(9, 20) + 0.4 * self.fine)
        self.signal -= 0.10 * np.clip(1 - septa / 0.10, 0, 1)
        self.signal += 0.03 * self.fine
        p = self.patch((-46, 46), (-34, 40), (-24, 60))
        veins = np.clip((p.fine - 0.25) * 2.2, -0.35, 1)
        near = np.clip((44 - np.sqrt(p.x * p.x + p.y * p.y)) / 12, 0, 1) * _ramp(p.z, -24, -10)
        p.signal += near * (0.22 * veins - 0.10)

    def legs_and_hips(self) -> None:
        """Paint muscles, bones and vessels around the pelvis: adductors, gluteal muscles, ischium, hip joint."""
        rng = self.rng
        whole = self.patch()
        fibres = MUSCLE + 0.015 + 0.03 * whole.fine
        stripe = np.sin(whole.y * 0.36 - whole.m * 0.22 + 3 * self.noise(3, 4))
        # adductors, pectineus: the anterior third in low slices, thinner above
        limits = (ALL, ALL, (-500.0, 26.0))
        p, box = self.patch(*limits), self.box(*limits)
        slope = (float(rng.uniform(0.55, 0.8)), -1.0)
        front = _beyond(p.m, p.y + 30 * _ramp(p.z, -12, 28), (14, -19 + float(rng.uniform(-3, 3))), slope)
        skin = _beyond(p.m, p.y, (0, -72 + float(rng.uniform(-6, 4))), (-0.1, 1))
        wing = np.maximum(np.maximum(front, skin), 7 - p.m) + 1.5 * p.fine
        fade = 1 - _ramp(p.z, 8, 26)
        p.paint(wing, fibres[box], fade, 1.0)
        p.paint(wing + 1, FAT * 0.75, 0.7 * np.clip((stripe[box] - 0.93) * 14, 0, 1) * fade)
        # gluteus maximus: the posterior corners
        limits = (ALL, (34.0, 500.0), ALL)
        p, box = self.patch(*limits), self.box(*limits)
        back = _beyond(p.m, p.y, (26, 62 + float(rng.uniform(-4, 6))), (0.5, 1))
        back = np.maximum(back, 10 - p.m) + 1.5 * p.fine
        p.paint(back, fibres[box], 0.96, 1.0)
        p.paint(back + 1.5, FAT * 0.7, 0.5 * np.clip((stripe[box] - 0.96) * 20, 0, 1))
        # acetabulum and femoral head, then the ischium below them
        marrow = MARROW + 0.05 * self.noise(6, 22)
        for side in ((-200.0, -56.0), (56.0, 200.0)):
            p = self.patch(side, (-38, 46), (-24, 200))
            inside, hip = marrow[self.box(side, (-38, 46), (-24, 200))], _ramp(p.z, -24, -6)
            plate = _ellipse(p.m - 85, p.y - 4, 26.0, 36.0, 3.0)
            p.paint(plate - 1.4, CORTEX, hip)
            p.paint(plate, inside, hip)
            head = _ellipse(p.m - 88, p.y + 6, 21.0, 21.0)
            p.paint(head - 2.6, CORTEX + 0.05, hip)
            p.paint(head - 1.2, 0.35, hip * 0.6)
            p.paint(head, inside * 1.35, hip)
        p = self.patch(z=(-200, -4))
        ischium = _ellipse(p.m - 60, p.y - 10, 12.0, 16.0, 2.5)
        fade = 1 - _ramp(p.z, -22, -6)
        p.paint(ischium - 1.5, CORTEX, fade)
        p.paint(ischium, marrow[: p.signal.shape[0]], fade)
        p.paint(_ellipse(p.m - 84, p.y - 2, 14.0, 22.0), fibres[: p.signal.shape[0]], fade)
        # external iliac vessels and the rectus muscle above
        p = self.patch(z=(0, 200))
        for _ in range(2):
            px, py, r = float(rng.uniform(48, 58)), float(rng.uniform(-58, -44)), float(rng.uniform(4, 5.5))
            p.paint(_ellipse(p.m - px, p.y - py, r, r * 0.85) - 1, WALL, _ramp(p.z, 8, 16))
            p.paint(_ellipse(p.m - px, p.y - py, r, r * 0.85), VESSEL, _ramp(p.z, 8, 16))
        p.paint(_ellipse(p.x, p.y + 70, 40.0, 7.0, 3.0), MUSCLE + 0.03 * p.fine, _ramp(p.z, 12, 24))

    def pelvic_walls(self) -> None:
        """Paint obturator internus, pubic bones, levator ani, pelvic floor and coccyx."""
        rng = self.rng
        shift = float(rng.uniform(-3, 3))
        p = self.patch((-80, 80), (-50, 60), (-34, 200))
        thick = float(rng.uniform(6.5, 9))
        band = _bar(p.m, p.y, (26 + shift, -36), (44 + shift, -8), thick)
        band = np.minimum(band, _bar(p.m, p.y, (45 + shift, -8), (53 + shift, 14), thick + 1.5))
        band = np.minimum(band, _bar(p.m, p.y, (54 + shift, 14), (57 + shift, 38), thick - 2.5)) + 0.8 * p.fine
        p.paint(band - 1.2, FAT * 0.8, _ramp(p.z, -34, -20) * 0.8)
        p.paint(band, MUSCLE + 0.03 * p.fine, _ramp(p.z, -34, -20) * (1 - 0.25 * _ramp(p.z, 25, 45)))

        p = self.patch((-60, 60), (-70, -24), (-32, 20))
        height = _ramp(p.z, -32, -22) * (1 - _ramp(p.z, 4, 18))
        pubis = _bar(p.m, p.y, (9, -46), (44, -36), 8.0)
        p.paint(pubis - 1.6, CORTEX, height)
        p.paint(pubis, MARROW + 0.05 * p.fine, height)
        p.paint(_ellipse(p.x, p.y + 45, 2.5, 12.0), CORTEX * 2, height)
        p.paint(_ellipse(p.x, p.y + 31, 16.0, 5.0), FAT + 0.25 * p.fine, height * 0.8)  # veins behind the symphysis

        p = self.patch((-45, 45), (-24, 62), (-200, 20))
        wide = 4 + self.a * (0.5 + 0.54 * _ramp(p.z, -30, 0))
        sheet = _ellipse(p.x, p.y - 14, wide, 34 - 10 * _ramp(-p.z, 10, 35))
        sheet = np.abs(sheet + 0.8 * p.fine) - 1.1
        p.paint(sheet, MUSCLE + 0.06, 0.75 * (1 - _ramp(p.z, 2, 14)) * _ramp(p.y, -20, -6), 1.0)
        low = 1 - _ramp(p.z, -30, -16)
        p.paint(_ellipse(p.x, p.y - 1, 14.0, 22.0), MUSCLE + 0.1 + 0.06 * p.fine, low, 1.5)
        p.paint(np.abs(_ellipse(p.x, p.y + 7, 6.0, 5.0)) - 1.2, MUSCLE, 0.7 * low)
        p = self.patch((-20, 20), (58, 90), (-22, 200))
        p.paint(_ellipse(p.x, p.y - 74, 8.0, 5.0) - 1, CORTEX, _ramp(p.z, -20, -8))
        p.paint(_ellipse(p.x, p.y - 74, 8.0, 5.0), MARROW, _ramp(p.z, -20, -8))

    def rectum(self) -> None:
        """Paint the anal canal and, above it, the rectum with gas or stool."""
        rng = self.rng
        grow, filled, lean = float(rng.uniform(4, 11)), rng.random() < 0.6, float(rng.uniform(-5, 5))
        p = self.patch((-34, 34), (-10, 75))
        radius = 8 + grow * _ramp(p.z, -22, -2)
        centre = self.b * 0.9 + 5 + radius - 7 * (1 - _ramp(p.z, -30, -12))
        squeeze = 1.1 + 0.15 * np.sin(p.z / 9)
        tube = _ellipse(p.x - lean * _ramp(p.z, 0, 30), p.y - centre, radius * squeeze, radius) + 1.2 * p.fine
        p.paint(tube - 3.2, WALL + 0.05 * p.fine)
        p.paint(np.abs(tube - 0.4) - 0.6, WALL + 0.14, 0.8)
        p.paint(tube, WALL + 0.12 + 0.1 * p.fine)
        content = GAS if filled else STOOL + 0.22 * p.fine
        p.paint(tube + 1.0, content, _ramp(p.z, -24, -12))

    def bladder(self) -> None:
        """Paint the bladder: urine above and in front of the prostate, within a dark wall."""
        rng = self.rng
        floor, full = self.h * float(rng.uniform(0.35, 0.8)), float(rng.uniform(0.8, 1.2))
        p = self.patch((-50, 50), (-60, 40), (floor - 1, 200))
        size = np.sqrt(np.clip((p.z - floor) / 26, 1e-3, 1.0))
        centre = -8.0 - 6 * full + 5 * _ramp(p.z, floor, floor + 30)
        urine = _ellipse(p.x, p.y - centre, 33 * full * size, 24 * full * size, 2.5) + 0.8 * p.fine
        p.paint(urine - 2.6, WALL, _ramp(p.z, floor - 1, floor + 3))
        p.paint(urine, URINE + 0.05 * p.fine - 0.05, _ramp(p.z, floor - 1, floor + 3), 1.0)

    def prostate(self) -> Field:
        """Paint the seminal vesicles and the prostate's zones; return the signed distance to its surface in mm."""
        rng, a, b, h = self.rng, self.a, self.b, self.h
        p = self.patch((-36, 36), (-12, 30), (h * 0.7, h * 1.9))
        if p.signal.size:
            tubes = _smooth_field(rng, p.signal.shape, (4, 14, 24))
            vesicles = _ellipse(p.x, p.y - b * 0.55 + 0.004 * p.x * p.x, 29.0, 7.5)
            folds = VESICLE - 0.4 * np.clip(1.2 - np.abs(tubes) * 3.5, 0, 1)
            p.paint(vesicles, folds, _ramp(p.z, h * 0.75, h * 0.95) * (1 - _ramp(p.z, h * 1.5, h * 1.8)), 1.0)

        p = self.patch((-a - 4, a + 4), (-b - 6, b + 8), (-h - 1, h + 1))
        x, y, t = p.x, p.y, np.clip(p.z / h, -1, 1)
        # narrower towards the apex than towards the base; flat behind, with a groove in the midline
        profile = np.sqrt(np.clip(1 - np.abs(t) ** 2.4, 1e-4, 1)) * (1 - 0.16 * np.clip(-t, 0, 1))
        behind = y + np.where(y > 0, 2.2 * np.exp(-((x / 9) ** 2)) + 0.12 * y, 0)
        gland = _ellipse(x, behind - 1.5 * t, a * profile, b * profile, 2.25) + (np.abs(p.z) > h) * np.float32(50)
        inside = np.clip(0.5 - gland / 1.2, 0, 1)
        p.paint(np.abs(gland) - 1.4, FAT * 0.9 + 0.25 * p.fine, 0.35)
        peripheral = TRANSITION + (PERIPHERAL - TRANSITION) * float(rng.uniform(0.85, 1.2))
        p.paint(gland, peripheral + 0.09 * p.fine + 0.06 * _smooth_field(rng, p.signal.shape, (4, 6, 6)))
        # the transition zone with its nodules, from above the apex to the base
        zone = np.sqrt(np.clip(1 - ((t - 0.25) / 0.95) ** 2, 1e-3, 1))
        wide, deep = a * float(rng.uniform(0.64, 0.78)), b * float(rng.uniform(0.6, 0.72))
        inner = _ellipse(x, y + b * 0.27, wide * zone, deep * zone, 2.3)
        nodules = _smooth_field(rng, p.signal.shape, (5, 7, 8)) + 0.7 * _smooth_field(rng, p.signal.shape, (9, 15, 18))
        p.paint(inner - 1.2, CAPSULE + 0.05, inside * 0.9)
        p.paint(inner, TRANSITION + 0.13 * nodules + 0.05 * p.fine, inside, 1.0)
        p.paint(_ellipse(x, y + b * 0.85, a * 0.34, b * 0.32), STROMA, inside * 0.6, 2.0)
        p.paint(_ellipse(x, y + 1, 2.6, 2.6), TRANSITION + 0.2, inside * 0.5)
        p.paint(np.abs(gland - 0.4) - 0.3, CAPSULE, 0.7)

        box = self.box((-a - 4, a + 4), (-b - 6, b + 8), (-h - 1, h + 1))
        distance = np.full(self.shape, 50, np.float32)
        distance[box] = gland
        return distance


def _acquire(rng: np.random.Generator, tissue: Field) -> Field:
    """Add coil sensitivity, Rician noise and the scanner's arbitrary scaling."""
    shape = tissue.shape
    j, i = np.linspace(-1, 1, shape[1], dtype=np.float32), np.linspace(-1, 1, shape[2], dtype=np.float32)
    coil = 1 + 0.12 * (j[:, None] ** 2) + float(rng.uniform(-0.12, 0.12)) * j[:, None] - 0.10 * i[None, :] ** 2
    bias = np.exp(0.15 * _smooth_field(rng, shape, (2, 2, 2))) * coil
    signal = np.clip(tissue, 0.01, None) * bias
    sigma = np.float32(rng.uniform(0.012, 0.024))
    real = signal + sigma * rng.standard_normal(shape, dtype=np.float32)
    imaginary = sigma * rng.standard_normal(shape, dtype=np.float32)
    gain = np.float32(rng.uniform(600, 1100))
    return np.round(gain * np.sqrt(real * real + imaginary * imaginary))
