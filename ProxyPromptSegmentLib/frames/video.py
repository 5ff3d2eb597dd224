"""Videos, decoded frame by frame with their presentation times."""

from __future__ import annotations

from bisect import insort
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.frames.source import COLOUR_FRAMES, BadFrame, Frame, Frames, FrameSource
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind

VIDEO_SUFFIXES = (
    ".mp4", ".m4v", ".mov", ".avi", ".mkv", ".webm", ".wmv", ".mpg", ".mpeg", ".ogv", ".3gp", ".flv", ".ts", ".gif",
)  # fmt: skip


class VideoSource(FrameSource):
    """A video, decoded from its beginning each time."""

    direct = False

    def __init__(self, path: Path) -> None:
        self.path, self._rotation = path, 0
        first: Frame | None = None
        with self._opened() as (container, stream):
            for _, found in self._decoded(container, stream):
                if not isinstance(found, str):
                    first = found
                    break
            if first is None:
                raise InputError(
                    f"No frame of {path.name} can be decoded; the video is empty or damaged. Convert it to MP4 or to "
                    "a folder of pictures."
                )
            ratio = float(stream.sample_aspect_ratio or 1)
            spacing = (ratio if 0.1 < ratio < 10 else 1.0, 1.0, 1.0)
            self._stated, self._seconds = int(stream.frames) or None, (container.duration or 0) / 1e6
            geometry = VolumeGeometry((first.shape[2], first.shape[1], 1), spacing)
            super().__init__(path, "video", geometry, self._stated)
            self._learn([first, *self._samples(container, stream)])
            self.times_s = []
            if self._rotation:
                self.notes.append(
                    f"{path.name} asks players to rotate it by {self._rotation} degrees; its frames are used as stored."
                )

    def __iter__(self) -> Frames:
        """Yield all frames in the order of presentation."""
        assert self.times_s is not None
        index = -1
        with self._opened() as (container, stream):
            for index, (seconds, found) in enumerate(self._decoded(container, stream)):
                if index == len(self.times_s):
                    self.times_s.append(seconds)
                yield index, BadFrame(index, found) if isinstance(found, str) else self._finished(index, found)
        stated, self.count = self._stated, index + 1
        last = self.times_s[-1] if self.times_s else 0.0
        if (stated and stated > self.count + 1) or (not stated and last < 0.9 * self._seconds - 0.1):
            wanted = f"{stated} frames" if stated else f"{self._seconds:.3g} s"
            note = (
                f"{self.path.name} should have {wanted} but ends after {self.count} frames, at {last:.3g} s; it may be "
            )
            note += "cut short or damaged."
            self.notes += [note] if note not in self.notes else []

    def frame(self, index: int) -> Frame | BadFrame:
        """Return one frame; all frames before it are decoded as well."""
        for n, found in self:
            if n == index:
                return found
        raise IndexError(f"{self.name} has no frame {index}; its frames are 0 to {(self.count or 0) - 1}")

    @contextmanager
    def _opened(self) -> Iterator[tuple[Any, Any]]:
        """Yield the container and its first video stream; raise InputError if it is not a video."""
        try:
            import av
        except ImportError:
            raise InputError(
                f"Reading the video {self.path.name} needs the Python package av, which is not installed here; a "
                "folder with the frames as pictures can be read without it.",
                Remedy(kind=RemedyKind.INSTALL_PACKAGE, package="av"),
            ) from None
        try:
            container = av.open(str(self.path))
        except (av.FFmpegError, OSError, ValueError) as error:
            reason = str(getattr(error, "strerror", None) or error)[:120]
            raise InputError(
                f"{self.path.name} cannot be read as a video ({reason}). It may be damaged, cut short or something "
                "else; export it again as MP4, or give a folder with the frames as pictures."
            ) from None
        with container:
            if not container.streams.video:
                raise InputError(f"{self.path.name} has sound but no pictures; give a video.")
            yield container, container.streams.video[0]

    def _decoded(self, container: Any, stream: Any) -> Iterator[tuple[float, Frame | str]]:
        """Yield time and frame ``(1, H, W, 3)``, or the reason why there is none, in the order of presentation.

        Packets come in decoding order. A damaged one is held back until all earlier frames were yielded.
        """
        import av

        base, step = float(stream.time_base or 0), 1 / float(stream.average_rate or 25)
        last, failed = -step, list[float]()
        packets = container.demux(stream)
        packet: Any = None
        while True:
            try:
                packet = next(packets, None)
            except av.FFmpegError:  # the container itself is damaged from here on
                break
            if packet is None:
                break
            if packet.size == 0 and packet.pts is not None:
                continue  # means: repeat the last frame
            frames = []
            try:
                frames = packet.decode()
            except av.FFmpegError:
                if packet.size:
                    insort(failed, last + step if packet.pts is None else packet.pts * base)
            for frame in frames:
                shown = last + step if frame.pts is None else frame.pts * base
                while failed and failed[0] <= shown:
                    last = failed.pop(0)
                    yield last, "its data are damaged"
                last, self._rotation = shown, getattr(frame, "rotation", 0)
                whole = not frame.is_corrupt
                yield shown, frame.to_ndarray(format="rgb24")[None] if whole else "its data are damaged"
        for last in failed:
            yield last, "its data are damaged"

    def _samples(self, container: Any, stream: Any) -> Iterator[Frame]:
        """Yield a few later frames, if the file supports seeking."""
        import av

        for part in range(1, COLOUR_FRAMES):
            with suppress(av.FFmpegError, OSError):
                container.seek(int((container.duration or 0) * part / COLOUR_FRAMES))
                found = next((f for _, f in self._decoded(container, stream) if not isinstance(f, str)), None)
                if found is not None:
                    yield found
