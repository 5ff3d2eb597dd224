"""Common base of all frame sources: their geometry, and one form for all frames."""

from __future__ import annotations

import math
import re
from collections.abc import Generator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, Protocol

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry, axis_number, slice_view
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.imaging.paths import one_line, stem_of
from ProxyPromptSegmentLib.imaging.volumes import Volume

Kind = Literal["video", "folder", "dicom-cine", "sequence", "volume"]
Frame = npt.NDArray[Any]

_WINDOW_FRAMES, _WINDOW_PIXELS = (
    16,
    1 << 16,
)  # numbers of frames, and of pixels per frame, that are sampled for the window
COLOUR_FRAMES = 5
# Of 256 grey levels: an 8-bit frame whose window is narrower is nearly empty and decides nothing.
_NARROW = 64
_GREY_TOLERANCE, _COLOURED_PART = 8, 1e-3  # of 255; lossy compression shifts colour planes by a few levels


@dataclass(frozen=True)
class BadFrame:
    """A frame that cannot be used.

    Attributes:
        index: Frame index, counted from 0.
        reason: The reason, as the part of a sentence that follows ``frame 7: ``.
    """

    index: int
    reason: str


Frames = Generator[tuple[int, Frame | BadFrame], None, None]
"""Frames with their numbers; closing it closes the file that they are read from."""


class FrameStream(Protocol):
    """What following frames needs of them; `FrameSource` of files, `FrameArray` of arrays."""

    title: str
    count: int | None
    shape: tuple[int, int]
    spacing_mm: tuple[float, float]
    eight_bit: bool

    def window(self) -> tuple[float, float]:
        """Return the intensities (low, high) to be shown as black and white."""

    def __iter__(self) -> Frames:
        """Yield all frames in order with their numbers."""


class FrameArray:
    """Frames that are already in memory and turned as the support's images.

    Attributes:
        title: What to call them in a sentence.
        count: Number of frames.
        shape: Rows and columns.
        spacing_mm: Pixel size (row, column).
        eight_bit: False: nothing is known of their range.
    """

    def __init__(
        self, frames: npt.NDArray[Any], spacing_mm: tuple[float, float] = (1.0, 1.0), title: str = "the sequence"
    ) -> None:
        """Take frames ``(T, H, W)`` or ``(T, H, W, 3)``; they are not copied.

        Raises:
            InputError: If they have another shape.
        """
        if frames.ndim < 3 or frames.shape[3:] not in ((), (3,)) or not frames.size:
            raise InputError(f"the frames have shape {frames.shape}; allowed are (T, H, W) and (T, H, W, 3)")
        self._frames, self.title, self.spacing_mm = frames, title, spacing_mm
        self.count: int | None = len(frames)
        self.shape: tuple[int, int] = (frames.shape[1], frames.shape[2])
        self.eight_bit = False

    def window(self) -> tuple[float, float]:
        """Return the window of all frames together."""
        return intensity_window(self._frames)

    def __iter__(self) -> Frames:
        """Yield all frames in order with their numbers."""
        yield from enumerate(self._frames)


def first_window(frame: Frame, source: FrameStream) -> tuple[float, float]:
    """Return the intensity window of a clip: that of its first frame, because no frame may know what comes later.

    It is found as the support's is. Where that frame shows nothing, the source's own window serves.

    Raises:
        InputError: If the source has but one intensity.
    """
    try:
        low, high = intensity_window(frame)
    except InputError:
        return source.window()
    return source.window() if source.eight_bit and high - low < _NARROW else (low, high)


