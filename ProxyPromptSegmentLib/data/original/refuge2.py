"""REFUGE and REFUGE2: ``train``, ``val`` and ``test`` with ``images`` and ``mask``, in which 0 is cup, 128 rim.

REFUGE2/train/images/g0001.jpg, REFUGE2/train/mask/g0001.bmp
"""

from __future__ import annotations

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

PARTS = ("train", "val", "validation", "test")
CUP, BACKGROUND = 64, 192  # below: cup; from: neither


def items(folder: Path) -> list[Item]:
    """Return the annotated images of all parts; empty if the folder has another layout."""
    found = []
    for part in PARTS:
        inside = first_folder(folder, (part,))
        if inside is None:
            continue
        images, masks = first_folder(inside, ("images", "image")), first_folder(inside, ("mask", "masks", "gts"))
        for image in pictures_in(images) if images and masks else []:
            mask = same_stem(masks, image.stem) if masks else None
            if mask is not None:
                name = f"{part}-{image.stem}"
                found.append(Item(name, name, partial(_read, name, image, mask)))
    return found


def _read(name: str, image: Path, mask: Path) -> Case:
    values = labels(mask)
    objects = {"optic disc": values < BACKGROUND, "optic cup": values < CUP}
    return case_of("refuge2", name, name, picture(image), objects)
