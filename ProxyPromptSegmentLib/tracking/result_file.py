"""Writing of the masks of tracked frames."""

from __future__ import annotations

from pathlib import Path

from ProxyPromptSegmentLib.errors import OutputError
from ProxyPromptSegmentLib.frames import FrameSource
from ProxyPromptSegmentLib.frames.mask_files import write_tracked
from ProxyPromptSegmentLib.tracking.result import FramesResult


def write_frames(path: Path | str, found: FramesResult, source: FrameSource, *, replace: bool = True) -> list[str]:
    """Write the masks of a clip, a sequence or the slices of a volume, completely or not at all.

    Args:
        path: Output path; its suffix selects the format, see `mask_files`.
        found: The masks, with names and colours of the objects.
        source: The tracked frames.
        replace: Whether a file of this name may be replaced.

    Returns:
        Notes for the user, as sentences.

    Raises:
        OutputError: If the file cannot be written, or no frame was done.
    """
    if not found.done:
        raise OutputError(f"no frame was done, so there are no masks to write to {Path(path).name}.")
    numbers = _numbers_in_file(Path(path), source, found)
    return write_tracked(
        path,
        found.masks_of(numbers),
        source,
        found.objects,
        found.colors or None,
        found.terminologies or None,
        [index in found.done for index in numbers],
        numbers,
        found.values or None,
        replace=replace,
    )


def _numbers_in_file(path: Path, source: FrameSource, found: FramesResult) -> list[int]:
    """Return the indices of the frames to write into a file of masks.

    Formats that do not store frame indices begin with frame 0, so that slice n is frame n.
    """
    says = path.name.lower().endswith((".seq.nrrd", ".seq.nhdr")) or not path.suffix
    if source.kind == "volume":
        return sorted(found.done)
    return found.seen if says else list(range(found.seen[-1] + 1))
