"""Typed values from parsed JSON, with a readable message for a value of the wrong type.

Supported annotations are ``str``, ``bool``, ``int``, ``float``, ``None`` in union with one of them, ``Literal``,
``tuple``, ``dict``, ``Any`` and data classes of these. Standard library only: Slicer needs it before anything is
installed.
"""

from __future__ import annotations

import dataclasses
import functools
import json
import math
import types
from collections.abc import Collection, Mapping
from typing import Any, Literal, TypeVar, Union, get_args, get_origin, get_type_hints

Made = TypeVar("Made")

_WORDS = {str: "text", bool: "true or false", int: "a whole number", float: "a number", dict: "an object"}


class JsonError(ValueError):
    """An error about a JSON value of the wrong type; its text names the place, the value and what is allowed."""


def read_value(kind: Any, value: Any, place: str) -> Any:
    """Check one parsed JSON value against an annotation and return it typed.

    Args:
        kind: The annotation that the value must fit.
        value: As returned by `json.loads`. A whole number fits ``float``, but text, true and false never fit a number.
        place: Path of the value in the file, for the error message.

    Raises:
        JsonError: If the value does not fit.
    """
    origin, parts = get_origin(kind), get_args(kind)
    if kind is Any:
        return value
    if origin in (Union, types.UnionType):
        if value is None and type(None) in parts:
            return None
        kinds = [part for part in parts if part is not type(None)]
        if len(kinds) > 1:  # only literals form unions; they are joined to one list of allowed values
            kinds = [Literal[tuple(word for part in kinds for word in get_args(part))]]
        return read_value(kinds[0], value, place)
    if origin is Literal:
        if value not in parts or type(value) is not type(parts[parts.index(value)]):
            raise _wrong(place, value, " or ".join(map(json.dumps, parts)))
        return value
    if origin is tuple:
        return _read_tuple(parts, value, place)
    if origin is dict or kind is dict:
        if not isinstance(value, dict):
            raise _wrong(place, value, _WORDS[dict])
        inner = parts[1] if parts else Any
        return {key: read_value(inner, item, f"{place}.{key}") for key, item in value.items()}
    if dataclasses.is_dataclass(kind) and isinstance(kind, type):
        return read_object(kind, value, place)
    fits = isinstance(value, (int, float) if kind is float else kind) and (kind is bool) == isinstance(value, bool)
    if not fits or (kind is float and not math.isfinite(value)):
        raise _wrong(place, value, _WORDS[kind])
    return value


def read_object(
    kind: type[Made],
    values: Any,
    place: str = "",
    keys: Mapping[str, str] | None = None,
    known: Collection[str] | None = None,
) -> Made:
    """Read a JSON object into a data class; a missing key takes the field's default.

    Args:
        kind: The data class.
        values: As returned by `json.loads`.
        place: Path of the object in the file, for the error message; "" for the whole file.
        keys: JSON keys by field name, for fields whose key differs from their name.
        known: Allowed keys; by default those of the fields.

    Raises:
        JsonError: If ``values`` is not an object, a key is unknown or missing, or a value does not fit.
    """
    if not isinstance(values, dict):
        raise _wrong(place or "the whole", values, _WORDS[dict])
    keys, hints = keys or {}, _hints(kind)  # type: ignore[arg-type]
    fields = {keys.get(item.name, item.name): item for item in dataclasses.fields(kind) if item.init}  # type: ignore[arg-type]
    allowed = fields.keys() if known is None else known
    start = f"{place}." if place else ""
    if unknown := sorted(values.keys() - set(allowed)):
        listed = ", ".join(start + str(key) for key in unknown)
        raise JsonError(f"unknown keys: {listed}; known are {', '.join(sorted(allowed))}")
    found = {}
    for key, item in fields.items():
        if key in values:
            found[item.name] = read_value(hints[item.name], values[key], start + key)
        elif item.default is dataclasses.MISSING and item.default_factory is dataclasses.MISSING:
            raise JsonError(f"{start}{key} is missing")
    return kind(**found)


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    """Return the annotations of a data class; resolving them takes longer than reading an object."""
    return get_type_hints(kind)


def _read_tuple(parts: tuple[Any, ...], value: Any, place: str) -> tuple[Any, ...]:
    """Read a list of any length (``tuple[X, ...]``), or of the length of the annotation."""
    some = len(parts) == 2 and parts[1] is Ellipsis
    if not isinstance(value, list | tuple) or not (some or len(value) == len(parts)):
        raise _wrong(place, value, "a list" if some else f"a list of {len(parts)} values")
    each = parts[:1] * len(value) if some else parts
    return tuple(read_value(part, value[n], f"{place}[{n}]") for n, part in enumerate(each))


def _wrong(place: str, value: Any, allowed: str) -> JsonError:
    shown = json.dumps(value, ensure_ascii=False, default=repr)
    shown = shown if len(shown) <= 40 else f"{shown[:37]}..."
    return JsonError(f"{place} is {shown}; it must be {allowed}")
