"""Overlays: a video or GIF of the frames with the predicted contours."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from fractions import Fraction
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import GeometryError, OutputError
from ProxyPromptSegmentLib.frames import BadFrame, Frame
from ProxyPromptSegmentLib.imaging.drawing import bright
from ProxyPromptSegmentLib.imaging.output_files import check_output_path, safe_output
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind
from ProxyPromptSegmentLib.reports.preview import RESEARCH, contour, picture_of, tile_size

OVERLAY_SUFFIXES = (".mp4", ".gif")
MOST_GIF_FRAMES = 300
_SMALLEST_SIDE, _MP4_SIDE, _GIF_SIDE = 256, 1280, 640
Masks = npt.NDArray[np.uint8]


def write_overlay(
    path: Path | str,
    frames: Iterable[tuple[int, Frame | BadFrame]],
    masks: Iterable[Masks | None],
    colors: Sequence[tuple[float, float, float]],
    fps: float,
    window: tuple[float, float] = (0.0, 255.0),
    spacing_mm: tuple[float, float] = (1.0, 1.0),
    *,
    replace: bool = True,
) -> list[str]:
    """Draw contours on the frames and write a video, frame by frame.

    Args:
        path: ``.mp4`` (MPEG-4 part 2 from FFmpeg's own encoder: plays in VLC, mpv and most players, but not in
            browsers) or ``.gif`` (up to `MOST_GIF_FRAMES` frames of up to 640 pixels; for longer ones every n-th).
        frames: Indices and frames as yielded by a `FrameSource`; for bad ones the reason is shown.
        masks: ``(N, H, W)`` of each frame, or None if none were computed; the video ends with the last of them.
        colors: Colour of each object; red, green, blue in 0..1.
        fps: Frame rate in frames per second, constant.
        window: Intensities shown as black and white.
        spacing_mm: Pixel size (row, column) in mm, for the physical aspect ratio.
        replace: Whether a file of this name may be replaced.

    Returns:
        Notes for the user, as sentences.

    Raises:
        OutputError: If it cannot be written, there are no frames, or ``.mp4`` is requested without the package av.
        GeometryError: If a mask differs in size from its frame.
    """
    path = Path(path)
    check_output_path(path, OVERLAY_SUFFIXES)
    if not 0 < fps <= 1000:
        raise OutputError(f"{path.name} cannot have {fps:g} frames per second; allowed are rates above 0, up to 1000.")
    side = _GIF_SIDE if path.suffix.lower() == ".gif" else _MP4_SIDE
    pictures = _drawn(frames, masks, [bright(color) for color in colors], window, spacing_mm, side)
    with safe_output(path, replace) as partial:
        if path.suffix.lower() == ".gif":
            return _write_gif(partial, path, pictures, fps, [bright(color) for color in colors])
        _write_mp4(partial, path, pictures, fps)
    return []


def _drawn(
    frames: Iterable[tuple[int, Frame | BadFrame]],
    masks: Iterable[Masks | None],
    colors: list[tuple[int, int, int]],
    window: tuple[float, float],
    spacing_mm: tuple[float, float],
    side: int,
) -> Iterator[npt.NDArray[np.uint8]]:
    """Yield pictures ``(h, w, 3)`` of one even size; bad frames before the first good one wait for its size."""
    from PIL import Image, ImageDraw

    size: tuple[int, int] | None = None
    waiting: list[BadFrame] = []

    def finish(picture: npt.NDArray[np.uint8], text: str) -> npt.NDArray[np.uint8]:
        image = Image.fromarray(picture)
        draw = ImageDraw.Draw(image)
        box = draw.textbbox((3, image.height - 15), text)
        draw.rectangle((box[0] - 2, box[1] - 1, box[2] + 2, box[3] + 1), fill=(0, 0, 0))
        draw.text((3, image.height - 15), text, fill=(255, 255, 255))
        return np.pad(np.asarray(image), [(0, n % 2) for n in image.size[::-1]] + [(0, 0)], "edge")

    each = iter(frames)
    for mask in masks:
        number, frame = next(each, (-1, None))
        if frame is None:
            raise GeometryError("there are more masks than frames; both must come from the same source.")
        if isinstance(frame, BadFrame):
            if size is None:
                waiting.append(frame)
            else:
                yield finish(np.zeros((*size, 3), np.uint8), f"{number}: {frame.reason}")
            continue
        if size is None:
            longest = max(frame.shape[0] * spacing_mm[0], frame.shape[1] * spacing_mm[1]) / min(spacing_mm)
            size = tile_size(frame.shape[:2], spacing_mm, round(min(max(longest, _SMALLEST_SIDE), side)))
            for bad in waiting:
                yield finish(np.zeros((*size, 3), np.uint8), f"{bad.index}: {bad.reason}")
        picture = picture_of(frame, window, size)
        if mask is not None:
            if mask.shape != (len(colors), *frame.shape[:2]):
                raise GeometryError(
                    f"the masks of frame {number} have shape {mask.shape}; {(len(colors), *frame.shape[:2])} is needed."
                )
            for one, color in zip(mask, colors, strict=True):
                picture[contour(one, size)] = color
        yield finish(picture, str(number))


def _write_mp4(partial: Path, path: Path, pictures: Iterator[npt.NDArray[np.uint8]], fps: float) -> None:
    """Encode an MP4 and verify its number of frames."""
    try:
        import av
    except ImportError:
        raise OutputError(
            f"Writing {path.name} needs the Python package av, which is not installed here; a .gif can be written "
            "without it.",
            Remedy(kind=RemedyKind.INSTALL_PACKAGE, package="av"),
        ) from None
    first = next(pictures, None)
    if first is None:
        raise OutputError(f"there is no frame to write to {path.name}.")
    count = 0
    try:
        with av.open(str(partial), "w", format="mp4") as container:
            container.metadata["comment"] = RESEARCH
            stream: Any = container.add_stream("mpeg4", rate=Fraction(fps).limit_denominator(1000))
            stream.height, stream.width, stream.pix_fmt = first.shape[0], first.shape[1], "yuv420p"
            stream.bit_rate = int(max(1_000_000, first.shape[0] * first.shape[1] * fps * 0.3))
            for picture in _chain(first, pictures):
                frame = av.VideoFrame.from_ndarray(picture, format="rgb24")
                frame.pts = count
                container.mux(stream.encode(frame))
                count += 1
            container.mux(stream.encode())
        with av.open(str(partial)) as written:  # a full disk may not be reported on closing
            found = sum(1 for packet in written.demux(video=0) if packet.size)
    except av.FFmpegError as error:
        raise OSError(error.errno, str(error.strerror)) from None
    if found != count:
        raise OSError(f"only {found} of {count} frames are in the file")


def _write_gif(
    partial: Path,
    path: Path,
    pictures: Iterator[npt.NDArray[np.uint8]],
    fps: float,
    colors: list[tuple[int, int, int]],
) -> list[str]:
    """Write a GIF of at most `MOST_GIF_FRAMES` frames, dropping every second one whenever there are too many."""
    from PIL import Image

    kept: list[Image.Image] = []
    step, count = 1, 0
    shades = sorted({*colors, (255, 255, 255)})[:128]
    greys = [(n, n, n) for n in np.linspace(0, 255, 256 - len(shades)).round().astype(int).tolist()]
    palette = Image.new("P", (1, 1))
    palette.putpalette([value for color in (*shades, *greys) for value in color])
    for picture in pictures:
        if count % step == 0:
            image = Image.fromarray(picture)
            plain = _mostly_grey(picture, colors)
            kept.append(
                image.quantize(palette=palette, dither=Image.Dither.NONE)
                if plain
                else image.quantize(256, dither=Image.Dither.NONE)
            )
        count += 1
        if len(kept) > MOST_GIF_FRAMES:
            kept, step = kept[::2], step * 2
    if not kept:
        raise OutputError(f"there is no frame to write to {path.name}.")
    # GIF counts in 1/100 s, and players turn less than 2/100 s into 0.1 s
    duration = max(20, round(1000 * step / fps / 10) * 10)
    kept[0].save(
        partial,
        format="GIF",
        save_all=True,
        append_images=kept[1:],
        duration=duration,
        loop=0,
        comment=RESEARCH.encode(),
    )
    if step == 1:
        return []
    return [f"{path.name} shows one of every {step} frames ({len(kept)} of {count}); write .mp4 for all of them."]


def _mostly_grey(picture: npt.NDArray[np.uint8], colors: list[tuple[int, int, int]]) -> bool:
    """Return whether a picture is grey except for contours."""
    coloured = picture.max(axis=-1).astype(int) - picture.min(axis=-1) > 8
    for color in colors:
        coloured &= (picture != np.array(color, np.uint8)).any(axis=-1)
    return bool(coloured.mean() < 1e-3)


def _chain(first: npt.NDArray[np.uint8], rest: Iterator[npt.NDArray[np.uint8]]) -> Iterator[npt.NDArray[np.uint8]]:
    yield first
    yield from rest
