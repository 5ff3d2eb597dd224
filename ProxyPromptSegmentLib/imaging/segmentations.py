"""Segmentations: segments read and written as Slicer's ``.seg.nrrd``, as label maps and as pictures."""

from __future__ import annotations

import logging
import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import GeometryError, InputError, OutputError
from ProxyPromptSegmentLib.imaging.dicom.header import is_dicom
from ProxyPromptSegmentLib.imaging.dicom.segmentation import read_dicom_segments
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry, match_lattice
from ProxyPromptSegmentLib.imaging.itk_images import (
    PICTURE_SUFFIXES,
    array_to_image,
    check_readable,
    write_image,
)
from ProxyPromptSegmentLib.imaging.labels import labels_of
from ProxyPromptSegmentLib.imaging.output_files import check_output_path, safe_output
from ProxyPromptSegmentLib.imaging.paths import suffix_of
from ProxyPromptSegmentLib.imaging.readers.detached import files_of_header
from ProxyPromptSegmentLib.imaging.readers.formats import read_stored
from ProxyPromptSegmentLib.imaging.readers.nifti import copy_forms
from ProxyPromptSegmentLib.imaging.readers.unchanged import unchanged
from ProxyPromptSegmentLib.imaging.seg_nrrd import is_seg_nrrd, read_layers, write_layers

OUTPUT_SUFFIXES = (".seg.nrrd", ".nii.gz", ".nii", ".nrrd", ".mha", ".png")

# Slicer's generic anatomy colours 1-12, the defaults for segments without a colour
_COLORS = (
    (0.50, 0.68, 0.50), (0.95, 0.84, 0.57), (0.69, 0.48, 0.40), (0.44, 0.72, 0.82), (0.85, 0.40, 0.31),
    (0.87, 0.51, 0.40), (0.56, 0.93, 0.56), (0.75, 0.40, 0.34), (0.86, 0.96, 0.08), (0.31, 0.25, 0.00),
    (1.00, 0.98, 0.86), (0.90, 0.86, 0.27),
)  # fmt: skip
NAME_TAG, TYPE_TAG = "DICOM.SegmentAlgorithmName", "DICOM.SegmentAlgorithmType"
_MOST_VALUE = 65535  # of label maps that are written
_log = logging.getLogger(__name__)


