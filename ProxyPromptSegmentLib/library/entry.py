"""Entries of the support library: the content of ``case.json``, read with the standard library only."""

from __future__ import annotations

import dataclasses
import itertools
import json
import re
from collections.abc import Iterable
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any, Literal

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.library.patients import TOKEN
from ProxyPromptSegmentLib.typed_json import JsonError, read_object, read_value

FORMAT = "ProxyPromptSegment support case"
FORMAT_VERSION = 1
CASE_FILE = "case.json"
IMAGE_FILE = "image.nrrd"
MASKS_FILE = "masks.seg.nrrd"
THUMBNAIL_FILE = "thumbnail.png"
CASE_FILES = (CASE_FILE, IMAGE_FILE, MASKS_FILE, THUMBNAIL_FILE)

MOST_JSON_BYTES = 4 << 20
_LONGEST_TITLE = 200
_OWN_FILE = re.compile(r"embedding-[0-9A-Za-z_.-]+\.npz|\..*\.partial-[0-9a-f]{8}(\.[a-z]+)*")


_ADDED_LATER = ("notes", "annotator", "modality", "saved")  # texts that the first versions did not write


@dataclass(frozen=True)
class LibraryObject:
    """An annotated object of a case.

    Attributes:
        name: Its name.
        color: Red, green, blue in 0..1.
        terminology: Slicer's terminology entry, or None.
        voxels: Number of voxels inside.
        slices: Slices on which it is annotated, counted from 0 along the entry's axis.
    """

    name: str
    color: tuple[float, float, float]
    terminology: dict[str, Any] | None
    voxels: int
    slices: tuple[int, ...]


@dataclass(frozen=True)
class LibraryEntry:
    """The description of a case in the library, available without reading its image.

    Attributes:
        id: The name of its folder.
        folder: The case's folder.
        title: Title given by the user.
        objects: The annotated objects.
        slices: Slices that prompt, counted from 0 along ``axis``; None chooses among the annotated ones.
        window: Intensities ``(low, high)`` that are mapped to 0..1.
        modality: Modality as entered, e.g. ``"MR T2"``; empty if unknown.
        axis: Slicing axis of the annotation: ``k``, ``j`` or ``i``.
        plane: ``axial``, ``coronal`` or ``sagittal``; empty for a picture, which has no position in the body.
        size_ijk: Number of voxels along i, j and k.
        spacing_mm: Voxel size along i, j and k in mm.
        is_rgb: Whether voxels have three colour channels.
        is_picture: Whether it was a picture, whose spacing and directions are meaningless.
        voxels_sha256: Hash of the image's voxels.
        masks_sha256: Hash of names and masks.
        annotator: Name of the annotator; empty if not given.
        saved: When it was saved here, ISO 8601 in UTC.
        program_version: Version of the program that saved it.
        notes: Free text.
        identifying: Identifying data kept at the user's request; otherwise empty.
        patient: Token of its patient, see `library.patients`; empty for a patient of its own.
        problem: A sentence if the case is damaged and cannot be loaded; empty otherwise.
        already_there: Whether `SupportLibrary.save` found it in the library instead of saving it again.
    """

    id: str
    folder: Path
    title: str = ""
    objects: tuple[LibraryObject, ...] = ()
    slices: tuple[int, ...] | None = None
    window: tuple[float, float] = (0.0, 1.0)
    modality: str = ""
    axis: str = "k"
    plane: str = ""
    size_ijk: tuple[int, int, int] = (0, 0, 0)
    spacing_mm: tuple[float, float, float] = (1.0, 1.0, 1.0)
    is_rgb: bool = False
    is_picture: bool = False
    voxels_sha256: str = ""
    masks_sha256: str = ""
    annotator: str = ""
    saved: str = ""
    program_version: str = ""
    notes: str = ""
    identifying: dict[str, str] = field(default_factory=dict)
    patient: str = ""
    problem: str = ""
    already_there: bool = False

    @property
    def thumbnail(self) -> Path:
        """Path of the thumbnail, which may not exist."""
        return self.folder / THUMBNAIL_FILE


def is_own_file(path: Path) -> bool:
    """Return whether a file in a case's folder was made by the library."""
    return (path.name in CASE_FILES or _OWN_FILE.fullmatch(path.name) is not None) and not path.is_dir()


def is_case_folder(path: Path) -> bool:
    """Return whether a folder is a case, intact or damaged; links are not followed."""
    if path.name.startswith(".") or path.is_symlink() or not path.is_dir():
        return False
    return any((path / name).exists() for name in (CASE_FILE, IMAGE_FILE, MASKS_FILE))


def natural_order(title: str) -> list[tuple[int, str]]:
    """Return a sort key that puts "Case 2" before "Case 10"."""
    return [(int(part), "") if part.isdecimal() else (-1, part.casefold()) for part in re.split(r"([0-9]+)", title)]


def clean_line(text: object, longest: int = _LONGEST_TITLE) -> str:
    """Return the text as one line without control characters, because files can contain anything."""
    plain = str(text).encode("utf-8", "replace").decode("utf-8")
    return " ".join("".join(c if c.isprintable() else " " for c in plain).split())[:longest]


def distinct_title(title: str, taken: Iterable[str]) -> str:
    """Return a title that no other case has: itself, or with a number behind it, as in "Gland (2)"."""
    others = {other.casefold() for other in taken}
    numbered = (f"{title[: _LONGEST_TITLE - 8]} ({number})" for number in itertools.count(2))
    return next(one for one in itertools.chain([title], numbered) if one.casefold() not in others)


