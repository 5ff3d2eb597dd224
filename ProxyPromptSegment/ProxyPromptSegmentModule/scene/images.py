"""Conversion between NumPy pictures and VTK images."""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
import vtk
from vtk.util.numpy_support import numpy_to_vtk, vtk_to_numpy

Pixels = npt.NDArray[np.number]


def vtk_image_of(picture: Pixels) -> vtk.vtkImageData:
    """Return a copy of a picture ``(H, W)`` or ``(H, W, C)``, its first row first."""
    height, width = picture.shape[:2]
    image = vtk.vtkImageData()
    image.SetDimensions(width, height, 1)
    image.GetPointData().SetScalars(numpy_to_vtk(picture.reshape(height * width, -1), deep=True))
    return image


def picture_of(image: vtk.vtkImageData) -> Pixels:
    """Return a copy of an image of one slice, ``(H, W)`` or ``(H, W, C)``."""
    width, height, _depth = image.GetDimensions()
    values: Pixels = vtk_to_numpy(image.GetPointData().GetScalars())
    return values.reshape(height, width, *values.shape[1:]).copy()
