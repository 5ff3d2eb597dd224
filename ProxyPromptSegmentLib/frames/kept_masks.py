"""Masks of frames that are received once and read several times, packed in a temporary file."""

from __future__ import annotations

import tempfile
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import GeometryError, OutputError

Masks = npt.NDArray[np.uint8]


class KeptMasks:
    """Masks that can be iterated several times, stored as packed bits in a file.

    Attributes:
        overlap: Number of pixels that belong to more than one object, over all frames.
    """

    def __init__(self, shape: tuple[int, int, int], file: IO[bytes], done: Sequence[bool] | None) -> None:
        self.overlap, self._shape, self._file, self._count = 0, shape, file, 0
        self._size = -(-int(np.prod(shape)) // 8)
        self._done = done

    def fill(self, masks: Iterable[Masks]) -> None:
        """Store the masks, one after another."""
        for mask in masks:
            found = np.asarray(mask)
            if found.shape != self._shape:
                raise GeometryError(
                    f"the masks of frame {self._count} have shape {found.shape}; (objects, rows, columns) of the "
                    f"frames are {self._shape}."
                )
            inside = found > 0
            if self._done is not None and self._count < len(self._done) and not self._done[self._count]:
                inside = np.zeros_like(inside)
            self.overlap += int(np.count_nonzero(inside.sum(axis=0, dtype=np.uint8) > 1)) if len(inside) > 1 else 0
            self._file.write(np.packbits(inside).data)
            self._count += 1

    def __len__(self) -> int:
        return self._count

    def __iter__(self) -> Iterator[Masks]:
        """Yield the masks ``(N, H, W)`` of each frame."""
        self._file.seek(0)
        for _ in range(self._count):
            bits = np.frombuffer(self._file.read(self._size), np.uint8)
            yield np.unpackbits(bits, count=int(np.prod(self._shape))).reshape(self._shape)


@contextmanager
def kept_masks(masks: Iterable[Masks], shape: tuple[int, int, int], done: Any, path: Path) -> Iterator[KeptMasks]:
    """Yield the masks packed into a temporary file of an eighth of their size, removed afterwards."""
    with tempfile.TemporaryFile() as file:
        kept = KeptMasks(shape, file, done)
        try:
            kept.fill(masks)
        except OSError as error:
            raise OutputError(
                f"The masks for {path.name} could not be kept in {tempfile.gettempdir()}: {error.strerror or error}. "
                "Free up space there, or name another folder in the environment variable TMPDIR."
            ) from None
        yield kept
