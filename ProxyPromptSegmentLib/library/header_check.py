"""Checks of an untrusted NRRD file before any reader opens it: its header and its uncompressed size."""

from __future__ import annotations

import zlib
from pathlib import Path

from ProxyPromptSegmentLib.errors import InputError

_MOST_HEADER = 4 << 20
_BLOCK = 1 << 20
_BYTES = {
    1: ("signed char", "int8", "int8_t", "uchar", "unsigned char", "uint8", "uint8_t"),
    2: ("short", "short int", "signed short", "signed short int", "int16", "int16_t", "ushort", "unsigned short",
        "unsigned short int", "uint16", "uint16_t"),
    4: ("int", "signed int", "int32", "int32_t", "uint", "unsigned int", "uint32", "uint32_t", "float"),
}  # fmt: skip
_SIZE_OF = {name: size for size, names in _BYTES.items() for name in names}
_ELSEWHERE = ("data file", "datafile", "line skip", "lineskip", "byte skip", "byteskip")


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
    with path.open("rb") as file:
        head = file.read(_MOST_HEADER)
        text, gap, _ = head.partition(b"\n\n")
        if not head.startswith(b"NRRD000") or not gap:
            raise InputError(f"{path.name} is not a NRRD file, or is cut short; export or copy the file again.")
        fields: dict[str, str] = {}
        for line in text.decode("utf-8", "replace").splitlines()[1:]:
            name, colon, value = line.partition(": ")
            if colon and not line.startswith("#") and ":=" not in line.split(": ")[0]:
                fields[name.strip().lower()] = value.strip()
        expected = _expected_bytes(path, fields, size_ijk, most_bytes)
        file.seek(len(text) + len(gap))
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
        width = _SIZE_OF.get(fields["type"].lower(), 0) or {"double": 8}[fields["type"].lower()]
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
