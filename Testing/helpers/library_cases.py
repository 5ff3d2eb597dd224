"""A case full of names of a patient, and what is looked for in a library's files."""

from __future__ import annotations

import zlib
from pathlib import Path

import numpy as np

from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume
from ProxyPromptSegmentLib.library.store import SupportLibrary

TURN = np.array([[0.0, -1.0, 0.0], [1.0, 0.0, 0.0], [0.0, 0.0, 1.0]])
GRID = VolumeGeometry((20, 16, 6), (0.5, 0.75, 3.0), (-12.5, 40.0, 7.25), TURN)


TERMS = {
    "contextName": "Codes",
    "category": ["SCT", "123037004", "Anatomical Structure"],
    "type": ["SCT", "41216001", "Prostate"],
}


def a_case(seed: int = 0, scale: float = 1.0) -> tuple[Volume, Segmentation]:
    """Noise with two marked objects; name, source and segments are full of what names a patient."""
    array = (np.random.default_rng(seed).integers(-50, 900, GRID.shape_kji) * scale).astype(np.float32)
    prostate, bladder = np.zeros((2, *GRID.shape_kji), np.uint8)
    prostate[2:5, 4:12, 5:15] = 1
    bladder[3:4, 10:14, 2:9] = 1
    secret = {"id": "1.2.840.99.DOE", "tags": {"DICOM.PatientName": "DOE^JANE"}, "status": "completed"}
    segments = [
        Segment("Prostate", prostate, (0.8, 0.2, 0.1), TERMS, secret),
        Segment("Blase größer", bladder, (0.1, 0.9, 0.3), None, secret),
    ]
    return Volume(array, GRID, "DOE_JANE_19500101", Path("/archive/DOE_JANE/scan.nrrd")), Segmentation(segments, GRID)


def files_of(library: SupportLibrary) -> list[str]:
    """Everything in the library but its lock."""
    return sorted(str(p.relative_to(library.folder)) for p in library.folder.rglob("*") if p.name != ".lock")


def every_byte(library: SupportLibrary) -> bytes:
    """All files of the library, packed ones also unpacked."""
    found = b""
    for path in library.folder.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            found += str(path.relative_to(library.folder)).encode() + data
            _, gap, packed = data.partition(b"\n\n")
            if gap and packed[:2] == b"\x1f\x8b":
                found += zlib.decompress(packed, wbits=31) + packed[:64]
    return found
