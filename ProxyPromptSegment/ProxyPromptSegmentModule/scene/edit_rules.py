"""Where a run may write: the Segment Editor's masking and overwriting, read once and applied slice by slice.

The same rules as Slicer's own vtkSlicerSegmentEditorLogic, with two differences. The segments of a run never restrict
or overwrite each other, because objects may overlap. And they hold for the state before the run, so that a slice that
is written twice, a draft and then its final mask, ends as if only the last had been written.
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
    """Where voxels may change, and what may be overwritten.

    Attributes:
        where: Everywhere, or inside or outside of the mask's segments.
        mask: Ids of the mask's segments; None for all that there are.
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
        """Where a slice may change as far as segments decide it; None for everywhere.

        Args:
            ids: All segments there are.
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
    """Reads a vtkMRMLSegmentEditorNode's settings; without one, everywhere, and nothing is overwritten.

    Args:
        editor_node: The settings.
        segmentation_node: What is written into.
        volume_node: The volume that was segmented; the intensities' source where the settings name none.
        run: Ids of the segments that are written.

    Raises:
        InputError: If the mask's segment is not chosen or not there.
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
    """The segments that are shown; all where the node has no display node."""
    display = segmentation_node.GetDisplayNode()
    return ids if display is None else tuple(one for one in ids if display.GetSegmentVisibility(one))


class IntensityMask:
    """Where a source volume's intensities are within a range, slice by slice on another volume's lattice."""

    def __init__(
        self, rules: EditRules, volume_node: slicer.vtkMRMLVolumeNode, segmentation_node: slicer.vtkMRMLSegmentationNode
    ) -> None:
        """Looks at nothing yet."""
        self._rules, self._volume, self._segmentation = rules, volume_node, segmentation_node

    def plane(self, axis: int, index: int) -> Plane | None:
        """Where a slice may change as far as intensities decide it; None for everywhere."""
        source = self._rules.source
        if self._rules.intensities is None or source is None or source.GetImageData() is None:
            return None
        low, high = self._rules.intensities
        values = self._own(source, axis, index) if self._is_own(source) else self._resampled(source, axis, index)
        return (values >= low) & (values <= high)

    def _is_own(self, source: slicer.vtkMRMLVolumeNode) -> bool:
        """Whether the source has the voxels of the volume: itself, or one with the same lattice and transform."""
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
        """A slice of the source's voxels, the first component of a colour."""
        array = stored_voxels(source)
        plane: Voxels = np.take(array, index, axis=axis)
        return plane[..., 0] if array.ndim == 4 else plane

    def _resampled(self, source: slicer.vtkMRMLVolumeNode, axis: int, index: int) -> Voxels:
        """A slice of the source brought onto the volume, interpolated linearly as Slicer does."""
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
    """The image of a volume with one component."""
    image = check_volume(source)
    if image.GetNumberOfScalarComponents() == 1:
        return image
    extract = vtk.vtkImageExtractComponents()
    extract.SetInputData(image)
    extract.SetComponents(0)
    extract.Update()
    return extract.GetOutput()
