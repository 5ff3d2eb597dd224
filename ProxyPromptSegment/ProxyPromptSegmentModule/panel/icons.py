"""Icons of the panel made from arrays.

Slicer's Python cannot make a Qt image from a NumPy array; a PNG file in memory works and needs no package.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import qt
import vtk
from vtk.util.numpy_support import vtk_to_numpy

from ProxyPromptSegmentLib.imaging.drawing import heat, inner_border
from ProxyPromptSegmentModule.scene.images import vtk_image_of

Picture = npt.NDArray[np.uint8]


def png_bytes(image: Picture) -> bytes:
    """Encode an image as a PNG file.

    Args:
        image: uint8, ``(H, W)`` grey or ``(H, W, 3)`` red, green, blue.

    Raises:
        ValueError: If the array has another type or shape.
    """
    color = image.ndim == 3 and image.shape[2] == 3
    if image.dtype != np.uint8 or not (color or image.ndim == 2) or 0 in image.shape:
        raise ValueError(f"a picture is uint8 (H, W) or (H, W, 3); this is {image.dtype} {image.shape}.")
    return _png_of(image)


def _png_of(image: Picture) -> bytes:
    writer = vtk.vtkPNGWriter()
    writer.SetWriteToMemory(1)
    writer.SetInputData(vtk_image_of(image[::-1]))  # VTK's first row is the lowest
    writer.Write()
    return vtk_to_numpy(writer.GetResult()).tobytes()


def pixmap(image: Picture) -> qt.QPixmap:
    """Return a ``QPixmap`` of an image; see `png_bytes` for its type."""
    return _pixmap_of(png_bytes(image))


def _pixmap_of(png: bytes) -> qt.QPixmap:
    made = qt.QPixmap()
    made.loadFromData(qt.QByteArray(png), "PNG")
    return made


def icon(image: Picture) -> qt.QIcon:
    """Return a ``QIcon`` of an image; see `png_bytes` for its type."""
    return qt.QIcon(pixmap(image))


def swatch(color_rgb: Sequence[float], side: int = 14) -> qt.QIcon:
    """Return an icon of one colour: red, green, blue in 0..1."""
    return icon(np.full((side, side, 3), _bytes_of(color_rgb), np.uint8))


def swatches(colors_rgb: Sequence[Sequence[float]], side: int = 10, line: int = 16) -> qt.QIcon:
    """Return an icon of several colours below each other, one for each line of a text; empty without colours."""
    if not colors_rgb:
        return qt.QIcon()
    picture = np.full((line * len(colors_rgb), side, 4), 0, np.uint8)
    for number, color in enumerate(colors_rgb):
        top = number * line + (line - side) // 2
        picture[top : top + side, :, :3], picture[top : top + side, :, 3] = _bytes_of(color), 255
    return qt.QIcon(_pixmap_of(_png_of(picture)))  # the fourth value is the opacity


def hex_color(color_rgb: Sequence[float]) -> str:
    """Format red, green, blue in 0..1 as ``#rrggbb``."""
    return "#" + "".join(f"{int(value):02x}" for value in _bytes_of(color_rgb))


def _bytes_of(color_rgb: Sequence[float]) -> Picture:
    values: Picture = np.clip(np.rint(255 * np.asarray(color_rgb, float)), 0, 255).astype(np.uint8)
    return values


def heat_picture(
    image: npt.NDArray[np.number],
    shown: npt.NDArray[np.number],
    window: tuple[float, float] | None = None,
    side: int = 170,
    frames: Sequence[tuple[int, int, int, int]] = (),
) -> Picture:
    """Draw a slice with a heat map over it; uint8 ``(H', W', 3)``, its longer side ``side`` pixels.

    Args:
        image: Intensities, ``(H, W)`` or ``(H, W, 3)``.
        shown: The map, not negative, ``(H, W)``; scaled to its maximum.
        window: Intensities shown as black and white; by default the whole range.
        side: Length of the longer side.
        frames: Rectangles to outline: first row and column, and the row and column after the last.
    """
    low, high = window if window is not None else (float(np.min(image)), float(np.max(image)))
    grey = np.clip((np.asarray(image, float) - low) / max(high - low, 1e-12), 0, 1)
    color = grey if grey.ndim == 3 else np.repeat(grey[..., None], 3, axis=2)
    glow = np.clip(np.asarray(shown, float) / max(float(np.max(shown)), 1e-12), 0, 1) ** 1.5
    cover = 0.6 * glow[..., None]  # the anatomy stays visible
    picture: Picture = np.rint(255 * color * (1 - cover) + heat(glow) * cover).astype(np.uint8)
    height, width = picture.shape[:2]
    scale = side / max(height, width)
    rows = np.minimum((np.arange(max(1, round(height * scale))) / scale).astype(int), height - 1)
    columns = np.minimum((np.arange(max(1, round(width * scale))) / scale).astype(int), width - 1)
    picture = picture[rows][:, columns]
    for top, left, bottom, right in frames:
        place = np.isin(rows, range(top, bottom))[:, None] & np.isin(columns, range(left, right))
        picture[inner_border(place)] = 255
    return picture
