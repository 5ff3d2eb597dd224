"""The voxels of a file: as many as declared, unpacked with their checksum compared, never more memory than declared."""

from __future__ import annotations

import bz2
import math
import zlib
from pathlib import Path
from typing import IO, Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.errors import InputError

MOST_BYTES = 64 << 30
_BLOCK = 1 << 20
_SPARE = (b"", b"\n", b"\r\n")  # what may follow raw voxels: an end of line


def declared_bytes(sizes: list[int], dtype: np.dtype[Any], name: str) -> int:
    """Return the bytes that voxels take.

    Raises:
        InputError: If a size is below 1, or they are more than any image.
    """
    if not sizes or min(sizes) < 1:
        raise InputError(f"{name} has {'x'.join(map(str, sizes)) or 'no'} voxels; each axis needs at least one.")
    total = math.prod(sizes) * dtype.itemsize
    if total > MOST_BYTES:
        raise InputError(
            f"{name} declares {'x'.join(map(str, sizes))} voxels, {total / 2**30:.0f} GiB; that is more than is read. "
            "It may be damaged."
        )
    return total


def read_voxels(
    path: Path, offset: int, packing: str, dtype: np.dtype[Any], sizes: list[int], name: str, exact: bool = True
) -> npt.NDArray[Any]:
    """Return the voxels of a file, slowest axis first.

    Args:
        path: The file that holds them.
        offset: Where they begin.
        packing: ``raw``, ``gzip``, ``zlib`` or ``bzip2``.
        dtype: Their type, with its byte order.
        sizes: Sizes of the axes, fastest first.
        name: Name for messages.
        exact: Whether more bytes than declared mean that header and voxels do not belong together.

    Raises:
        InputError: If there are fewer or more than declared, or they are damaged.
    """
    total = declared_bytes(sizes, dtype, name)
    with path.open("rb") as file:
        if packing == "raw":
            left = path.stat().st_size - offset
            if left < total:
                raise cut_short(name, total, max(0, left))
            if exact:
                check_exact(path, offset, total, name)
            file.seek(offset)
            found = np.fromfile(file, dtype, total // dtype.itemsize)
        else:
            found = _unpacked(file, offset, packing, total, name).view(dtype)
    return found.reshape(sizes[::-1])


def check_exact(path: Path, offset: int, total: int, name: str) -> None:
    """Refuse more raw voxels than declared.

    Args:
        path: The file that holds them.
        offset: Where they begin.
        total: Declared bytes.
        name: Name for messages.

    Raises:
        InputError: If there are.
    """
    found = path.stat().st_size - offset
    with path.open("rb") as file:
        file.seek(offset + total)
        rest = file.read(3)
    if rest not in _SPARE:
        raise InputError(
            f"{name} declares {total} bytes of voxels and has {found}; header and voxels do not belong together. "
            "Export it again."
        )


def cut_short(name: str, total: int, found: int) -> InputError:
    """Return the error for missing voxels."""
    return InputError(
        f"{name} is cut short: voxels are missing at its end ({found} of {total} bytes are there). Copy or export it "
        "again."
    )


def _unpacked(file: IO[bytes], offset: int, packing: str, total: int, name: str) -> npt.NDArray[np.uint8]:
    """Return the unpacked bytes of a file from an offset on; the packed data's own checksum is compared."""
    file.seek(offset)
    unpacker: Any = _unpacker(packing)
    parts: list[bytes] = []
    found = 0
    waiting = b""
    try:
        while True:
            if unpacker.eof:
                rest = unpacker.unused_data or waiting or file.read(_BLOCK)
                if (
                    packing == "zlib"
                    or not rest.strip(b"\0")
                    or found >= total
                    and not rest.startswith(_starts(packing))
                ):
                    break
                unpacker, waiting = _unpacker(packing), rest  # another member of the same stream
            block = waiting or file.read(_BLOCK)
            if not block:
                raise cut_short(name, total, found)
            plain = unpacker.decompress(block, _BLOCK * 4)
            waiting = b"" if packing == "bzip2" else unpacker.unconsumed_tail
            while packing == "bzip2" and not unpacker.eof and not unpacker.needs_input and found <= total:
                found += len(plain)
                parts.append(plain)
                plain = unpacker.decompress(b"", _BLOCK * 4)
            found += len(plain)
            parts.append(plain)
            if found > total:
                raise InputError(
                    f"{name} declares {total} bytes of voxels and holds more; header and voxels do not belong "
                    "together. Export it again."
                )
    except (zlib.error, OSError, EOFError, ValueError):
        raise InputError(
            f"{name} is damaged: its voxels cannot be unpacked, or their checksum is wrong. Copy or export it again."
        ) from None
    if found < total:
        raise cut_short(name, total, found)
    return np.frombuffer(b"".join(parts), np.uint8)


def _unpacker(packing: str) -> Any:
    """Return what unpacks a kind of data."""
    if packing == "bzip2":
        return bz2.BZ2Decompressor()
    return zlib.decompressobj(31 if packing == "gzip" else 15)


def _starts(packing: str) -> bytes:
    """Return how a member of packed data starts."""
    return b"BZh" if packing == "bzip2" else b"\x1f\x8b"
