"""Segments as masks on the lattice of a volume, read at once or in pieces; nodes are never changed."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import slicer

from ProxyPromptSegmentLib.errors import InputError, SupportError
from ProxyPromptSegmentLib.imaging.geometry import axis_number
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation
from ProxyPromptSegmentModule.scene import lattices
from ProxyPromptSegmentModule.scene.nodes import BINARY_LABELMAP, Notes, geometry_of, name_of
from ProxyPromptSegmentModule.scene.pieces import Pieces, at_once, slices_at_once
from ProxyPromptSegmentModule.scene.stamps import labelmap_stamp, place_stamp
from ProxyPromptSegmentModule.scene.terminology import object_name, terminology_of_segment

U8 = npt.NDArray[np.uint8]


def segmentation_of(
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    volume_node: slicer.vtkMRMLVolumeNode,
    segment_ids: Sequence[str] | None = None,
) -> tuple[Segmentation, Notes]:
    """Return segments on exactly the lattice of a volume, and notes for the user.

    Transforms of both nodes are respected. If the segmentation has the volume's lattice (also flipped, with exchanged
    axes, cropped or extended), voxels are copied. Otherwise, also under a non-linear transform, the nearest voxel is
    used and a note says so. Surfaces are converted on a copy.

    Args:
        segmentation_node: A vtkMRMLSegmentationNode.
        volume_node: The volume that defines the lattice.
        segment_ids: The segments to read, in this order; all by default.

    Raises:
        InputError: If a node is missing or the volume has no image data.
        SupportError: If a segment does not exist, there are none, or one cannot be converted to a labelmap.
        GeometryError: If the volume has no regular grid.
    """
    return at_once(segmentation_in_pieces(segmentation_node, volume_node, segment_ids))


def segmentation_in_pieces(
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    volume_node: slicer.vtkMRMLVolumeNode,
    segment_ids: Sequence[str] | None = None,
) -> Pieces[tuple[Segmentation, Notes]]:
    """Return what `segmentation_of` returns, in pieces; begins again if something is changed meanwhile.

    Raises:
        InputError, SupportError, GeometryError: As `segmentation_of`.
    """
    while True:
        geometry = geometry_of(volume_node)
        ids = _wanted_ids(segmentation_node, segment_ids)
        reading = _Masks(segmentation_node, volume_node, ids)
        for segment_id in ids:
            for _piece in reading.pieces(segment_id):
                yield
                if not reading.is_current():
                    break
            if not reading.is_current():
                break
        else:
            segments = yield from reading.segments()
            return Segmentation(segments, geometry), tuple(dict.fromkeys(reading.notes))


class _Masks:
    """The masks of some segments, made one after another.

    Attributes:
        notes: Notes for the user.
    """

    def __init__(
        self,
        segmentation_node: slicer.vtkMRMLSegmentationNode,
        volume_node: slicer.vtkMRMLVolumeNode,
        ids: Sequence[str],
    ) -> None:
        """Convert surfaces; read nothing yet."""
        self._node, self._volume, self._ids = segmentation_node, volume_node, ids
        self._stamp = self._now()
        self._source = _with_labelmaps(segmentation_node, volume_node, list(ids))
        self._shape = lattices.size_kji(volume_node)
        self._matrix = lattices.ijk_to_segmentation(volume_node, segmentation_node)
        self._planes: dict[slicer.vtkOrientedImageData, lattices.Labels] = {}
        self._masks: dict[str, U8] = {}
        self.notes: list[str] = []

    def _now(self) -> tuple[object, ...]:
        inside = self._node.GetSegmentation()
        stamps = [labelmap_stamp(self._node, one) for one in self._ids if inside.GetSegment(one) is not None]
        return (place_stamp(self._volume), *stamps)

    def is_current(self) -> bool:
        """Return whether nothing was changed since the beginning."""
        return self._now() == self._stamp

    def pieces(self, segment_id: str) -> Pieces[None]:
        """Make the mask of a segment."""
        segment = self._source.GetSegment(segment_id)
        labelmap, label = segment.GetRepresentation(BINARY_LABELMAP), segment.GetLabelValue()
        mask = self._masks[segment_id] = np.zeros(self._shape, np.uint8)  # its memory comes with the first writing
        if labelmap is None or lattices.is_empty(labelmap):
            return
        seen = None if self._matrix is None else lattices.seen_on(labelmap, self._matrix, self._shape)
        if seen is None:
            if labelmap not in self._planes:
                self._planes[labelmap] = _resampled(labelmap, self._node, self._volume, self.notes)
            np.equal(self._planes[labelmap], label, out=mask.view(bool))
            yield
            return
        spans = [(max(0, s), min(s + n, t)) for s, n, t in zip(seen.start, seen.values.shape, self._shape, strict=True)]
        if any(low >= high for low, high in spans):
            return
        (first, last), *rest = spans
        rows, columns = (slice(low, high) for low, high in rest)
        here = tuple(slice(low - s, high - s) for (low, high), s in zip(rest, seen.start[1:], strict=True))
        step = slices_at_once(mask[0].nbytes)
        for low in range(first, last, step):
            high = min(low + step, last)
            values = seen.values[(slice(low - seen.start[0], high - seen.start[0]), *here)]
            np.equal(values, label, out=mask[low:high, rows, columns].view(bool))
            yield

    def segments(self) -> Pieces[list[Segment]]:
        """Return the segments with their masks, which are checked one after another."""
        inside, result = self._node.GetSegmentation(), []
        originals = [inside.GetSegment(one) for one in self._ids]
        names = [object_name(one).casefold() for one in originals]
        for segment_id, original, name in zip(self._ids, originals, names, strict=True):
            red, green, blue = original.GetColor()
            result.append(
                Segment(
                    (object_name(original) if names.count(name) == 1 else original.GetName()) or segment_id,
                    self._masks[segment_id],
                    (red, green, blue),
                    terminology_of_segment(original),
                    {"id": segment_id},
                )
            )
            yield
        return result


def _wanted_ids(
    segmentation_node: slicer.vtkMRMLSegmentationNode | None, segment_ids: Sequence[str] | None
) -> list[str]:
    """Return the ids of the segments to read, after checking that they exist."""
    if segmentation_node is None or not segmentation_node.IsA("vtkMRMLSegmentationNode"):
        raise InputError("no segmentation was given; choose a segmentation.")
    there = list(segmentation_node.GetSegmentation().GetSegmentIDs())
    wanted = there if segment_ids is None else [str(one) for one in segment_ids]
    missing = [one for one in wanted if one not in there]
    if missing or not wanted:
        problem = f"has no segment with the id '{missing[0]}'" if missing else "has no segments"
        raise SupportError(
            f"the segmentation {name_of(segmentation_node)} {problem}; choose a segment, or draw one in the module "
            "Segment Editor."
        )
    return wanted


def _with_labelmaps(
    segmentation_node: slicer.vtkMRMLSegmentationNode, volume_node: slicer.vtkMRMLVolumeNode, ids: list[str]
) -> slicer.vtkSegmentation:
    """Return the node's vtkSegmentation, or a copy of the segments converted to labelmaps."""
    segmentation = segmentation_node.GetSegmentation()
    if segmentation.GetSourceRepresentationName() == BINARY_LABELMAP:
        return segmentation
    copy = slicer.vtkSegmentation()
    copy.SetSourceRepresentationName(segmentation.GetSourceRepresentationName())
    for segment_id in ids:
        copy.CopySegmentFromSegmentation(segmentation, segment_id)
    matrix = lattices.ijk_to_segmentation(volume_node, segmentation_node)
    if matrix is not None:
        extent = lattices.full_extent(lattices.size_kji(volume_node))
        converter = slicer.vtkSegmentationConverter
        text = converter.SerializeImageGeometry(lattices.vtk_matrix_of(matrix), extent)
        copy.SetConversionParameter(converter.GetReferenceImageGeometryParameterName(), text)
        copy.SetConversionParameter("Oversampling factor", "1")
    if not copy.CreateRepresentation(BINARY_LABELMAP, True):
        raise SupportError(
            f"the segments of {name_of(segmentation_node)} ({segmentation.GetSourceRepresentationName()}) cannot be "
            "converted to labelmaps. Create the binary labelmap in the module Segmentations, under Representations."
        )
    return copy


