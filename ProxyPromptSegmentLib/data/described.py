"""Data sets that a small JSON file describes: folders, label values, patients and splits of anybody's own images.

The file is called ``dataset.json`` and lies in the data folder, or in a folder of it for each set::

    {
      "name": "our-prostate",
      "images": "images",
      "masks": "masks",
      "objects": {"prostate": [1, 2], "transition zone": [1]},
      "patient": "(P[0-9]+)_.*",
      "validation": ["P03"],
      "test": ["P07"]
    }

Images and masks are whatever ``segment`` reads; they belong together by their name without its ending.
"""

from __future__ import annotations

import hashlib
import json
import re
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any, Literal

import numpy as np

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.data.splits import Split
from ProxyPromptSegmentLib.errors import GeometryError, InputError
from ProxyPromptSegmentLib.imaging.geometry import auto_axis, slice_view
from ProxyPromptSegmentLib.imaging.paths import stem_of
from ProxyPromptSegmentLib.imaging.readers.formats import read_stored
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation, read_segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume, read_volume
from ProxyPromptSegmentLib.typed_json import JsonError, read_object, read_value

FILE = "dataset.json"
FOREIGN = frozenset(("channel_names", "file_ending", "modality", "numTest", "numTraining", "tensorImageSize"))
"""Keys by which the files of nnU-Net and of the Medical Segmentation Decathlon are recognised."""


@dataclass(frozen=True, kw_only=True)
class Pair:
    """One item that is listed by name.

    Attributes:
        image: File or DICOM folder, relative to the description.
        mask: File of its masks.
        patient: The patient, by default the name of the image.
        part: The part of the split, by default the one of its patient.
    """

    image: str
    mask: str
    patient: str = ""
    part: Literal["", "train", "validation", "test"] = ""


@dataclass(frozen=True, kw_only=True)
class Description:
    """A description, as in its file.

    Attributes:
        name: Name of the data set, by default that of its folder.
        objects: Label values or names of segments by object; the object is their union. By default the segments by
            their names, if all files have the same.
        images: Folder of the images.
        masks: Folder of the masks.
        mask_suffix: What a mask's name has at its end that its image's has not, such as ``_seg``.
        cases: The items, if they are listed by name instead of by folder.
        patient: Regular expression for an item's name, whose first group is the patient; by default every item is a
            patient.
        validation: Patients for validation.
        test: Patients for testing, which are never trained on.
        axis: Slicing axis of volumes, by default the one across the acquired slices.
    """

    name: str = ""
    objects: dict[str, Any] = field(default_factory=dict)
    images: str = "images"
    masks: str = "masks"
    mask_suffix: str = ""
    cases: tuple[Pair, ...] = ()
    patient: str = ""
    validation: tuple[str, ...] = ()
    test: tuple[str, ...] = ()
    axis: Literal["auto", "k", "j", "i"] = "auto"


def described_names(root: Path) -> list[str]:
    """Return the names of the data sets that a folder describes, also of those whose description is unusable.

    Files of this name that other programs wrote, such as those of nnU-Net, are no descriptions.
    """
    return sorted(_descriptions(Path(root)))


def foreign_files(root: Path) -> list[Path]:
    """Return the files in a folder that have the name of a description, and are of another program."""
    return [file for file in _files(Path(root)) if _is_foreign_file(file)]


def load_described(root: Path, name: str) -> Split:
    """Read the cases of a described data set, divided by patient.

    Args:
        root: The data folder.
        name: Name of the set, see `described_names`.

    Raises:
        InputError: If the description or a file is missing or unusable, or it contradicts the files.
    """
    described = _descriptions(Path(root))[name]
    if isinstance(described, InputError):
        raise described
    folder, said = described
    pairs = _pairs(folder, said)
    patients = {pair.patient for pair in pairs}
    for part in ("validation", "test"):
        if strangers := sorted(set(getattr(said, part)) - patients):
            known = ", ".join(sorted(patients)[:8])
            raise InputError(
                f"{folder / FILE}: {part} names {', '.join(strangers)}, but the patients are {known}"
                f"{' and others' if len(patients) > 8 else ''}. Correct the names, or the expression 'patient'."
            )
    if both := sorted(set(said.validation) & set(said.test)):
        raise InputError(f"{folder / FILE}: {', '.join(both)} is in validation and in test; leave it in one of them.")
    parts: dict[str, list[Case]] = {"train": [], "validation": [], "test": []}
    part_of: dict[str, str] = {}
    for pair in pairs:
        part = pair.part or ("test" if pair.patient in said.test else "")
        part = part or ("validation" if pair.patient in said.validation else "train")
        if part_of.setdefault(pair.patient, part) != part:
            raise InputError(
                f"{folder / FILE}: the patient {pair.patient} is in {part_of[pair.patient]} and in {part}; all images "
                "of a patient belong to one part."
            )
    names = _objects(folder, said, pairs)
    seen: dict[str, tuple[str, str]] = {}
    for pair in pairs:
        case = _read(folder, said, pair, name, names)
        digest = hashlib.sha256(case.images.tobytes()).hexdigest()
        other, patient = seen.setdefault(digest, (pair.image, pair.patient))
        if patient != pair.patient:
            raise InputError(
                f"{folder / FILE}: {other} and {pair.image} are the same image, of the patients {patient} and "
                f"{pair.patient}; remove one, or give both the same patient."
            )
        parts[part_of[pair.patient]].append(case)
    return Split(**parts)


