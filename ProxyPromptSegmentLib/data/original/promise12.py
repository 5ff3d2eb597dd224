"""PROMISE12: ``CaseNN.mhd`` and ``CaseNN_segmentation.mhd`` beside their ``.raw`` files, in one folder or in several.

PROMISE12/TrainingData_Part1/Case00.mhd, PROMISE12/TrainingData_Part1/Case00_segmentation.mhd
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.data.original.items import Item, case_of
from ProxyPromptSegmentLib.errors import InputError

MARK = "_segmentation"


def items(folder: Path) -> list[Item]:
    """Return the annotated volumes; empty if the folder has another layout."""
    truths = sorted([*folder.glob(f"Case*{MARK}.mhd"), *folder.glob(f"*/Case*{MARK}.mhd")], key=lambda path: path.name)
    pairs = [(path.with_name(path.name.replace(MARK, "")), path) for path in truths]
    return [Item(image.stem, image.stem, partial(_read, image, truth)) for image, truth in pairs if image.is_file()]


def _read(image: Path, truth: Path) -> Case:
    import SimpleITK

    try:
        volume, drawn = SimpleITK.ReadImage(str(image)), SimpleITK.ReadImage(str(truth))
    except RuntimeError as error:
        raise InputError(f"{image} cannot be read: {str(error).strip().splitlines()[-1]}; restore the file.") from None
    i, j, k = volume.GetSpacing()
    voxels = SimpleITK.GetArrayFromImage(volume).astype(np.float32)
    inside = SimpleITK.GetArrayFromImage(drawn) > 0
    return case_of("promise12", image.stem, image.stem, voxels, {"prostate": inside}, (k, j, i))
