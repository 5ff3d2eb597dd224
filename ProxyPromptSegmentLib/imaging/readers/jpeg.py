"""JPEG data that end before their picture does, although an end is marked (ITU-T T.81, annexes B and E to G).

Decoders fill what is missing with grey and say nothing. Here the markers show which parts of a picture are there at
all; whether the last part of each is whole, a second decoding shows: bytes that are put behind it change nothing unless
the decoder still needed some. A changed bit within a part cannot be found, since JPEG has no checksum.
"""

from __future__ import annotations

import io
import math
import re
import struct
from dataclasses import dataclass, field

import numpy as np

from ProxyPromptSegmentLib.errors import InputError

_MARKER = re.compile(rb"\xff+[^\x00\xff]")
_BEHIND = b"\x5a\xc3\x17\x99" * 64  # no marker, and unlike the zeros that decoders assume
_SPARE = 16  # bytes at the end of a scan that a picture always needs
_SEQUENTIAL, _PROGRESSIVE, _LOSSLESS = (0xC0, 0xC1), 0xC2, 0xC3
_FRAMES = (0xC0, 0xC1, 0xC2, 0xC3, 0xC5, 0xC6, 0xC7, 0xC9, 0xCA, 0xCB, 0xCD, 0xCE, 0xCF)
_SOS, _EOI, _DRI, _DHT, _FIRST_RESTART = 0xDA, 0xD9, 0xDD, 0xC4, 0xD0
_MOST_SCANS = 1000
_COEFFICIENTS = 64


@dataclass
class _Scan:
    """One pass over the picture.

    Attributes:
        components: Numbers of its components.
        first: First coefficient, and ``last``.
        exact: Whether the coefficients have their last bit (only progressive pictures have scans without).
        begin: Where its data begin, and ``end``.
        restarts: Numbers 0 to 7 of the restart markers in it.
    """

    components: list[int]
    first: int
    last: int
    exact: bool
    begin: int
    restarts: list[int] = field(default_factory=list)
    end: int = 0


@dataclass
class _Picture:
    """What the markers say.

    Attributes:
        form: The marker of the frame; 0 if there is none.
        size: Rows and columns.
        sampling: Horizontal and vertical factor of each component.
        interval: Blocks (of lossless pictures: values) between two restart markers at each scan; 0 if there are none.
        scans: The scans.
    """

    form: int = 0
    size: tuple[int, int] = (0, 0)
    sampling: dict[int, tuple[int, int]] = field(default_factory=dict)
    interval: list[int] = field(default_factory=list)
    scans: list[_Scan] = field(default_factory=list)


def check_jpeg(data: bytes, name: str) -> str:
    """Refuse a JPEG of 8 bits that lacks a part of its picture, after it was decoded without an error.

    Args:
        data: The picture.
        name: Its name, for messages.

    Returns:
        A note if it has more data than its picture needs, as after damage in their middle; "" if not.

    Raises:
        InputError: If it is cut short.
    """
    longer = lengthened(data, name)
    if longer == data:
        return ""
    if not _alike(data, longer):
        raise cut_short(name)
    last = _markers(data).scans[-1]
    spare = data[: last.end - _SPARE] + _BEHIND[:_SPARE] + data[last.end :]
    if last.end - last.begin > 2 * _SPARE and _alike(data, spare):
        return f"{name} may be damaged: its JPEG data hold more than its picture. Compare it with the original."
    return ""


def lengthened(data: bytes, name: str) -> bytes:
    """Return a JPEG with bytes behind the data of each scan, which decoders of a whole picture do not need.

    Pictures that are coded arithmetically, which need not end with their last bytes, are returned as they are.

    Args:
        data: The picture.
        name: Its name, for messages.

    Raises:
        InputError: If its markers show already that a part is missing.
    """
    try:
        found = _markers(data)
        if found.form not in (*_SEQUENTIAL, _PROGRESSIVE, _LOSSLESS):
            return data
        complete = _all_there(found) and _all_restarts(found)
    except (struct.error, IndexError, ValueError, ZeroDivisionError):
        raise InputError(f"{name} is damaged: its JPEG markers are none. Copy or export it again.") from None
    if not complete:
        raise cut_short(name)
    parts, at = [], 0
    for scan in found.scans:
        parts += [data[at : scan.end], _BEHIND]
        at = scan.end
    return b"".join([*parts, data[at:]])


