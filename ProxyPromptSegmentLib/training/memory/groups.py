"""The groups of a step on clips: the frames of one clip, then its supports, of other patients where possible."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch

from ProxyPromptSegmentLib.training.broad.groups import Group, drawn_group, real_group, region_group
from ProxyPromptSegmentLib.training.broad.pools import Pool
from ProxyPromptSegmentLib.training.memory.recipe import MemoryRecipe

SHOWN = 0.9  # share of clips that begin from an image that shows the object
LARGEST_STRIDE = 2  # slices from one frame of a volume to the next


@dataclass(frozen=True, kw_only=True)
class ClipGroup:
    """One clip and its supports.

    Attributes:
        group: Frames first, then the supports.
        still: Whether the frames are one picture, which has yet to move.
    """

    group: Group
    still: bool


def real_clip(pool: Pool, recipe: MemoryRecipe, rng: np.random.Generator) -> ClipGroup:
    """Draw consecutive slices of a volume, or one image again and again, and supports of other patients."""
    still = False

    def choose(pool: Pool, shown: np.ndarray, _: object, rng: np.random.Generator) -> np.ndarray:
        nonlocal still
        frames = _window(pool, shown, recipe, rng)
        still = frames is None
        if frames is None:
            options = np.flatnonzero(shown if rng.random() < SHOWN and shown.any() else ~shown)
            start = int(rng.choice(options if len(options) else len(shown)))
            frames = np.full(recipe.frames, start)
        return np.concatenate([frames, _supports(pool, shown, int(pool.patients[frames[0]]), recipe, rng)])

    return ClipGroup(group=real_group(pool, recipe, rng, choose), still=still)


def _window(pool: Pool, shown: np.ndarray, recipe: MemoryRecipe, rng: np.random.Generator) -> np.ndarray | None:
    """Draw frames of one volume in spatial or temporal order, forwards or backwards; None for a still picture."""
    lengths = np.bincount(pool.volumes + 1)[1:]
    long_enough = np.flatnonzero(lengths >= recipe.frames)
    if not len(long_enough) or rng.random() >= recipe.volumes:
        return None
    usable = np.isin(pool.volumes, long_enough)
    wanted = usable & (shown if rng.random() < SHOWN else ~shown)
    seen = int(rng.choice(np.flatnonzero(wanted if wanted.any() else usable)))
    slices = np.flatnonzero(pool.volumes == pool.volumes[seen])
    stride = int(rng.integers(1, LARGEST_STRIDE + 1))
    if (recipe.frames - 1) * stride + 1 > len(slices):
        stride = 1
    extent = (recipe.frames - 1) * stride + 1
    place = int(np.flatnonzero(slices == seen)[0])
    # The drawn slice lies anywhere in the window, so that objects also appear and end in it.
    start = int(np.clip(place - int(rng.integers(extent)), 0, len(slices) - extent))
    window = slices[start : start + extent : stride]
    return window[::-1] if rng.random() < 0.5 else window


def _supports(
    pool: Pool, shown: np.ndarray, patient: int, recipe: MemoryRecipe, rng: np.random.Generator
) -> np.ndarray:
    """Draw supports that show the object, of other patients if there are any."""
    others = np.unique(pool.patients[pool.patients != patient])
    patients = np.resize(rng.permutation(others if len(others) else np.array([patient])), recipe.group_size - 1)
    found = []
    for one in patients:
        mine = pool.of_patient(one)
        marked = mine[shown[mine]]
        found.append(int(rng.choice(marked if len(marked) else mine)))
    return np.array(found)


def region_clip(pool: Pool, recipe: MemoryRecipe, rng: np.random.Generator) -> ClipGroup | None:
    """Draw a picture and views of it as supports, with two of its regions; None if the pool has none."""
    group = region_group(pool, recipe, rng)
    return None if group is None else ClipGroup(group=_repeated(group, recipe.frames), still=True)


def drawn_clip(like: torch.Tensor, recipe: MemoryRecipe, rng: np.random.Generator) -> ClipGroup:
    """Draw a drawn picture and its relatives; ``like`` is a tensor on the device."""
    return ClipGroup(group=_repeated(drawn_group(like, recipe, rng), recipe.frames), still=True)


def _repeated(group: Group, frames: int) -> Group:
    """Return a group whose first image is repeated for every frame of a clip."""
    index = [0] * frames + list(range(1, len(group.images)))
    return dataclasses.replace(
        group,
        images=group.images[index],
        masks=group.masks[index],
        content=group.content[index],
        patients=group.patients[index],
        depth=group.depth[index],
    )
