"""STARE: packed or unpacked PPM pictures and the vessels that a first observer drew.

STARE/stare-images/im0001.ppm[.gz], STARE/labels-ah/im0001.ah.ppm[.gz]
"""

from __future__ import annotations

import gzip
import io
import zlib
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.data.original.items import Item, case_of, first_folder, picture
from ProxyPromptSegmentLib.errors import InputError

IMAGES, VESSELS = ("stare-images", "images"), ("labels-ah", "labels")
VESSEL = 127


def items(folder: Path) -> list[Item]:
    """Return the images with drawn vessels; empty if the folder has another layout."""
    images, vessels = first_folder(folder, IMAGES), first_folder(folder, VESSELS)
    if images is None or vessels is None:
        return []
    drawn = {path.name.split(".")[0]: path for path in sorted(vessels.iterdir()) if ".ah." in path.name}
    found = []
    for image in sorted(images.iterdir()):
        name = image.name.split(".")[0]
        if name in drawn and ".ppm" in image.name:
            found.append(Item(name, name, partial(_read, name, image, drawn[name])))
    return found


def _read(name: str, image: Path, drawn: Path) -> Case:
    vessels = _pixels(drawn)
    grey = vessels if vessels.ndim == 2 else vessels[..., 0]
    return case_of("stare", name, name, _pixels(image), {"vessel": grey > VESSEL})


def _pixels(path: Path) -> npt.NDArray[np.float32]:
    if path.suffix != ".gz":
        return picture(path)
    from PIL import Image

    try:
        with gzip.open(path) as packed, Image.open(io.BytesIO(packed.read())) as image:
            return np.asarray(image, dtype=np.float32)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path} cannot be unpacked: {error}; restore the data set's folder.") from None
