"""Frames in one array, in memory or in a temporary file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import IO

import numpy as np

from ProxyPromptSegmentLib.errors import InputError, OutputError
from ProxyPromptSegmentLib.frames.source import COLOUR_FRAMES, Frame, FrameSource, Kind, spread
from ProxyPromptSegmentLib.imaging.geometry import AXES, VolumeGeometry


class FrameStack(FrameSource):
    """Frames in a memory-mapped array ``(T, K, J, I[, 3])``; the last ones may be missing."""

    def __init__(self, path: Path, kind: Kind, array: Frame, geometry: VolumeGeometry, count: int) -> None:
        axis = next(name for name, n in zip(AXES, geometry.shape_kji, strict=True) if n == 1)
        super().__init__(path, kind, geometry, count, axis)
        self._array = array
        self._learn([array[n] for n in spread(len(array), COLOUR_FRAMES)])

    def _stored(self, index: int) -> Frame:
        if index >= len(self._array):
            raise InputError("its data are missing, the file is cut short")
        return np.asarray(self._array[index])


@contextmanager
def temporary_file(path: Path) -> Iterator[IO[bytes]]:
    """Yield an anonymous file for unpacked frames; it is removed when nothing maps it any more."""
    try:
        with tempfile.TemporaryFile() as file:
            yield file
    except OSError as error:
        raise OutputError(
            f"{path.name} could not be unpacked into {tempfile.gettempdir()}: {error.strerror or error}. Free up "
            "space there, or name another folder in the environment variable TMPDIR."
        ) from None
