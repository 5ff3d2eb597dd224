"""Training clips: a few consecutive frames of one patient, tracked with SAM 2's memory, prompted by other patients.

The memory of a frame is encoded from its own prediction. Masks and features enter it detached, so that a step trains
the memory encoder and memory attention, but does not backpropagate through earlier image encoders.
"""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass
from typing import TYPE_CHECKING

import numpy as np
import torch

from ProxyPromptSegmentLib.errors import InputError, UsageError
from ProxyPromptSegmentLib.networks.protocols import has_memory
from ProxyPromptSegmentLib.networks.values import Decoded, FrameMemory, ImageFeatures, Prompt
from ProxyPromptSegmentLib.training.augment import middle_of, random_affine, random_intensity, valid_positions
from ProxyPromptSegmentLib.training.losses import prediction_loss
from ProxyPromptSegmentLib.training.recipe import ClipRecipe, Recipe

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.networks.model import ProxyPromptModel
    from ProxyPromptSegmentLib.training.pools import TaskPool

SUPPORTS_PER_TASK = 3
LARGEST_STRIDE = 2
UNRELATED = 0.1
# Shares of what is tracked in a synthetic clip (the rest: nothing), and the motion of its picture between frames.
MADE_OBJECT, MADE_DISC = 0.45, 0.4
MADE_DEGREES, MADE_ZOOM, MADE_SHIFT = 5.0, (0.92, 1.09), 0.03
# How the track of a clip is started.
PROXY, OWN_MASK, SUPPORT_MASK = "proxy", "own mask", "support's mask"


@dataclass(kw_only=True)
class ClipEpisode:
    """The data of one training step on clips.

    Attributes:
        frames: ``(B, T, 1, size, size)`` in 0..1, or ``(B, T, 3, size, size)`` for colour.
        truth: Masks of the single object of each clip, ``(B, T, size, size)``.
        images: Support images, ``(S, 3, size, size)``.
        masks: Their masks, ``(S, 1, size, size)``.
        chosen: Indices of the supports of each clip, ``(B, k)``; never of the same patient.
        related: Clips whose supports show their own task, bool ``(B,)``; the others have an empty truth.
        begin: `PROXY`, `OWN_MASK` or `SUPPORT_MASK`.
        content: Pixels of each clip and then of each support that are not padding, bool ``(B + S, 1, size, size)``;
            None if all are.
    """

    frames: torch.Tensor
    truth: torch.Tensor
    images: torch.Tensor
    masks: torch.Tensor
    chosen: torch.Tensor
    related: torch.Tensor
    begin: str = PROXY
    content: torch.Tensor | None = None


