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

from ProxyPromptSegmentLib.data.bare import bare_square
from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.data.parts import load_parts
from ProxyPromptSegmentLib.data.splits import Split
from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.networks.protocols import Backbone
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.training.adapting.variants import vary
from ProxyPromptSegmentLib.training.broad.step import valid_positions
from ProxyPromptSegmentLib.training.pools import TaskPool, build_pool
from ProxyPromptSegmentLib.training.recipe import TaskRecipe
from ProxyPromptSegmentLib.training.state_files import writing_state
from ProxyPromptSegmentLib.training.vocabulary.recipe import VocabularyRecipe

TOGETHER = 4  # images that are embedded at once
OTHER_VARIANTS = 1  # of a set that marks no class
LEAST_PIXELS = 12  # that an image must show of an object for it to be there

Reader = Callable[[Path, str], Split]
Sheet = tuple[torch.Tensor, torch.Tensor, torch.Tensor]  # image, masks, content
Keeper = Callable[[torch.Tensor], torch.Tensor]
IMAGE, LEVELS = "image", "levels"  # what is kept of the image itself: all of it, or what a frozen trunk makes of it


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
    def open(cls, path: Path, dataset: str) -> KeptImages:
        """Open a file that `embed` wrote."""
        file = safe_open(path, "pt")
        about = json.loads(file.metadata()["about"])
        return cls(dataset, tuple(about["objects"]), file.get_tensor("shown").numpy(), file)

    def get(self, name: str, index: int) -> torch.Tensor:
        """Return ``top`` (C, g, g), ``valid`` (g, g) or ``masks`` (O, 4g, 4g) of an image."""
        found: torch.Tensor = self._file.get_slice(name)[index : index + 1][0]
        return found

    def read(self, index: int) -> torch.Tensor:
        """Return what a generator reads of the image beside its embedding.

        ``(3, s, s)`` in 0..1, or ``(F,)`` of what a frozen trunk makes of it, or nothing, ``(0,)``.
        """
        names = set(self._file.keys())
        if LEVELS in names:
            return self.get(LEVELS, index).float()
        return self.get(IMAGE, index).float() / 255 if IMAGE in names else torch.zeros(0)


def identity(recipe: VocabularyRecipe, dataset: str, sha256: str, reads: str = "", part: str = "train") -> str:
    """Return what must be equal for kept embeddings to be used again."""
    said = [sha256, dataset, recipe.seed, dataset in recipe.sided, reads, part]
    own = [recipe.most_slices, recipe.empty_slices, recipe.bare] if dataset in recipe.datasets else recipe.most_others
    return hashlib.sha256(json.dumps([*said, own]).encode()).hexdigest()[:16]