def _descriptions(root: Path) -> dict[str, tuple[Path, Description] | InputError]:
    """Return the folder and the description of each set by its name; instead the error where it is unusable."""
    found: dict[str, tuple[Path, Description] | InputError] = {}
    of_name: dict[str, Path] = {}
    for file in _files(root):
        name = file.resolve().parent.name
        said: Description | InputError
        try:
            values = _values(file)
            if _is_foreign(values):
                continue
            own = values.get("name")
            name = own if isinstance(own, str) and own else name
            said = _described(file, values)
        except InputError as error:
            said = error
        if name in found:
            found[name] = InputError(
                f"{file} and {of_name[name]} describe data sets of the same name '{name}'; rename one."
            )
            continue
        found[name], of_name[name] = said if isinstance(said, InputError) else (file.parent, said), file
    return found


def _files(root: Path) -> list[Path]:
    return [file for file in (root / FILE, *sorted(root.glob(f"*/{FILE}"))) if file.is_file()]


def _is_foreign_file(file: Path) -> bool:
    try:
        return _is_foreign(_values(file))
    except InputError:
        return False


def _is_foreign(values: Any) -> bool:
    """Return whether the content of a file is that of another program."""
    if not isinstance(values, dict):
        return True
    known = {item.name for item in fields(Description)}
    return bool(FOREIGN & values.keys()) or bool(values) and not known & values.keys()


def _values(file: Path) -> Any:
    try:
        return json.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"the description {file} cannot be read: {error}") from error
    except (ValueError, RecursionError) as error:
        raise InputError(f"the description {file} is not valid JSON: {error}") from error


def _described(file: Path, values: Any) -> Description:
    try:
        said = read_object(Description, values)
        for name, wanted in said.objects.items():
            each = wanted if isinstance(wanted, list) else [wanted]
            kind = str if each and isinstance(each[0], str) else int
            if not read_value(tuple[kind, ...], each, f"objects.{name}"):  # type: ignore[valid-type]
                raise JsonError(f"objects.{name} is empty; it must have a label value or the name of a segment")
        if said.patient and re.compile(said.patient).groups < 1:
            raise JsonError(f"patient is '{said.patient}'; it must have a group in brackets, such as (P[0-9]+)_.*")
    except (JsonError, re.error) as error:
        raise InputError(f"the description {file} is invalid: {error}") from error
    return said


def _pairs(folder: Path, said: Description) -> list[Pair]:
    """Return the items: those listed, or those of the two folders with the same names."""
    listed = list(said.cases)
    if not listed:
        images, masks = (_by_name(folder, getattr(said, key), key) for key in ("images", "masks"))
        if said.mask_suffix:
            masks = {name.removesuffix(said.mask_suffix): path for name, path in masks.items()}
            if said.images == said.masks:
                images = {name: path for name, path in images.items() if not name.endswith(said.mask_suffix)}
                masks = {name: path for name, path in masks.items() if path not in images.values()}
        if without := sorted(images.keys() - masks.keys()):
            raise InputError(
                f"{folder / FILE}: {len(without)} of {len(images)} images have no mask of their name in {said.masks} "
                f"(first {without[0]}); add them, or list the cases."
            )
        listed = [
            Pair(image=str(path.relative_to(folder)), mask=str(masks[name].relative_to(folder)))
            for name, path in images.items()
        ]
    if not listed:
        raise InputError(f"{folder / FILE}: there is no image in {folder / said.images}; add some, or list the cases.")
    pairs = []
    for pair in listed:
        for path in (pair.image, pair.mask):
            if not (folder / path).exists():
                raise InputError(f"{folder / FILE}: {folder / path} does not exist. Correct its name, or leave it out.")
        name = stem_of(Path(pair.image))
        patient = pair.patient
        if not patient and said.patient:
            match = re.match(said.patient, name)
            if match is None or match[1] is None:
                raise InputError(
                    f"{folder / FILE}: the name {name} does not fit the expression 'patient' ({said.patient}); correct "
                    "one of them."
                )
            patient = match[1]
        pairs.append(Pair(image=pair.image, mask=pair.mask, patient=patient or name, part=pair.part))
    return pairs


