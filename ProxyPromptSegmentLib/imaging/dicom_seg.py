"""Segmentations as DICOM SEG, through highdicom: each frame refers to the instance of the source series it lies on."""

from __future__ import annotations

import importlib.util
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import OutputError
from ProxyPromptSegmentLib.imaging.dicom_planes import DicomPlanes, dicom_files, read_planes
from ProxyPromptSegmentLib.imaging.geometry import match_lattice
from ProxyPromptSegmentLib.imaging.output_files import check_output_path, safe_output
from ProxyPromptSegmentLib.imaging.segmentations import NAME_TAG, TYPE_TAG, Segment, Segmentation
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind

if TYPE_CHECKING:
    import highdicom

DICOM_SEG_SUFFIX = ".dcm"
ALGORITHM = "Proxy Prompt"
_TISSUE = ("85756007", "SCT", "Tissue")
_LONGEST = 64
"""Characters of a DICOM long string."""


def algorithm_name(model: str, sha256: str = "") -> str:
    """Return the name of the algorithm for a model: ``Proxy Prompt sam-compact 0d1d8adb``; fits into DICOM."""
    end = f" {sha256[:8]}" if sha256 else ""
    start = f"{ALGORITHM} {model}".replace("\\", " ").strip()
    return start[: _LONGEST - len(end)] + end


def check_dicom_seg(path: Path, images: Path | str | Sequence[str | Path]) -> None:
    """Reject a result in DICOM SEG that could not be written; call this before long work.

    Args:
        path: The file.
        images: The DICOM image, as for `write_dicom_seg`.

    Raises:
        OutputError: If the package highdicom is missing, or the image was not read from DICOM.
        InputError: If the images cannot be referred to.
    """
    _check_package(path)
    planes = _planes_of(images)
    trial = np.zeros((*planes.geometry.shape_kji, 1), np.uint8)
    trial[0, 0, 0, 0] = 1
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        _build(planes, trial, [_describe(1, Segment("trial", trial[..., 0]), ALGORITHM)], "", "")


def _check_package(path: Path) -> None:
    """Reject an output in DICOM SEG if the package that writes it is missing."""
    if importlib.util.find_spec("highdicom") is None:
        raise OutputError(
            f"Writing {path.name} needs the Python package highdicom, which is not installed here.",
            Remedy(kind=RemedyKind.INSTALL_PACKAGE, package="highdicom"),
        )


def _planes_of(images: Path | str | Sequence[str | Path]) -> DicomPlanes:
    """Return the planes of an image: a folder, one of its files, or all of them."""
    return read_planes(dicom_files(Path(images)) if isinstance(images, (str, Path)) else images)


def write_dicom_seg(
    path: Path | str,
    segmentation: Segmentation,
    images: Path | str | Sequence[str | Path],
    *,
    replace: bool = False,
    algorithm: str = "",
    description: str = "Proxy Prompt, research use only",
    version: str = "",
) -> list[str]:
    """Write a segmentation as DICOM SEG.

    It has patient, study and frame of reference of the source images, and a series of its own.

    Args:
        path: The file, ``.dcm``.
        segmentation: Segments on the grid of the images, which may be flipped, permuted or cropped. Their tags
            (``metadata["tags"]``) ``DICOM.SegmentAlgorithmType`` and ``DICOM.SegmentAlgorithmName`` are used.
        images: The DICOM image that was segmented: its folder, one of its files, or all of them.
        replace: Whether a file of this name may be replaced.
        algorithm: Name of the algorithm for segments without tags; "" for segments that were drawn by hand.
        description: Description of the new series.
        version: Version of the program.

    Returns:
        Warnings as sentences.

    Raises:
        OutputError: If the file exists or cannot be written, or the package highdicom is missing.
        InputError: If the images cannot be referred to.
        GeometryError: If the segmentation lies on another grid than the images.
    """
    path = Path(path)
    check_output_path(path, (DICOM_SEG_SUFFIX,))
    _check_package(path)
    _refuse_existing(path, replace)
    if not segmentation.segments:
        raise OutputError(f"there is no segment to write to {path.name}; a segmentation needs at least one.")
    planes = _planes_of(images)
    masks = _on_planes(segmentation, planes)
    described = [_describe(n + 1, one, algorithm) for n, one in enumerate(segmentation.segments)]
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # about values of the source that highdicom repeats as they are
        made = _build(planes, masks, described, description, version)
        with safe_output(path, replace) as partial:
            made.save_as(partial)
            _verify(partial, masks, planes)
    empty = [segment.name for segment in segmentation.segments if not segment.mask.any()]
    return [f"{path.name}: nothing is marked in '{name}'." for name in empty]


def _refuse_existing(path: Path, replace: bool) -> None:
    """Reject a file that would be replaced without consent."""
    if path.exists() and not replace:
        raise OutputError(f"{path} already exists and is not overwritten; choose another name.")


def _on_planes(segmentation: Segmentation, planes: DicomPlanes) -> npt.NDArray[np.uint8]:
    """Return the masks on the planes in the order of the source, shape ``(planes, rows, columns, segments)``."""
    lattice = match_lattice(segmentation.geometry, planes.geometry, "The segmentation")
    masks = np.zeros((*planes.geometry.shape_kji, len(segmentation.segments)), np.uint8)
    for n, segment in enumerate(segmentation.segments):
        masks[np.array(planes.order), ..., n] = lattice.apply(segment.mask)
        lost = int(segment.mask.sum(dtype=np.int64)) - int(masks[..., n].sum(dtype=np.int64))
        if lost:
            raise OutputError(
                f"{lost} voxels of '{segment.name}' lie outside of the DICOM images, which DICOM SEG cannot hold; "
                "erase them, or write .seg.nrrd."
            )
    return masks


