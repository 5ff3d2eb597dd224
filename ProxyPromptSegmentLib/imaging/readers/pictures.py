"""Pictures: PNG, JPEG, TIFF and BMP, upright as viewers show them, with what their palette and transparency mean.

Pillow decodes; ITK only what Pillow would reduce to 8 bits (colours of 16 bits). A picture has no place: pixels of
1 mm, origin 0; its dots per inch are ignored.
"""

from __future__ import annotations

import re
import struct
import warnings
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.paths import is_utf8
from ProxyPromptSegmentLib.imaging.readers.jpeg import check_jpeg
from ProxyPromptSegmentLib.imaging.readers.stored import Stored, wrong_channels
from ProxyPromptSegmentLib.imaging.readers.tiff import check_tiff

MOST_PIXELS = 1 << 28
_ORIENTATION, _DESCRIPTION = 274, 270
_SEVERAL = re.compile(r"^(channels|frames)=([2-9]|\d\d+)\s*$|\bSize([CT])=\"([2-9]|\d\d+)\"", re.M)
"""Channels or times in the descriptions of ImageJ and OME."""
_MINISWHITE = 0
_SAMPLE_FORMAT, _SIGNED = 339, 2


def read_picture(path: Path, kind: str) -> Stored:
    """Read a picture.

    Args:
        path: The file.
        kind: ``PNG``, ``JPEG``, ``TIFF`` or ``BMP``.

    Returns:
        ``(K, J, I)`` or ``(K, J, I, C)``, C 2 and 4 with transparency last; the pages of a TIFF are slices. Of a
        picture
        with a palette the indices, and the palette.

    Raises:
        InputError: If it is damaged, cut short or too large.
    """
    from PIL import Image, UnidentifiedImageError

    name = path.name
    pages = check_tiff(path) if kind == "TIFF" else 1
    if kind == "PNG":
        _check_png(path)
    if kind == "BMP":
        _check_bmp(path)
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore")  # about sizes, which are compared here
            with Image.open(path, formats=[kind]) as picture:
                width, height = picture.size
                if width * height * pages > MOST_PIXELS:
                    raise InputError(
                        f"{name} has {width}x{height} pixels; up to {MOST_PIXELS / 1e6:.0f} million are read. Export a "
                        "part."
                    )
                moving = getattr(picture, "n_frames", 1)
                if kind == "PNG" and moving > 1:
                    raise InputError(
                        f"{name} is an animation of {moving} pictures; save the one that you mean as a "
                        "picture of its own, or track them as a video or a folder."
                    )
                if kind == "TIFF" and pages > 1:
                    _check_pages(picture, name)
                frames, palette, turned = [], None, 1
                for page in range(pages):
                    if page:
                        picture.seek(page)
                    turned = int(picture.getexif().get(_ORIENTATION, 1) or 1)
                    values = _values(picture, path, kind, page, turned)
                    frames.append(
                        values if kind == "TIFF" else upright(values, turned)
                    )  # of a TIFF, Pillow has done it
                    if picture.mode == "P":
                        palette = np.array(picture.getpalette("RGB"), np.uint8).reshape(-1, 3)
        notes = [note for note in [check_jpeg(path.read_bytes(), name) if kind == "JPEG" else ""] if note]
    except InputError:
        raise
    except UnidentifiedImageError:
        raise InputError(
            f"{name} cannot be read as {kind}; it may be damaged or cut short. Copy or export it again."
        ) from None
    except (OSError, ValueError, SyntaxError, EOFError, struct.error, Image.DecompressionBombError, TypeError) as error:
        reason = " ".join(str(error).split())[:120].rstrip(".")
        if "truncated" in reason:
            raise InputError(f"{name} is cut short; pixels are missing. Copy or export it again.") from None
        raise InputError(
            f"{name} cannot be read as an image; it may be damaged or cut short ({reason}). Copy or export it again."
        ) from None
    if len({(frame.shape, frame.dtype) for frame in frames}) > 1:
        raise InputError(f"the pages of {name} differ in size or kind; save one of them as a picture of its own.")
    array = np.stack(frames)
    if turned != 1:
        notes.append(f"{name} is turned as its orientation tag ({turned}) says, as viewers show it.")
    geometry = VolumeGeometry((array.shape[2], array.shape[1], array.shape[0]))
    return Stored(array=array, geometry=geometry, has_spacing=False, notes=tuple(notes), palette=palette)


def _check_pages(picture: Any, name: str) -> None:
    """Refuse a TIFF whose pages are channels or times, as its description says; slices of a volume may be pages.

    Raises:
        InputError: If there are several.
    """
    if found := _SEVERAL.search(str(picture.tag_v2.get(_DESCRIPTION, ""))):
        of_channels = (found[1] or found[3]) in ("channels", "C")
        raise InputError(
            f"{name} has pages of {found[2] or found[4]} {'channels' if of_channels else 'times'}; pages are read as "
            "the slices of one volume. Save one channel or time as a file of its own."
        )


