"""Retrospective cases with their annotation, and the objects that several cases share."""

from __future__ import annotations

import logging
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from ProxyPromptSegmentLib.errors import GeometryError, InputError, SupportError
from ProxyPromptSegmentLib.imaging.dicom.header import is_dicom, read_dataset, word
from ProxyPromptSegmentLib.imaging.geometry import Axis
from ProxyPromptSegmentLib.imaging.paths import same_place
from ProxyPromptSegmentLib.imaging.readers.formats import read_stored
from ProxyPromptSegmentLib.imaging.segmentations import Segmentation, read_segmentation
from ProxyPromptSegmentLib.imaging.slice_choice import Slices
from ProxyPromptSegmentLib.imaging.volumes import Volume, read_volume
from ProxyPromptSegmentLib.wording import quoted

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SupportCase:
    """A retrospective case with its annotation.

    Attributes:
        volume: The image.
        segmentation: The annotation, on the image's grid.
        slices: Indices of the slices that prompt, counted from 0; None chooses among the annotated ones.
        source: The file of the annotation, if any.
        axis: Axis along which ``slices`` are counted; None means the axis chosen for the support.
    """

    volume: Volume
    segmentation: Segmentation
    slices: Slices = None
    source: Path | None = None
    axis: Axis | None = None


def read_support_case(image: Path | str, segmentation: Path | str, slices: Slices = None) -> SupportCase:
    """Read one annotated case.

    Raises:
        InputError: If a file is missing or not an image.
        SupportError: If the annotation is empty or differs in size from the image.
        GeometryError: If it lies on another grid.
    """
    image, segmentation = Path(image), Path(segmentation)
    if segmentation.is_file() and same_place(image) == same_place(segmentation):
        raise SupportError(
            f"{image.name} is given both as the image and as the annotation of a support; give the file in which the "
            "object is marked."
        )
    volume = read_volume(image)
    try:
        marked = read_segmentation(segmentation, volume.geometry)
    except InputError:
        if _is_all_zero(segmentation):
            raise SupportError(
                f"the support's mask {segmentation.name} is empty: nothing is marked in it. Choose another support, "
                "on which the object is annotated."
            ) from None
        raise
    except GeometryError as error:
        own = read_segmentation(segmentation).geometry.size_ijk
        if own != volume.geometry.size_ijk:
            raise SupportError(f"the support's mask differs in size from its image {image.name}: {error}") from None
        raise
    _check_coordinates(volume, segmentation)
    return SupportCase(volume, marked, slices, segmentation)


def _check_coordinates(volume: Volume, segmentation: Path) -> None:
    """Report a DICOM segmentation in other coordinates than its image: the patient may have been moved in between."""
    if not volume.frame_of_reference or not segmentation.is_file() or not is_dicom(segmentation):
        return
    own = word(read_dataset(segmentation), "FrameOfReferenceUID")
    if own and own != volume.frame_of_reference:
        _log.warning(
            "%s was drawn in another frame of reference than that of %s, as on images of another examination; check "
            "that the mask lies on the structure",
            segmentation.name,
            volume.name,
        )


def _is_all_zero(path: Path) -> bool:
    """Return whether a mask file is a readable label map in which every voxel is 0."""
    try:
        return not read_stored(path).array.any()
    except InputError:
        return False


def distinct_names(volumes: Sequence[Volume]) -> list[str]:
    """Return the volumes' names, prefixed with the folder where several files share a name."""
    names = [volume.name for volume in volumes]
    return [
        f"{volume.source.resolve().parent.name}/{name}" if volume.source and names.count(name) > 1 else name
        for volume, name in zip(volumes, names, strict=True)
    ]


def shared_objects(segmentations: Sequence[Segmentation]) -> tuple[list[str], list[str]]:
    """Return the names of the objects annotated in all segmentations, in the order of the first, and of the others.

    Raises:
        SupportError: If they have no object in common.
    """
    marked = [{s.name.strip().casefold(): s.name for s in g.segments if s.mask.any()} for g in segmentations]
    common = set(marked[0]).intersection(*marked[1:])
    every = dict(pair for names in reversed(marked) for pair in names.items())
    if not common:
        each = "; ".join(quoted(list(names.values())) or "nothing" for names in marked)
        raise SupportError(
            f"the supports have no annotated object in common ({each}). Give the object the same name in all."
        )
    return [name for key, name in marked[0].items() if key in common], [
        name for key, name in every.items() if key not in common
    ]
