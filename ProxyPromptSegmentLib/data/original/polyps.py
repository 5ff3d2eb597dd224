"""Polyp sets: a folder of colonoscopy images and one of masks with the same names.

    Kvasir-SEG/images/NAME.jpg, Kvasir-SEG/masks/NAME.jpg
    CVC-ClinicDB/Original/1.tif, CVC-ClinicDB/Ground Truth/1.tif
    CVC-ColonDB/images/1.png, CVC-ColonDB/masks/1.png; ETIS-LaribPolypDB alike

Which frames are of one patient is not published with the pictures; each image is its own unit. The folder's name says
which of the sets it is.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.data.original.items import (
    Item,
    case_of,
    first_folder,
    labels,
    picture,
    pictures_in,
    same_stem,
)

IMAGES = ("images", "Original", "CVC-ColonDB", "ETIS-LaribPolypDB")
MASKS = ("masks", "Ground Truth", "GroundTruth", "gtpolyp")
INSIDE = 127
NAMED = {"kvasir_seg": "kvasirseg", "cvc_clinicdb": "cvcclinicdb", "cvc_colondb": "cvccolondb", "etis": "etis"}


def items_of(dataset: str) -> Callable[[Path], list[Item]]:
    """Return what lists the images of one of the sets, see `NAMED`."""
    return partial(_items, dataset)


def _items(dataset: str, folder: Path) -> list[Item]:
    if NAMED[dataset] not in "".join(letter for letter in folder.resolve().name.casefold() if letter.isalnum()):
        return []
    images, masks = first_folder(folder, IMAGES), first_folder(folder, MASKS)
    if images is None or masks is None:
        return []
    pairs = [(image, same_stem(masks, image.stem)) for image in pictures_in(images)]
    return [
        Item(image.stem, image.stem, partial(_read, dataset, image, mask)) for image, mask in pairs if mask is not None
    ]


def _read(dataset: str, image: Path, mask: Path) -> Case:
    return case_of(dataset, image.stem, image.stem, picture(image), {"polyp": labels(mask) > INSIDE})
