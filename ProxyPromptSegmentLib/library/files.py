"""Image and mask files of a library case: description, writing, and reading with verified hashes."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib import __version__
from ProxyPromptSegmentLib.errors import GeometryError, InputError
from ProxyPromptSegmentLib.imaging.geometry import Axis, take_slices
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.imaging.itk_images import array_to_image, write_image
from ProxyPromptSegmentLib.imaging.output_files import safe_output
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation, read_segmentation, write_segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume, check_intensities, read_volume
from ProxyPromptSegmentLib.library.entry import IMAGE_FILE, MASKS_FILE, THUMBNAIL_FILE, LibraryEntry, LibraryObject
from ProxyPromptSegmentLib.library.thumbnail import draw_thumbnail
from ProxyPromptSegmentLib.support.case import SupportCase
from ProxyPromptSegmentLib.support.matching import annotated_axis, has_place, plane_of
from ProxyPromptSegmentLib.support.pairs import support_from_volume
from ProxyPromptSegmentLib.support.selecting import select_segments

_TYPES = (np.uint8, np.int16, np.uint16, np.int32)
_EXACT = 1 << 24  # integers up to here are exact in float32


def describe(
    volume: Volume, segmentation: Segmentation, slices: Sequence[int] | None, objects: Sequence[str] | None
) -> tuple[LibraryEntry, Segmentation]:
    """Return the description of a case and the segments to save, without anything that identifies the patient.

    Raises:
        SupportError: If nothing is annotated, sizes differ, or an object or slice does not exist.
        GeometryError: If the segmentation lies on another grid.
        InputError: If the image has NaN, infinite or constant intensity, or fractional colour values.
    """
    check_intensities(volume.array, "the image")
    if volume.is_rgb and _smallest_type(volume.array) not in (np.uint8, np.uint16):
        raise InputError("the image's colour values are not integers from 0 to 65535; export it as a colour image.")
    same_size = segmentation.geometry.shape_kji == volume.geometry.shape_kji
    chosen = select_segments(segmentation, objects) if same_size else segmentation.segments
    kept = Segmentation([_plain(segment, n) for n, segment in enumerate(chosen)], segmentation.geometry)
    axis = annotated_axis(volume, kept) if same_size else "k"
    support_from_volume(volume, kept, None, None if slices is None else list(slices), axis)  # rejects unusable input
    marked = []
    for segment in kept.segments:
        shown = take_slices(segment.mask, axis).any(axis=(1, 2))
        numbers = tuple(int(n) for n in np.flatnonzero(shown))
        voxels = int(segment.mask.sum(dtype=np.int64))
        marked.append(LibraryObject(segment.name, segment.color_rgb, segment.terminology, voxels, numbers))
    entry = LibraryEntry(
        id="",
        folder=Path(),
        objects=tuple(marked),
        slices=None if slices is None else tuple(int(n) for n in dict.fromkeys(slices)),
        window=intensity_window(volume.array),
        axis=axis,
        plane=plane_of(volume.geometry, axis) if has_place(volume) else "",
        size_ijk=volume.geometry.size_ijk,
        spacing_mm=volume.geometry.spacing_mm,
        is_rgb=volume.is_rgb,
        is_picture=not has_place(volume),
        voxels_sha256=voxels_hash(volume.array),
        masks_sha256=masks_hash(kept),
        program_version=__version__,
    )
    return entry, kept


def write_files(folder: Path, volume: Volume, kept: Segmentation, entry: LibraryEntry, thumbnail: bool) -> None:
    """Write image, masks and thumbnail into a folder.

    Raises:
        OutputError: If they cannot be written.
    """
    with safe_output(folder / IMAGE_FILE) as partial:
        write_image(partial, array_to_image(volume.array.astype(_smallest_type(volume.array)), volume.geometry))
    write_segmentation(folder / MASKS_FILE, kept)
    if thumbnail:
        with safe_output(folder / THUMBNAIL_FILE) as partial:
            draw_thumbnail(partial, volume, kept, entry.axis, entry.window)


def load_files(entry: LibraryEntry) -> SupportCase:
    """Read image and masks of a case.

    Raises:
        InputError: If they are damaged or differ from what was saved.
    """
    masks = entry.folder / MASKS_FILE
    try:
        volume = read_volume(entry.folder / IMAGE_FILE)
        segmentation = read_segmentation(masks, volume.geometry)
    except GeometryError as error:
        raise InputError(f"The masks of the case '{entry.title}' do not lie on its image: {error}") from None
    except InputError as error:
        raise InputError(f"The case '{entry.title}' is damaged: {error}") from None
    same_place = volume.geometry.size_ijk == entry.size_ijk and np.allclose(
        volume.geometry.spacing_mm, entry.spacing_mm, rtol=1e-4, atol=0
    )
    for what, there in (
        ("image", same_place and voxels_hash(volume.array) == entry.voxels_sha256),
        ("masks", masks_hash(segmentation) == entry.masks_sha256),
    ):
        if not there:
            raise InputError(
                f"The {what} of the case '{entry.title}' changed since it was saved (its hash differs); save or "
                "export the case again."
            )
    volume.name = entry.title
    volume.source = entry.folder / (THUMBNAIL_FILE if entry.is_picture else IMAGE_FILE)
    axis: Axis | None = None if entry.slices is None else entry.axis  # type: ignore[assignment]
    return SupportCase(volume, segmentation, entry.slices, masks, axis)


def voxels_hash(array: npt.NDArray[np.float32]) -> str:
    """Return the SHA-256 of shape and voxels as little-endian float32, independent of the file format."""
    digest = hashlib.sha256(repr(tuple(int(n) for n in array.shape)).encode())
    for part in array:
        digest.update(np.ascontiguousarray(part + np.float32(0), dtype="<f4").tobytes())  # -0 becomes 0
    return digest.hexdigest()


def masks_hash(segmentation: Segmentation) -> str:
    """Return the SHA-256 of the segments' names and masks, in their order."""
    digest = hashlib.sha256(repr(segmentation.geometry.shape_kji).encode())
    for segment in segmentation.segments:
        digest.update(segment.name.encode("utf-8", "replace") + b"\0")
        for part in segment.mask:
            digest.update(np.packbits(part > 0).tobytes())
    return digest.hexdigest()


def _plain(segment: Segment, number: int) -> Segment:
    """Return a segment without identifier, tags and status, which may come from the hospital's archive."""
    red, green, blue = (round(float(c), 6) for c in segment.color_rgb)
    name = " ".join(segment.name.split()) or f"segment {number + 1}"
    return Segment(name, segment.mask, (red, green, blue), segment.terminology)


def _smallest_type(array: npt.NDArray[np.float32]) -> type[Any]:
    """Return the smallest data type that represents every voxel exactly."""
    low, high = float(array.min()), float(array.max())
    if max(-low, high) <= _EXACT and all(np.array_equal(part, np.rint(part)) for part in array):
        return next(t for t in _TYPES if np.iinfo(t).min <= low and high <= np.iinfo(t).max)
    return np.float32
