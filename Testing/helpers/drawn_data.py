"""Drawn data sets in the folders, files and manifest of the public ones: prostates, hearts, ultrasound, fundus."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from pathlib import Path

import numpy as np
import SimpleITK as sitk
from PIL import Image
from scipy.ndimage import gaussian_filter

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.phantom import pelvis_phantom
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume
from ProxyPromptSegmentLib.support.case import SupportCase

Drawing = tuple[np.ndarray, np.ndarray]
SIDE = 128


def prostate(seed: int, slices: int = 8, side: int = SIDE) -> Drawing:
    """A pelvis ``(S, H, W)`` and its labels: 1 is the prostate."""
    volume, segmentation = pelvis_phantom(seed, (slices, side, side), oblique=False)
    return volume.array, segmentation.segments[0].mask


def heart(seed: int, slices: int = 4, side: int = SIDE) -> Drawing:
    """A heart in short axis and labels: right ventricle 1, myocardium 2, left ventricle 3. Asymmetric everywhere."""
    rng = np.random.default_rng([seed, 1])
    y, x = np.mgrid[:side, :side] / side
    top, left, scale = rng.uniform(0.4, 0.5), rng.uniform(0.52, 0.6), rng.uniform(0.9, 1.1)
    images, labels = np.zeros((slices, side, side), np.float32), np.zeros((slices, side, side), np.uint8)
    lungs = (np.hypot((y - 0.3) / 0.5, x - 1.0) < 0.25) | (np.hypot(y - 0.25, x - 0.05) < 0.2)
    wall = np.hypot((y - 0.5) / 0.46, (x - 0.5) / 0.48) < 1
    for k in range(slices):
        radius = scale * (0.16 - 0.01 * k)
        right = (np.hypot((y - top + 0.05) / 1.3, x - left + 1.5 * radius) < 0.9 * radius) & (y < top + 0.1)
        outer, inner = np.hypot(y - top, x - left) < radius, np.hypot(y - top, x - left) < 0.62 * radius
        labels[k][right], labels[k][outer], labels[k][inner] = 1, 2, 3
        signal = 60 * wall + 60.0 * (y > 0.75) * wall - 45 * (lungs & wall)
        signal = np.choose(labels[k], [signal, 170, 45, 190])
        images[k] = gaussian_filter(signal, 0.8) + rng.normal(0, 6, (side, side))
    return images.clip(0), labels


def ultrasound(seed: int, side: int = SIDE) -> Drawing:
    """A picture in colour ``(H, W, 3)``, as ultrasound is stored, and labels: pubic symphysis 1, fetal head 2."""
    rng = np.random.default_rng([seed, 2])
    y, x = np.mgrid[:side, :side] / side
    fan = (np.hypot(y + 0.1, x - 0.5) < 1.05) & (np.abs(x - 0.5) < 0.12 + 0.6 * y)
    shift = rng.uniform(-0.04, 0.04, 2)
    head = np.hypot((y - 0.62 - shift[0]) / 0.25, (x - 0.56 - shift[1]) / 0.3)
    bone = np.hypot((y - 0.24 - shift[0]) / 0.07, (x - 0.38 - shift[1] - 0.3 * (y - 0.24)) / 0.13)
    labels = np.zeros((side, side), np.uint8)
    labels[bone < 1], labels[head < 1] = 1, 2
    signal = np.choose(labels, [75.0 + 30 * gaussian_filter(rng.normal(size=(side, side)), 4), 150, 35])
    signal += 120 * np.exp(-(((head - 1) / 0.06) ** 2))
    speckle = gaussian_filter(rng.rayleigh(1, (side, side)), (0.6, 1.2))
    picture = (fan * signal * speckle / speckle.mean()).clip(0, 255).astype(np.uint8)
    return np.repeat(picture[..., None], 3, axis=2), labels


def carotid_sweep(seed: int, frames: int = 4, side: int = SIDE) -> list[Drawing]:
    """Frames of ultrasound in which a dark round vessel wanders; label 1 is the vessel."""
    rng = np.random.default_rng([seed, 3])
    y, x = np.mgrid[:side, :side] / side
    start, found = rng.uniform(0.4, 0.55, 2), []
    tissue = 90 + 60 * gaussian_filter(rng.normal(size=(side, side)), 5)
    for n in range(frames):
        away = np.hypot((y - start[0]) / 0.13, (x - start[1] - 0.02 * n) / 0.16)
        signal = np.where(away < 1, 8.0, tissue + 110 * np.exp(-(((away - 1.05) / 0.08) ** 2)))
        speckle = gaussian_filter(rng.rayleigh(1, (side, side)), (0.6, 1.2))
        found.append(((signal * speckle / speckle.mean()).clip(0, 255).astype(np.uint8), (away < 1).astype(np.uint8)))
    return found


def fundus(seed: int, side: int = SIDE) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """The back of an eye in colour ``(H, W, 3)``, the labels of disc 1 and cup 2, and those of the vessels."""
    rng = np.random.default_rng([seed, 4])
    y, x = np.mgrid[:side, :side] / side
    eye = np.hypot(y - 0.5, x - 0.5) < 0.48
    row, column = rng.uniform(0.45, 0.55), rng.uniform(0.28, 0.36)
    away = np.hypot(y - row, x - column)
    disc = (away < 0.1).astype(np.uint8) + (away < 0.05)
    vessels = np.zeros((side, side), np.uint8)
    for direction in (-1, 1):
        for bend in (0.2, 0.32, 0.42):
            t = np.linspace(0, 1, 4 * side)
            line_y = row + direction * bend * np.sin(np.pi * t / 1.6) + 0.01 * np.cumsum(rng.normal(0, 0.05, t.size))
            line_x = column + (0.62 if bend < 0.4 else -0.2) * t
            for dy in (0, 1):
                rows = (line_y * side).astype(int) + dy
                inside = (rows >= 0) & (rows < side) & (line_x < 1) & (line_x > 0)
                vessels[rows[inside], (line_x[inside] * side).astype(int)] = 1
    vessels[~eye] = 0
    red = np.where(disc == 2, 250, np.where(disc == 1, 235, 190.0))
    green = np.where(disc == 2, 225, np.where(disc == 1, 180, 95.0)) - 55.0 * vessels
    blue = np.where(disc == 2, 170, np.where(disc == 1, 110, 50.0)) - 20.0 * vessels
    picture = np.stack([red, green, blue], axis=-1) * eye[..., None] * (1.05 - 0.5 * (y - 0.5) ** 2)[..., None]
    picture = gaussian_filter(picture, (0.6, 0.6, 0)) + rng.normal(0, 3, picture.shape) * eye[..., None]
    return picture.clip(0, 255).astype(np.uint8), disc, vessels


class DataFolder:
    """A folder of data sets that `load_dataset` reads; each item that is written joins the manifest.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._rows = path, []
        path.mkdir(parents=True, exist_ok=True)

    def add_volume(
        self, dataset: str, name: str, drawing: Drawing, patient: str = "", spacing: tuple[float, ...] = (0, 0, 0)
    ) -> None:
        """Writes a volume and its labels into one file; a spacing of 0 is one that the publisher dropped."""
        file = self._folder(dataset, "volumes") / f"{name}.npz"
        np.savez(file, image=drawing[0].astype(np.int16), label=drawing[1], spacing_zyx=np.array(spacing, np.float32))
        self.list_items(dataset, [name], patient)

    def add_picture(self, dataset: str, name: str, drawing: Drawing, patient: str = "", ending: str = "png") -> None:
        """Writes a picture and the picture of its labels."""
        Image.fromarray(drawing[0]).save(self._folder(dataset, "images") / f"{name}.{ending}", quality=95)
        Image.fromarray(drawing[1]).save(self._folder(dataset, "masks") / f"{name}.png")
        self.list_items(dataset, [name], patient)

    def add_prostate158(self, name: str, seed: int, size: tuple[int, int, int] = (12, 96, 96)) -> Path:
        """Writes a pelvis as the T2 image and the first reader's two zones; not in the manifest, as there."""
        folder = self._folder("prostate158", name)
        volume, segmentation = pelvis_phantom(seed, size)
        gland = segmentation.segments[0].mask
        labels = gland * 2
        rows = np.flatnonzero(gland.any(axis=(0, 2)))
        labels[:, : rows[len(rows) // 2]] = gland[:, : rows[len(rows) // 2]]
        for array, file in ((volume.array.astype(np.int16), "t2"), (labels, "t2_anatomy_reader1")):
            image = sitk.GetImageFromArray(array)
            image.SetSpacing(volume.geometry.spacing_mm)
            image.SetOrigin(volume.geometry.origin_lps)
            image.SetDirection(np.asarray(volume.geometry.direction).ravel().tolist())
            sitk.WriteImage(image, str(folder / f"{file}.nii.gz"))
        return folder

    def _folder(self, *names: str) -> Path:
        folder = self.path.joinpath(*names)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def list_items(self, dataset: str, names: Iterable[str], patient: str = "") -> None:
        """Writes items into the manifest, whether their files are there or not."""
        self._rows += [{"dataset": dataset, "name": name, "patient": patient or name} for name in names]
        with (self.path / "manifest.csv").open("w", newline="", encoding="utf-8") as lines:
            writer = csv.DictWriter(lines, ("dataset", "name", "patient"))
            writer.writeheader()
            writer.writerows(self._rows)


def drawn_prostate_case(seed: int, slices: int = 8) -> Case:
    """A drawn pelvis as a patient of a data set."""
    images, mask = prostate(seed, slices)
    name = f"patient {seed}"
    return Case(
        dataset="drawn",
        patient=name,
        images=images,
        masks=mask[:, None],
        objects=("prostate",),
        spacing_mm=None,
        name=name,
    )


def as_support(drawing: Drawing, name: str, objects: tuple[str, ...], direction: np.ndarray | None = None):
    """A drawing as a support, label n as the n-th object, slices 4 mm apart."""
    images, labels = drawing
    if labels.ndim == 2:
        images, labels = images[None], labels[None]
    k, j, i = labels.shape
    grid = VolumeGeometry((i, j, k), (1, 1, 4), direction=direction)
    segments = [Segment(one, (labels == n + 1).astype(np.uint8)) for n, one in enumerate(objects)]
    return SupportCase(Volume(images.astype(np.float32), grid, name), Segmentation(segments, grid))