def _build(
    planes: DicomPlanes,
    masks: npt.NDArray[np.uint8],
    described: list[highdicom.seg.SegmentDescription],
    description: str,
    version: str,
) -> highdicom.seg.Segmentation:
    """Build the object; refuse what highdicom cannot refer to."""
    import highdicom as hd

    first = planes.datasets[0]
    try:
        made = hd.seg.Segmentation(
            source_images=list(planes.datasets),
            pixel_array=masks,
            segmentation_type=hd.seg.SegmentationTypeValues.BINARY,
            segment_descriptions=described,
            series_instance_uid=hd.UID(),
            series_number=_series_number(first),
            sop_instance_uid=hd.UID(),
            instance_number=1,
            manufacturer="ProxyPromptSegment",
            manufacturer_model_name="ProxyPromptSegment",
            software_versions=version or "unknown",
            device_serial_number="none",
            pixel_measures=hd.PixelMeasuresSequence(
                pixel_spacing=(planes.geometry.spacing_mm[1], planes.geometry.spacing_mm[0]),
                slice_thickness=planes.thickness_mm,
                spacing_between_slices=planes.geometry.spacing_mm[2],
            ),
            content_description=_long_string(description),
            content_label="SEGMENTATION",
            series_description=_long_string(description),
        )
        made.SpecificCharacterSet = "ISO_IR 192"  # names of segments and patients in any language
        return made
    except (ValueError, TypeError, AttributeError, KeyError) as error:
        reason = " ".join(str(error).split())[:200].rstrip(".")
        raise OutputError(
            f"DICOM SEG cannot refer to these images ({reason}); write the result as .seg.nrrd."
        ) from None


def _series_number(source: Any) -> int:
    """Return a number for the new series that sorts after its source."""
    try:
        return min(max(int(source.SeriesNumber or 0), 0), 2**20) + 1000
    except (AttributeError, ValueError, TypeError):
        return 1000


def _long_string(text: str) -> str:
    """Return a text as a DICOM long string."""
    return " ".join(text.replace("\\", " ").split())[:_LONGEST]


def _describe(number: int, segment: Segment, algorithm: str) -> highdicom.seg.SegmentDescription:
    """Describe a segment: name, terminology, colour, and how it was made."""
    import highdicom as hd

    terms, tags = segment.terminology or {}, _tags(segment)
    name = tags.get(NAME_TAG) or algorithm
    kind = tags.get(TYPE_TAG) or ("AUTOMATIC" if name else "MANUAL")
    identified = None
    if kind != "MANUAL":
        identified = hd.AlgorithmIdentificationSequence(
            name=_long_string(name or ALGORITHM),
            family=hd.sr.CodedConcept("123110", "DCM", "Artificial Intelligence"),
            version="1",
        )
    region, kind_of = _code(terms.get("anatomicRegion")), _code(terms.get("type"))
    if region is not None and (modifier := _code(terms.get("anatomicRegionModifier"))) is not None:
        region.AnatomicRegionModifierSequence = [modifier]
    if kind_of is not None and (modifier := _code(terms.get("typeModifier"))) is not None:
        kind_of.SegmentedPropertyTypeModifierCodeSequence = [modifier]
    return hd.seg.SegmentDescription(
        segment_number=number,
        segment_label=_long_string(segment.name) or f"segment {number}",
        segmented_property_category=_code(terms.get("category")) or hd.sr.CodedConcept(*_TISSUE),
        segmented_property_type=kind_of or hd.sr.CodedConcept(*_TISSUE),
        algorithm_type=kind,
        algorithm_identification=identified,
        tracking_uid=hd.UID(),
        tracking_id=_long_string(segment.name) or f"segment {number}",
        anatomic_regions=None if region is None else [region],
        display_color=hd.color.CIELabColor.from_rgb(*(int(round(255 * c)) for c in segment.color_rgb)),
    )


def _tags(segment: Segment) -> dict[str, str]:
    """Return the tags of a segment, which slicerio gives as a dictionary or as text ``name:value|name:value``."""
    tags = segment.metadata.get("tags") or {}
    if isinstance(tags, str):
        tags = dict(part.split(":", 1) for part in tags.split("|") if ":" in part)
    return {str(key): str(value) for key, value in tags.items()}


def _code(parts: Sequence[str] | None) -> highdicom.sr.CodedConcept | None:
    """Return a code from scheme, value and meaning; None if it is incomplete or too long for DICOM."""
    import highdicom as hd

    if not parts or len(parts) < 3 or not all(parts[:3]):
        return None
    scheme, value, meaning = parts[:3]
    if len(value) > _LONGEST or len(scheme) > 16:
        return None
    return hd.sr.CodedConcept(value, scheme, _long_string(meaning))


def _verify(partial: Path, masks: npt.NDArray[np.uint8], planes: DicomPlanes) -> None:
    """Read the file back by the instances that it refers to.

    Raises:
        OSError: If the file on the disk differs from what was to be written.
    """
    import highdicom as hd

    try:
        found = hd.seg.segread(partial)
        if len(planes.datasets) > 1 or masks.shape[0] == 1:
            uids = [str(one.SOPInstanceUID) for one in planes.datasets]
            back = found.get_pixels_by_source_instance(uids, assert_missing_frames_are_empty=True)
        else:
            numbers = list(range(1, masks.shape[0] + 1))
            back = found.get_pixels_by_source_frame(
                str(planes.datasets[0].SOPInstanceUID), numbers, assert_missing_frames_are_empty=True
            )
    except Exception as error:  # noqa: BLE001  # pydicom raises many kinds for a truncated file
        raise OSError(f"the file could not be read back ({' '.join(str(error).split())[:100]})") from None
    if not np.array_equal(back, masks):
        raise OSError("the file on the disk differs from what was written")