def _resampled(
    labelmap: slicer.vtkOrientedImageData,
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    volume_node: slicer.vtkMRMLVolumeNode,
    notes: list[str],
) -> lattices.Labels:
    """Return the values of a labelmap on another lattice, that of the volume, ``(K, J, I)``, as a new array."""
    notes.append(
        f"{name_of(segmentation_node)} lies on another grid than {name_of(volume_node)}; each voxel of the volume "
        "takes the value that is nearest to it."
    )
    reference, result = slicer.vtkOrientedImageData(), slicer.vtkOrientedImageData()
    reference.SetExtent(*lattices.full_extent(lattices.size_kji(volume_node)))
    reference.SetGeometryFromImageToWorldMatrix(lattices.vtk_matrix_of(lattices.ijk_to_ras(volume_node)))
    reference.AllocateScalars(labelmap.GetScalarType(), 1)
    transform = lattices.transform_between(
        segmentation_node.GetParentTransformNode(), volume_node.GetParentTransformNode()
    )
    slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(
        labelmap, reference, result, False, False, transform
    )
    return lattices.labelmap_array(result).copy()


def annotated_slices(
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    volume_node: slicer.vtkMRMLVolumeNode,
    axis: str = "k",
    segment_ids: Sequence[str] | None = None,
) -> dict[str, tuple[int, ...]]:
    """Return the annotated slices of each segment along an axis of a volume: ``{segment id: (slice, ...)}``.

    Raises:
        InputError, SupportError, GeometryError: As `segmentation_of`.
    """
    number = axis_number(axis)
    others = tuple(n for n in range(3) if n != number)
    segmentation, _ = segmentation_of(segmentation_node, volume_node, segment_ids)
    return {
        segment.metadata["id"]: tuple(int(n) for n in np.flatnonzero(segment.mask.any(axis=others)))
        for segment in segmentation.segments
    }