def _values(picture: Any, path: Path, kind: str, page: int, turned: int) -> npt.NDArray[Any]:
    """Return the values of an opened picture or page, ``(J, I)`` or ``(J, I, C)``."""
    mode = picture.mode
    deep = (
        path.open("rb").read(25)[24:25] == b"\x10" and mode in ("RGB", "RGBA", "LA")
        if kind == "PNG"
        else kind == "TIFF" and mode in ("RGB", "RGBA") and max(picture.tag_v2.get(258, (8,))) == 16
    )
    if deep:
        if kind == "TIFF" and turned != 1:
            raise InputError(f"{path.name} has colours of 16 bits and an orientation tag ({turned}); save it upright.")
        return _deep_colours(path, page)
    picture.load()
    if mode == "1":
        return np.asarray(picture).astype(np.uint8) * np.uint8(255)
    if mode in ("CMYK", "YCbCr", "LAB", "HSV", "PA", "La", "RGBa"):
        picture = picture.convert("RGBA" if mode in ("PA", "La", "RGBa") else "RGB")
    array = np.asarray(picture)
    if mode == "I" and kind == "PNG":
        array = array.astype(np.uint16)
    if kind == "TIFF" and array.dtype == np.uint8 and picture.tag_v2.get(_SAMPLE_FORMAT, (1,))[0] == _SIGNED:
        array = array.view(np.int8)  # Pillow has no such mode
    if kind == "TIFF" and picture.tag_v2.get(262) == _MINISWHITE and array.dtype == np.uint16:
        array = np.uint16(0xFFFF) - array  # Pillow turns 8 bits only
    if array.ndim not in (2, 3) or array.dtype.kind not in "uif":
        raise wrong_channels(path.name, 1 if array.ndim == 2 else array.shape[-1], mode)
    return array


def _deep_colours(path: Path, page: int) -> npt.NDArray[Any]:
    """Return colours of 16 bits, which ITK keeps."""
    import SimpleITK as sitk

    if not is_utf8(path):
        raise InputError(f"{path.name} has a name that is not UTF-8; rename it.")
    reader = sitk.ImageFileReader()
    reader.SetFileName(str(path))
    before = sitk.ProcessObject.GetGlobalWarningDisplay()
    sitk.ProcessObject.SetGlobalWarningDisplay(False)
    try:
        image = reader.Execute()
    except RuntimeError:
        raise InputError(
            f"{path.name} cannot be read as an image; it may be damaged or cut short. Export it again."
        ) from None
    finally:
        sitk.ProcessObject.SetGlobalWarningDisplay(before)
    array = sitk.GetArrayFromImage(image)
    return array[page] if image.GetDimension() == 3 else array


def upright(array: npt.NDArray[Any], orientation: int) -> npt.NDArray[Any]:
    """Return a picture ``(J, I[, C])`` turned as its EXIF orientation, 1 to 8, says."""
    if orientation in (5, 6, 7, 8):
        array = array.swapaxes(0, 1)
    if orientation in (3, 4, 7, 8):
        array = array[::-1]
    if orientation in (2, 3, 6, 7):
        array = array[:, ::-1]
    return np.ascontiguousarray(array)


def _check_png(path: Path) -> None:
    """Refuse a PNG whose chunks are cut short; Pillow compares their checksums."""
    size = path.stat().st_size
    with path.open("rb") as file:
        file.seek(8)
        at = 8
        while at + 12 <= size:
            length, kind = struct.unpack(">I4s", file.read(8))
            at += 12 + length
            if kind == b"IEND":
                return
            file.seek(at)
    raise InputError(f"{path.name} is cut short: the PNG has no end. Copy or export it again.")


def _check_bmp(path: Path) -> None:
    """Refuse a BMP that is shorter than it says; decoders leave the rest black."""
    head = path.open("rb").read(54)
    stated = int.from_bytes(head[2:6], "little")
    if len(head) < 54 or stated > path.stat().st_size:
        raise InputError(f"{path.name} is cut short: it should have {stated} bytes. Copy or export it again.")
    start, width, height = (int.from_bytes(head[at : at + 4], "little", signed=True) for at in (10, 18, 22))
    bits, packing = int.from_bytes(head[28:30], "little"), int.from_bytes(head[30:34], "little")
    needed = start + (width * bits + 31) // 32 * 4 * abs(height)
    if packing in (0, 3) and (width < 1 or not height or needed > path.stat().st_size):
        raise InputError(f"{path.name} is cut short: it should have {needed} bytes. Copy or export it again.")
