"""Frame sources opened from any supported path."""

from __future__ import annotations

import os
from pathlib import Path

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.frames.dicom_cine import open_dicom
from ProxyPromptSegmentLib.frames.folders import open_folder
from ProxyPromptSegmentLib.frames.nrrd_sequence import open_sequence
from ProxyPromptSegmentLib.frames.source import FrameSource
from ProxyPromptSegmentLib.frames.video import VIDEO_SUFFIXES, VideoSource
from ProxyPromptSegmentLib.frames.volume_slices import VolumeSlices
from ProxyPromptSegmentLib.imaging.dicom.header import is_dicom
from ProxyPromptSegmentLib.imaging.geometry import axis_number
from ProxyPromptSegmentLib.imaging.paths import not_there
from ProxyPromptSegmentLib.imaging.seg_nrrd import is_seg_nrrd


def open_frames(path: Path | str, axis: str = "auto") -> FrameSource:
    """Open a file or folder as a source of frames.

    Args:
        path: A video; a folder of pictures, ordered by the numbers in their names; a multi-frame DICOM file; a
            Slicer sequence (``.seq.nrrd``, or four-dimensional NRRD) with one slice per time; or anything that
            `read_volume` reads, DICOM series included, whose slices are then the frames.
        axis: Slicing axis of a volume: ``k``, ``j``, ``i``, or ``auto`` for the acquired slices.

    Raises:
        InputError: If it is missing, empty or damaged, or contains no frames or several volumes.
        GeometryError: If the axis is unknown.
        OutputError: If there is not enough disk space to unpack it.
    """
    path = Path(path)
    if axis != "auto":
        axis_number(axis)
    if not path.exists():
        raise InputError(not_there(path, "a video, a folder of frames, a sequence or a volume"))
    if not os.access(path, os.R_OK | os.X_OK if path.is_dir() else os.R_OK):
        raise InputError(f"{path} may not be read by this user; change its permissions.")
    if path.is_dir():
        return open_folder(path, axis)
    if path.stat().st_size == 0:
        raise InputError(f"{path.name} is empty (0 bytes); the file was not completely written or copied.")
    if path.suffix.lower() in VIDEO_SUFFIXES:
        return VideoSource(path)
    if is_seg_nrrd(path):
        raise InputError(f"{path.name} is a segmentation; give the images that are to be segmented.")
    if is_dicom(path):
        return open_dicom(path, axis)
    sequence = open_sequence(path) if path.suffix.lower() in (".nrrd", ".nhdr") else None
    return sequence or VolumeSlices(path, axis)
