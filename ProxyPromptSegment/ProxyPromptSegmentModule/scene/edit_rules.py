"""The Segment Editor's masking and overwrite rules for a run, read once and applied slice by slice.

The same rules as Slicer's own vtkSlicerSegmentEditorLogic, with two differences. The segments of a run never restrict
or overwrite each other, because objects may overlap. The rules refer to the state before the run, so a
slice that is written twice, as a draft and as the final mask, ends as if only the final mask had been written.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import slicer
import vtk

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentModule.scene import lattices
from ProxyPromptSegmentModule.scene.nodes import Voxels, check_volume, name_of, stored_voxels
from ProxyPromptSegmentModule.states import Editable

Plane = npt.NDArray[np.bool_]


@dataclass(frozen=True, kw_only=True)
class EditRules:
    """The voxels that may change and the segments that may be overwritten.

    Attributes:
        where: Everywhere, or inside or outside of the mask's segments.
        mask: Ids of the mask's segments; None for all segments.
        overwrite: Ids of the segments that lose a voxel to the run.
        intensities: ``(low, high)`` of the source volume between which voxels may change.
        source: The volume node of the intensities.
    """

    where: Editable = Editable.EVERYWHERE
    mask: tuple[str, ...] | None = None
    overwrite: tuple[str, ...] = ()
    intensities: tuple[float, float] | None = None
    source: slicer.vtkMRMLVolumeNode | None = None

    def editable(self, ids: Iterable[str], run: Iterable[str], plane_of: Callable[[str], Plane]) -> Plane | None:
        """Return where a slice may change according to the mask's segments; None for everywhere.

        Args:
            ids: All segments of the segmentation.
            run: The segments that are written.
            plane_of: A segment's slice as it would be without the run.
        """
        if self.where == Editable.EVERYWHERE:
            return None
        mask = [one for one in ids if self.mask is None or one in self.mask]
        if self.where == Editable.OUTSIDE:
            mask = [one for one in mask if one not in run]
        planes = [plane_of(one) for one in mask]
        if not planes:
            return None if self.where == Editable.OUTSIDE else np.zeros_like(plane_of(next(iter(run))))
        union: Plane = np.logical_or.reduce(planes)
        return union if self.where == Editable.INSIDE else ~union


def rules_of(
    editor_node: slicer.vtkMRMLSegmentEditorNode | None,
    segmentation_node: slicer.vtkMRMLSegmentationNode,
    volume_node: slicer.vtkMRMLVolumeNode,
    run: Iterable[str],
) -> EditRules:
    """Read the settings of a segment editor node; without one, all voxels may change and nothing is overwritten.

    Args:
        editor_node: The node with the settings, or None.
        segmentation_node: The segmentation that is written into.
        volume_node: The segmented volume; source of the intensities if the settings name none.
        run: Ids of the segments that are written.

    Raises:
        InputError: If the mask's segment is not chosen or does not exist.
    """
    if editor_node is None:
        return EditRules()
    ids = tuple(segmentation_node.GetSegmentation().GetSegmentIDs())
    visible = _visible(segmentation_node, ids)
    kinds = slicer.vtkMRMLSegmentationNode
    mode = editor_node.GetMaskMode()
    single = editor_node.GetMaskSegmentID() or ""
    if mode == kinds.EditAllowedInsideSingleSegment and single not in ids:
        raise InputError(
            f"the editable area is inside of one segment, but {name_of(segmentation_node)} has no segment "
            f"'{single}'; choose the segment under Masking in the module Segment Editor, or 'Everywhere'."
        )
    areas: dict[int, tuple[Editable, tuple[str, ...] | None]] = {
        kinds.EditAllowedInsideAllSegments: (Editable.INSIDE, None),
        kinds.EditAllowedInsideVisibleSegments: (Editable.INSIDE, visible),
        kinds.EditAllowedOutsideAllSegments: (Editable.OUTSIDE, None),
        kinds.EditAllowedOutsideVisibleSegments: (Editable.OUTSIDE, visible),
        kinds.EditAllowedInsideSingleSegment: (Editable.INSIDE, (single,)),
    }
    where, mask = areas.get(mode, (Editable.EVERYWHERE, None))
    overwrite = {
        editor_node.OverwriteAllSegments: ids,
        editor_node.OverwriteVisibleSegments: visible,
    }.get(editor_node.GetOverwriteMode(), ())
    low, high = editor_node.GetSourceVolumeIntensityMaskRange()
    return EditRules(
        where=where,
        mask=mask,
        overwrite=tuple(one for one in overwrite if one not in run),
        intensities=(float(low), float(high)) if editor_node.GetSourceVolumeIntensityMask() else None,
        source=editor_node.GetSourceVolumeNode() or volume_node,
    )


def _visible(segmentation_node: slicer.vtkMRMLSegmentationNode, ids: tuple[str, ...]) -> tuple[str, ...]:
    """Return the visible segments; all if there is no display node."""
    display = segmentation_node.GetDisplayNode()
    return ids if display is None else tuple(one for one in ids if display.GetSegmentVisibility(one))


class IntensityMask:
    """The intensity range of a source volume as a mask on the slices of another volume."""

    def __init__(
        self, rules: EditRules, volume_node: slicer.vtkMRMLVolumeNode, segmentation_node: slicer.vtkMRMLSegmentationNode
    ) -> None:
        """Store the arguments; nothing is read yet."""
        self._rules, self._volume, self._segmentation = rules, volume_node, segmentation_node

    def plane(self, axis: int, index: int) -> Plane | None:
        """Return where a slice may change according to the intensities; None for everywhere."""
        source = self._rules.source
        if self._rules.intensities is None or source is None or source.GetImageData() is None:
            return None
        low, high = self._rules.intensities
        values = self._own(source, axis, index) if self._is_own(source) else self._resampled(source, axis, index)
        return (values >= low) & (values <= high)

    def _is_own(self, source: slicer.vtkMRMLVolumeNode) -> bool:
        """Return whether the source is the volume itself or has the same lattice and transform."""
        if source is self._volume:
            return True
        shape, own = lattices.size_kji(self._volume), lattices.ijk_to_ras(self._volume)
        between = lattices.matrix_between(source.GetParentTransformNode(), self._volume.GetParentTransformNode())
        return (
            between is not None
            and lattices.size_kji(source) == shape
            and np.abs(between @ lattices.ijk_to_ras(source) - own).max() < 1e-6
        )

    def _own(self, source: slicer.vtkMRMLVolumeNode, axis: int, index: int) -> Voxels:
        """Return a slice of the source's voxels, of colours the first component."""
        array = stored_voxels(source)
        plane: Voxels = np.take(array, index, axis=axis)
        return plane[..., 0] if array.ndim == 4 else plane

    def _resampled(self, source: slicer.vtkMRMLVolumeNode, axis: int, index: int) -> Voxels:
        """Return a slice of the source resampled on the volume, interpolated linearly as in Slicer."""
        image, plane, result = (slicer.vtkOrientedImageData() for _ in range(3))
        image.ShallowCopy(_first_component(source))
        image.SetGeometryFromImageToWorldMatrix(lattices.vtk_matrix_of(lattices.ijk_to_ras(source)))
        shape = lattices.size_kji(self._volume)
        extent = list(lattices.full_extent(shape))
        extent[2 * (2 - axis)] = extent[2 * (2 - axis) + 1] = index
        plane.SetExtent(*extent)
        plane.SetGeometryFromImageToWorldMatrix(lattices.vtk_matrix_of(lattices.ijk_to_ras(self._volume)))
        plane.AllocateScalars(image.GetScalarType(), 1)
        slicer.vtkOrientedImageDataResample.ResampleOrientedImageToReferenceOrientedImage(
            image,
            plane,
            result,
            True,
            False,
            lattices.transform_between(source.GetParentTransformNode(), self._volume.GetParentTransformNode()),
            source.GetImageBackgroundScalarComponentAsDouble(0),
        )
        plane_there: Voxels = np.take(lattices.labelmap_array(result), 0, axis=axis)
        return plane_there


def _first_component(source: slicer.vtkMRMLVolumeNode) -> vtk.vtkImageData:
    """Return the image of a volume with only its first component."""
    image = check_volume(source)
    if image.GetNumberOfScalarComponents() == 1:
        return image
    extract = vtk.vtkImageExtractComponents()
    extract.SetInputData(image)
    extract.SetComponents(0)
    extract.Update()
    return extract.GetOutput()
