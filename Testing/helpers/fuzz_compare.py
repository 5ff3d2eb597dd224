"""What other packages read of a damaged file, against what the program reads of it: values, masks and place.

A damaged number may be another valid one; whether the program reads what the file now says, another reader tells. They
are nibabel, pynrrd, slicerio, ITK and pydicom; none of them reads every damaged file that is still valid.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

_LPS = np.diag([-1.0, -1.0, 1.0, 1.0])
_LOSSY = 3.0  # levels of 256 by which decoders of JPEG differ on average
_VOXELS = 0.02  # by which corners may lie apart


@dataclass(frozen=True)
class Reading:
    """What is in a file.

    Attributes:
        values: Intensities or labels, float64 ``(K, J, I)`` or ``(K, J, I, 3)``.
        affine: Matrix from indices to LPS mm; None if the reader does not say or makes it up.
        spacing: Size of a voxel where only that is known.
    """

    values: np.ndarray
    affine: np.ndarray | None = None
    spacing: tuple[float, ...] | None = None


def against_others(path: Path, kind: str) -> str:
    """Returns ``same``, ``alone: why`` if the other reader does not read it, or ``DIFFERS: how``."""
    ours = our_reading(path, kind)
    if ours is None:
        return "alone: damaged frames are reported"
    try:
        theirs = other_reading(path, kind)
    except Exception as error:  # noqa: BLE001  # whatever a reader says of a damaged file
        return f"alone: {type(error).__name__} {' '.join(str(error).split())[:120]}"
    return difference(ours, theirs, _LOSSY if path.suffix in (".jpg", ".jpeg") else 0.0)


def difference(ours: Reading, theirs: Reading, allowed: float) -> str:
    """Returns ``same``, or how two readings differ."""
    if ours.values.shape != theirs.values.shape:
        return f"DIFFERS: {ours.values.shape} instead of {theirs.values.shape}"
    difference_of_each = np.abs(ours.values - theirs.values)
    apart = float(difference_of_each.mean() if allowed else difference_of_each.max())
    scale = max(1.0, float(np.abs(theirs.values).max()))
    if not apart <= max(allowed, 1e-5 * scale):  # NaN, too
        return f"DIFFERS: values by {apart:g}"
    assert ours.affine is not None
    size = np.array(ours.values.shape[2::-1])
    lengths = np.linalg.norm(ours.affine[:3, :3], axis=0)
    if theirs.affine is not None:
        corners = np.array([[i, j, k, 1] for i in (0, 1) for j in (0, 1) for k in (0, 1)], float)
        corners[:, :3] *= size - 1
        beside = float(np.abs(corners @ (ours.affine - theirs.affine).T).max())
        turned = np.abs(ours.affine - theirs.affine)[:3, :3].max()
        if not max(beside, turned if size.min() > 1 else 0) <= _VOXELS * lengths.min():
            return f"DIFFERS: lies {beside:g} mm beside"
    if theirs.spacing is not None and not np.allclose(lengths, theirs.spacing, rtol=1e-4):
        return f"DIFFERS: voxels of {lengths} mm instead of {theirs.spacing}"
    return "same"


def our_reading(path: Path, kind: str) -> Reading | None:
    """Returns what the program reads; None if it reports frames as damaged."""
    from ProxyPromptSegmentLib.frames import BadFrame, open_frames
    from ProxyPromptSegmentLib.imaging.segmentations import read_segmentation
    from ProxyPromptSegmentLib.imaging.volumes import read_volume

    if kind == "mask":
        marked = read_segmentation(path)
        return Reading(_labels([one.mask for one in marked.segments]), marked.geometry.affine)
    if kind == "frames":
        source = open_frames(path)
        frames = [frame for _, frame in source]
        if any(isinstance(frame, BadFrame) for frame in frames) or source.notes:
            return None
        return Reading(np.stack(frames).astype(float), source.geometry.affine)
    volume = read_volume(path)
    return Reading(volume.array.astype(float), volume.geometry.affine)


def _labels(masks: list[np.ndarray]) -> np.ndarray:
    """Returns masks as one array: bit n for the n-th; their order is part of what is compared."""
    return sum((mask.astype(float) * 2**n for n, mask in enumerate(masks)), np.zeros(masks[0].shape))


def _split(values: np.ndarray) -> np.ndarray:
    """Returns a label map as masks of its values in ascending order, in one array."""
    found = [value for value in np.unique(values) if value]
    return _labels([(values == value).astype(np.uint8) for value in found])


def other_reading(path: Path, kind: str) -> Reading:
    """Returns what another package reads."""
    name = path.name
    if name.endswith(".seg.nrrd"):
        return _by_slicerio(path)
    if kind == "frames":
        return _frames_by_pynrrd(path) if name.endswith(".nrrd") else _clip_by_pydicom(path)
    if name == "seg.dcm":
        return _segments_by_pydicom(path)
    if name.endswith(".dcm"):
        return _by_pydicom(path)
    if name.endswith((".nii", ".nii.gz")):
        found = _by_nibabel(path)
    elif name.endswith((".nrrd", ".nhdr")):
        found = _by_pynrrd(path)
    else:
        found = _by_itk(path)
    return Reading(_split(found.values), found.affine, found.spacing) if kind == "mask" else found


def _by_nibabel(path: Path) -> Reading:
    import nibabel

    image = nibabel.load(path)
    values = np.asarray(image.dataobj, dtype=float)
    values = values.reshape(values.shape[:3] + tuple(n for n in values.shape[3:] if n > 1)).T
    unit = {"meter": 1000.0, "micron": 0.001}.get(image.header.get_xyzt_units()[0], 1.0)
    scale = np.diag([unit, unit, unit, 1.0])
    if not image.header["qform_code"] > 0 and not image.header["sform_code"] > 0:  # nibabel makes a place up
        return Reading(values, spacing=tuple(float(x) * unit for x in image.header.get_zooms()[:3]))
    return Reading(values, _LPS @ scale @ image.affine)


def _affine_of_nrrd(header: Any, axes: list[int]) -> tuple[np.ndarray | None, tuple[float, ...] | None]:
    """Returns matrix and spacing of a header that pynrrd read."""
    if "space directions" not in header:
        spacings = header.get("spacings")
        return None, None if spacings is None else tuple(float(spacings[n]) for n in axes)
    space = str(header.get("space", "")).lower()
    signs = [-1 if space.startswith(("right", "ra")) else 1, -1 if "anterior" in space or space[1:2] == "a" else 1, 1]
    affine = np.eye(4)
    affine[:3, :3] = np.asarray([header["space directions"][n] for n in axes], float).T
    affine[:3, 3] = header.get("space origin", np.zeros(3))
    affine[:3] *= np.array(signs)[:, None]
    return affine, None


def _by_pynrrd(path: Path) -> Reading:
    import nrrd

    values, header = nrrd.read(str(path))
    return Reading(values.T.astype(float), *_affine_of_nrrd(header, list(range(values.ndim))))


def _frames_by_pynrrd(path: Path) -> Reading:
    import nrrd

    values, header = nrrd.read(str(path))
    affine, spacing = _affine_of_nrrd(header, [0, 1, 2])
    return Reading(values.T[:, 0].astype(float), affine, spacing)


def _by_slicerio(path: Path) -> Reading:
    import slicerio

    content = slicerio.read_segmentation(str(path))
    voxels = content["voxels"]
    layers = voxels if voxels.ndim == 4 else voxels[None]
    masks = [layers[int(one.get("layer", 0))] == int(one["labelValue"]) for one in content["segments"]]
    return Reading(_labels([mask.T for mask in masks]), np.asarray(content["ijkToLPS"]))


def _by_itk(path: Path) -> Reading:
    import SimpleITK as sitk

    image = sitk.ReadImage(str(path))
    values = sitk.GetArrayFromImage(image).astype(float)
    if path.suffix in (".mha", ".mhd", ".nrrd"):
        affine = np.eye(4)
        affine[:3, :3] = np.array(image.GetDirection()).reshape(3, 3) * np.array(image.GetSpacing())
        affine[:3, 3] = image.GetOrigin()
        return Reading(values, affine)
    return Reading(values if image.GetDimension() == 3 else values[None])


def _by_pydicom(path: Path) -> Reading:
    import pydicom

    from peer_readings import values_of

    dataset = pydicom.dcmread(path, force=True)
    values = values_of(dataset)
    if dataset.PhotometricInterpretation == "MONOCHROME1":
        values = (1 << int(dataset.BitsStored)) - 1 - values
    if "PerFrameFunctionalGroupsSequence" not in dataset:
        plane, across = dataset, float(dataset.get("SliceThickness") or 1)
        origins = [np.array(dataset.ImagePositionPatient, float)]
        spacing, cosines = dataset.PixelSpacing, np.array(dataset.ImageOrientationPatient, float)
    else:
        shared = dataset.SharedFunctionalGroupsSequence[0]
        plane = shared.PixelMeasuresSequence[0]
        spacing, across = plane.PixelSpacing, float(plane.SliceThickness)
        cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
        origins = [
            np.array(one.PlanePositionSequence[0].ImagePositionPatient, float)
            for one in dataset.PerFrameFunctionalGroupsSequence
        ]
    normal = np.cross(cosines[:3], cosines[3:])
    order = np.argsort([normal @ origin for origin in origins], kind="stable")
    if len(origins) > 1:
        across = float(np.median(np.diff([normal @ origins[n] for n in order])))
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = cosines[:3] * float(spacing[1]), cosines[3:] * float(spacing[0])
    affine[:3, 2], affine[:3, 3] = normal * across, origins[order[0]]
    return Reading(values[order], affine)


def _clip_by_pydicom(path: Path) -> Reading:
    import pydicom

    from peer_readings import values_of

    return Reading(values_of(pydicom.dcmread(path, force=True)))


def _segments_by_pydicom(path: Path) -> Reading:
    """Reads a segmentation whose frames are slices at whole distances, in the order of its segments."""
    import pydicom

    dataset = pydicom.dcmread(path, force=True)
    frames = dataset.pixel_array.reshape(-1, dataset.Rows, dataset.Columns)
    shared, own = dataset.SharedFunctionalGroupsSequence[0], dataset.PerFrameFunctionalGroupsSequence
    measures = shared.PixelMeasuresSequence[0]
    cosines = np.array(shared.PlaneOrientationSequence[0].ImageOrientationPatient, float)
    normal = np.cross(cosines[:3], cosines[3:])
    origins = np.array([one.PlanePositionSequence[0].ImagePositionPatient for one in own], float)
    along = origins @ normal
    across = float(np.diff(np.unique(np.round(along, 3))).min())
    rows = np.round((along - along.min()) / across).astype(int)
    masks = []
    for item in dataset.SegmentSequence:
        mask = np.zeros((rows.max() + 1, *frames.shape[1:]), np.uint8)
        for n, one in enumerate(own):
            if one.SegmentIdentificationSequence[0].ReferencedSegmentNumber == item.SegmentNumber:
                mask[rows[n]] |= frames[n]
        masks.append(mask)
    affine = np.eye(4)
    affine[:3, 0], affine[:3, 1] = cosines[:3] * measures.PixelSpacing[1], cosines[3:] * measures.PixelSpacing[0]
    affine[:3, 2], affine[:3, 3] = normal * across, origins[along.argmin()]
    return Reading(_labels(masks), affine)