def _by_name(folder: Path, sub: str, key: str) -> dict[str, Path]:
    """Return the files and DICOM folders of a folder by their name without ending, sorted."""
    place = folder / sub
    if not place.is_dir():
        raise InputError(f"{folder / FILE}: the folder {place} of the {key} does not exist; correct '{key}'.")
    found: dict[str, Path] = {}
    for path in sorted(place.iterdir()):
        if path.name.startswith(".") or path.name == FILE:
            continue
        name = path.name if path.is_dir() else stem_of(path)
        if name in found:
            raise InputError(f"{folder / FILE}: {found[name].name} and {path.name} have the same name; rename one.")
        found[name] = path
    return found


def _objects(folder: Path, said: Description, pairs: list[Pair]) -> tuple[str, ...]:
    """Return the names of the objects; by default those of the first file's segments."""
    return tuple(said.objects) or tuple(read_segmentation(folder / pairs[0].mask).names)


def _segments(folder: Path, pair: Pair, volume: Volume) -> Segmentation:
    """Read the masks of an item on the grid of its image; an image on which nothing is marked has none."""
    path = folder / pair.mask
    try:
        return read_segmentation(path, volume.geometry)
    except InputError:
        if path.is_file() and not read_stored(path).array.any():
            return Segmentation([], volume.geometry)
        raise
    except GeometryError as error:
        raise InputError(f"{pair.mask} does not fit its image {pair.image}: {error}") from error


def _read(folder: Path, said: Description, pair: Pair, dataset: str, names: tuple[str, ...]) -> Case:
    """Read one item: its slices in radiological orientation, as `segment` cuts them."""
    volume = read_volume(folder / pair.image)
    found = _segments(folder, pair, volume)
    masks = np.zeros((len(names), *volume.geometry.shape_kji), np.uint8)
    for number, name in enumerate(names):
        wanted = said.objects.get(name, name)
        for segment in found.segments:
            if any(_is(segment, one) for one in (wanted if isinstance(wanted, list) else [wanted])):
                masks[number] |= segment.mask
    if found.segments and not masks.any():
        there = ", ".join(_called(segment) for segment in found.segments)
        raise InputError(
            f"{folder / FILE}: {pair.mask} shows none of the objects {', '.join(names)}; it has {there}. Correct "
            "'objects'."
        )
    axis = auto_axis(volume.geometry) if said.axis == "auto" else said.axis
    view = slice_view(volume.geometry, axis)
    placed = volume.has_spacing
    images, cut = view.take(volume.array), np.stack([view.take(mask) for mask in masks], axis=1)
    if placed and _runs_backwards(volume, axis):
        images, cut = images[::-1], cut[::-1]
    spacing = None
    if placed:
        thickness = float(volume.geometry.spacing_mm["ijk".index(axis)])
        spacing = (thickness, float(view.spacing_mm[0]), float(view.spacing_mm[1]))
    return Case(
        dataset=dataset,
        patient=pair.patient,
        images=np.ascontiguousarray(images),
        masks=np.ascontiguousarray(cut),
        objects=names,
        spacing_mm=spacing,
        name=stem_of(Path(pair.image)),
    )


def _runs_backwards(volume: Volume, axis: str) -> bool:
    """Return whether slices run against the body's axis, so that positions along the volume would differ from use."""
    along = volume.geometry.direction[:, "ijk".index(axis)]
    return bool(along[int(np.argmax(np.abs(along)))] < 0)


def _is(segment: Segment, wanted: object) -> bool:
    """Return whether a segment has a label value or a name."""
    if isinstance(wanted, str):
        return segment.name.strip().casefold() == wanted.strip().casefold()
    value = _value(segment)
    return value == wanted if value is not None else segment.name == f"label {wanted}"


def _value(segment: Segment) -> object:
    return (segment.metadata or {}).get("label_value")


def _called(segment: Segment) -> str:
    value = _value(segment)
    return segment.name if value is None or str(value) in segment.name else f"{segment.name} ({value})"