@dataclass
class Segment:
    """One structure of a segmentation.

    Attributes:
        name: Name as shown in Slicer, e.g. ``"prostate"``.
        mask: 1 inside, 0 outside; uint8, shape ``(K, J, I)``.
        color_rgb: Red, green, blue in 0..1.
        terminology: Slicer's terminology entry in ``slicerio``'s form (``category``, ``type`` and so on),
            or None.
        metadata: ``id``, ``status``, ``tags`` and ``label_value`` if the file had them; kept when writing.

    Raises:
        InputError: If the mask is not three-dimensional or has values other than 0 and 1.
    """

    name: str
    mask: npt.NDArray[np.uint8]
    color_rgb: tuple[float, float, float] = _COLORS[0]
    terminology: dict[str, Any] | None = None
    metadata: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Validate the mask and convert it to uint8."""
        mask = np.asarray(self.mask)
        below = mask.size and mask.dtype.kind not in "ub" and mask.min() < 0
        if mask.ndim != 3 or below or (mask.size and mask.max() > 1):
            raise InputError(
                f"the mask of segment '{self.name}' has shape {mask.shape} and values up to "
                f"{mask.max() if mask.size else 0}; it must be (K, J, I) with 0 outside and 1 inside."
            )
        self.mask = mask.astype(np.uint8, copy=False)


@dataclass
class Segmentation:
    """Segments on one voxel grid; they may overlap.

    Raises:
        GeometryError: If a mask does not have the geometry's shape.
    """

    segments: list[Segment]
    geometry: VolumeGeometry

    def __post_init__(self) -> None:
        """Validate the shapes."""
        for segment in self.segments:
            if segment.mask.shape != self.geometry.shape_kji:
                raise GeometryError(
                    f"segment '{segment.name}' has shape {segment.mask.shape}, the geometry {self.geometry.shape_kji}; "
                    "both must be the same (K, J, I)."
                )

    @property
    def names(self) -> list[str]:
        """Names of the segments, in order."""
        return [segment.name for segment in self.segments]


def default_color(index: int) -> tuple[float, float, float]:
    """Return the default colour of the segment at an index; the first twelve are distinct."""
    return _COLORS[index % len(_COLORS)]


# --- reading ------------------------------------------------------------------------------------------------


def read_segmentation(path: Path | str, reference: VolumeGeometry | None = None) -> Segmentation:
    """Read a segmentation, placed on the grid of a volume if one is given.

    Args:
        path: ``.seg.nrrd``; DICOM SEG; a label map as NRRD, NIfTI or MHA (one segment per value, named ``label 1``
            and so on); or a picture (one segment per grey value, palette index or colour, which is then its name as
            ``#ff0000``; of a JPEG and of soft edges the bright half).
        reference: The volume's geometry. The file may be flipped, permuted, cropped or extended relative to it;
            voxels are moved, never resampled. A picture has no position, so only its size must match.

    Raises:
        InputError: If the file is missing, damaged or not a segmentation.
        GeometryError: If its voxels do not lie on the reference's lattice.
    """
    path = Path(path)
    is_picture = suffix_of(path) in PICTURE_SUFFIXES
    with unchanged(files_of_header(path), path.name):
        found = _read_any(path)
    if reference is None or found.geometry == reference:
        return found
    if is_picture:
        return _place_picture(found, reference, path)
    lattice = match_lattice(found.geometry, reference, path.name)
    placed = []
    for segment in found.segments:
        mask = lattice.apply(segment.mask)
        lost = int(segment.mask.sum(dtype=np.int64) - mask.sum(dtype=np.int64))
        if lost and not mask.any():
            raise GeometryError(
                f"segment '{segment.name}' of {path.name} lies entirely outside the volume ({reference}); give the "
                "segmentation that was drawn on this volume."
            )
        if lost:
            _log.warning(
                "%s: %d voxels of '%s' lie outside the volume and are cropped",
                path.name,
                lost,
                segment.name,
            )
        placed.append(Segment(segment.name, mask, segment.color_rgb, segment.terminology, segment.metadata))
    return Segmentation(placed, reference)


def _read_any(path: Path) -> Segmentation:
    """Read a file by what it is."""
    check_readable(path)
    if path.is_dir() or is_dicom(path):
        return _read_dicom(path)
    return _read_slicer(path) if is_seg_nrrd(path) else _read_labels(path)


def _read_dicom(path: Path) -> Segmentation:
    """Read DICOM SEG."""
    found, geometry = read_dicom_segments(path)
    segments = []
    for n, one in enumerate(found):
        metadata: dict[str, Any] = {"label_value": one.number}
        if any(one.algorithm):
            tags = zip((NAME_TAG, TYPE_TAG), one.algorithm, strict=True)
            metadata["tags"] = {key: value for key, value in tags if value}
        segments.append(Segment(one.name, one.mask, one.color or default_color(n), one.terminology, metadata))
    return Segmentation(segments, geometry)


def _read_slicer(path: Path) -> Segmentation:
    """Read ``.seg.nrrd``."""
    layers, geometry, infos = read_layers(path)
    return Segmentation([_segment_of(n, info, layers) for n, info in enumerate(infos)], geometry)


def _segment_of(index: int, info: dict[str, Any], layers: npt.NDArray[Any]) -> Segment:
    """Build a segment from slicerio's description and the layers ``(L, I, J, K)``."""
    value, layer = int(info["labelValue"]), int(info["layer"])
    mask = np.ascontiguousarray((layers[layer] == value).T, dtype=np.uint8)
    color = tuple(float(c) for c in info.get("color") or ())
    if len(color) != 3 or not np.isfinite(color).all():
        color = default_color(index)
    kept: dict[str, Any] = {
        key: info[key] for key in ("id", "status", "tags", "nameAutoGenerated", "colorAutoGenerated") if key in info
    }
    kept["label_value"] = value
    name = str(info.get("name") or f"segment {index + 1}")
    red, green, blue = (min(1.0, max(0.0, c)) for c in color)
    return Segment(name, mask, (red, green, blue), info.get("terminology"), kept)


def _read_labels(path: Path) -> Segmentation:
    """Read a label map or picture: one segment per value or colour."""
    stored = read_stored(path)
    for note in stored.notes:
        if stored.has_spacing or " not say how large " not in note:  # that a mask has no lengths does not matter
            _log.warning("%s", note)
    segments = [
        Segment(
            label.name,
            label.mask,
            label.color or default_color(n),
            metadata={} if label.value is None else {"label_value": label.value},
        )
        for n, label in enumerate(labels_of(stored, path.name, suffix_of(path), suffix_of(path) in PICTURE_SUFFIXES))
    ]
    return Segmentation(segments, stored.geometry)


def _place_picture(found: Segmentation, reference: VolumeGeometry, path: Path) -> Segmentation:
    """Give a mask without a position the geometry of the volume, if its size matches."""
    if found.geometry.size_ijk != reference.size_ijk:
        (width, height, _), (i, j, k) = found.geometry.size_ijk, reference.size_ijk
        raise GeometryError(
            f"{path.name} has {width}x{height} pixels, the image has {i}x{j}x{k}; a mask as a picture must have the "
            "size of its image, and the image one slice. Export the mask at the image's size."
        )
    return Segmentation(found.segments, reference)


# --- writing ------------------------------------------------------------------------------------------------


def write_segmentation(
    path: Path | str, segmentation: Segmentation, like: Path | str | None = None, *, replace: bool = True
) -> list[str]:
    """Write a segmentation with exactly its geometry (NIfTI stores it in float32: errors of about 1e-6).

    Args:
        path: ``.seg.nrrd`` keeps names, colours, terminology and overlaps; ``.nii.gz``, ``.nii``, ``.nrrd``
            and ``.mha`` become a label map with the values 1, 2, ... in the order of the segments (or the
            values read from the file or said by names such as ``label 3``, if they are distinct); ``.png`` the same,
            for one slice.
        segmentation: The segmentation to write.
        like: The image that was segmented. If it and the result are NIfTI, the result has its sform and qform.
        replace: Whether a file of this name may be replaced.

    Returns:
        Warnings as sentences, e.g. that a label map keeps only the last of overlapping segments.

    Raises:
        OutputError: If the file cannot be written; no partial file is left and an existing file is kept.
    """
    path = Path(path)
    check_output_path(path, OUTPUT_SUFFIXES)
    if not segmentation.segments:
        raise OutputError(f"there is no segment to write to {path.name}; a segmentation needs at least one.")
    if suffix_of(path) == ".seg.nrrd":
        with safe_output(path, replace) as partial:
            _write_slicer(partial, segmentation)
        return []
    labels, warnings = to_label_map(segmentation)
    if suffix_of(path) == ".png" and len(labels) != 1:
        raise OutputError(
            f"{path.name} can hold one slice, the segmentation has {len(labels)}; write .seg.nrrd or .nii.gz instead."
        )
    image = array_to_image(labels, segmentation.geometry)
    with safe_output(path, replace) as partial:
        write_image(partial, image[:, :, 0] if suffix_of(path) == ".png" else image)
        like = None if like is None else Path(like)
        if like is not None and suffix_of(path) in (".nii", ".nii.gz") and suffix_of(like) in (".nii", ".nii.gz"):
            copy_forms(partial, like, segmentation.geometry)
    return [f"{path.name}: {warning}" for warning in warnings]


def label_values(segments: Iterable[Segment]) -> list[int]:
    """Return the values for a label map: those read from the file if they are distinct, otherwise 1, 2, ..."""
    known = [(segment.name, int(segment.metadata.get("label_value", 0))) for segment in segments]
    return distinct_values([name for name, _ in known], [value for _, value in known])


def distinct_values(names: Sequence[str], given: Sequence[int]) -> list[int]:
    """Return the values of objects in a label map, 1 to 65535.

    Args:
        names: Their names, of which ``label 3`` says a value.
        given: The values that are known from a file; 0 if none.

    Returns:
        The values if they are distinct, otherwise 1, 2, ...
    """
    values = [value or _value_in(name) for name, value in zip(names, given, strict=True)]
    right = len(set(values)) == len(values) and min(values) > 0 and max(values) <= _MOST_VALUE
    return values if right else list(range(1, len(values) + 1))


def _value_in(name: str) -> int:
    """Return the value that a name such as ``label 3`` says; 0 if it says none."""
    words = name.split()
    return int(words[1]) if len(words) == 2 and words[0] == "label" and words[1].isdecimal() else 0


def to_label_map(segmentation: Segmentation) -> tuple[npt.NDArray[Any], list[str]]:
    """Return a label map ``(K, J, I)``, uint8 or uint16, and warnings: where segments overlap, the last one wins."""
    values = label_values(segmentation.segments)
    changed = [
        f"{given} is {value}"
        for given, value in zip((one.metadata.get("label_value") for one in segmentation.segments), values, strict=True)
        if given and int(given) != value
    ]
    notes = []
    if changed:
        notes.append(
            f"not all objects keep their label values, since those are not distinct or above {_MOST_VALUE}: "
            f"{', '.join(changed[:8])}{' and more' * (len(changed) > 8)}."
        )
    labels = np.zeros(segmentation.geometry.shape_kji, np.uint8 if max(values) <= 255 else np.uint16)
    overlap = 0
    for segment, value in zip(segmentation.segments, values, strict=True):
        inside = segment.mask > 0
        overlap += int(np.count_nonzero(labels[inside]))
        labels[inside] = value
    if overlap:
        notes.append(
            f"{overlap} voxels belong to several segments; a label map keeps the last one. Write .seg.nrrd to keep all."
        )
    return labels, notes


def _layers_of(segments: list[Segment]) -> tuple[npt.NDArray[Any], list[tuple[int, int]]]:
    """Distribute segments greedily over layers without overlaps; each gets a ``(layer, value)``.

    The layers have shape ``(L, I, J, K)``, in the order that NRRD stores. The values are those read from a file, else
    1, 2, ... in each layer.
    """
    layers: list[npt.NDArray[Any]] = []
    counts: list[int] = []
    places: list[tuple[int, int]] = []
    known = label_values(segments)
    numbered = known == list(range(1, len(known) + 1))
    kind = np.uint8 if max(known) <= 255 else np.uint16
    for segment, value in zip(segments, known, strict=True):
        inside = segment.mask > 0
        n = next((n for n, layer in enumerate(layers) if not layer[inside].any()), len(layers))
        if n == len(layers):
            layers.append(np.zeros(segment.mask.shape, kind))
            counts.append(0)
        counts[n] += 1
        layers[n][inside] = counts[n] if numbered else value
        places.append((n, counts[n] if numbered else value))
    return np.stack([layer.T for layer in layers]), places


def _write_slicer(partial: Path, segmentation: Segmentation) -> None:
    """Write ``.seg.nrrd``."""
    layers, places = _layers_of(segmentation.segments)
    i, j, k = segmentation.geometry.size_ijk
    infos: list[dict[str, Any]] = []
    used: set[str] = set()
    for n, (segment, (layer, value)) in enumerate(zip(segmentation.segments, places, strict=True)):
        identity = str(segment.metadata.get("id") or f"Segment_{n + 1}")
        while identity in used:
            identity = f"Segment_{uuid.uuid4().hex[:12]}"
        used.add(identity)
        info: dict[str, Any] = {
            "id": identity,
            "name": " ".join(segment.name.split()) or f"segment {n + 1}",
            "color": [round(float(c), 6) for c in segment.color_rgb],
            "labelValue": value,
            "layer": layer,
            # the whole grid: older Slicer versions cut other segments to the extent of the first of a layer
            "extent": [0, i - 1, 0, j - 1, 0, k - 1],
            "nameAutoGenerated": bool(segment.metadata.get("nameAutoGenerated", False)),
            "colorAutoGenerated": bool(segment.metadata.get("colorAutoGenerated", False)),
            "status": str(segment.metadata.get("status", "inprogress")),
        }
        if segment.terminology:
            info["terminology"] = segment.terminology
        if segment.metadata.get("tags"):
            info["tags"] = segment.metadata["tags"]
        infos.append(info)
    write_layers(partial, layers, segmentation.geometry, infos)
