"""Headers of NRRD files (Teem, https://teem.sourceforge.net/nrrd/format.html): lines, numbers, vectors, types."""

from __future__ import annotations

import math
from dataclasses import dataclass
from pathlib import Path

from ProxyPromptSegmentLib.errors import InputError

NRRD_TYPES = {
    name: code
    for code, names in {
        "i1": "signed char,int8,int8_t", "u1": "uchar,unsigned char,uint8,uint8_t",
        "i2": "short,short int,signed short,signed short int,int16,int16_t",
        "u2": "ushort,unsigned short,unsigned short int,uint16,uint16_t",
        "i4": "int,signed int,int32,int32_t", "u4": "uint,unsigned int,uint32,uint32_t",
        "i8": "longlong,long long,long long int,signed long long,signed long long int,int64,int64_t",
        "u8": "ulonglong,unsigned long long,unsigned long long int,uint64,uint64_t", "f4": "float", "f8": "double",
    }.items()
    for name in names.split(",")
}  # fmt: skip
MOST_HEADER = 16 << 20
_MOST_LINE, _MOST_LINES = 4096, 200_000
_SAME = {"datafile": "data file", "lineskip": "line skip", "byteskip": "byte skip", "axismins": "axis mins"}


@dataclass(frozen=True, kw_only=True)
class NrrdHeader:
    """The header of a NRRD file.

    Attributes:
        fields: Values by their names in lower case.
        pairs: Key/value pairs.
        end: Where the header ends in its file.
    """

    fields: dict[str, str]
    pairs: dict[str, str]
    end: int


def read_header(path: Path) -> NrrdHeader:
    """Read the lines of a header.

    Raises:
        InputError: If it is none, or longer than any.
    """
    fields: dict[str, str] = {}
    pairs: dict[str, str] = {}
    with path.open("rb") as file:
        if not file.readline(16).startswith(b"NRRD000"):
            raise InputError(
                f"{path.name} is not a NRRD file, or is damaged at its beginning. Copy or export it again."
            )
        for _ in range(_MOST_LINES):
            line = file.readline(MOST_HEADER)
            if file.tell() > MOST_HEADER:
                break
            text = line.rstrip(b"\r\n").decode("utf-8", "replace")
            if not text:
                return NrrdHeader(fields=fields, pairs=pairs, end=file.tell())
            if text.startswith("#"):
                continue
            name, colon, value = text.partition(":")
            if value.startswith("="):
                pairs[name] = value[1:]
            elif colon and len(text) <= _MOST_LINE:
                key = name.strip().lower()
                key = _SAME.get(key, key)
                if fields.setdefault(key, value.strip()) != value.strip():
                    raise InputError(f"the header of {path.name} says '{key}' twice, not alike. Export it again.")
            elif len(text) > _MOST_LINE or not text.isprintable():
                break
            else:
                raise InputError(f"{path.name} has a header line that says nothing ('{text[:40]}'); export it again.")
    raise InputError(
        f"the header of {path.name} is damaged: it has no end, or a line of it is too long. Export it again."
    )


def numbers_in(text: str, name: str, what: str) -> list[float]:
    """Return the numbers of a field."""
    try:
        return [float(word) for word in text.split()]
    except ValueError:
        raise InputError(f"{name} has '{text[:40]}' as its {what}, which are not numbers. Export it again.") from None


def vectors_in(text: str, name: str) -> list[list[float] | None]:
    """Return the vectors of a field, None for ``none``."""
    found: list[list[float] | None] = []
    for part in text.replace(")", ") ").split():
        if part.lower() == "none":
            found.append(None)
            continue
        if not (part.startswith("(") and part.endswith(")")):
            return [_one(word, name) for word in _split_vectors(text, name)]
        found.append(_one(part, name))
    return found


def _split_vectors(text: str, name: str) -> list[str]:
    """Return the vectors of a field that has blanks inside the brackets."""
    if text.count("(") != text.count(")"):
        raise InputError(f"{name} has '{text[:40]}' as its directions or origin. Export it again.")
    parts, depth, word = [], 0, ""
    for letter in text + " ":
        depth += (letter == "(") - (letter == ")")
        if letter.isspace() and depth == 0:
            parts += [word] if word else []
            word = ""
        elif not letter.isspace():
            word += letter
    return parts


def _one(word: str, name: str) -> list[float] | None:
    """Return one vector."""
    if word.lower() == "none":
        return None
    try:
        numbers = [float(x) for x in word.strip("()").split(",")]
    except ValueError:
        raise InputError(f"{name} has '{word[:40]}' as a direction or origin. Export it again.") from None
    return None if all(math.isnan(x) for x in numbers) else numbers