class FrameSource:
    """A source of frames of one size, read in order or by index.

    Attributes:
        path: File or folder.
        name: Name for messages.
        title: Name of the file, for sentences about it.
        kind: Kind of source.
        count: Number of frames; for a video the number stated in the file, if any, until it was read to its end.
        shape: Rows and columns of every frame, after orientation.
        rgb: Whether frames are ``(H, W, 3)`` instead of ``(H, W)``.
        eight_bit: Whether frames are uint8 instead of float32.
        spacing_mm: Pixel size (row, column) after orientation; if unknown 1, but with the right aspect ratio.
        has_spacing: Whether ``spacing_mm`` is really in mm.
        geometry: Geometry of one frame as a volume of one slice; for a volume that of the whole volume.
        view: Orientation of the frames.
        volume: The volume, if the source is one.
        times_s: Presentation times in seconds if known, evenly spaced or not; for a video they are filled in while
            it is read.
        labels: File names of the frames without suffix, for a folder.
        index: Name, unit and values of a sequence file's index axis.
        direct: Whether a frame can be read without reading those before it.
        notes: Notes for the user, as sentences.
    """

    direct = True

    def __init__(self, path: Path, kind: Kind, geometry: VolumeGeometry, count: int | None, axis: str = "k") -> None:
        """Set the common attributes; ``axis`` is the axis across the frames."""
        self.path, self.kind, self.geometry, self.count = path, kind, geometry, count
        name = one_line(path.resolve().name if path.is_dir() else stem_of(path))
        self.name = name[:-4] if name.lower().endswith(".seq") else name
        self.title = one_line(path.name)
        self.view = slice_view(geometry, axis)
        turned = self.view.take(np.broadcast_to(np.uint8(0), geometry.shape_kji)).shape
        self.shape: tuple[int, int] = (turned[1], turned[2])
        self.spacing_mm = self.view.spacing_mm
        self.rgb, self.eight_bit, self.has_spacing = False, True, False
        self.volume: Volume | None = None
        self.times_s: list[float] | None = None
        self.labels: list[str] | None = None
        self.index: tuple[str, str, list[str]] | None = None
        self.notes: list[str] = []
        self._window: tuple[float, float] | None = None
        self._dtype: np.dtype[Any] = np.dtype(np.uint8)

    def __iter__(self) -> Frames:
        """Yield all frames in order with their indices; can be iterated again."""
        for index in range(self.count or 0):
            yield index, self.frame(index)

    def frame(self, index: int) -> Frame | BadFrame:
        """Return a frame, ``(H, W)`` or ``(H, W, 3)``, uint8 or float32, or the reason why it cannot be used.

        Raises:
            IndexError: If there is no such frame.
        """
        if not 0 <= index < (self.count or 0):
            raise IndexError(f"{self.name} has no frame {index}; its frames are 0 to {(self.count or 0) - 1}")
        try:
            return self._finished(index, self._stored(index))
        except InputError as error:
            return BadFrame(index, re.split(r";|: |\. |\.$", str(error), maxsplit=1)[0])

    def window(self) -> tuple[float, float]:
        """Return the intensities (low, high) shown as black and white: 0..255 for 8 bits, else from a sample.

        A tracker uses the first frame's window instead, because later frames are not known yet.

        Raises:
            InputError: If no frame of the sample can be read, or all have one constant intensity.
        """
        if self._window is None:
            self._window = (0.0, 255.0) if self.eight_bit and self.kind != "volume" else self._sampled_window()
        return self._window

    def as_stored(self, turned: npt.NDArray[Any]) -> npt.NDArray[Any]:
        """Return the masks of a frame ``(..., H, W)`` in the orientation of the file."""
        empty = np.broadcast_to(np.uint8(0), self.geometry.shape_kji)
        rows, columns = (n for a, n in enumerate(empty.shape) if a != axis_number(self.view.axis))
        stored = np.empty((*turned.shape[:-2], rows, columns), turned.dtype)
        part = stored.swapaxes(-1, -2) if self.view.transpose else stored
        part[..., :: -1 if self.view.flip_rows else 1, :: -1 if self.view.flip_columns else 1] = turned
        return stored

    def _stored(self, index: int) -> Frame:
        """Read a frame as a volume of one slice ``(K, J, I[, 3])``; raise InputError if it cannot be read."""
        raise NotImplementedError

    def _learn(self, samples: Sequence[Frame]) -> None:
        """Determine from stored frames, the first one first, the common form: grey or colour, 8 bits or float32."""
        self.rgb = any(s.ndim == 4 and not is_grey(s) for s in samples)
        self._dtype = samples[0].dtype
        self.eight_bit = self._dtype == np.uint8

    def _finished(self, index: int, stored: Frame) -> Frame | BadFrame:
        """Check a stored frame and convert it to the common form."""
        if stored.shape[:3] != self.geometry.shape_kji:
            found, wanted = (f"{s[-1]}x{s[-2]}" for s in (stored.shape[:3], self.geometry.shape_kji))
            return BadFrame(index, f"it has {found} pixels instead of {wanted}")
        if stored.dtype != self._dtype:
            return BadFrame(index, f"its pixels are {stored.dtype} instead of {self._dtype}")
        if stored.dtype.kind == "f" and not np.isfinite(stored).all():
            return BadFrame(index, "it has NaN or infinite intensity")
        frame = self.view.take(stored)[0]
        if frame.ndim == 3 and not self.rgb:
            frame = to_grey(frame)
        elif frame.ndim == 2 and self.rgb:
            frame = np.repeat(frame[..., None], 3, axis=2)
        return np.ascontiguousarray(frame, dtype=np.uint8 if self.eight_bit else np.float32)

    def _sampled_window(self) -> tuple[float, float]:
        """Return the intensity window of an evenly spaced sample of frames."""
        values = []
        for n in spread(self.count or 0, _WINDOW_FRAMES):
            frame = self.frame(n)
            if not isinstance(frame, BadFrame):
                step = max(1, math.isqrt(frame.size // _WINDOW_PIXELS))
                values.append(frame[::step, ::step].ravel())
        if not values:
            raise InputError(f"none of the sampled frames of {self.path.name} can be read.")
        try:
            return intensity_window(np.concatenate(values))
        except InputError as error:
            raise InputError(f"{self.path.name}: {error}.") from None


def spread(count: int, most: int) -> list[int]:
    """Return at most ``most`` indices, evenly spaced over ``range(count)``."""
    return sorted({round(float(n)) for n in np.linspace(0, count - 1, min(count, most))}) if count else []


def numbers_of(text: str) -> list[float] | None:
    """Parse finite numbers separated by blanks; None if there are none or the text has another form."""
    try:
        numbers = [float(word) for word in text.split()]
    except ValueError:
        return None
    return numbers if numbers and all(math.isfinite(n) for n in numbers) else None


def is_grey(rgb: Frame) -> bool:
    """Return whether red, green and blue are equal, apart from the noise of lossy compression."""
    top = 257 if rgb.dtype == np.uint16 else 1
    wide = rgb.astype(np.int32)
    return bool(np.mean(wide.max(axis=-1) - wide.min(axis=-1) > _GREY_TOLERANCE * top) <= _COLOURED_PART)


def to_grey(rgb: Frame) -> Frame:
    """Return the luminance ``(H, W)``, ITU-R BT.601 weights in 256ths; equal colours keep their exact value."""
    if rgb.dtype.kind == "f":
        return rgb.mean(axis=-1)
    wide = rgb.astype(np.uint32)
    return ((wide[..., 0] * 77 + wide[..., 1] * 150 + wide[..., 2] * 29 + 128) >> 8).astype(rgb.dtype)
