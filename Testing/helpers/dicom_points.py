"""Where the voxels of a DICOM SEG file lie, by its attributes alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np

from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry

Points = set[tuple[float, ...]]


def world_points(mask: np.ndarray, geometry: VolumeGeometry) -> Points:
    """Returns the centres of a mask's voxels in LPS, rounded to a thousandth of a millimetre."""
    points = geometry.index_to_lps(np.argwhere(mask)[:, ::-1])
    return {tuple(float(x) for x in np.round(point, 3) + 0.0) for point in points}


def points_in_dicom(file: Path, number: int) -> Points:
    """Returns the same of a segment of a DICOM SEG file, read without the package that wrote it."""
    import pydicom

    found = pydicom.dcmread(file)
    bits = np.unpackbits(np.frombuffer(found.PixelData, np.uint8), bitorder="little")
    frames = bits[: found.NumberOfFrames * found.Rows * found.Columns].reshape(-1, found.Rows, found.Columns)
    shared, points = found.SharedFunctionalGroupsSequence[0], set()
    for pixels, group in zip(frames, found.PerFrameFunctionalGroupsSequence, strict=True):
        named = getattr(group, "SegmentIdentificationSequence", None) or shared.SegmentIdentificationSequence
        if named[0].ReferencedSegmentNumber != number:
            continue
        orientation = shared.PlaneOrientationSequence[0].ImageOrientationPatient
        down, right = shared.PixelMeasuresSequence[0].PixelSpacing
        along, below = np.array(orientation[:3], float) * right, np.array(orientation[3:], float) * down
        corner = np.array(group.PlanePositionSequence[0].ImagePositionPatient, float)
        for row, column in np.argwhere(pixels):
            points.add(tuple(float(x) for x in np.round(corner + column * along + row * below, 3) + 0.0))
    return points


def referenced(file: Path) -> set[str]:
    """Returns the instances that the frames of a DICOM SEG file refer to."""
    import pydicom

    return {
        str(source.ReferencedSOPInstanceUID)
        for group in pydicom.dcmread(file).PerFrameFunctionalGroupsSequence
        for image in group.DerivationImageSequence
        for source in image.SourceImageSequence
    }
