"""The reference geometry of a segmentation: the grid that it was drawn on, and is saved on."""

from __future__ import annotations

import slicer
import vtk

from ProxyPromptSegmentModule.scene import lattices


def reference_grid(segmentation: slicer.vtkSegmentation) -> tuple[lattices.Matrix, tuple[int, ...]] | None:
    """Return matrix and extent of the reference geometry of a segmentation, or None."""
    converter = slicer.vtkSegmentationConverter
    text = segmentation.GetConversionParameter(converter.GetReferenceImageGeometryParameterName())
    image = slicer.vtkOrientedImageData()
    if not text or not converter.DeserializeImageGeometry(text, image, False):
        return None
    extent = image.GetExtent()
    if any(extent[2 * n] > extent[2 * n + 1] for n in range(3)):
        return None
    matrix = vtk.vtkMatrix4x4()
    image.GetImageToWorldMatrix(matrix)
    return lattices.array_of(matrix), extent
