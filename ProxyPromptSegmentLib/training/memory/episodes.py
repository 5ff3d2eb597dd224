"""Episodes of clips: frames that move together, events in them, and the supports that each clip reads."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

import numpy as np
import torch

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.evaluation.made_clips import COVERED, LEAVING, SHADOW, TWIN, happen, moved, smooth_motion
from ProxyPromptSegmentLib.training.broad.augment import Strength, change_intensity
from ProxyPromptSegmentLib.training.broad.episodes import SMALLEST, SUPPORT_CHANCES, BroadSampler
from ProxyPromptSegmentLib.training.broad.pools import SIDE, Pool
from ProxyPromptSegmentLib.training.memory.groups import ClipGroup, drawn_clip, real_clip, region_clip
from ProxyPromptSegmentLib.training.memory.recipe import MemoryRecipe

PROMPTED, GIVEN, ALONE = "prompted", "given mask and prompt", "given mask alone"
MOVING, SLICED = 1.5, 0.4  # factors of the motion of pictures and of volumes
FRAME_NOISE = 0.02  # between the frames of one clip
LATEST_TWIN = 3  # frame from which a copy is there at the latest; one earlier frame shows which is meant


@dataclass(kw_only=True)
class ClipEpisode:
    """The data of one step on clips.

    Attributes:
        frames: ``(B, T, 3, SIDE, SIDE)`` in 0..1.
        truth: Masks of the objects asked for, ``(B, T, N, SIDE, SIDE)``.
        content: Pixels of the frames that show the image, bool ``(B, T, SIDE, SIDE)``.
        depth: Position of each frame along its volume, ``(B, T)``.
        images: Support images, ``(K, 3, SIDE, SIDE)``.
        masks: Their masks, ``(K, N, SIDE, SIDE)``.
        support_content: As ``content``, ``(K, SIDE, SIDE)``.
        support_depth: As ``depth``, ``(K,)``.
        chosen: Indices of the supports of each clip, ``(B, k)``; below 0 for none.
        related: 1 where the supports show the clip's own task, ``(B,)``.
        begin: How the tracks begin: `PROMPTED`, `GIVEN` or `ALONE`.
    """

    frames: torch.Tensor
    truth: torch.Tensor
    content: torch.Tensor
    depth: torch.Tensor
    images: torch.Tensor
    masks: torch.Tensor
    support_content: torch.Tensor
    support_depth: torch.Tensor
    chosen: torch.Tensor
    related: torch.Tensor
    begin: str = PROMPTED

    @property
    def targets(self) -> int:
        """Number of targets, each a frame and an object."""
        return self.truth.shape[:3].numel()

    def tensors(self) -> list[torch.Tensor]:
        """Return the tensors in the order of the fields."""
        return [
            value for item in dataclasses.fields(self) if isinstance(value := getattr(self, item.name), torch.Tensor)
        ]


class ClipSampler(BroadSampler):
    """A sampler of clips from pools."""

    recipe: MemoryRecipe

    def __init__(self, pools: list[Pool], recipe: MemoryRecipe) -> None:
        """Create the sampler; errors as of `BroadSampler`."""
        super().__init__(pools, recipe)

    def draw(self, rng: np.random.Generator) -> ClipEpisode:  # type: ignore[override]
        """Draw the clips of one step."""
        recipe, time = self.recipe, self.recipe.frames
        clips = self._clips(rng)
        groups = [clip.group for clip in clips]
        sizes = [len(group.images) for group in groups]
        number = np.repeat(np.arange(len(groups)), sizes)
        first = np.concatenate([[0], np.cumsum(sizes)[:-1]])
        offset = np.arange(len(number)) - first[number]
        same = np.where(offset < time, first[number], np.arange(len(number)))
        pictures, masks, content, strength = self._warped(groups, number, same)
        masks = masks * (masks.sum((2, 3)) >= SMALLEST).view(*masks.shape[:2], 1, 1)
        of_clips = (first[:, None] + np.arange(time)).astype(np.int64)
        of_supports = np.flatnonzero(offset >= time)
        begin = PROMPTED
        if rng.random() < recipe.given:
            begin = ALONE if rng.random() < recipe.unprompted else GIVEN
        made = [
            self._made(clip, pictures[rows], masks[rows], content[rows], begin, rng)
            for clip, rows in zip(clips, of_clips, strict=True)
        ]
        frames, truth, inside = (torch.stack([clip[n] for clip in made]) for n in range(3))
        frames, supports = self._intensities(frames, pictures[of_supports], strength, first, of_supports, rng)
        owner, real = number[of_supports], np.array([group.real for group in groups])
        emptied = (rng.random((len(groups), truth.shape[2])) < recipe.emptied) & real[:, None]
        kept = torch.from_numpy(~emptied[owner]).to(self.device)
        support_masks = masks[of_supports] * kept.view(*kept.shape, 1, 1)
        has = (support_masks.amax((2, 3)) > 0).cpu().numpy()
        chosen, related = self._choose_supports(owner, real, has, begin, rng)
        if begin == PROMPTED:  # an object that none of a clip's supports shows cannot be asked for
            asked = (has[chosen] & (chosen >= 0)[:, :, None]).any(1) & related[:, None]
            truth = truth * torch.from_numpy(asked).to(self.device).view(len(groups), 1, -1, 1, 1)
        else:  # nor one whose given mask is empty
            truth = truth * (truth[:, :1].amax((-2, -1), keepdim=True) > 0)
        depth = torch.from_numpy(np.concatenate([group.depth for group in groups])).to(self.device)
        return ClipEpisode(
            frames=frames * inside.unsqueeze(2),
            truth=truth,
            content=inside,
            depth=depth[of_clips],
            images=supports * content[of_supports].unsqueeze(1),
            masks=support_masks,
            support_content=content[of_supports],
            support_depth=depth[of_supports],
            chosen=torch.from_numpy(chosen).to(self.device),
            related=torch.from_numpy(related.astype(np.float32)).to(self.device),
            begin=begin,
        )

    def _clips(self, rng: np.random.Generator) -> list[ClipGroup]:
        """Draw the clips of one step with their supports.

        Raises:
            UsageError: If regions are asked for, and there are none.
        """
        recipe = self.recipe
        clips = [real_clip(self._pool(rng), recipe, rng) for _ in range(recipe.groups)]
        wanted = len(clips) + recipe.region_groups
        for _ in range(20 * recipe.region_groups):
            if len(clips) < wanted and (clip := region_clip(self._pool(rng), recipe, rng)) is not None:
                clips.append(clip)
        if len(clips) < wanted:
            raise UsageError("the data have no regions to draw from; pack them with scikit-image, or ask for none.")
        return clips + [drawn_clip(self.pools[0].content, recipe, rng) for _ in range(recipe.drawn_groups)]

    def _made(
        self,
        clip: ClipGroup,
        frames: torch.Tensor,
        masks: torch.Tensor,
        content: torch.Tensor,
        begin: str,
        rng: np.random.Generator,
    ) -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
        """Return frames, masks and content of one clip ``(T, ., SIDE, SIDE)`` after its motion and its event."""
        recipe = self.recipe
        path = smooth_motion(len(frames), (SIDE, SIDE), rng, MOVING if clip.still else SLICED)
        together = moved(torch.cat([frames, content.unsqueeze(1).float(), masks], 1), path)
        frames, masks = together[:, :4], (together[:, 4:] > 0.5).float()
        shares = {COVERED: recipe.covered, SHADOW: recipe.shadow, LEAVING: recipe.leaving, TWIN: recipe.twin}
        chance = float(rng.random())
        late = int(rng.integers(1, min(LATEST_TWIN, len(frames) - 1) + 1))
        for event, share in shares.items():
            if chance < share:
                seen = frames if event == LEAVING else frames[:, :3]  # the content leaves with the picture
                found = happen(event, seen, masks, rng, late if begin == PROMPTED else 0)
                if found is not None:
                    masks = found[1]
                    frames = torch.cat([found[0], frames[:, found[0].shape[1] :]], 1)
                break
            chance -= share
        return frames[:, :3], masks, frames[:, 3] > 0.5

    def _intensities(
        self,
        frames: torch.Tensor,
        supports: torch.Tensor,
        strength: Strength,
        first: np.ndarray,
        of_supports: np.ndarray,
        rng: np.random.Generator,
    ) -> tuple[torch.Tensor, torch.Tensor]:
        """Change intensities: the same for all frames of a clip, what acts on a group also for its supports."""
        seed, after = (int(n) for n in rng.integers(2**31, size=2))

        def changed(images: torch.Tensor, index: np.ndarray) -> torch.Tensor:
            torch.manual_seed(seed)  # what is drawn for groups comes first, and is the same in every call
            rows = torch.from_numpy(index).to(self.device)
            some = dataclasses.replace(
                strength,
                group=strength.group[rows],
                zoom=strength.zoom[rows],
                elastic=strength.elastic[rows],
                intensity=strength.intensity[rows],
            )
            return change_intensity(images, some)

        clips = torch.stack([changed(frames[:, time], first) for time in range(frames.shape[1])], 1)
        others = changed(supports, of_supports)
        torch.manual_seed(after)
        return (clips + FRAME_NOISE * torch.randn_like(clips)).clamp(0, 1), others

    def _choose_supports(
        self, owner: np.ndarray, real: np.ndarray, has: np.ndarray, begin: str, rng: np.random.Generator
    ) -> tuple[np.ndarray, np.ndarray]:
        """Choose the supports of each clip, one of which at least shows the first object."""
        most = self.recipe.most_supports
        chances = np.array(SUPPORT_CHANCES[:most])
        chosen, related = np.full((len(real), most), -1, np.int64), np.ones(len(real), bool)
        for clip in range(len(real)):
            options = np.flatnonzero(owner == clip)
            foreign = np.flatnonzero((owner != clip) & real[owner])
            if begin == PROMPTED and real[clip] and len(foreign) and rng.random() < self.recipe.unrelated:
                related[clip], options = False, foreign
            count = min(len(options), 1 + int(rng.choice(len(chances), p=chances / chances.sum())))
            picked = rng.choice(options, count, replace=False)
            if not has[picked, 0].any() and has[options, 0].any():
                picked[0] = rng.choice(options[has[options, 0]])
            chosen[clip, :count] = picked
        return chosen, related
