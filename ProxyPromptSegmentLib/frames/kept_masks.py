"""Masks of frames that are received once and read several times, packed in memory."""

from __future__ import annotations

import zlib
from collections.abc import Iterable, Iterator, Sequence

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import GeometryError

Masks = npt.NDArray[np.uint8]


class KeptMasks:
    """Masks that can be iterated several times; they have few smooth contours, so they compress to a hundredth.

    Attributes:
        overlap: Number of pixels that belong to more than one object, over all frames.
    """

    def __init__(
        self, masks: Iterable[Masks], shape: tuple[int, int, int], done: Sequence[bool] | npt.NDArray[np.bool_] | None
    ) -> None:
        """Store masks, one after another.

        Args:
            masks: ``(N, H, W)`` of each frame.
            shape: ``(N, H, W)``.
            done: Whether each frame was computed; the masks of the others are empty.

        Raises:
            GeometryError: If a frame's masks have another shape.
        """
        self.overlap, self._shape = 0, shape
        self._packed: list[bytes] = []
        for mask in masks:
            found = np.asarray(mask)
            if found.shape != shape:
                raise GeometryError(
                    f"the masks of frame {len(self)} have shape {found.shape}; (objects, rows, columns) of the frames "
                    f"are {shape}."
                )
            inside = found > 0
            if done is not None and len(self) < len(done) and not done[len(self)]:
                inside = np.zeros_like(inside)
            self.overlap += int(np.count_nonzero(inside.sum(axis=0, dtype=np.uint8) > 1)) if len(inside) > 1 else 0
            self._packed.append(zlib.compress(np.packbits(inside).tobytes(), 1))

    def __len__(self) -> int:
        """Return the number of frames."""
        return len(self._packed)

    def __iter__(self) -> Iterator[Masks]:
        """Yield the masks ``(N, H, W)`` of each frame."""
        count = int(np.prod(self._shape))
        for packed in self._packed:
            bits = np.frombuffer(zlib.decompress(packed), np.uint8)
            yield np.unpackbits(bits, count=count).reshape(self._shape)
