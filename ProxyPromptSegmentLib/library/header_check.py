"""Checks of an untrusted NRRD file before any reader opens it: its header and its uncompressed size."""

from __future__ import annotations

import zlib
from pathlib import Path

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.imaging.readers.nrrd_header import NRRD_TYPES, read_header

_BLOCK = 1 << 20
_SIZE_OF = {name: int(code[1]) for name, code in NRRD_TYPES.items()}
_ELSEWHERE = ("data file", "line skip", "byte skip")


def check_nrrd(path: Path, size_ijk: tuple[int, int, int], most_bytes: int) -> None:
    """Reject a file that the library cannot have written.

    A NRRD header can refer to any other file on the machine, and a small compressed file can expand beyond the
    memory. Both are detected here by decompressing it block by block without keeping the data.

    Args:
        path: The file.
        size_ijk: Required size along i, j and k; colours or layers may come first.
        most_bytes: Largest allowed size of the uncompressed voxels.

    Raises:
        InputError: If it is damaged, has another size, is too large, or refers to another file.
    """
    header = read_header(path)
    fields = header.fields
    expected = _expected_bytes(path, fields, size_ijk, most_bytes)
    with path.open("rb") as file:
        file.seek(header.end)
        packed = fields.get("encoding", "").lower() in ("gzip", "gz")
        unpack = zlib.decompressobj(wbits=31) if packed else None
        found = 0
        try:
            while block := file.read(_BLOCK):
                if unpack is None:
                    found += len(block)
                while unpack is not None and block and not unpack.eof:
                    found += len(unpack.decompress(block, _BLOCK))
                    block = unpack.unconsumed_tail
                    if found > expected:
                        break
                if found > expected or (unpack is not None and unpack.eof):
                    break
        except zlib.error:
            raise InputError(f"{path.name} is damaged: its voxels cannot be unpacked. Export it again.") from None
        if unpack is not None and not unpack.eof and found <= expected:
            found += len(unpack.flush())
        trailing = unpack is not None and unpack.eof and (unpack.unused_data or file.read(1))
        if found != expected or trailing:
            raise InputError(
                f"{path.name} is damaged: it should contain {expected} bytes of voxels but has "
                f"{'more' if found > expected or trailing else found}. Export or copy it again."
            )


def _expected_bytes(path: Path, fields: dict[str, str], size_ijk: tuple[int, int, int], most_bytes: int) -> int:
    """Return the number of voxel bytes that the header states."""
    if any(name in fields for name in _ELSEWHERE):
        raise InputError(f"{path.name} was rejected: its header refers to voxels in another file.")
    if fields.get("encoding", "").lower() not in ("gzip", "gz", "raw"):
        packed = fields.get("encoding", "nothing")[:20]
        raise InputError(f"{path.name} has the encoding {packed!r}; allowed are gzip and raw.")
    try:
        sizes = [int(n) for n in fields["sizes"].split()]
        width = _SIZE_OF[fields["type"].lower()]
    except (KeyError, ValueError):
        raise InputError(f"{path.name} is damaged: its header has no valid size. Export or copy it again.") from None
    extra = 1
    if len(sizes) == 4:
        extra = sizes.pop(0)
    if tuple(sizes) != size_ijk or not 1 <= extra <= 65535:
        raise InputError(f"{path.name} has {'x'.join(map(str, sizes))} voxels, its case says {size_ijk}.")
    total = extra * width * sizes[0] * sizes[1] * sizes[2]
    if total > most_bytes:
        raise InputError(
            f"{path.name} was rejected: uncompressed it has {total / 2**30:.1f} GiB, more than the "
            f"{most_bytes / 2**30:.3g} GiB that are allowed."
        )
    return total
