"""Cases, doubles and files that the tests of the command line share."""

from __future__ import annotations

import pytest

pytest.importorskip("torch")

from pathlib import Path

import numpy as np
import torch

from engine_doubles import EchoModel
from ProxyPromptSegmentLib.errors import EXIT_NOTHING_FOUND, EXIT_OK
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation, write_segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume, write_volume
from ProxyPromptSegmentLib.networks.values import Decoded, ImageFeatures, Prompt

ROOT = Path(__file__).resolve().parents[2]
SIDE, COUNT = 64, 6
DONE = (EXIT_OK, EXIT_NOTHING_FOUND)  # random weights may find nothing
TURN = [[1, 0, 0], [0, 0.9526614854740363, 0.3040330598026857], [0, -0.3040330598026857, 0.9526614854740363]]
GRID = VolumeGeometry((SIDE, SIDE, COUNT), (0.9, 0.9, 3.0), (-28.8, 12.3, -7.1))
TERMS = {"category": ["SCT", "123037004", "Anatomical Structure"], "type": ["SCT", "41216001", "Prostate"]}
COLORS = {"gland": (0.9, 0.6, 0.3), "stone": (0.2, 0.4, 0.8)}
LEVELS = {"gland": 600.0, "stone": 300.0}


class InContextModel(EchoModel):
    """Finds the pixels that are as bright as what the supports mark: wrong supports give wrong masks."""

    def predict(self, features: ImageFeatures, support, chosen=None):
        weights = support.occupancy  # (K, N, P)
        total = weights.sum(dim=(0, 2)).clamp(min=1e-6)
        levels = (support.features * weights).sum(dim=(0, 2)) / total
        distance = (features.top - levels.view(1, -1, 1, 1)).abs()
        logits = (0.1 - distance) * 100
        there = (logits > 0).flatten(2).any(-1)
        presence = there.float() * 12 - 6
        quality = 0.95 - 0.1 * torch.arange(len(levels)).expand(len(logits), -1)
        return Decoded(logits=logits, quality=quality), Prompt(presence=presence, names=support.names)


def a_case(
    seed: int = 0,
    geometry: VolumeGeometry = GRID,
    name: str = "case",
    objects: tuple[str, ...] = ("gland", "stone"),
) -> tuple[Volume, Segmentation]:
    """A noisy box with bright blobs in its middle slices; a blob's place and size depend on the seed."""
    rng = np.random.default_rng(seed)
    count, rows, columns = geometry.shape_kji
    array = rng.normal(100, 2, (count, rows, columns)).astype(np.float32)
    array[:, :3] = 1000.0  # something brighter than every object, for the window
    y, x = np.mgrid[:rows, :columns]
    masks = {}
    for number, key in enumerate(("gland", "stone")):
        mask = np.zeros((count, rows, columns), np.uint8)
        center = rng.uniform(0.35, 0.65, 2) * (rows, columns) + (0.17 * rows * (1 if number else -1), 0)
        for k in range(1, count - 1 - number):
            mask[k] = (y - center[0]) ** 2 + (x - center[1]) ** 2 < (0.12 * rows - k * (1 - number)) ** 2
        if key in objects:
            array[mask > 0] = LEVELS[key]
            masks[key] = mask
    segments = [Segment(key, masks[key], COLORS[key], TERMS if key == "gland" else None) for key in masks]
    return Volume(array, geometry, name), Segmentation(segments, geometry)


def write_case(folder: Path, name: str, case: tuple[Volume, Segmentation]) -> tuple[Path, Path]:
    """Writes image and segmentation; returns their paths."""
    image, mask = folder / f"{name}.nrrd", folder / f"{name}.seg.nrrd"
    write_volume(image, case[0])
    write_segmentation(mask, case[1])
    return image, mask


def turned(case: tuple[Volume, Segmentation], order: tuple[int, int, int], flips: tuple[int, ...]):
    """The same anatomy at the same place, stored with axes permuted and flipped."""
    volume, segmentation = case
    old = volume.geometry
    matrix, size = old.affine, old.size_ijk
    columns, origin = [], matrix[:3, 3].copy()
    sizes = []
    for new in (2, 1, 0):  # i, j, k of the new array
        source = 2 - order[new]
        column = matrix[:3, source].copy()
        if new in flips:
            origin = origin + column * (size[source] - 1)
            column = -column
        columns.append(column)
        sizes.append(size[source])
    affine = np.eye(4)
    affine[:3, :3] = np.array(columns).T
    affine[:3, 3] = origin
    geometry = VolumeGeometry.from_affine(affine, tuple(sizes))

    def move(array: np.ndarray) -> np.ndarray:
        return np.ascontiguousarray(np.flip(np.transpose(array, order), flips))

    segments = [Segment(s.name, move(s.mask), s.color_rgb, s.terminology) for s in segmentation.segments]
    return Volume(move(volume.array), geometry, volume.name), Segmentation(segments, geometry)


class Desk:
    """A folder with a support and a target, and the words that segment one by the other."""

    def __init__(self, folder: Path, model: str) -> None:
        self.folder, self.model = folder, model
        self.truth = a_case(2)
        self.support, self.marks = write_case(folder, "old", a_case(1))
        self.target, self.truth_file = write_case(folder, "new", self.truth)
        self.output = folder / "result.seg.nrrd"

    def words(self, *more: str, **changed: object) -> list[str]:
        support = changed.get("support", (self.support, self.marks))
        words = ["segment", "--support", *map(str, support)] if support else ["segment"]
        words += [
            "--target",
            str(changed.get("target", self.target)),
            "--model",
            str(changed.get("model", self.model)),
        ]
        return [
            *words,
            "--output",
            str(changed.get("output", self.output)),
            "--device",
            "cpu",
            "--each-slice-alone",
            *map(str, more),
        ]

    def files(self) -> set[str]:
        return {str(path.relative_to(self.folder)) for path in self.folder.rglob("*")}
