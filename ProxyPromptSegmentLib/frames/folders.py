"""Folders of pictures, ordered by the numbers in their names, and folders of DICOM files."""

from __future__ import annotations

import re
from contextlib import suppress
from pathlib import Path

from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.frames.dicom_cine import is_cine, open_dicom
from ProxyPromptSegmentLib.frames.source import COLOUR_FRAMES, Frame, FrameSource, spread
from ProxyPromptSegmentLib.frames.volume_slices import VolumeSlices
from ProxyPromptSegmentLib.imaging.dicom.header import is_dicom, is_image, read_dataset
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.itk_images import PICTURE_SUFFIXES, check_readable
from ProxyPromptSegmentLib.imaging.paths import suffix_of
from ProxyPromptSegmentLib.imaging.readers.formats import read_stored
from ProxyPromptSegmentLib.imaging.readers.intensities import as_image


class PictureFolder(FrameSource):
    """A folder whose pictures are the frames."""

    def __init__(self, folder: Path, files: list[Path]) -> None:
        self._files = files
        first: Frame | None = None
        turned: list[str] = []
        for file in files:
            with suppress(InputError):
                first, turned = _read_picture(file), list(read_stored(file).notes)
                break
        if first is None:
            raise InputError(f"none of the {len(files)} pictures in {folder} can be read; copy or export them again.")
        super().__init__(folder, "folder", VolumeGeometry((first.shape[2], first.shape[1], 1)), len(files))
        self.labels = [file.stem for file in files]
        self.notes += turned
        samples = [first]
        for n in spread(len(files), COLOUR_FRAMES):
            with suppress(InputError):
                samples.append(_read_picture(files[n]))
        self._learn(samples)

    def _stored(self, index: int) -> Frame:
        return _read_picture(self._files[index])


def _read_picture(path: Path) -> Frame:
    """Read a picture ``(1, H, W[, 3])`` in its stored type, without transparency."""
    check_readable(path)
    array = as_image(read_stored(path), path.name, picture=True)
    if len(array) != 1:
        raise InputError(f"{path.name} has {len(array)} pages; a frame is one picture.")
    return array


def _natural(path: Path) -> tuple[list[tuple[int, str]], str]:
    """Return a sort key that puts frame2 before frame10."""
    parts = re.split(r"(\d+)", path.name.casefold())
    return [(int(part), "") if part.isdecimal() else (-1, part) for part in parts], path.name


def open_folder(folder: Path, axis: str) -> FrameSource:
    """Open a folder as a DICOM series, a cine clip or a series of pictures."""
    files = [f for f in folder.iterdir() if f.is_file() and not f.name.startswith(".")]
    pictures = [f for f in files if suffix_of(f) in PICTURE_SUFFIXES]
    dicom = sorted((f for f in files if f not in set(pictures) and is_dicom(f)), key=_natural)
    if pictures and dicom:
        raise InputError(
            f"The folder {folder} contains {len(pictures)} pictures and {len(dicom)} DICOM files; give a folder that "
            "contains only the frames."
        )
    if pictures:
        return PictureFolder(folder, sorted(pictures, key=_natural))
    if not dicom:
        raise InputError(
            f"The folder {folder} contains neither pictures ({', '.join(PICTURE_SUFFIXES)}) nor DICOM files; give the "
            "folder that directly contains the frames."
        )
    if len(dicom) == 1:
        return open_dicom(dicom[0], axis)
    images = [file for file in dicom if _is_image(file)]  # a DICOMDIR or a report may lie beside them
    if len(images) == 1:
        return open_dicom(images[0], axis)
    if any(is_cine(read_dataset(file), file.name) for file in images[:2]):
        raise InputError(f"The folder {folder} contains {len(dicom)} DICOM clips, e.g. {dicom[0].name}; give one file.")
    return VolumeSlices(folder, axis)


def _is_image(file: Path) -> bool:
    """Return whether a DICOM file is an image."""
    try:
        return is_image(read_dataset(file))
    except InputError:
        return False