def embed(
    recipe: VocabularyRecipe,
    data: Path,
    folder: Path,
    backbone: Backbone,
    sha256: str,
    cancel: CancelToken | None = None,
    say: Callable[[str], None] | None = None,
    read: Reader | None = None,
    keep: Keeper | None = None,
    part: str = "train",
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
        keep: What a frozen trunk of the generator makes of images, see `ImagePromptGenerator.keep`; by default a
            generator that reads images gets these themselves.
        part: ``train``, or ``validation``, of which no variants are made and sets without cases are left out.
    """
    folder.mkdir(parents=True, exist_ok=True)
    names = recipe.embedded
    chosen: dict[str, tuple[TaskPool, np.ndarray]] = {}
    kept = []
    reads = "" if recipe.kind == "class" else IMAGE if keep is None else LEVELS
    for variant in range(1 + (recipe.variants if part == "train" else 0)):
        for name in names:
            if variant > OTHER_VARIANTS and name not in recipe.datasets:
                continue
            path = folder / f"{name}-{variant}-{identity(recipe, name, sha256, reads, part)}.safetensors"
            if not path.is_file():
                if cancel and cancel.cancelled:
                    continue
                if name not in chosen:
                    cases = getattr((read or load_parts)(data, name), part)
                    if not cases and part != "train":
                        continue
                    chosen[name] = _chosen(recipe, cases, name, backbone)
                _write(path, recipe, *chosen[name], variant, backbone, (reads, keep))
                if say:
                    say(f"{name}, variant {variant}: {len(chosen[name][1])} images embedded")
            kept.append(KeptImages.open(path, name))
    return kept


def _chosen(recipe: VocabularyRecipe, cases: list[Case], name: str, backbone: Backbone) -> tuple[TaskPool, np.ndarray]:
    """Return the pool of a data set and the numbers of its images that are embedded."""
    pool = build_pool(TaskRecipe(dataset=name), cases, backbone.image_size, backbone.keeps_aspect)
    wanted = {one for taught in recipe.classes for one in taught.sets.get(name, ())}
    if unknown := sorted(wanted - set(pool.objects)):
        raise InputError(
            f"{name} has no object '{unknown[0]}', which a class names; it has {', '.join(pool.objects)}. Correct the "
            "recipe."
        )
    if not wanted:
        return pool, _spread(np.arange(len(pool.images)), recipe.most_others)
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
    path: Path,
    recipe: VocabularyRecipe,
    pool: TaskPool,
    index: np.ndarray,
    variant: int,
    backbone: Backbone,
    reading: tuple[str, Keeper | None],
) -> None:
    """Embed one variant of the images of a data set into a file, and then of their parts that show nothing."""
    mirrored = variant % 2 == 1 and pool.name not in recipe.sided
    parts: dict[str, list[torch.Tensor]] = {"top": [], "valid": [], "masks": [], "shown": []}
    small, (reads, keep) = 4 * backbone.grid, reading
    sheets = [_drawn(recipe, pool, int(number), variant, mirrored) for number in index]
    if recipe.bare and pool.name in recipe.datasets:
        sheets += _bare(recipe, pool.name, sheets, variant)
    for start in range(0, len(sheets), TOGETHER):
        images, masks, content = (torch.stack(each) for each in zip(*sheets[start : start + TOGETHER], strict=True))
        valid = valid_positions(content, backbone.grid)
        with torch.inference_mode():
            found = backbone.encode(images, valid)
            if reads:
                seen = (images * 255).round().to(torch.uint8) if keep is None else keep(images)
                parts.setdefault(reads, []).append(seen)
        parts["top"].append(found.top.half())
        parts["valid"].append(valid)
        parts["masks"].append((functional.adaptive_avg_pool2d(masks, small) * 255).round().to(torch.uint8))
        parts["shown"].append(masks.flatten(2).sum(2) >= LEAST_PIXELS)
    tensors = {name: torch.cat(values).contiguous() for name, values in parts.items()}
    with writing_state(path) as temporary:
        save_file(tensors, temporary, {"about": json.dumps({"objects": list(pool.objects)})})


def _bare(recipe: VocabularyRecipe, dataset: str, sheets: list[Sheet], variant: int) -> list[Sheet]:
    """Return squares of some images that show no object, at the size of the images."""
    found: list[Sheet] = []
    chance = np.random.default_rng((recipe.seed, _number(dataset), variant, len(sheets)))
    for image, masks, content in sheets:
        forbidden = masks.amax(0) > 0
        if chance.random() >= recipe.bare or not forbidden.any():
            continue
        square = bare_square(forbidden.numpy(), content.numpy(), chance)
        if square is not None:
            cut = image[(slice(None), *square)].unsqueeze(0)
            larger = functional.interpolate(cut, size=image.shape[-2:], mode="bilinear", align_corners=False)[0]
            found.append((larger, torch.zeros_like(masks), torch.ones_like(content)))
    return found


def _number(dataset: str) -> int:
    """Return a number of a data set's name, for seeds."""
    return int(hashlib.sha256(dataset.encode()).hexdigest()[:8], 16)


def _drawn(recipe: VocabularyRecipe, pool: TaskPool, number: int, variant: int, mirrored: bool) -> Sheet:
    """Return image ``(3, s, s)``, masks ``(O, s, s)`` and content ``(s, s)`` of a variant; 0 is the image itself."""
    image = pool.pictures([number])[0].expand(3, -1, -1)
    masks, content = pool.masks[number].float(), pool.content([number])[0, 0]
    if not variant:
        return image, masks, content
    return vary(image, masks, content, mirrored, (recipe.seed, _number(pool.name), number, variant))


def newest(kept: Sequence[KeptImages], dataset: str) -> list[KeptImages]:
    """Return the variants of a data set."""
    return [one for one in kept if one.dataset == dataset]
