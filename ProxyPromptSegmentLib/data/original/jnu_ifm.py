"""JNU-IFM: a folder for each video, with ``image`` and ``mask``; red is the pubic symphysis, green the fetal head.

    JNU-IFM/video/20190830T115515/image/20190830T115515_10.png
    JNU-IFM/video/20190830T115515/mask/20190830T115515_10_mask.png

Labels may also be stored as 1 (pubic symphysis) and 2 (fetal head). Frames without a mask are left out.
"""

from __future__ import annotations

import re
from functools import partial
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.data.original.items import Item, case_of, coloured, first_folder, picture, pictures_in

IMAGES, MASKS = ("image", "images", "frame"), ("mask", "masks", "mask_enhance", "label")
COLOURED = 128
NAME = "jnuifm"


def items(folder: Path) -> list[Item]:
    """Return the videos; empty if the folder has another layout."""
    named = NAME in folder.resolve().name.casefold().replace("-", "").replace("_", "")
    parent = first_folder(folder, ("video", "videos")) or (folder if named else None)
    found = []
    for video in sorted(path for path in parent.iterdir() if path.is_dir()) if parent is not None else []:
        frames = _frames(video)
        if frames:
            found.append(Item(video.name, video.name, partial(_read, video.name, frames)))
    return found


def _frames(video: Path) -> list[tuple[Path, Path]]:
    """Return image and mask of each annotated frame, in the order of the numbers that end their names."""
    images, masks = first_folder(video, IMAGES), first_folder(video, MASKS)
    if images is None or masks is None:
        return []
    drawn = {re.sub(r"_?mask$", "", path.stem): path for path in pictures_in(masks)}
    pairs = [(path, drawn[path.stem]) for path in pictures_in(images) if path.stem in drawn]
    return sorted(pairs, key=lambda pair: (_number(pair[0].stem), pair[0].stem))


def _number(stem: str) -> int:
    found = re.findall(r"\d+", stem)
    return int(found[-1]) if found else 0


def _read(name: str, frames: list[tuple[Path, Path]]) -> Case:
    images = [picture(image) for image, _ in frames]
    grey = [one if one.ndim == 2 else one.mean(axis=2) for one in images]
    truths = [_objects(coloured(mask)) for _, mask in frames]
    stacked = {one: np.stack([truth[one] for truth in truths]) for one in truths[0]}
    return case_of("jnu_ifm", name, name, np.stack(grey), stacked)


def _objects(pixels: npt.NDArray[np.float32]) -> dict[str, npt.NDArray[np.bool_]]:
    if pixels.max() <= 2:  # labels, not colours
        return {"pubic symphysis": pixels[..., 0] == 1, "fetal head": pixels[..., 0] == 2}
    return {"pubic symphysis": pixels[..., 0] >= COLOURED, "fetal head": pixels[..., 1] >= COLOURED}
