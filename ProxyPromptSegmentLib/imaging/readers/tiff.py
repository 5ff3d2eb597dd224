"""TIFF directories, checked before a decoder follows them: no circles, every strip inside the file, known formats."""

from __future__ import annotations

import struct
from pathlib import Path
from typing import IO, Any

from ProxyPromptSegmentLib.errors import InputError

_MOST_PAGES, _MOST_ENTRIES, _MOST_VALUES = 65_536, 4096, 1 << 22
_SIZES = {1: 1, 2: 1, 3: 2, 4: 4, 5: 8, 6: 1, 7: 1, 8: 2, 9: 4, 10: 8, 11: 4, 12: 8, 13: 4, 16: 8, 17: 8, 18: 8}
_CODES = {1: "B", 3: "H", 4: "I", 6: "b", 8: "h", 9: "i", 13: "I", 16: "Q", 17: "q", 18: "Q"}
_WIDTH, _HEIGHT, _BITS, _STRIPS, _COUNTS, _TILES, _TILE_COUNTS, _FORMAT = 256, 257, 258, 273, 279, 324, 325, 339
_SAMPLES, _PLANAR = 277, 284
_UNSIGNED, _SIGNED, _FLOAT, _APART = 1, 2, 3, 2
_GREY_BITS, _SIGNED_BITS = (1, 2, 4, 8, 12, 16, 32), (8, 16, 32)


def check_tiff(path: Path) -> int:
    """Return the number of pages.

    Raises:
        InputError: If directories run in a circle, pixels lie outside the file, or are of a kind that is not read.
    """
    size, name = path.stat().st_size, path.name
    seen: set[int] = set()
    with path.open("rb") as file:
        head = file.read(16)
        order = "<" if head[:2] == b"II" else ">"
        big = len(head) >= 8 and struct.unpack_from(f"{order}H", head, 2)[0] == 43
        try:
            at = struct.unpack_from(f"{order}{'Q' if big else 'I'}", head, 8 if big else 4)[0]
            while at:
                if at in seen or len(seen) >= _MOST_PAGES:
                    raise InputError(f"{name} is damaged: its pages run in a circle. Export it again.")
                seen.add(at)
                tags, at = _directory(file, at, order, big, size)
                _check_page(tags, size, name)
        except (struct.error, KeyError, ValueError, IndexError):
            raise InputError(
                f"{name} is damaged or cut short: a page of it lies outside the file. Copy or export it again."
            ) from None
    if not seen:
        raise InputError(f"{name} has no pages; export it again.")
    return len(seen)


def _directory(file: IO[bytes], at: int, order: str, big: bool, size: int) -> tuple[dict[int, list[Any]], int]:
    """Return the whole numbers of a page's tags, and where the next page is."""
    if at >= size:
        raise ValueError
    file.seek(at)
    count = struct.unpack(f"{order}{'Q' if big else 'H'}", file.read(8 if big else 2))[0]
    if count > _MOST_ENTRIES:
        raise ValueError
    width, inside = (20, 8) if big else (12, 4)
    entries = file.read(count * width)
    following = struct.unpack(f"{order}{'Q' if big else 'I'}", file.read(8 if big else 4))[0]
    tags: dict[int, list[Any]] = {}
    for n in range(count):
        entry = entries[n * width : (n + 1) * width]
        tag, kind = struct.unpack_from(f"{order}HH", entry)
        values = struct.unpack_from(f"{order}{'Q' if big else 'I'}", entry, 4)[0]
        if kind not in _CODES or values > _MOST_VALUES:
            continue
        data = entry[8 if not big else 12 :]
        if values * _SIZES[kind] > inside:
            file.seek(struct.unpack_from(f"{order}{'Q' if big else 'I'}", data)[0])
            data = file.read(values * _SIZES[kind])
        tags[tag] = list(struct.unpack_from(f"{order}{values}{_CODES[kind]}", data))
    return tags, following


def _check_page(tags: dict[int, list[Any]], size: int, name: str) -> None:
    """Refuse a page whose pixels lie outside the file, or are of a kind that no decoder here reads rightly."""
    bits, form = tags.get(_BITS, [1])[0], tags.get(_FORMAT, [1])[0]
    samples, apart = tags.get(_SAMPLES, [1])[0], tags.get(_PLANAR, [1])[0] == _APART
    if form >= _FLOAT and bits != 32 or form > _FLOAT:
        raise InputError(f"{name} has floating-point pixels of {bits} bits; 32 are read. Export it with 32.")
    grey = form == _FLOAT or bits in (_SIGNED_BITS if form == _SIGNED else _GREY_BITS)
    colours = form == _UNSIGNED and (bits == 8 or bits == 16 and samples in (3, 4) and not apart)
    if not (grey if samples == 1 else colours):
        said = f"{'signed ' * (form == _SIGNED)}number{'s' * (samples > 1)}"
        raise InputError(
            f"{name} has pixels of {samples} {said} of {bits} bits{' in planes of their own' * apart}; one of up to 32 "
            "bits, or colours of 8 or 16 bits pixel by pixel, are read. Export it so."
        )
    if min(tags[_WIDTH][0], tags[_HEIGHT][0]) < 1:
        raise ValueError
    for places, counts in ((_STRIPS, _COUNTS), (_TILES, _TILE_COUNTS)):
        if places in tags and counts in tags:
            if len(tags[places]) != len(tags[counts]):
                raise ValueError
            if any(at + count > size for at, count in zip(tags[places], tags[counts], strict=True)):
                raise InputError(f"{name} is cut short: pixels are missing at its end. Copy or export it again.")