def cut_short(name: str) -> InputError:
    """Return the error for a picture that is not whole."""
    return InputError(
        f"{name} is cut short: its JPEG data end before the picture does, and viewers show the rest grey. Copy or "
        "export it again."
    )


def _alike(data: bytes, changed: bytes) -> bool:
    """Return whether a picture stays the same with other data, which may be none."""
    from PIL import Image

    pictures = []
    for one in (data, changed):
        try:
            with Image.open(io.BytesIO(one), formats=["JPEG"]) as picture:
                pictures.append(np.asarray(picture))
        except (OSError, SyntaxError, ValueError):
            return False
    return np.array_equal(pictures[0], pictures[1])


def _markers(data: bytes) -> _Picture:
    """Return what the markers say."""
    found, interval, at = _Picture(), 0, 2
    scan: _Scan | None = None
    while marker := _MARKER.search(data, at):
        kind, at = data[marker.end() - 1], marker.end()
        if scan is not None and _FIRST_RESTART <= kind < _FIRST_RESTART + 8:
            scan.restarts.append(kind - _FIRST_RESTART)
            continue
        if scan is not None:
            scan.end, scan = marker.start(), None
        if kind == _EOI:
            break
        if kind == 1 or _FIRST_RESTART <= kind < _FIRST_RESTART + 9:  # without content
            continue
        length = struct.unpack_from(">H", data, at)[0]
        content = data[at + 2 : at + length]
        if kind in _FRAMES:
            _, rows, columns, count = struct.unpack_from(">BHHB", content)
            found.form, found.size = kind, (rows, columns)
            for n in range(count):
                own, factors = content[6 + 3 * n], content[7 + 3 * n]
                found.sampling[own] = (factors >> 4, factors & 15)
        elif kind == _DHT:
            _check_tables(content)
        elif kind == _DRI:
            interval = struct.unpack_from(">H", content)[0]
        elif kind == _SOS:
            count = content[0]
            first, last, bits = content[1 + 2 * count : 4 + 2 * count]
            scan = _Scan([content[1 + 2 * n] for n in range(count)], first, last, not bits & 15, at + length)
            found.scans.append(scan)
            found.interval.append(interval)
            if len(found.scans) > _MOST_SCANS:
                raise ValueError
        at += length
    if scan is not None:
        scan.end = len(data)
    return found


def _check_tables(content: bytes) -> None:
    """Refuse tables of codes that give two codes to one value, as no encoder does.

    Raises:
        ValueError: If there is one, or it is cut short.
    """
    at = 0
    while at < len(content):
        count = sum(content[at + 1 : at + 17])
        values = content[at + 17 : at + 17 + count]
        if len(values) != count or len(set(values)) != count:
            raise ValueError
        at += 17 + count


def _all_there(found: _Picture) -> bool:
    """Return whether each coefficient of each component is there, to its last bit."""
    for own in found.sampling:
        scans = [one for one in found.scans if own in one.components]
        if found.form != _PROGRESSIVE:
            if not scans:
                return False
            continue
        exact = {n for one in scans if one.exact for n in range(one.first, one.last + 1)}
        if not exact >= set(range(_COEFFICIENTS)):
            return False
    return True


def _all_restarts(found: _Picture) -> bool:
    """Return whether each scan has as many restart markers as its blocks need, in their order."""
    widest, highest = (max(factors[n] for factors in found.sampling.values()) for n in (0, 1))
    (rows, columns), unit = found.size, 1 if found.form == _LOSSLESS else 8
    for scan, interval in zip(found.scans, found.interval, strict=True):
        if not interval or not rows:
            continue
        if len(scan.components) == 1:  # a component alone is coded block by block, without those that pad its edge
            own = found.sampling[scan.components[0]]
            wide, high = math.ceil(columns * own[0] / widest), math.ceil(rows * own[1] / highest)
            blocks = math.ceil(wide / unit) * math.ceil(high / unit)
        else:
            blocks = math.ceil(columns / (unit * widest)) * math.ceil(rows / (unit * highest))
        if scan.restarts != [n % 8 for n in range(math.ceil(blocks / interval) - 1)]:
            return False
    return True
