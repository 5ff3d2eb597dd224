"""Multi-frame DICOM files: cine clips, as opposed to volumes."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

from ProxyPromptSegmentLib.frames.source import FrameSource
from ProxyPromptSegmentLib.frames.stack import FrameStack, temporary_file
from ProxyPromptSegmentLib.frames.volume_slices import VolumeSlices
from ProxyPromptSegmentLib.imaging.dicom.frames import frame_groups
from ProxyPromptSegmentLib.imaging.dicom.header import (
    burned_in,
    check_image,
    damage_in_words,
    frame_count,
    numbers,
    read_dataset,
)
from ProxyPromptSegmentLib.imaging.dicom.pixels import read_pixels
from ProxyPromptSegmentLib.imaging.dicom.places import are_at_one_place, grid_of, places_of
from ProxyPromptSegmentLib.imaging.dicom.spacing import pixel_size
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry


def is_cine(header: Any, name: str) -> bool:
    """Return whether a DICOM file is a clip: several frames that do not lie at places of their own."""
    if frame_count(header) < 2:
        return False
    places = places_of(header, name)
    return places is None or are_at_one_place(places)


def open_dicom(path: Path, axis: str) -> FrameSource:
    """Open the cine clip in a file, or the volume that the file belongs to."""
    with damage_in_words(path.name):
        return _opened(path, axis)


def _opened(path: Path, axis: str) -> FrameSource:
    """Return a file's frames."""
    header = read_dataset(path)
    check_image(header, path.name)
    if not is_cine(header, path.name):
        return VolumeSlices(path, axis)
    places = places_of(header, path.name)
    size = places[0].size if places else pixel_size(header, header, path.name)
    shape = (int(header.Columns), int(header.Rows), 1)
    geometry = VolumeGeometry(shape, (size.column_mm, size.row_mm, 1.0))
    if places:
        placed = grid_of(places[:1], shape[:2], path.name).geometry
        geometry = VolumeGeometry(shape, (size.column_mm, size.row_mm, 1.0), placed.origin_lps, placed.direction)
    array = read_pixels(read_dataset(path, pixels=True), path.name)[:, None]
    with temporary_file(path) as file:
        for frame in array:
            file.write(np.ascontiguousarray(frame).data)
        file.flush()
        frames = np.memmap(file, array.dtype, "r", shape=array.shape)
    del array
    source = FrameStack(path, "dicom-cine", frames, geometry, len(frames))
    source.has_spacing, source.times_s = size.known, _times(header, len(frames))
    if note := burned_in([header], path.name):
        source.notes.append(note)
    if size.note:
        source.notes.append(f"{path.name} {size.note}.")
    return source


def _times(header: Any, count: int) -> list[float] | None:
    """Return frame times in s, from Frame Time Vector or Frame Time (both ms), or from the frame rate."""
    steps = numbers(header, "FrameTimeVector")
    if len(steps) == count and np.isfinite(steps).all():
        return [float(t) for t in np.cumsum(steps) / 1000]
    delays = [
        numbers(frame_groups(header, n, ("CardiacSynchronizationSequence",)), "NominalCardiacTriggerDelayTime")
        for n in range(count)
    ]
    if all(len(one) == 1 for one in delays) and all(b[0] > a[0] for a, b in zip(delays, delays[1:], strict=False)):
        return [one[0] / 1000 for one in delays]
    step = numbers(header, "FrameTime")
    rate = numbers(header, "CineRate") or numbers(header, "RecommendedDisplayFrameRate")
    seconds = step[0] / 1000 if step and step[0] > 0 else 1 / rate[0] if rate and rate[0] > 0 else None
    return None if seconds is None or not np.isfinite(seconds) else [n * seconds for n in range(count)]
