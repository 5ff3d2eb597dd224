"""Folders of drawn data for the measurements of a model that reads its support."""

from __future__ import annotations

import csv
from pathlib import Path

import numpy as np
from PIL import Image

SIDE, SLICES = 64, 4
BRIGHT, DIM = 600, 300
COLUMNS = ("dataset", "name", "patient", "labels", "split")


def square(level: int = BRIGHT, row: int = 20, column: int = 20, seed: int = 0) -> tuple[np.ndarray, np.ndarray]:
    """A volume whose inner slices show a square of some brightness, and a brighter bar that is no object."""
    images = np.random.default_rng(seed).normal(100, 2, (SLICES, SIDE, SIDE))
    labels = np.zeros((SLICES, SIDE, SIDE), np.uint8)
    labels[1:-1, row : row + 16, column : column + 16] = 1
    images[:, :3] = 1000
    images[labels > 0] = level
    return images, labels


def spots(levels: tuple[int, ...], seed: int = 0, colour: bool = False) -> tuple[np.ndarray, np.ndarray]:
    """A picture of squares side by side, the n-th with label n and the n-th brightness; 0 leaves a square out."""
    picture = np.random.default_rng(seed).integers(18, 23, (SIDE, SIDE)).astype(np.uint8)
    labels = np.zeros((SIDE, SIDE), np.uint8)
    picture[:6] = 250
    for n, level in enumerate(levels):
        if level:
            place = (slice(20, 36), slice(6 + 20 * n, 22 + 20 * n))
            picture[place], labels[place] = level, n + 1
    return (np.repeat(picture[..., None], 3, axis=2) if colour else picture), labels


class BroadFolder:
    """A folder of data sets with the manifest's columns that the small sets need.

    Attributes:
        path: The folder.
    """

    def __init__(self, path: Path) -> None:
        self.path, self._rows = path, []
        path.mkdir(parents=True, exist_ok=True)

    def add_volume(self, dataset: str, name: str, drawing: tuple[np.ndarray, np.ndarray]) -> None:
        """Writes a volume of one of the first sets."""
        folder = self._folder(dataset, "volumes")
        images, labels = drawing[0].astype(np.int16), drawing[1]
        np.savez(folder / f"{name}.npz", image=images, label=labels, spacing_zyx=np.zeros(3, np.float32))
        self._list(dataset, name, name, "", "")

    def add_picture(
        self,
        dataset: str,
        name: str,
        drawing: tuple[np.ndarray, np.ndarray],
        labels: str = "",
        split: str = "",
        patient: str = "",
    ) -> None:
        """Writes a picture, colour as lossless webp, and its label ids; without labels it is one of a first set's."""
        ending = "webp" if drawing[0].ndim == 3 and labels else "png"
        Image.fromarray(drawing[0]).save(self._folder(dataset, "images") / f"{name}.{ending}", lossless=True)
        Image.fromarray(drawing[1]).save(self._folder(dataset, "masks") / f"{name}.png")
        self._list(dataset, name, patient or name, labels, split)

    def _folder(self, *names: str) -> Path:
        folder = self.path.joinpath(*names)
        folder.mkdir(parents=True, exist_ok=True)
        return folder

    def _list(self, *values: str) -> None:
        self._rows.append(dict(zip(COLUMNS, values, strict=True)))
        with (self.path / "manifest.csv").open("w", newline="", encoding="utf-8") as lines:
            writer = csv.DictWriter(lines, COLUMNS)
            writer.writeheader()
            writer.writerows(self._rows)
