"""The groups of an episode: images of one task, each a target and a support of the others."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
import torch

from ProxyPromptSegmentLib.training.broad.parts import drawn_images, random_part
from ProxyPromptSegmentLib.training.broad.pools import SIDE, Pool
from ProxyPromptSegmentLib.training.broad.recipe import BroadRecipe

# Returns indices of images, given whether each image of the pool shows the object.
Chooser = Callable[[Pool, np.ndarray, BroadRecipe, np.random.Generator], np.ndarray]
OBJECTS = 2  # asked for in each image: the encoder is the dearest part, and two objects tell whether the mask is read
DRIVE_ZOOM = (1.0, 2.6)  # from the whole image to its native resolution
LARGE_ZOOM = (0.9, 2.2)
REGION_ZOOM, REGION_ELASTIC, REGION_INTENSITY = (0.75, 1.6), 0.05, 1.6
DRAWN_ZOOM, DRAWN_ELASTIC, DRAWN_INTENSITY = (0.9, 1.2), 0.03, 0.8
ELASTIC = 0.02


@dataclass(kw_only=True)
class Group:
    """Images of one task before augmentation.

    Attributes:
        images: ``(n, 3, s, s)`` in 0..1.
        masks: ``(n, OBJECTS, s, s)``, 0 or 1.
        content: Rows and columns that each image fills, ``(n, 2)``.
        patients: Number of the patient of each image, ``(n,)``; views of one image count as different ones.
        depth: Position of each image along its volume, ``(n,)``; 0 where it is not known.
        real: Whether the images are of patients.
        zoom: Smallest and largest magnification.
        elastic: Standard deviation of the elastic field, in half sides.
        intensity: Factor of the changes of intensity.
        source: Name of the data set; empty for drawn images.
    """

    images: torch.Tensor
    masks: torch.Tensor
    content: torch.Tensor
    patients: np.ndarray
    depth: np.ndarray
    real: bool
    zoom: tuple[float, float]
    elastic: float
    intensity: float
    source: str = ""


def real_group(pool: Pool, recipe: BroadRecipe, rng: np.random.Generator, choose: Chooser | None = None) -> Group:
    """Draw images of different patients and two objects, the second another label or a part of the first.

    Args:
        pool: The data set.
        recipe: The settings.
        rng: Source of chance.
        choose: Chooses the images; by default one each of different patients.
    """
    first = _some_bits(pool, recipe, rng)
    second = 0
    if len(pool.bits) > 1 and rng.random() < recipe.second_label:
        second = next((bits for bits in (_some_bits(pool, recipe, rng) for _ in range(5)) if bits != first), 0)
    shown = np.asarray(pool.present[:, [bool(first >> bit & 1) for bit in pool.bits]].any(1))
    images = (choose or _images_of_patients)(pool, shown, recipe, rng)
    labels = pool.labels[images]
    masks = [((labels & bits) > 0).float().unsqueeze(1) for bits in (first, second or first)]
    if not second and pool.name not in recipe.whole:
        masks[1] = random_part(masks[0], rng)
    depth = np.zeros(len(images), np.float32)
    if pool.depth is not None and rng.random() < recipe.depth:
        depth = (pool.depth[images] + rng.normal(0, 0.04, len(images))).astype(np.float32)
    return Group(
        images=pool.images[images].float() / 255,
        masks=torch.cat(masks, 1),
        content=pool.content[images],
        patients=pool.patients[images],
        depth=depth,
        real=True,
        zoom=_zoom_of(pool, recipe, rng),
        elastic=ELASTIC,
        intensity=recipe.intensity,
        source=pool.name,
    )


def _some_bits(pool: Pool, recipe: BroadRecipe, rng: np.random.Generator) -> int:
    """Return one object of a pool, or the union of several, as bits."""
    bits = 1 << pool.bits[int(rng.integers(len(pool.bits)))]
    if len(pool.bits) > 1 and rng.random() < recipe.unions:
        for bit in pool.bits:
            bits |= (1 << bit) * bool(rng.random() < 0.5)
    return bits


def _images_of_patients(pool: Pool, shown: np.ndarray, recipe: BroadRecipe, rng: np.random.Generator) -> np.ndarray:
    """Choose an image each of as many patients as there are, a few of them without the object."""
    patients = rng.permutation(np.unique(pool.patients))
    patients = np.resize(patients, recipe.group_size)
    empty = recipe.empty.get(pool.name, recipe.other_empty)
    images: list[int] = []
    for patient in patients:
        mine = pool.of_patient(patient)
        wanted = not (len(images) >= 2 and rng.random() < empty)
        options = mine[shown[mine] == wanted]
        images.append(int(rng.choice(options if len(options) else mine)))
    return np.array(images)


def _zoom_of(pool: Pool, recipe: BroadRecipe, rng: np.random.Generator) -> tuple[float, float]:
    """Return the magnifications of a group; large images are seen through windows of about one size."""
    if pool.side == SIDE:
        return recipe.zoom
    if pool.name in recipe.whole:
        middle = math.exp(rng.uniform(math.log(DRIVE_ZOOM[0]), math.log(DRIVE_ZOOM[1])))
        return middle * 0.85, middle * 1.2
    return LARGE_ZOOM


def region_group(pool: Pool, recipe: BroadRecipe, rng: np.random.Generator) -> Group | None:
    """Draw views of one image, with two of its regions; None if the pool has no image with two."""
    usable = [index for index, ids in enumerate(pool.region_ids) if len(ids) >= OBJECTS]
    if pool.regions is None or not usable:
        return None
    index = int(rng.choice(usable))
    first, second = (int(n) for n in rng.choice(pool.region_ids[index], OBJECTS, replace=False))
    region = pool.regions[index]
    masks = torch.stack([region == first, region == second]).float()
    views, image = recipe.region_views, int(pool.region_images[index])
    return Group(
        images=(pool.images[image].float() / 255).expand(views, -1, -1, -1),
        masks=masks.expand(views, -1, -1, -1),
        content=pool.content[image].expand(views, -1),
        patients=np.arange(views),
        depth=np.zeros(views, np.float32),
        real=False,
        zoom=REGION_ZOOM,
        elastic=REGION_ELASTIC,
        intensity=REGION_INTENSITY,
    )


def drawn_group(like: torch.Tensor, recipe: BroadRecipe, rng: np.random.Generator) -> Group:
    """Draw images of random regions; ``like`` is a tensor on the device."""
    count = recipe.drawn_images
    images, masks = drawn_images(like, count, rng)
    return Group(
        images=images,
        masks=masks,
        content=torch.full((count, 2), SIDE, device=like.device),
        patients=np.arange(count),
        depth=np.zeros(count, np.float32),
        real=False,
        zoom=DRAWN_ZOOM,
        elastic=DRAWN_ELASTIC,
        intensity=DRAWN_INTENSITY,
    )
