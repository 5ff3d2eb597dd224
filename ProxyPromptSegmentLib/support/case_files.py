"""Annotated cases as users lay them out: a folder for each, names with a prefix or suffix, or two folders side by side.

Only names are looked at; whether a file can be used is found out by reading it.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass, replace
from pathlib import Path

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.imaging.itk_images import PICTURE_SUFFIXES
from ProxyPromptSegmentLib.imaging.paths import not_there, stem_of, suffix_of
from ProxyPromptSegmentLib.support.name_pairing import IMAGE_WORDS, is_annotation, pair_by_name, words_of

VOLUME_SUFFIXES = (".seg.nrrd", ".seg.nhdr", ".nii.gz", ".nii", ".nrrd", ".nhdr", ".mha", ".mhd")
DICOM_SUFFIXES = (".dcm", ".ima")
IMAGE_FOLDERS = ("imagestr", "images", "image", "imgs", "img", "volumes", "scans")
MASK_FOLDERS = ("labelstr", "labels", "label", "masks", "mask", "segmentations", "annotations", "gt", "manual")


@dataclass(frozen=True)
class CaseFiles:
    """The files of one annotated case.

    Attributes:
        image: A file that is read as a volume, or a folder with a DICOM series.
        annotation: A segmentation, a label map or a mask picture.
        patient: Name of the patient, which a list gives, or the folder of several cases; cases of one patient are never
            told apart. "" by default: a patient of its own.
    """

    image: Path
    annotation: Path
    patient: str = ""

    @property
    def name(self) -> str:
        """Name for messages: that of the image, after its folder's where the image's own says little."""
        own = self.image.name if self.image.is_dir() else stem_of(self.image)
        plain = not set(words_of(own)) - IMAGE_WORDS - {"t1", "t2", "ct", "mr", "mri", "dicom"}
        return f"{self.image.parent.name}/{own}" if plain else own


@dataclass(frozen=True)
class Unusable:
    """A file or case that is not used.

    Attributes:
        name: Its name.
        reason: Why, as a sentence.
    """

    name: str
    reason: str


def find_cases(folder: Path) -> tuple[list[CaseFiles], list[Unusable]]:
    """Find the annotated cases of a folder by the names of its files; the order is that of the names.

    Recognised are ``imagesTr`` with ``labelsTr``, ``images`` with ``masks`` and the like; a folder for each case; and
    files beside each other, such as ``a.nrrd`` with ``a.seg.nrrd``, or ``a.png`` with ``a_mask.png`` or ``mask_a.png``.

    Returns:
        The cases, and images or annotations without the other.

    Raises:
        InputError: If the folder does not exist, or nothing in it looks like an annotated case.
    """
    wanted = "the folder that holds annotated cases, or a list of them (.csv or .json)"
    if not folder.exists():
        raise InputError(not_there(folder, wanted))
    if not folder.is_dir():
        raise InputError(f"{folder} is a file; give {wanted}.")
    cases, left = _two_folders(folder)
    if not cases:
        cases, left = _beside(_files(folder))
        for inner in sorted(path for path in folder.iterdir() if path.is_dir() and not path.name.startswith(".")):
            more, others = _case_folder(inner)
            cases, left = cases + more, left + others
    if not cases:
        listed = "; ".join(f"{one.name}: {one.reason}" for one in left[:3])
        raise InputError(
            f"no annotated case was found in {folder}{f' ({listed})' if listed else ''}. Lay them out as a folder for "
            "each case, as NAME.nrrd with NAME.seg.nrrd, as NAME.png with NAME_mask.png, as images and masks of the "
            "same names in two folders, or give a list of pairs."
        )
    return cases, left


def _files(folder: Path) -> list[Path]:
    """Return the files of a folder that may be images or annotations, in the order of their names."""
    known = (*VOLUME_SUFFIXES, *PICTURE_SUFFIXES)
    return sorted(
        path
        for path in folder.iterdir()
        if path.is_file() and not path.name.startswith(".") and suffix_of(path) in known
    )


def _is_series(folder: Path) -> bool:
    """Return whether a folder directly contains DICOM files."""
    return any(path.suffix.lower() in DICOM_SUFFIXES for path in folder.iterdir() if path.is_file())


def _two_folders(folder: Path) -> tuple[list[CaseFiles], list[Unusable]]:
    """Find images and annotations of the same names in two folders side by side."""
    inner = {path.name.lower(): path for path in folder.iterdir() if path.is_dir()}
    images = next((inner[name] for name in IMAGE_FOLDERS if name in inner), None)
    masks = next((inner[name] for name in MASK_FOLDERS if name in inner), None)
    if images is None or masks is None:
        return [], []
    series = sorted(path for path in images.iterdir() if path.is_dir() and _is_series(path))
    return _paired([*_files(images), *series], _files(masks), side_by_side=True)


def _beside(files: list[Path]) -> tuple[list[CaseFiles], list[Unusable]]:
    """Find images and annotations beside each other."""
    annotations = [path for path in files if is_annotation(path)]
    return _paired([path for path in files if path not in annotations], annotations)


def _paired(
    images: list[Path], annotations: list[Path], side_by_side: bool = False
) -> tuple[list[CaseFiles], list[Unusable]]:
    """Pair images and annotations by their names."""
    pairs, left = pair_by_name(images, annotations, side_by_side)
    return [CaseFiles(*pair) for pair in pairs], [Unusable(path.name, reason) for path, reason in left]


def _case_folder(folder: Path) -> tuple[list[CaseFiles], list[Unusable]]:
    """Find the cases of a folder inside: one image with one annotation whatever their names, or several by their names.

    Several are of one patient, whose folder it is: frames of a sweep, or images of two days. A folder without images is
    none of our business.
    """
    files = _files(folder)
    series = sorted(path for path in folder.iterdir() if path.is_dir() and _is_series(path))
    annotations = [path for path in files if is_annotation(path)]
    images = [*(path for path in files if path not in annotations), *series]
    if _is_series(folder) and annotations and not images:
        images = [folder]  # a series with its annotation among its files
    if not images and not annotations:
        return [], []
    if len(images) == 1 and len(annotations) == 1:
        return [CaseFiles(images[0], annotations[0])], []
    if not annotations:
        reason = "it holds no annotation: no .seg.nrrd file, and no file with mask, label or seg in its name"
        return [], [Unusable(folder.name, reason)]
    cases, left = _paired(images, annotations)
    if len(cases) > 1:
        cases = [replace(one, patient=folder.name.casefold()) for one in cases]
    if cases:
        return cases, [Unusable(f"{folder.name}/{one.name}", one.reason) for one in left]
    names = _listed(path.name for path in (*images, *annotations))
    return [], [Unusable(folder.name, f"it is not clear which files belong together ({names}); give a list of pairs")]


def _listed(names: Iterable[str]) -> str:
    found = list(names)
    return ", ".join(found[:6]) + (" and more" if len(found) > 6 else "")