def to_json(entry: LibraryEntry, with_identifying: bool = True) -> str:
    """Return the text of ``case.json``."""
    content: dict[str, Any] = {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(entry)}
    for name in ("folder", "problem", "already_there"):
        del content[name]
    if not (with_identifying and entry.identifying):
        del content["identifying"]
    if not entry.patient:
        del content["patient"]
    return json.dumps(content, indent=1, ensure_ascii=False, allow_nan=False) + "\n"


def read_entry(folder: Path) -> LibraryEntry:
    """Read the ``case.json`` of a folder; an error becomes the entry's ``problem``."""
    try:
        return _parsed(folder)
    except InputError as error:
        return LibraryEntry(folder.name, folder, title=folder.name, problem=str(error))


def _parsed(folder: Path) -> LibraryEntry:
    """Read the entry of a folder.

    Raises:
        InputError: If ``case.json`` is missing, damaged or from a newer program version, or a file is missing.
    """
    path = folder / CASE_FILE
    try:
        with path.open("rb") as file:
            data = file.read(MOST_JSON_BYTES + 1)
        if len(data) > MOST_JSON_BYTES:
            raise ValueError("it is far too long")
        content = json.loads(data)
        entry = _entry_of(folder, content)
    except FileNotFoundError:
        raise InputError(f"{path} is missing; save the case again, or remove it.") from None
    except OSError as error:
        raise InputError(f"{path} cannot be read ({error.strerror}); change its permissions.") from None
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path} is damaged ({clean_line(error, 120)}); save the case again, or remove it.") from None
    missing = [name for name in (IMAGE_FILE, MASKS_FILE) if not (folder / name).is_file()]
    if missing:
        files = " and ".join(missing)
        raise InputError(f"{files} of the case '{entry.title}' is missing; save the case again, or remove it.")
    return entry


def _entry_of(folder: Path, content: Any) -> LibraryEntry:
    """Build the entry from parsed JSON; raise ValueError, TypeError or KeyError if the JSON is invalid."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise JsonError("it does not describe a support case")
    version = read_value(int, content.get("format_version"), "format_version")
    if version < 1:
        raise JsonError(f"format_version is {version}, which no version of the program has written")
    if version > FORMAT_VERSION:
        raise InputError(
            f"The case in {folder} was saved by a newer version of the program (format {version}; this one reads up "
            f"to {FORMAT_VERSION}). Update the program to use it."
        )

    def value(key: str, kind: Any) -> Any:
        if key not in content and key in _ADDED_LATER:
            return ""
        if key not in content:
            raise JsonError(f"{key} is missing")
        return read_value(kind, content[key], key)

    objects = tuple(_object_of(item, f"objects[{n}]") for n, item in enumerate(value("objects", tuple[Any, ...])))
    if not objects:
        raise JsonError("it names no object")
    slices = value("slices", tuple[int, ...] | None)
    size, spacing = value("size_ijk", tuple[int, int, int]), value("spacing_mm", tuple[float, float, float])
    if min(size) < 1 or min(spacing) <= 0:
        raise JsonError(f"size {size} and spacing {spacing} describe no image")
    _check_counts(slices or (), "slices")
    identifying = read_value(dict[str, str], content.get("identifying") or {}, "identifying")
    patient = read_value(str, content.get("patient", ""), "patient")
    return LibraryEntry(
        id=folder.name,
        folder=folder,
        title=clean_line(value("title", str)) or folder.name,
        objects=objects,
        slices=slices,
        window=value("window", tuple[float, float]),
        modality=clean_line(value("modality", str)),
        axis=value("axis", Literal["k", "j", "i"]),
        plane=clean_line(value("plane", str)),
        size_ijk=size,
        spacing_mm=spacing,
        is_rgb=value("is_rgb", bool),
        is_picture=value("is_picture", bool),
        voxels_sha256=_hash(value("voxels_sha256", str), "voxels_sha256"),
        masks_sha256=_hash(value("masks_sha256", str), "masks_sha256"),
        annotator=clean_line(value("annotator", str)),
        saved=clean_line(value("saved", str), 40),
        program_version=clean_line(value("program_version", str), 40),
        notes=_encodable(value("notes", str)),
        identifying={_encodable(key): _encodable(text) for key, text in identifying.items()},
        patient=patient if TOKEN.fullmatch(patient) else "",
    )


def _object_of(item: Any, place: str) -> LibraryObject:
    """One object; keys that this version does not know are left out."""
    fields = {one.name for one in dataclasses.fields(LibraryObject)}
    known = {key: item[key] for key in item.keys() & fields} if isinstance(item, dict) else item
    read = read_object(LibraryObject, known, place)
    _check_counts((read.voxels, *read.slices), place)
    return dataclasses.replace(read, name=_encodable(read.name))


def _check_counts(numbers: Iterable[int], place: str) -> None:
    """Refuse negative counts and slice numbers.

    Raises:
        JsonError: If there is one.
    """
    for number in numbers:
        if number < 0:
            raise JsonError(f"{place} has the number {number}; a count cannot be negative")


def _encodable(text: str) -> str:
    """Replace halves of characters, which could not be written again."""
    return text.encode("utf-8", "replace").decode("utf-8")


def _hash(value: str, place: str) -> str:
    if not re.fullmatch(r"[0-9a-f]{64}", value):
        raise JsonError(f"{place} is {clean_line(value, 40)!r}, which is not a SHA-256")
    return value
