"""One item of a data set, read when it is needed: the original sets are larger than a machine's memory."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.errors import InputError

PICTURES = (".png", ".jpg", ".jpeg", ".bmp", ".tif", ".tiff", ".ppm", ".pgm")
TRAIN, TEST = "train", "test"


@dataclass(frozen=True)
class Item:
    """One image, sweep or volume of a data set.

    Attributes:
        name: Its name, distinct within the set.
        patient: The unit that a split must not divide.
        read: Reads it with its masks.
        part: ``train`` or ``test`` where the publisher divided the set, else empty.
    """

    name: str
    patient: str
    read: Callable[[], Case]
    part: str = ""


def picture(path: Path) -> npt.NDArray[np.float32]:
    """Read a picture, ``(H, W)`` or ``(H, W, 3)``.

    Raises:
        InputError: If the file is missing or no picture.
    """
    pixels = _open(path)
    return pixels if pixels.ndim == 2 else pixels[..., :3]


def labels(path: Path) -> npt.NDArray[np.float32]:
    """Read a picture of labels as it is stored; ``(H, W)``, of a coloured one its first channel.

    Raises:
        InputError: If the file is missing or no picture.
    """
    pixels = _open(path)
    return pixels if pixels.ndim == 2 else pixels[..., 0]


def coloured(path: Path) -> npt.NDArray[np.float32]:
    """Read a coloured picture of labels, ``(H, W, 3)``; a palette is resolved.

    Raises:
        InputError: If the file is missing or no picture.
    """
    return _open(path, "RGB")


def case_of(
    dataset: str,
    name: str,
    patient: str,
    images: npt.NDArray[np.float32],
    masks: dict[str, npt.NDArray[np.bool_]],
    spacing_mm: tuple[float, float, float] | None = None,
) -> Case:
    """Return a case of a picture ``(H, W[, 3])``, or of a stack ``(S, H, W[, 3])`` whose masks are stacks, too.

    Raises:
        InputError: If image and masks have different sizes.
    """
    single = next(iter(masks.values())).ndim == 2
    stack = images[None] if single else images
    truth = np.stack([mask[None] if single else mask for mask in masks.values()], axis=1).astype(np.uint8)
    return Case(
        dataset=dataset,
        patient=patient,
        images=np.ascontiguousarray(stack, dtype=np.float32),
        masks=truth,
        objects=tuple(masks),
        spacing_mm=spacing_mm,
        name=name,
    )


def pictures_in(folder: Path) -> list[Path]:
    """Return the pictures in a folder, sorted by name."""
    return sorted(path for path in folder.iterdir() if path.suffix.lower() in PICTURES) if folder.is_dir() else []


def same_stem(folder: Path, stem: str) -> Path | None:
    """Return the picture of a folder with this name and any ending; None if there is none."""
    return next((path for path in pictures_in(folder) if path.stem == stem), None)


def first_folder(parent: Path, names: Sequence[str]) -> Path | None:
    """Return the first folder of these names, in letters of either case; None if there is none."""
    there = {path.name.casefold(): path for path in parent.iterdir() if path.is_dir()} if parent.is_dir() else {}
    return next((there[name.casefold()] for name in names if name.casefold() in there), None)


def _open(path: Path, mode: str | None = None) -> npt.NDArray[np.float32]:
    from PIL import Image, UnidentifiedImageError

    try:
        with Image.open(path) as image:
            if mode is None and image.mode in ("RGBA", "LA", "CMYK", "YCbCr"):
                mode = "RGB" if image.mode != "LA" else "L"
            return np.asarray(image if mode is None else image.convert(mode), dtype=np.float32)
    except (OSError, UnidentifiedImageError) as error:
        raise InputError(f"{path} cannot be read as a picture: {error}; restore the data set's folder.") from None
