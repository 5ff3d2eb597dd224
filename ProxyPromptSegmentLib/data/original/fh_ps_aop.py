"""FH-PS-AOP: volumes of one picture with three channels, and labels 1 (pubic symphysis) and 2 (fetal head).

    FH-PS-AOP/image_mha/00001.mha, FH-PS-AOP/label_mha/00001.mha

Patients are not published. Frames with neighbouring numbers come from one sweep, so blocks of numbers are the unit.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.data.cases import PSFHS_BLOCK, Case
from ProxyPromptSegmentLib.data.original.items import Item, case_of, first_folder
from ProxyPromptSegmentLib.errors import InputError


def items(folder: Path) -> list[Item]:
    """Return the images; empty if the folder has another layout."""
    images, marked = first_folder(folder, ("image_mha", "images")), first_folder(folder, ("label_mha", "labels"))
    if images is None or marked is None:
        return []
    pairs = [(path, marked / path.name) for path in sorted(images.glob("*.mha")) if (marked / path.name).is_file()]
    return [
        Item(image.stem, f"block{number // PSFHS_BLOCK:03d}", partial(_read, number, image, label))
        for number, (image, label) in enumerate(pairs)
    ]


def _read(number: int, image: Path, label: Path) -> Case:
    pixels, values = array(image), array(label)
    if pixels.ndim == 3 and pixels.shape[0] == 3:  # channels come first
        pixels = pixels[0]
    objects = {"pubic symphysis": values.squeeze() == 1, "fetal head": values.squeeze() == 2}
    return case_of("fh_ps_aop", image.stem, f"block{number // PSFHS_BLOCK:03d}", pixels.squeeze(), objects)


def array(path: Path) -> npt.NDArray[np.float32]:
    """Read the voxels of a volume as they are stored.

    Raises:
        InputError: If the file cannot be read.
    """
    import SimpleITK

    try:
        return SimpleITK.GetArrayFromImage(SimpleITK.ReadImage(str(path))).astype(np.float32)
    except RuntimeError as error:
        raise InputError(f"{path} cannot be read: {str(error).strip().splitlines()[-1]}; restore the file.") from None