class ClipSampler:
    """A sampler of clips from task pools, deterministic given its seed and the step."""

    def __init__(
        self,
        pools: list[TaskPool],
        seed: int,
        recipe: ClipRecipe | None = None,
        zoom: tuple[float, float] = (0.75, 1.5),
    ) -> None:
        """Create the sampler.

        Args:
            pools: The tasks, each with its number of clips per step; the slices of a patient are in spatial or
                temporal order.
            seed: Seed of all random choices.
            recipe: Settings of clips; by default the recipe's defaults.
            zoom: Smallest and largest magnification.

        Raises:
            UsageError: If no task has clips.
            InputError: If a task has fewer patients than its clips and one support require, or no patient with enough
                frames.
        """
        recipe = recipe or ClipRecipe()
        self.tasks = [(pool, pool.task.clips) for pool in pools if pool.task.clips]
        if not self.tasks:
            raise UsageError("no task of the recipe has clips; give 'clips' of at least one task")
        for pool, count in self.tasks:
            patients = pool.patients.unique()
            if len(patients) < count + 1:
                raise InputError(
                    f"{pool.name} has {len(patients)} patients; {count} clips and a support of another patient "
                    f"require {count + 1}. Lower 'clips'."
                )
            longest = int(torch.bincount(pool.patients).max())
            if longest < recipe.frames:
                raise InputError(
                    f"{pool.name} has at most {longest} frames of a patient; a clip needs {recipe.frames}."
                )
        self.seed, self.recipe, self.zoom, self.pools = seed, recipe, zoom, pools

    def draw(self, step: int) -> ClipEpisode:
        """Draw the clips of a step."""
        rng = np.random.default_rng((self.seed, step, 2))
        chance = torch.Generator().manual_seed(int(rng.integers(2**62)))
        clips: list[_Pictures] = []
        supports: list[_Pictures] = []
        flip_clips: list[bool] = []
        flip_supports: list[bool] = []
        task_of_clip: list[int] = []
        task_of_support: list[int] = []
        for number, (pool, count) in enumerate(self.tasks):
            mine, others = self._draw_task(pool, count, rng)
            clips += mine
            supports += others
            flip_clips += [pool.task.flip] * len(mine)
            flip_supports += [pool.task.flip] * len(others)
            task_of_clip += [number] * len(mine)
            task_of_support += [number] * len(others)
        frames, truth, inside = _moved(clips, flip_clips, self.zoom, chance)
        images, masks, inside_supports = _moved(supports, flip_supports, self.zoom, chance)
        chosen, related = self._choose(np.array(task_of_clip), np.array(task_of_support), rng)
        begin = PROXY
        if rng.random() < self.recipe.given:
            begin = OWN_MASK if rng.random() < 0.5 else SUPPORT_MASK
            if rng.random() < self.recipe.made:
                begin, related = OWN_MASK, torch.ones_like(related)
                drawn = [
                    made_clip(self.pools[int(rng.integers(len(self.pools)))], self.recipe.frames, rng) for _ in clips
                ]
                frames, truth, inside = _moved(drawn, None, self.zoom, chance)
        truth = truth if begin == OWN_MASK else truth * related.view(-1, 1, 1, 1)
        content = torch.cat([inside, inside_supports])
        frames = _varied_intensity(frames, chance) * inside.unsqueeze(1)
        images = (_varied_intensity(images, chance) * inside_supports.unsqueeze(1))[:, 0]
        return ClipEpisode(
            frames=frames,
            truth=truth,
            images=images.expand(-1, 3, -1, -1),
            masks=masks,
            chosen=chosen,
            related=related,
            begin=begin,
            content=None if bool(content.all()) else content,
        )

    def _draw_task(
        self, pool: TaskPool, count: int, rng: np.random.Generator
    ) -> tuple[list[_Pictures], list[_Pictures]]:
        """Draw clips and supports of one task, from distinct patients and of one object."""
        target = int(rng.integers(pool.masks.shape[1]))
        patients = pool.patients.numpy()
        order = rng.permutation(np.unique(patients))
        long_enough = [p for p in order if (patients == p).sum() >= self.recipe.frames]
        chosen = long_enough[:count]
        clips = []
        for patient in chosen:
            index = self._window(np.flatnonzero(patients == patient), rng)
            clips.append(_Pictures(pool.pictures(index), pool.masks[index, target].float(), pool.content(index[:1])[0]))
        supports = []
        for patient in [p for p in order if p not in chosen][:SUPPORTS_PER_TASK]:
            mine = np.flatnonzero(patients == patient)
            marked = mine[pool.masks[mine, target].flatten(1).any(1).numpy()]
            pick = int(rng.choice(marked if len(marked) else mine))
            mask = pool.masks[pick : pick + 1, target].float()
            supports.append(_Pictures(pool.pictures([pick]), mask, pool.content([pick])[0]))
        return clips, supports

    def _window(self, indices: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Draw ``T`` frames, consecutive or with gaps, forwards or backwards."""
        stride = int(rng.integers(1, LARGEST_STRIDE + 1))
        if (self.recipe.frames - 1) * stride + 1 > len(indices):
            stride = 1
        start = int(rng.integers(len(indices) - (self.recipe.frames - 1) * stride))
        window = indices[start : start + (self.recipe.frames - 1) * stride + 1 : stride]
        return window[::-1].copy() if rng.random() < 0.5 else window

    def _choose(
        self, clips: np.ndarray, supports: np.ndarray, rng: np.random.Generator
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Choose the same number of supports for each clip, from its own task or occasionally from another."""
        number = int(rng.integers(1, int(np.bincount(supports).min()) + 1))
        chosen, related = np.zeros((len(clips), number), np.int64), np.ones(len(clips), bool)
        for clip, task in enumerate(clips):
            related[clip] = len(self.tasks) == 1 or rng.random() >= UNRELATED
            options = np.flatnonzero((supports == task) == related[clip])
            chosen[clip] = rng.choice(options, number, replace=len(options) < number)
        return torch.from_numpy(chosen), torch.from_numpy(related)


@dataclass(frozen=True)
class _Pictures:
    """Pictures of one clip or support: images ``(T, C, h, w)``, masks ``(T, h, w)``, and what is no padding."""

    images: torch.Tensor
    masks: torch.Tensor
    content: torch.Tensor


def _moved(
    parts: list[_Pictures], flip: list[bool] | None, zoom: tuple[float, float], chance: torch.Generator
) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    """Move the pictures of each part together; None leaves them in place.

    Returns:
        Images ``(B, T, C, h, w)``, masks ``(B, T, h, w)``, and pixels that are not padding, ``(B, 1, h, w)``.
    """
    channels = max(part.images.shape[1] for part in parts)
    images = torch.stack([part.images.expand(-1, channels, -1, -1) for part in parts])
    masks = torch.stack([part.masks for part in parts])
    content = torch.stack([part.content for part in parts])
    if flip is not None:
        flat, masks = random_affine(
            images.flatten(1, 2), masks, chance, zoom=zoom, flip=torch.tensor(flip), middle=middle_of(content)
        )
        images = flat.unflatten(1, images.shape[1:3])
    return images * content.unsqueeze(1), masks * content, content


def _varied_intensity(frames: torch.Tensor, chance: torch.Generator) -> torch.Tensor:
    """Change the intensities of the pictures ``(B, T, C, h, w)`` of each part alike, but for the noise."""
    return random_intensity(frames.flatten(1, 2), chance).unflatten(1, frames.shape[1:3])


def made_clip(pool: TaskPool, frames: int, rng: np.random.Generator) -> _Pictures:
    """Synthesise a clip from one moving picture, with an arbitrary mask: an object, a disc, or nothing.

    In real clips a given mask always marks the only object of the modality, so a network could ignore it.

    Args:
        pool: A task, from which one picture is taken.
        frames: Frames ``T``.
        rng: Source of chance.

    Returns:
        Frames in 0..1, ``(T, C, size, size)``, their masks, and which pixels are not padding: all.
    """
    chance = torch.Generator().manual_seed(int(rng.integers(2**62)))
    pick = int(rng.integers(len(pool.images)))
    image = pool.pictures([pick])
    size = image.shape[-1]
    kind = rng.random()
    mask = torch.zeros(size, size)
    if kind < MADE_OBJECT:
        mask = pool.masks[pick, int(rng.integers(pool.masks.shape[1]))].float()
    elif kind < MADE_OBJECT + MADE_DISC:
        row, column = (float(value) for value in rng.uniform(0.15 * size, 0.85 * size, 2))
        high, wide = (float(value) for value in rng.uniform(0.05 * size, 0.2 * size, 2))
        rows, columns = torch.meshgrid(torch.arange(size), torch.arange(size), indexing="ij")
        mask = (((rows - row) / high) ** 2 + ((columns - column) / wide) ** 2 < 1).float()
    moved, masks = random_affine(
        image.expand(frames, -1, -1, -1),
        mask.expand(frames, 1, -1, -1),
        chance,
        degrees=MADE_DEGREES,
        zoom=MADE_ZOOM,
        shift=MADE_SHIFT,
    )
    return _Pictures(moved, masks[:, 0], torch.ones(1, size, size, dtype=torch.bool))


def clip_loss(
    model: ProxyPromptModel, episode: ClipEpisode, recipe: Recipe, step: int = 0, number: int | None = None
) -> tuple[torch.Tensor, dict[str, float]]:
    """Return the mean loss over the frames of clips, and its parts.

    Args:
        model: A model with a memory.
        episode: The clips.
        recipe: Weights of the loss, dropout of the dense prompt, share of clicks.
        step: Step number, for parts of the recipe that start later.
        number: Number of the episode, for random choices; by default that of the step.
    """
    backbone = model.backbone
    if not has_memory(backbone):
        raise UsageError(f"clips are tracked with a memory, which {backbone.name} does not have; choose a SAM 2")
    rng = np.random.default_rng((recipe.seed, step if number is None else number, 3))
    batch, length = episode.frames.shape[:2]
    frames = episode.frames.flatten(0, 1).expand(-1, 3, -1, -1)
    inside, valid = None, None
    if episode.content is not None:
        inside = episode.content[:batch]
        whole = torch.cat([inside.repeat_interleave(length, dim=0), episode.content[batch:]])
        valid = valid_positions(whole, backbone.grid)
    everything = backbone.encode(torch.cat([frames, episode.images]), valid)
    count = batch * length
    support_features = everything.select(slice(count, None))
    support = model.generator.prepare(support_features, episode.images, episode.masks)
    bank: list[FrameMemory] = []
    if episode.begin == SUPPORT_MASK:
        first = episode.chosen[:, 0]
        bank.append(backbone.remember_mask(support_features.select(first), episode.masks[first], 0))
    losses: list[torch.Tensor] = []
    sums: dict[str, float] = {}
    for time in range(length):
        features = everything.select(torch.arange(time, count, length))
        truth = episode.truth[:, time : time + 1]
        if episode.begin == OWN_MASK and time == 0:
            bank.append(backbone.remember_mask(features, truth, 0))
            continue
        prompt = Prompt()
        if episode.begin == PROXY:
            prompt = model.generator.prompt(features, support, episode.chosen)
            if rng.random() < recipe.prompts.dense_dropout:
                prompt = dataclasses.replace(prompt, dense=None)
        if rng.random() < recipe.prompts.clicks:
            prompt = prompt.with_points(click_tokens(model, truth, rng))
        decoded = backbone.decode(features, prompt, bank, time + 1)
        loss, parts = prediction_loss(decoded, prompt, truth, episode.related, recipe.losses, step, inside)
        losses.append(loss)
        for name, value in parts.items():
            sums[name] = sums.get(name, 0.0) + value
        if time + 1 < length:
            bank.append(backbone.remember(_without_history(features), _seen(decoded), time + 1))
    return torch.stack(losses).mean(), {name: value / len(losses) for name, value in sums.items()}


def click_tokens(model: ProxyPromptModel, truth: torch.Tensor, rng: np.random.Generator) -> torch.Tensor:
    """Return a simulated correct click on each target: inside the object or, occasionally or if there is none, outside.

    Args:
        model: The model whose prompt encoder embeds the click.
        truth: ``(B, N, size, size)``.
        rng: Source of chance.

    Returns:
        Prompt tokens ``(B, N, t, C)``.
    """
    points, labels = [], []
    for mask in truth.flatten(0, 1):
        inside = mask > 0.5
        wanted = bool(inside.any()) and rng.random() < 0.75
        options = torch.nonzero(inside if wanted else ~inside)
        row, column = options[int(rng.integers(len(options)))].tolist()
        points.append([[column, row]])
        labels.append([1 if wanted else 0])
    device = truth.device
    position = torch.tensor(points, dtype=torch.float32, device=device)
    tokens = model.backbone.prompt_points(position, torch.tensor(labels, dtype=torch.int32, device=device))
    return tokens.unflatten(0, truth.shape[:2])


def _without_history(features: ImageFeatures) -> ImageFeatures:
    """Return the features detached from the encoder."""
    return dataclasses.replace(features, top=features.top.detach())


def _seen(decoded: Decoded) -> Decoded:
    """Return the input of the memory, detached except for the pointer, whose projection must be trained."""
    return dataclasses.replace(decoded.detach(), pointer=decoded.pointer)
