"""Episodes of an adaptation: some slices of the training cases, each a target that reads slices of the other cases."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import torch

from ProxyPromptSegmentLib.networks.protocols import Backbone
from ProxyPromptSegmentLib.networks.values import ImageFeatures
from ProxyPromptSegmentLib.support.pairs import MOST_READ
from ProxyPromptSegmentLib.training.adapting.settings import AdaptSettings
from ProxyPromptSegmentLib.training.adapting.store import FeatureStore, Variant, shown_by
from ProxyPromptSegmentLib.training.broad.episodes import BroadEpisode

TOGETHER = 2  # objects that are asked for in one step, if there are more; a step with all of them takes much longer
LEAST_SLICES = 5  # of a step, so that a target can read as many supports as in use
DEPTH_KNOWN = 0.5  # share of the steps on volumes in which the position of slices is known


@dataclass(frozen=True, eq=False)
class Drawn:
    """The data of one step.

    Attributes:
        features: Features of its ``B`` slices.
        episode: Images, masks and which slice reads which.
    """

    features: ImageFeatures
    episode: BroadEpisode


class EpisodeSource:
    """Draws episodes from the sheets of some cases; the same numbers give the same episode."""

    def __init__(
        self,
        store: FeatureStore,
        objects: Sequence[int],
        patients: Sequence[int],
        settings: AdaptSettings,
        mirror: bool = False,
    ) -> None:
        """Create the source.

        Args:
            store: The features of the sheets.
            objects: Which of the sheets' objects are asked for.
            patients: Number of the patient of each case.
            settings: The settings.
            mirror: Whether every second step is mirrored where variants are drawn afresh.
        """
        self._store, self._objects, self._settings, self._mirror = store, list(objects), settings, mirror
        self._patients = np.array([patients[sheet.case] for sheet in store.sheets])
        self._shown = np.stack([sheet.shown for sheet in store.sheets])

    def draw(self, cases: Sequence[int], seed: Sequence[int], encoder: Backbone | None = None) -> Drawn:
        """Draw an episode.

        Args:
            cases: Numbers of the cases that may be used.
            seed: Numbers that determine the episode.
            encoder: The backbone whose image encoder is trained: it embeds variants that were never used before, with
                a gradient. None for stored variants with their features.
        """
        rng = np.random.default_rng(list(seed))
        mine = np.array([n for n, sheet in enumerate(self._store.sheets) if sheet.case in set(cases)])
        objects = np.sort(rng.permutation(self._objects)[:TOGETHER]).tolist()
        count = max(min(LEAST_SLICES, self._settings.targets), self._settings.targets // len(objects))
        sheets = self._some_sheets(mine, count, objects, rng)
        chosen, numbers = self._some_variants(sheets, rng) if encoder is None else self._fresh_variants(sheets, rng)
        shown = np.stack([shown_by(one)[objects] for one in chosen])
        reads = self._supports(sheets, numbers, shown, rng)
        images, masks, content = self._store.pictures(chosen)
        if encoder is None:
            features = self._store.features(chosen)
        else:
            features = encoder.encode(images, torch.stack([one.valid for one in chosen]).to(images.device))
        masks = masks[:, objects]
        keep = shown & (rng.random(len(objects)) >= self._settings.emptied)[None, :]
        masks = masks * torch.from_numpy(keep).to(masks).view(*keep.shape, 1, 1)
        # An object that none of a target's supports shows cannot be asked for.
        asked = (keep[reads] & (reads >= 0)[:, :, None]).any(1)
        truth = masks * torch.from_numpy(asked).to(masks).view(*asked.shape, 1, 1)
        depth = torch.from_numpy(self._depths(sheets, rng)).to(features.top.device)
        episode = BroadEpisode(
            images=images,
            masks=masks,
            truth=truth,
            chosen=torch.from_numpy(reads).to(images.device),
            related=torch.ones(len(chosen), device=images.device),
            foreign=torch.full((len(chosen),), -1, device=images.device),
            content=content,
            depth=depth,
        )
        return Drawn(replace(features, depth=depth), episode)

    def _some_sheets(self, mine: np.ndarray, count: int, objects: list[int], rng: np.random.Generator) -> np.ndarray:
        """Choose the sheets of an episode, of different patients as evenly as possible; some show none of the objects.

        Args:
            mine: Numbers of the sheets that may be used.
            count: How many are chosen.
            objects: Numbers of the objects that are asked for.
            rng: Source of chance.
        """
        shown = np.any(self._shown[:, objects], axis=1)
        people = np.resize(rng.permutation(np.unique(self._patients[mine])), count)
        picked: list[int] = []
        for person in people:
            options = mine[self._patients[mine] == person]
            wanted = not (len(picked) >= 2 and rng.random() < self._settings.empty)
            of_kind = options[shown[options] == wanted]
            fresh = [n for n in (of_kind if len(of_kind) else options) if n not in picked]
            picked.append(int(rng.choice(fresh if fresh else options)))
        return np.array(picked)

    def _some_variants(self, sheets: np.ndarray, rng: np.random.Generator) -> tuple[list[Variant], np.ndarray]:
        """Choose a variant of each sheet, all of them mirrored or none."""
        stored = [self._store.variants[n] for n in sheets]
        kinds = sorted({one.mirrored for one in stored[0]})
        mirrored = kinds[int(rng.integers(len(kinds)))]
        chosen, numbers = [], []
        for own in stored:
            options = [number for number, one in enumerate(own) if one.mirrored == mirrored]
            number = int(rng.choice(options))
            chosen.append(own[number])
            numbers.append(number)
        return chosen, np.array(numbers)

    def _fresh_variants(self, sheets: np.ndarray, rng: np.random.Generator) -> tuple[list[Variant], np.ndarray]:
        """Draw a variant of each sheet that was never used before, all of them mirrored or none."""
        mirrored = self._mirror and bool(rng.integers(2))
        seeds = rng.integers(2**31, size=len(sheets))
        chosen = [self._store.fresh(int(n), mirrored, (int(seed),)) for n, seed in zip(sheets, seeds, strict=True)]
        return chosen, np.arange(len(sheets))

    def _supports(
        self, sheets: np.ndarray, numbers: np.ndarray, shown: np.ndarray, rng: np.random.Generator
    ) -> np.ndarray:
        """Choose what each target reads: other patients' sheets; with one patient other sheets, or other variants.

        Returns:
            Indices ``(B, k)``; below 0 for none.
        """
        count, place = len(sheets), np.arange(len(sheets))
        reads = np.full((count, MOST_READ), -1, np.int64)
        for target in range(count):
            others = place[self._patients[sheets] != self._patients[sheets[target]]]
            if not len(others):
                others = place[sheets != sheets[target]]
            if not len(others):
                others = place[numbers != numbers[target]]
            if not len(others):  # one sheet with one variant: nothing else is known of the structure
                others = place[place != target]
            number = min(len(others), 1 + int(rng.integers(MOST_READ)))
            picked = list(rng.permutation(others)[:number])
            for n in range(shown.shape[1]):
                having = others[shown[others, n]]
                if len(having) and not shown[picked, n].any():
                    picked = ([int(rng.choice(having)), *picked])[:MOST_READ]
            reads[target, : len(picked)] = picked
        return reads

    def _depths(self, sheets: np.ndarray, rng: np.random.Generator) -> np.ndarray:
        """Return the positions of the slices along their volumes, or 0 for all, ``(B,)``."""
        known = [self._store.sheets[n].depth for n in sheets]
        if any(depth is None for depth in known) or rng.random() >= DEPTH_KNOWN:
            return np.zeros(len(sheets), np.float32)
        return np.array(known, np.float32)
