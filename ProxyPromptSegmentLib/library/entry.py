"""Entries of the support library: the content of ``case.json``, read with the standard library only."""

from __future__ import annotations

import json
import math
import re
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from ProxyPromptSegmentLib.errors import InputError

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
    problem: str = ""
    already_there: bool = False

    @property
    def thumbnail(self) -> Path:
        """Path of the thumbnail, which may not exist."""
        return self.folder / THUMBNAIL_FILE

    @property
    def remark(self) -> str:
        """Note for the user after saving; usually empty."""
        if not self.already_there:
            return ""
        return f"The same image with the same masks is already in the library as '{self.title}'; not saved again."


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


def to_json(entry: LibraryEntry, with_identifying: bool = True) -> str:
    """Return the text of ``case.json``."""
    content: dict[str, Any] = {"format": FORMAT, "format_version": FORMAT_VERSION, **asdict(entry)}
    for name in ("folder", "problem", "already_there"):
        del content[name]
    if not (with_identifying and entry.identifying):
        del content["identifying"]
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
    except (ValueError, TypeError, KeyError, RecursionError, OverflowError) as error:
        said = f"'{error.args[0]}' is missing" if isinstance(error, KeyError) else clean_line(error, 120)
        raise InputError(f"{path} is damaged ({said}); save the case again, or remove it.") from None
    missing = [name for name in (IMAGE_FILE, MASKS_FILE) if not (folder / name).is_file()]
    if missing:
        files = " and ".join(missing)
        raise InputError(f"{files} of the case '{entry.title}' is missing; save the case again, or remove it.")
    return entry


def _entry_of(folder: Path, content: Any) -> LibraryEntry:
    """Build the entry from parsed JSON; raise ValueError, TypeError or KeyError if the JSON is invalid."""
    if not isinstance(content, dict) or content.get("format") != FORMAT:
        raise ValueError("it does not describe a support case")
    version = content.get("format_version")
    if not isinstance(version, int) or isinstance(version, bool) or version < 1:
        raise ValueError(f"format_version is {version!r}")
    if version > FORMAT_VERSION:
        raise InputError(
            f"The case in {folder} was saved by a newer version of the program (format {version}; this one reads up "
            f"to {FORMAT_VERSION}). Update the program to use it."
        )
    objects = tuple(_object_of(item) for item in _list(content["objects"]))
    if not objects:
        raise ValueError("it lists no object")
    chosen = content["slices"]
    axis = content["axis"]
    if axis not in ("k", "j", "i"):
        raise ValueError(f"axis is {axis!r}")
    size, spacing = _list(content["size_ijk"], 3, _count), _list(content["spacing_mm"], 3, _number)
    if min(size) < 1 or min(spacing) <= 0:
        raise ValueError(f"size {size} and spacing {spacing} do not describe an image")
    low, high = _list(content["window"], 2, _number)
    identifying = content.get("identifying") or {}
    return LibraryEntry(
        id=folder.name,
        folder=folder,
        title=clean_line(content["title"]) or folder.name,
        objects=objects,
        slices=None if chosen is None else tuple(_list(chosen, None, _count)),
        window=(low, high),
        modality=clean_line(content["modality"]),
        axis=axis,
        plane=clean_line(content["plane"]),
        size_ijk=(size[0], size[1], size[2]),
        spacing_mm=(spacing[0], spacing[1], spacing[2]),
        is_rgb=bool(content["is_rgb"]),
        is_picture=bool(content["is_picture"]),
        voxels_sha256=_hash(content["voxels_sha256"]),
        masks_sha256=_hash(content["masks_sha256"]),
        annotator=clean_line(content["annotator"]),
        saved=clean_line(content["saved"], 40),
        program_version=clean_line(content["program_version"], 40),
        notes=_text(content["notes"]),
        identifying={_text(key): _text(value) for key, value in identifying.items()},
    )


def _object_of(item: Any) -> LibraryObject:
    color = _list(item["color"], 3, _number)
    terminology = item["terminology"]
    if terminology is not None and not isinstance(terminology, dict):
        raise ValueError("terminology is not a dictionary")
    return LibraryObject(
        _text(item["name"]),
        (color[0], color[1], color[2]),
        terminology,
        _count(item["voxels"]),
        tuple(_list(item["slices"], None, _count)),
    )


def _list(value: Any, length: int | None = None, kind: Callable[[Any], Any] = lambda item: item) -> Sequence[Any]:
    if not isinstance(value, list) or (length is not None and len(value) != length):
        raise ValueError(f"{clean_line(value, 40)!r} is not a list of {'some' if length is None else length} values")
    return [kind(item) for item in value]


def _number(value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, (int, float)) or not math.isfinite(value):
        raise ValueError(f"{clean_line(value, 40)!r} is not a number")
    return float(value)


def _count(value: Any) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or value < 0:
        raise ValueError(f"{clean_line(value, 40)!r} is not a count")
    return value


def _text(value: Any) -> str:
    if not isinstance(value, str):
        raise ValueError(f"{clean_line(value, 40)!r} is not a text")
    return value.encode("utf-8", "replace").decode("utf-8")


def _hash(value: Any) -> str:
    if not isinstance(value, str) or not re.fullmatch(r"[0-9a-f]{64}", value):
        raise ValueError(f"{clean_line(value, 40)!r} is not a SHA-256")
    return value
