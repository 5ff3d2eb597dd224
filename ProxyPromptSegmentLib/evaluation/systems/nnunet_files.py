"""Cases in the files of nnU-Net v2, and its label maps back as masks.

Objects may overlap, and nnU-Net's classes exclude each other; each combination of objects that occurs is therefore a
class of its own, so that nothing is lost either way.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.errors import InputError

ENDING = ".nii.gz"
NUMBER, NAME = 1, "Dataset001_Compared"
RAW, PREPROCESSED, RESULTS = "nnUNet_raw", "nnUNet_preprocessed", "nnUNet_results"
"""Folders, by the names of the variables of the environment that tell nnU-Net where they are."""


@dataclass(frozen=True)
class Classes:
    """The classes of a data set: each combination of objects that its cases show, without the empty one.

    Attributes:
        combinations: For each class from 1 the numbers of its objects, ascending.
        objects: Number ``N`` of objects.
    """

    combinations: tuple[tuple[int, ...], ...]
    objects: int

    @classmethod
    def of(cls, cases: Sequence[Case]) -> Classes:
        """Return the classes of some cases.

        Raises:
            InputError: If they show no object.
        """
        objects = len(cases[0].objects) if cases else 0
        codes = {int(code) for case in cases for code in np.unique(_codes(case.masks))} - {0}
        if not codes:
            raise InputError(
                f"nnU-Net was given {len(cases)} cases, of which none shows an object; give annotated cases."
            )
        found = sorted(tuple(n for n in range(objects) if code >> n & 1) for code in codes)
        return cls(tuple(found), objects)

    def labels(self, masks: npt.NDArray[np.uint8]) -> npt.NDArray[np.uint8]:
        """Return a label map ``(S, H, W)`` of masks ``(S, N, H, W)``; a combination that is no class is background."""
        codes, found = _codes(masks), np.zeros((len(masks), *masks.shape[2:]), np.uint8)
        for value, combination in enumerate(self.combinations, start=1):
            found[codes == sum(1 << n for n in combination)] = value
        return found

    def masks(self, labels: npt.NDArray[np.integer]) -> npt.NDArray[np.uint8]:
        """Return masks ``(S, N, H, W)`` of a label map ``(S, H, W)``."""
        found = np.zeros((len(labels), self.objects, *labels.shape[1:]), np.uint8)
        for value, combination in enumerate(self.combinations, start=1):
            for n in combination:
                found[:, n][labels == value] = 1
        return found


def _codes(masks: npt.NDArray[np.uint8]) -> npt.NDArray[np.int64]:
    """Return for each pixel a number whose bits are its objects, ``(S, H, W)``."""
    weights = (1 << np.arange(masks.shape[1], dtype=np.int64))[None, :, None, None]
    codes: npt.NDArray[np.int64] = ((masks > 0) * weights).sum(axis=1)
    return codes


def write_set(root: Path, cases: Sequence[Case]) -> Classes:
    """Write the training cases and their description; return the classes.

    Args:
        root: Folder in which the folders of nnU-Net are.
        cases: The cases, all grey or all in colour.

    Raises:
        InputError: If they show no object, or grey ones are among coloured ones.
    """
    classes = Classes.of(cases)
    if len({case.images.ndim for case in cases}) > 1:
        raise InputError("grey cases are among coloured ones, which nnU-Net cannot learn together; give one kind.")
    folder = root / RAW / NAME
    for inner in ("imagesTr", "labelsTr"):
        (folder / inner).mkdir(parents=True, exist_ok=True)
    for number, case in enumerate(cases):
        channels = write_images(folder / "imagesTr", f"case_{number:04d}", case)
        _write(classes.labels(case.masks), case, folder / "labelsTr" / f"case_{number:04d}{ENDING}")
    described = {
        "channel_names": {str(n): f"channel {n}" for n in range(channels)},
        "labels": {"background": 0} | {f"class {n + 1}": n + 1 for n in range(len(classes.combinations))},
        "numTraining": len(cases),
        "file_ending": ENDING,
    }
    (folder / "dataset.json").write_text(json.dumps(described, indent=2), encoding="utf-8")
    return classes


def write_images(folder: Path, name: str, case: Case) -> int:
    """Write a file for each channel of a case; return their number."""
    folder.mkdir(parents=True, exist_ok=True)
    channels = [case.images] if case.images.ndim == 3 else list(np.moveaxis(case.images, -1, 0))
    for number, channel in enumerate(channels):
        _write(channel, case, folder / f"{name}_{number:04d}{ENDING}")
    return len(channels)


def _write(array: npt.NDArray[np.generic], case: Case, path: Path) -> None:
    import SimpleITK as sitk

    image = sitk.GetImageFromArray(np.ascontiguousarray(array))
    image.SetSpacing([float(mm) for mm in (case.spacing_mm or (1.0, 1.0, 1.0))[::-1]])
    sitk.WriteImage(image, str(path))


def read_labels(path: Path) -> npt.NDArray[np.integer]:
    """Return a label map ``(S, H, W)`` that nnU-Net wrote."""
    import SimpleITK as sitk

    labels: npt.NDArray[np.integer] = sitk.GetArrayFromImage(sitk.ReadImage(str(path)))
    return labels
