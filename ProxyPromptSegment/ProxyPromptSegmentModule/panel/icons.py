"""Arrays as pictures in the panel.

A Qt image cannot be made from a NumPy array in Slicer's Python; a PNG file in memory can be, and needs no package.
"""

from __future__ import annotations

import struct
import zlib
from collections.abc import Sequence
from typing import Any

import numpy as np
import qt

_SIGNATURE = b"\x89PNG\r\n\x1a\n"


def png_bytes(image: np.ndarray) -> bytes:
    """A PNG file.

    Args:
        image: uint8, ``(H, W)`` grey or ``(H, W, 3)`` red, green, blue.

    Raises:
        ValueError: If it is something else.

    References:
        Portable Network Graphics (W3C, third edition), sections 5.3 and 11.2.
    """
    array = np.ascontiguousarray(image)
    color = array.ndim == 3 and array.shape[2] == 3
    if array.dtype != np.uint8 or not (color or array.ndim == 2) or 0 in array.shape:
        raise ValueError(f"a picture is uint8 (H, W) or (H, W, 3); this is {array.dtype} {array.shape}.")
    height, width = array.shape[:2]
    rows = np.zeros((height, 1 + array.nbytes // height), np.uint8)  # each row begins with its filter, 0 is none
    rows[:, 1:] = array.reshape(height, -1)
    header = struct.pack(">IIBBBBB", width, height, 8, 2 if color else 0, 0, 0, 0)
    return _SIGNATURE + b"".join(
        _chunk(kind, data)
        for kind, data in ((b"IHDR", header), (b"IDAT", zlib.compress(rows.tobytes())), (b"IEND", b""))
    )


def _chunk(kind: bytes, data: bytes) -> bytes:
    """One part of a PNG file: length, kind, data, checksum."""
    return struct.pack(">I", len(data)) + kind + data + struct.pack(">I", zlib.crc32(kind + data))


def pixmap(image: np.ndarray) -> Any:
    """A ``QPixmap`` of an image as `png_bytes` takes it."""
    made = qt.QPixmap()
    made.loadFromData(qt.QByteArray(png_bytes(image)), "PNG")
    return made


def icon(image: np.ndarray) -> Any:
    """A ``QIcon`` of it."""
    return qt.QIcon(pixmap(image))


def swatch(color_rgb: Sequence[float], side: int = 14) -> Any:
    """An icon of one colour, red, green, blue in 0..1."""
    return icon(np.full((side, side, 3), _bytes_of(color_rgb), np.uint8))


def hex_color(color_rgb: Sequence[float]) -> str:
    """``#rrggbb`` of red, green, blue in 0..1."""
    return "#" + "".join(f"{int(value):02x}" for value in _bytes_of(color_rgb))


def _bytes_of(color_rgb: Sequence[float]) -> np.ndarray:
    return np.clip(np.rint(255 * np.asarray(color_rgb, float)), 0, 255).astype(np.uint8)


def heat_picture(
    image: np.ndarray,
    heat: np.ndarray,
    window: tuple[float, float] | None = None,
    side: int = 170,
    frames: Sequence[tuple[int, int, int, int]] = (),
) -> np.ndarray:
    """A slice with a warm glow where a map is high; uint8 ``(H', W', 3)``, its longer side ``side`` pixels.

    Args:
        image: Intensities, ``(H, W)`` or ``(H, W, 3)``.
        heat: Not negative, ``(H, W)``; scaled to its own highest value.
        window: Intensities shown as black and white; by default all that there are.
        side: Length of the longer side.
        frames: Places to frame: first row and column, and those after the last.
    """
    low, high = window if window is not None else (float(np.min(image)), float(np.max(image)))
    grey = np.clip((np.asarray(image, float) - low) / max(high - low, 1e-12), 0, 1)
    color = grey if grey.ndim == 3 else np.repeat(grey[..., None], 3, axis=2)
    glow = np.clip(np.asarray(heat, float) / max(float(np.max(heat)), 1e-12), 0, 1)[..., None] ** 1.5
    warm = np.concatenate([np.ones_like(glow), 0.85 * glow, np.zeros_like(glow)], axis=2)  # red to yellow
    cover = 0.6 * glow  # the anatomy stays visible
    picture = np.rint(255 * (color * (1 - cover) + warm * cover)).astype(np.uint8)
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    rows = np.minimum((np.arange(max(1, round(height * scale))) / scale).astype(int), height - 1)
    columns = np.minimum((np.arange(max(1, round(width * scale))) / scale).astype(int), width - 1)
    picture = picture[rows][:, columns]
    for top, left, bottom, right in frames:
        place = np.isin(rows, range(top, bottom))[:, None] & np.isin(columns, range(left, right))
        inner = place.copy()
        inner[1:-1, 1:-1] = place[1:-1, 1:-1] & place[:-2, 1:-1] & place[2:, 1:-1] & place[1:-1, :-2] & place[1:-1, 2:]
        picture[place & ~inner] = 255
    return picture
