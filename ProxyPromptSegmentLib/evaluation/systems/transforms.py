"""Registration of two images or volumes with SimpleITK as it comes: affine by mutual information, then Demons.

What is registered is grey, in 0..1 and on a grid of the same physical size. The registration in use
(`support.registration`) looks around the object alone and keeps slices parallel; here, the whole image counts, as in
published label transfer.

References:
    Mattes et al. 2001 (mutual information), Vercauteren et al. 2009 (symmetric Demons); SimpleITK implements both.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

if TYPE_CHECKING:
    import SimpleITK as sitk

BINS, ITERATIONS, SMALLEST_STEP = 32, 100, 1e-3
LEVELS = ((2, 2.0), (1, 1.0))
"""Factor by which the working grid is reduced, and the smoothing there in its pixels."""

DEMONS_ITERATIONS, STIFFNESS = 40, 1.5
SIDE = 96
"""Pixels along the longer side of a slice with which both images are registered."""

EXTENT, DEPTH = 256.0, 128.0
"""Physical size given to the longer side of a slice, and to a stack, where the spacing is not known."""


def grid_image(array: npt.NDArray[np.floating], spacing: tuple[float, ...] | None) -> sitk.Image:
    """Return a slice ``(H, W)`` or volume ``(S, H, W)`` as a SimpleITK image whose first voxel is at 0.

    Args:
        array: Intensities.
        spacing: Distances in mm, in the order of the axes; None where they are not known.
    """
    import SimpleITK as sitk

    if spacing is None:
        pixel = EXTENT / max(array.shape[-2:])
        spacing = (pixel, pixel) if array.ndim == 2 else (DEPTH / array.shape[0], pixel, pixel)
    image = sitk.GetImageFromArray(np.ascontiguousarray(array, np.float32))
    image.SetSpacing([float(mm) for mm in spacing[::-1]])
    return image


def affine(fixed: sitk.Image, moving: sitk.Image) -> sitk.Transform:
    """Return the affine transform from the points of one image to those of another."""
    import SimpleITK as sitk

    fixed, moving = _working(fixed), _working(moving)
    start = sitk.CenteredTransformInitializer(
        fixed,
        moving,
        sitk.AffineTransform(fixed.GetDimension()),
        sitk.CenteredTransformInitializerFilter.GEOMETRY,
    )
    method = sitk.ImageRegistrationMethod()
    method.SetNumberOfThreads(1)  # several add up in another order each time
    method.SetMetricAsMattesMutualInformation(BINS)
    method.SetInterpolator(sitk.sitkLinear)
    method.SetOptimizerAsRegularStepGradientDescent(1.0, SMALLEST_STEP, ITERATIONS)
    method.SetOptimizerScalesFromPhysicalShift()
    method.SetShrinkFactorsPerLevel([factor for factor, _ in LEVELS])
    method.SetSmoothingSigmasPerLevel([sigma for _, sigma in LEVELS])
    method.SmoothingSigmasAreSpecifiedInPhysicalUnitsOff()
    method.SetInitialTransform(start, inPlace=False)
    return method.Execute(fixed, moving)


def deformable(fixed: sitk.Image, moving: sitk.Image, before: sitk.Transform) -> sitk.Transform:
    """Return an affine transform followed by the displacement that Demons find after it."""
    import SimpleITK as sitk

    small = _working(fixed)
    moved = sitk.Resample(_working(moving), small, before, sitk.sitkLinear, 0.0)
    matched = sitk.HistogramMatching(moved, small, 64, 8, True)
    demons = sitk.FastSymmetricForcesDemonsRegistrationFilter()
    demons.SetNumberOfThreads(1)
    demons.SetNumberOfIterations(DEMONS_ITERATIONS)
    demons.SetSmoothDisplacementField(True)
    demons.SetStandardDeviations(STIFFNESS)
    field = demons.Execute(small, matched)
    both = sitk.CompositeTransform(fixed.GetDimension())
    both.AddTransform(before)
    both.AddTransform(sitk.DisplacementFieldTransform(sitk.Image(field)))
    return both


def transferred(
    masks: npt.NDArray[np.uint8], moving: sitk.Image, fixed: sitk.Image, transform: sitk.Transform
) -> npt.NDArray[np.uint8]:
    """Return masks ``(N, ...)`` of the moving image on the grid of the fixed one, by the nearest voxel."""
    import SimpleITK as sitk

    found = []
    for mask in masks:
        image = sitk.GetImageFromArray(np.ascontiguousarray(mask))
        image.CopyInformation(moving)
        found.append(sitk.GetArrayFromImage(sitk.Resample(image, fixed, transform, sitk.sitkNearestNeighbor, 0)))
    return np.stack(found)


def _working(image: sitk.Image) -> sitk.Image:
    """Return an image whose slices are reduced to about `SIDE` pixels by averaging; slices themselves are kept."""
    import SimpleITK as sitk

    factor = max(1, round(max(image.GetSize()[:2]) / SIDE))
    return sitk.BinShrink(image, [factor, factor] + [1] * (image.GetDimension() - 2))
