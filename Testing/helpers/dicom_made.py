"""DICOM files made with pydicom for tests: single frames, clips, enhanced files and segmentations."""

from __future__ import annotations

from pathlib import Path

import numpy as np
from pydicom.dataset import Dataset, FileDataset, FileMetaDataset
from pydicom.sequence import Sequence

IMAGE = "1.2.840.10008.5.1.4.1.1."
"""With a tail, a class of images: 4 is MR, 4.1 enhanced MR, 1 CR, 6.1 ultrasound, 7 a capture, 66.4 a segmentation."""
AXIAL = [1, 0, 0, 0, 1, 0]
ROOT = "1.2.826.0.1.3680043.2.1125."


def dataset(pixels: np.ndarray, series: str = "1", number: int = 1, kind: str = "4", **values) -> FileDataset:
    """Returns a file of grey values ``(rows, columns)`` or ``(frames, rows, columns)``; ``values`` by their "
    "keywords."""
    meta = FileMetaDataset()
    meta.MediaStorageSOPClassUID, meta.MediaStorageSOPInstanceUID = IMAGE + kind, f"{ROOT}{series}.{number}"
    meta.TransferSyntaxUID = "1.2.840.10008.1.2.1"
    made = FileDataset("x", {}, file_meta=meta, preamble=b"\0" * 128)
    made.SOPClassUID, made.SOPInstanceUID = IMAGE + kind, f"{ROOT}{series}.{number}"
    made.StudyInstanceUID, made.SeriesInstanceUID, made.FrameOfReferenceUID = f"{ROOT}8", f"{ROOT}{series}", f"{ROOT}9"
    made.PatientName, made.PatientID, made.Modality, made.InstanceNumber = "Doe^Jane", "4711", "MR", number
    made.SeriesDescription = "t2"
    made.SamplesPerPixel, made.PhotometricInterpretation = 1, "MONOCHROME2"
    bits = pixels.dtype.itemsize * 8
    made.BitsAllocated = made.BitsStored = bits
    made.HighBit, made.PixelRepresentation = bits - 1, int(pixels.dtype.kind == "i")
    made.Rows, made.Columns = pixels.shape[-2:]
    if pixels.ndim == 3:
        made.NumberOfFrames = len(pixels)
    made.PixelData = pixels.tobytes() + b"\0" * (pixels.nbytes % 2)
    made["PixelData"].VR = "OB" if bits == 8 else "OW"
    for key, value in values.items():
        setattr(made, key, value)
    return made


def save(made: FileDataset, path: Path) -> Path:
    """Writes a file and the folders that it lies in."""
    path.parent.mkdir(parents=True, exist_ok=True)
    made.save_as(path, enforce_file_format=False)
    return path


def stack(count: int = 9, shape: tuple[int, int] = (12, 14)) -> np.ndarray:
    """Returns slices int16 ``(count, rows, columns)`` of which each voxel has a value of its own."""
    return np.arange(count * shape[0] * shape[1], dtype=np.int16).reshape(count, *shape)


def write_series(folder: Path, slices: np.ndarray, places, **values) -> Path:
    """Writes a slice for each place ``(x, y, z)``, 1.1 mm pixels unless ``values`` say otherwise."""
    for n, (pixels, place) in enumerate(zip(slices, places, strict=True)):
        given = {"PixelSpacing": [1.1, 1.1], "ImageOrientationPatient": AXIAL, **values}
        made = dataset(pixels, number=n + 1, ImagePositionPatient=[float(x) for x in place], **given)
        for key in [key for key, value in given.items() if value is None]:
            delattr(made, key)
        save(made, folder / f"IM{(n * 5) % len(slices)}_{n}")
    return folder


def group(**values) -> Sequence:
    """Returns a sequence of one item."""
    item = Dataset()
    for key, value in values.items():
        setattr(item, key, value)
    return Sequence([item])


def enhanced(pixels: np.ndarray, places, series: str = "2", kind: str = "4.1", number: int = 1, frames=None, **values):
    """Returns a file of frames at places ``(x, y, z)``, 1.1 mm pixels; ``frames`` are more groups of each frame."""
    made = dataset(pixels, series, number, kind, **values)
    shared, own = Dataset(), []
    shared.PixelMeasuresSequence = group(PixelSpacing=[1.1, 1.1], SliceThickness="3.3", SpacingBetweenSlices="3.3")
    shared.PlaneOrientationSequence = group(ImageOrientationPatient=AXIAL)
    for n, place in enumerate(places):
        frame = Dataset()
        frame.PlanePositionSequence = group(ImagePositionPatient=[float(x) for x in place])
        for key, value in (frames[n] if frames else {}).items():
            setattr(frame, key, value)
        own.append(frame)
    made.SharedFunctionalGroupsSequence = Sequence([shared])
    made.PerFrameFunctionalGroupsSequence = Sequence(own)
    return made


def segmentation(masks, names, series: str = "3", **values) -> FileDataset:
    """Returns a DICOM SEG; ``masks`` are ``(segment number, (x, y, z), mask)``, one a frame."""
    frames = np.stack([mask for _, _, mask in masks]).astype(np.uint8)
    numbers = [{"SegmentIdentificationSequence": group(ReferencedSegmentNumber=n)} for n, _, _ in masks]
    made = enhanced(frames, [place for _, place, _ in masks], series, "66.4", frames=numbers, Modality="SEG")
    made.BitsAllocated = made.BitsStored = 1
    made.HighBit, made.SegmentationType = 0, "BINARY"
    packed = np.packbits(frames.ravel(), bitorder="little").tobytes()
    made.PixelData = packed + b"\0" * (len(packed) % 2)
    items = []
    for n, name in enumerate(names):
        item = group(SegmentNumber=n + 1, SegmentLabel=name, SegmentAlgorithmType="MANUAL")[0]
        item.SegmentedPropertyCategoryCodeSequence = group(
            CodeValue="91723000", CodingSchemeDesignator="SCT", CodeMeaning="Anatomical Structure"
        )
        item.SegmentedPropertyTypeCodeSequence = group(
            CodeValue="41216001", CodingSchemeDesignator="SCT", CodeMeaning="Prostate"
        )
        items.append(item)
    made.SegmentSequence = Sequence(items)
    for key, value in values.items():
        setattr(made, key, value)
    return made
