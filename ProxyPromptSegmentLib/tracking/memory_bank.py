"""The memory of a tracker for one object, bounded so that a long video needs no more memory than a short one.

References:
    SAM 2's memory bank: the spatial memories of the last frames, the object pointers of some more, and the memories
    of frames whose mask was given, which are read from any distance.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import torch

from ProxyPromptSegmentLib.networks.values import FrameMemory

MEMORIES, POINTERS = 6, 16  # SAM 2's own numbers
MAX_CONDITIONING = 4


class MemoryBank:
    """The memories of one track, or of several that are always remembered together.

    A frame is remembered once: a memory replaces an earlier one of the same frame number.

    Attributes:
        memories: Number of the latest predicted frames whose spatial memory is kept.
        pointers: Number of the latest predicted frames whose object pointer is kept.
        max_conditioning: Number of the latest given masks that are kept.
    """

    def __init__(
        self, memories: int = MEMORIES, pointers: int = POINTERS, max_conditioning: int = MAX_CONDITIONING
    ) -> None:
        """Create an empty bank."""
        self.memories, self.pointers, self.max_conditioning = memories, pointers, max_conditioning
        self._predicted: list[FrameMemory] = []  # both sorted by frame
        self._given: list[FrameMemory] = []

    def add(self, memory: FrameMemory) -> None:
        """Add the memory of a frame; release the oldest ones."""
        predicted = [m for m in self._predicted if m.frame != memory.frame]
        given = [m for m in self._given if m.frame != memory.frame]
        (given if memory.conditioning else predicted).append(memory)
        predicted.sort(key=lambda m: m.frame)
        given.sort(key=lambda m: m.frame)
        predicted = predicted[-self.pointers :]
        old = max(0, len(predicted) - self.memories)
        self._predicted = [_pointer_alone(m) for m in predicted[:old]] + predicted[old:]
        self._given = given[-self.max_conditioning :]

    def read(self, frame: int) -> list[FrameMemory]:
        """Return the memories that ``frame`` may use: given masks, then predicted frames, each in the order of time."""
        near = [m for m in self._predicted if 0 < frame - m.frame < max(self.pointers, self.memories + 1)]
        return [m for m in self._given if m.frame < frame] + near

    @property
    def has_given(self) -> bool:
        """Whether a mask given by the user is remembered."""
        return bool(self._given)

    def clear(self, keep_conditioning: bool = False) -> None:
        """Remove all memories, or all except the given masks."""
        self._predicted = []
        if not keep_conditioning:
            self._given = []

    def copy(self) -> MemoryBank:
        """Return a bank with the same memories, which are shared and never changed."""
        other = MemoryBank(self.memories, self.pointers, self.max_conditioning)
        other._predicted, other._given = list(self._predicted), list(self._given)
        return other


def _pointer_alone(memory: FrameMemory) -> FrameMemory:
    """Return the memory without its spatial part, replaced by a new empty tensor because a view would keep it alive."""
    return replace(memory, spatial=memory.spatial.new_empty(0)) if memory.spatial.numel() else memory


def track_of(memory: FrameMemory, track: int) -> FrameMemory:
    """Return the memory of one of the tracks that were remembered together."""
    return replace(memory, spatial=memory.spatial[track : track + 1], pointer=memory.pointer[track : track + 1])


def joined(banks: Sequence[MemoryBank], frame: int) -> list[tuple[list[int], list[FrameMemory]]]:
    """Group the tracks that remember the same frames, which a network can decode together.

    Tracks differ only for a while after one of them was corrected or re-anchored.

    Args:
        banks: The bank of each track.
        frame: Number of the frame to decode.

    Returns:
        For each group its tracks, and their memories joined in that order; every track is in exactly one group.
    """
    readable = [bank.read(frame) for bank in banks]
    groups: dict[tuple, list[int]] = {}
    for track, memories in enumerate(readable):
        key = tuple((m.frame, m.conditioning, m.spatial.numel() > 0) for m in memories)
        groups.setdefault(key, []).append(track)
    return [(tracks, _together([readable[track] for track in tracks])) for tracks in groups.values()]


def _together(tracks: list[list[FrameMemory]]) -> list[FrameMemory]:
    """Join the memories of several tracks frame by frame."""
    if len(tracks) == 1:
        return tracks[0]
    return [
        replace(
            same_frame[0],
            spatial=torch.cat([m.spatial for m in same_frame]),
            pointer=torch.cat([m.pointer for m in same_frame]),
        )
        for same_frame in zip(*tracks, strict=True)
    ]
