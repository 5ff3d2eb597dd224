"""Embeddings of the training images and of changed ones: the encoder is frozen, so that each is embedded once and kept.

One file for each data set and variant, complete or not there, so that a killed training continues with the next. They
are read from disk as they are drawn: the embeddings of a few thousand images are larger than a computer's memory.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from safetensors import safe_open
from safetensors.torch import save_file
from torch.nn import functional

from ProxyPromptSegmentLib.data.parts import load_parts
from ProxyPromptSegmentLib.data.splits import Split
from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.imaging.output_files import safe_output
from ProxyPromptSegmentLib.networks.protocols import Backbone
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.training.adapting.variants import vary
from ProxyPromptSegmentLib.training.broad.step import valid_positions
from ProxyPromptSegmentLib.training.pools import TaskPool, build_pool
from ProxyPromptSegmentLib.training.recipe import TaskRecipe
from ProxyPromptSegmentLib.training.vocabulary.recipe import VocabularyRecipe

TOGETHER = 4  # images that are embedded at once
MOST_OTHERS = 24  # images of a set that marks no class
LEAST_PIXELS = 12  # that an image must show of an object for it to be there

Reader = Callable[[Path, str], Split]


@dataclass(frozen=True, eq=False)
class KeptImages:
    """The embedded images of one data set in one variant, on disk.

    Attributes:
        dataset: Name of the data set.
        objects: Its objects.
        shown: Whether an image shows each of them, bool ``(M, O)``.
    """

    dataset: str
    objects: tuple[str, ...]
    shown: np.ndarray
    _file: safe_open

    @classmethod
    def read(cls, path: Path, dataset: str) -> KeptImages:
        """Open a file that `embed` wrote."""
        file = safe_open(path, "pt")
        about = json.loads(file.metadata()["about"])
        return cls(dataset, tuple(about["objects"]), file.get_tensor("shown").numpy(), file)

    def get(self, name: str, index: int) -> torch.Tensor:
        """Return ``top`` (C, g, g), ``valid`` (g, g), ``masks`` (O, 4g, 4g) or ``image`` (3, s, s) of an image."""
        found: torch.Tensor = self._file.get_slice(name)[index : index + 1][0]
        return found


def identity(recipe: VocabularyRecipe, dataset: str, sha256: str) -> str:
    """Return what must be equal for kept embeddings to be used again."""
    said = [sha256, dataset, recipe.seed, recipe.most_slices, recipe.empty_slices, dataset in recipe.sided]
    return hashlib.sha256(json.dumps([*said, recipe.kind != "class"]).encode()).hexdigest()[:16]


def embed(
    recipe: VocabularyRecipe,
    data: Path,
    folder: Path,
    backbone: Backbone,
    sha256: str,
    cancel: CancelToken | None = None,
    say: Callable[[str], None] | None = None,
    read: Reader | None = None,
) -> list[KeptImages]:
    """Embed what is not kept yet, one variant of every data set after another; return what there is.

    Args:
        recipe: The settings.
        data: Folder of the data sets.
        folder: Where embeddings are kept.
        backbone: The backbone, in evaluation mode.
        sha256: Hash of its weights.
        cancel: Stops after the current file.
        say: Called with a line about each file.
        read: Reads a data set by folder and name; by default `load_parts`.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = recipe.embedded
    chosen: dict[str, tuple[TaskPool, np.ndarray]] = {}
    kept = []
    for variant in range(recipe.variants + 1):
        for name in names:
            path = folder / f"{name}-{variant}-{identity(recipe, name, sha256)}.safetensors"
            if not path.is_file():
                if cancel and cancel.cancelled:
                    continue
                if name not in chosen:
                    chosen[name] = _chosen(recipe, data, name, backbone, read or load_parts)
                _write(path, recipe, *chosen[name], variant, backbone)
                if say:
                    say(f"{name}, variant {variant}: {len(chosen[name][1])} images embedded")
            kept.append(KeptImages.read(path, name))
    return kept


def _chosen(
    recipe: VocabularyRecipe, data: Path, name: str, backbone: Backbone, read: Reader
) -> tuple[TaskPool, np.ndarray]:
    """Return the pool of a data set and the numbers of its images that are embedded."""
    pool = build_pool(TaskRecipe(dataset=name), read(data, name).train, backbone.image_size, backbone.keeps_aspect)
    wanted = {one for taught in recipe.classes for one in taught.sets.get(name, ())}
    if unknown := sorted(wanted - set(pool.objects)):
        raise InputError(
            f"{name} has no object '{unknown[0]}', which a class names; it has {', '.join(pool.objects)}. Correct the "
            "recipe."
        )
    if not wanted:
        return pool, _spread(np.arange(len(pool.images)), MOST_OTHERS)
    mine = [number for number, one in enumerate(pool.objects) if one in wanted]
    shows = (pool.masks[:, mine].flatten(2).sum(2) >= LEAST_PIXELS).any(1).numpy()
    full = _spread(np.flatnonzero(shows), recipe.most_slices)
    return pool, np.sort(np.r_[full, _spread(np.flatnonzero(~shows), round(recipe.empty_slices * len(full)))])


def _spread(numbers: np.ndarray, most: int) -> np.ndarray:
    """Return at most so many numbers, evenly spread."""
    if len(numbers) <= most:
        return numbers
    return numbers[np.linspace(0, len(numbers) - 1, most).round().astype(int)]


def _write(
    path: Path, recipe: VocabularyRecipe, pool: TaskPool, index: np.ndarray, variant: int, backbone: Backbone
) -> None:
    """Embed one variant of the images of a data set into a file."""
    mirrored = variant % 2 == 1 and pool.name not in recipe.sided
    parts: dict[str, list[torch.Tensor]] = {"top": [], "valid": [], "masks": [], "shown": []}
    small = 4 * backbone.grid
    for start in range(0, len(index), TOGETHER):
        part = index[start : start + TOGETHER]
        made = [_drawn(recipe, pool, int(number), variant, mirrored) for number in part]
        images, masks, content = (torch.stack([one[n] for one in made]) for n in range(3))
        valid = valid_positions(content, backbone.grid)
        with torch.inference_mode():
            found = backbone.encode(images, valid)
        parts["top"].append(found.top.half())
        parts["valid"].append(valid)
        parts["masks"].append((functional.adaptive_avg_pool2d(masks, small) * 255).round().to(torch.uint8))
        parts["shown"].append(masks.flatten(2).sum(2) >= LEAST_PIXELS)
        if recipe.kind != "class":
            parts.setdefault("image", []).append((images * 255).round().to(torch.uint8))
    tensors = {name: torch.cat(values).contiguous() for name, values in parts.items()}
    with safe_output(path) as temporary:
        save_file(tensors, temporary, {"about": json.dumps({"objects": list(pool.objects)})})


def _drawn(
    recipe: VocabularyRecipe, pool: TaskPool, number: int, variant: int, mirrored: bool
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Return image ``(3, s, s)``, masks ``(O, s, s)`` and content ``(s, s)`` of a variant; 0 is the image itself."""
    image = pool.pictures([number])[0].expand(3, -1, -1)
    masks, content = pool.masks[number].float(), pool.content([number])[0, 0]
    if not variant:
        return image, masks, content
    place = int(hashlib.sha256(pool.name.encode()).hexdigest()[:8], 16)
    return vary(image, masks, content, mirrored, (recipe.seed, place, number, variant))


def newest(kept: Sequence[KeptImages], dataset: str) -> list[KeptImages]:
    """Return the variants of a data set."""
    return [one for one in kept if one.dataset == dataset]
