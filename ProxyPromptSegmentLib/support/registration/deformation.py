"""The deformable step: Demons between the target and the aligned support, on locally normalised images.

References:
    Thirion 1998, Image matching as a diffusion process: an analogy with Maxwell's demons.
    Vercauteren et al. 2009, Diffeomorphic demons (the symmetric forces used here).
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.support.registration.placement import Placement
from ProxyPromptSegmentLib.support.registration.similarity import LocalCorrelation
from ProxyPromptSegmentLib.support.registration.stack import Box, Stack, box_around

if TYPE_CHECKING:
    import SimpleITK as sitk

LEVELS = ((2, 30), (1, 20))
"""Factor by which slices are reduced, and iterations."""

STIFFNESS = 1.0
"""Standard deviation in voxels of the Gaussian that smooths the field after every iteration."""

NORMALISED_OVER = 4.0
"""Standard deviation in pixels of the window whose mean and spread are taken out."""

MOST_FOLDED = 0.05
"""Share of voxels where the field may fold the image over itself."""

MOST_LAYERS = 40
_FLATTEST = 1e-2  # spread of a window that shows nothing
_CONTRAST = 0.2
_FEWEST_SLICES = 4  # SimpleITK's recursive filters need as many; fewer are repeated
_LEAST_OVERLAP = 50  # voxels


@dataclass(frozen=True, eq=False)
class Deformed:
    """What the deformable step found.

    Attributes:
        transform: From the target's points to the support's, with the placement.
        before: Local correlation after the placement alone, -1..1.
        after: Local correlation with the deformation.
        folded: Share of voxels where the image is folded.
    """

    transform: sitk.Transform
    before: float
    after: float
    folded: float


def deform(support: Stack, box: Box, target: Stack, placement: Placement, pixel_mm: float) -> Deformed | None:
    """Deform an aligned support so that it looks like the target.

    Args:
        support: The annotated volume.
        box: The object and what is around it.
        target: The volume to register it to.
        placement: See `alignment.align`.
        pixel_mm: Size of the pixels to work with, in the target.

    Returns:
        None if they hardly overlap.
    """
    import SimpleITK as sitk

    inverse = placement.from_target()
    part = target.crop(target_box(support, box, target, placement))
    part = part.shrink(pixel_mm, part.extent[0] / MOST_LAYERS)
    fixed = part.image()
    small = support.shrink(pixel_mm / placement.size)
    moved = sitk.GetArrayFromImage(sitk.Resample(small.image(), fixed, inverse, sitk.sitkLinear, -1.0))
    inside = moved > -0.5
    if np.count_nonzero(inside) < _LEAST_OVERLAP:
        return None
    # Where the support shows nothing, the target's own intensities exert no force.
    moved = np.where(inside, _matched(moved, part.array, inside), part.array)
    one, other = _normalised(part.array), _normalised(moved)
    field = _demons(part, one, other)
    vectors = sitk.GetArrayFromImage(field)
    compare = LocalCorrelation(part.array)
    both = sitk.CompositeTransform(3)
    both.AddTransform(inverse)
    both.AddTransform(sitk.DisplacementFieldTransform(sitk.Image(field)))
    after = sitk.GetArrayFromImage(sitk.Resample(small.image(), fixed, both, sitk.sitkLinear, -1.0))
    kept = inside & (after > -0.5)
    if np.count_nonzero(kept) < _LEAST_OVERLAP:
        return None
    return Deformed(
        both,
        float(compare.at(moved)[inside].mean()),
        float(compare.at(np.where(kept, _matched(after, part.array, kept), part.array))[inside].mean()),
        float((_jacobian(vectors, part) <= 0).mean()),
    )


def target_box(support: Stack, box: Box, target: Stack, placement: Placement) -> Box:
    """Return the box of the target that a box of the support lies in."""
    ends = [
        (o + low * mm, o + (high - 1) * mm)
        for o, (low, high), mm in zip(support.origin, box, support.spacing, strict=True)
    ]
    corners = np.stack(np.meshgrid(*ends, indexing="ij")).reshape(3, -1)
    return box_around(target.index(placement.apply(corners)), target.array.shape)


def _matched(
    image: npt.NDArray[np.float32], like: npt.NDArray[np.float32], inside: npt.NDArray[np.bool_]
) -> npt.NDArray[np.float32]:
    """Return the image with the other one's mean and spread."""
    mean, spread = float(image[inside].mean()), float(image[inside].std()) + 1e-6
    result: npt.NDArray[np.float32] = (image - mean) / spread * like[inside].std() + like[inside].mean()
    return result


def _normalised(image: npt.NDArray[np.float32]) -> npt.NDArray[np.float32]:
    """Return slices whose mean and spread are the same everywhere."""
    from scipy import ndimage

    sigma = (0, NORMALISED_OVER, NORMALISED_OVER)
    mean = ndimage.gaussian_filter(image, sigma)
    variance = ndimage.gaussian_filter(image * image, sigma) - mean * mean
    result: npt.NDArray[np.float32] = (image - mean) / np.sqrt(np.maximum(variance, _FLATTEST**2)) * _CONTRAST
    return result


def _demons(grid: Stack, fixed: npt.NDArray[np.float32], moving: npt.NDArray[np.float32]) -> sitk.Image:
    """Return the displacement in mm from each voxel of the grid, as a SimpleITK vector image on it."""
    import SimpleITK as sitk

    field: Any = None
    count = fixed.shape[0]
    repeat = max(0, _FEWEST_SLICES - count)
    for factor, iterations in LEVELS:
        pixel = factor * grid.spacing[1]
        one, other = (_repeated(grid.with_array(a).shrink(pixel), repeat).image() for a in (fixed, moving))
        demons = sitk.FastSymmetricForcesDemonsRegistrationFilter()
        demons.SetNumberOfIterations(iterations)
        demons.SetSmoothDisplacementField(True)
        demons.SetStandardDeviations(STIFFNESS)
        start = () if field is None else (_on(field, one),)
        field = demons.Execute(one, other, *start)
    return _on(field, grid.image())


def _on(field: sitk.Image, grid: sitk.Image) -> sitk.Image:
    """Return a field on another grid; beyond its edge it continues as at the edge."""
    import SimpleITK as sitk

    resampler = sitk.ResampleImageFilter()
    resampler.SetReferenceImage(grid)
    resampler.SetInterpolator(sitk.sitkLinear)
    resampler.SetOutputPixelType(sitk.sitkVectorFloat64)
    resampler.SetUseNearestNeighborExtrapolator(True)
    return resampler.Execute(field)


def _repeated(stack: Stack, more: int) -> Stack:
    """Return the stack with its last slice repeated."""
    return stack.with_array(np.pad(stack.array, ((0, more), (0, 0), (0, 0)), mode="edge")) if more else stack


def _jacobian(vectors: npt.NDArray[np.float64], grid: Stack) -> npt.NDArray[np.float64]:
    """Return the determinant of the field's Jacobian; below 0 the image is folded. Vectors are ``(S, H, W, xyz)``."""
    matrix = np.zeros((*vectors.shape[:3], 3, 3))
    for axis in range(3):
        if vectors.shape[axis] > 1:
            matrix[..., :, 2 - axis] = np.gradient(vectors, grid.spacing[axis], axis=axis)
    result: npt.NDArray[np.float64] = np.linalg.det(matrix + np.eye(3))
    return result
