"""Proxy Prompt as a system of the tables: learned from a few images, then prompted by them."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.errors import CancelledError
from ProxyPromptSegmentLib.evaluation.conditions import prepare_emptied
from ProxyPromptSegmentLib.evaluation.in_context import spacing_of
from ProxyPromptSegmentLib.evaluation.systems.first_frame import Following
from ProxyPromptSegmentLib.evaluation.systems.frozen import Frozen
from ProxyPromptSegmentLib.evaluation.systems.lesson_cases import support_of
from ProxyPromptSegmentLib.evaluation.systems.proxy_prompt import Supported
from ProxyPromptSegmentLib.evaluation.systems.system import Fitted, Kind, Lesson
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.inference.tiling.tiler import logit_side
from ProxyPromptSegmentLib.networks.model import ProxyPromptModel
from ProxyPromptSegmentLib.networks.proxy_prompt.config import ProxyPromptConfig
from ProxyPromptSegmentLib.networks.proxy_prompt.contextual_encoders import build_contextual_encoder
from ProxyPromptSegmentLib.networks.threads import computing_with
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.resources import resource_path
from ProxyPromptSegmentLib.support.pairs import SupportSet
from ProxyPromptSegmentLib.tracking.choices import TrackingMode
from ProxyPromptSegmentLib.training.few_images import building
from ProxyPromptSegmentLib.training.few_images.mask_quality import EMPTY, TRUTH, changed_masks
from ProxyPromptSegmentLib.training.few_images.sheets import learned_of
from ProxyPromptSegmentLib.training.few_images.training import PromptTraining
from ProxyPromptSegmentLib.training.recipe import Recipe, read_recipe

NAME = "Proxy Prompt"
SAVE_SECONDS = 30.0  # between two states
FULL = "full"


@dataclass(frozen=True, kw_only=True)
class Choices:
    """What a row changes of the system.

    Attributes:
        preset: Recipe and preset of the generator: ``paper``, ``robust``, or `building.FEW`.
        generator: Keys of the generator's configuration that differ from the preset.
        encoder: ``vim``, ``vit`` or ``resnet``; empty for the preset's.
        learns_from: ``few``: the lesson's few cases, which are the supports, too; ``full``: the cases beside them.
        masks: Quality of the supports' masks after the training, see `mask_quality`.
        dice: Their Dice with the truth, where edges are moved.
        memory: Whether frames after the first are predicted with the frozen SAM 2's memory, too; the training is on
            single frames, as without.
    """

    preset: str = building.FEW
    generator: Mapping[str, Any] = field(default_factory=dict)
    encoder: str = ""
    learns_from: str = "few"
    masks: str = TRUTH
    dice: float = 1.0
    memory: bool = False


@dataclass(eq=False)
class Trainings:
    """The trainings of a table: each is done once, kept in a folder, and continued after a stop.

    Attributes:
        folder: Where they are kept; None keeps none.
        last: Identity of the last one, and its model: rows that differ in the supports alone share it.
    """

    folder: Path | None = None
    last: tuple[str, ProxyPromptModel] | None = None


@dataclass(frozen=True, eq=False, kw_only=True)
class FewImages:
    """A new prompt generator and mask decoder on a frozen image encoder.

    Attributes:
        frozen: The model whose image encoder stays as it is.
        choices: What the row changes.
        others: Cases of other data sets that are learned together with the lesson's; data set -> cases.
        trainings: Where trainings are kept.
    """

    frozen: Frozen
    choices: Choices = Choices()
    others: Mapping[str, Sequence[Case]] = field(default_factory=dict)
    trainings: Trainings = field(default_factory=Trainings)
    name: str = NAME
    kind: Kind = Kind.FEW

    @property
    def source(self) -> str:
        """Where the method is published, with what stands in for it."""
        adapters = (
            "; the image encoder is frozen, the whole mask decoder is trained"
            if self.frozen.compact
            else "; adapters in the mask decoder alone"
        )
        return "Proxy Prompt, arXiv:2502.03501" + adapters + self._encoder() + self.frozen.stands_in("SAM ViT-H")

    def _encoder(self) -> str:
        """Return the size of a contextual encoder that a row asks for."""
        if not self.choices.encoder:
            return ""
        count = sum(one.numel() for one in build_contextual_encoder(self._config()).parameters())
        return f"; contextual encoder of {count:,} parameters"

    def _config(self) -> ProxyPromptConfig:
        """Return the configuration of the generator that is trained."""
        choices = self.choices
        return building.generator_config(self.frozen, choices.preset, choices.generator, choices.encoder)

    def fit(
        self, lesson: Lesson, progress: Callable[[float], None] | None = None, cancel: CancelToken | None = None
    ) -> Fitted:
        """Train, or take the training that was kept, and choose the supports.

        Raises:
            InputError: If the annotated slices are of one patient alone.
            CancelledError: If it was cancelled; what was learned is kept.
        """
        cases = lesson.full if self.choices.learns_from == FULL and lesson.full else lesson.few
        together = {cases[0].dataset: tuple(cases), **{name: tuple(other) for name, other in self.others.items()}}
        groups = dict(sorted(together.items()))  # whichever of the sets is asked for, the training is one
        preset = self.choices.preset
        recipe = read_recipe(resource_path(f"recipes/{building.RECIPES.get(preset, preset)}.json"))
        rate = building.RATES.get(preset, recipe.optimizer.learning_rate)
        recipe = replace(recipe, seed=lesson.seed, optimizer=replace(recipe.optimizer, learning_rate=rate))
        identity = self._identity(lesson, recipe, groups)
        with computing_with(lesson.threads):
            if self.trainings.last is None or self.trainings.last[0] != identity:
                model = self._trained(lesson, recipe, groups, identity, progress, cancel or CancelToken())
                self.trainings.last = identity, model
            segmenter = Segmenter(self.trainings.last[1], self.frozen.segmenter.device, 1)
            return self._supported(segmenter, lesson, recipe.episodes.max_supports)

    def _identity(self, lesson: Lesson, recipe: Recipe, groups: Mapping[str, Sequence[Case]]) -> str:
        """Return what tells a training from every other; the quality of the supports' masks is not a part of it."""
        digest = hashlib.sha256()
        for case in (case for cases in groups.values() for case in cases):
            digest.update(np.ascontiguousarray(case.images).data)
            digest.update(np.ascontiguousarray(case.masks).data)
        said = {
            "model": self.frozen.sha256,
            "recipe": recipe.to_dict(),
            "generator": asdict(self._config()),
            "cases": {name: [(case.name, case.spacing_mm) for case in cases] for name, cases in groups.items()},
            "pixels": digest.hexdigest(),
            "seconds": lesson.seconds,
        }
        return hashlib.sha256(json.dumps(said, sort_keys=True).encode()).hexdigest()[:20]

    def _trained(
        self,
        lesson: Lesson,
        recipe: Recipe,
        groups: Mapping[str, Sequence[Case]],
        identity: str,
        progress: Callable[[float], None] | None,
        cancel: CancelToken,
    ) -> ProxyPromptModel:
        model = building.new_model(self.frozen, self._config(), lesson.seed)
        side, aspect = logit_side(model.backbone), model.backbone.keeps_aspect
        learned = [part for cases in groups.values() for part in learned_of(cases, side, aspect)]
        training = PromptTraining(recipe, model, learned, lesson.seconds)
        path = None if self.trainings.folder is None else self.trainings.folder / f"{identity}.safetensors"
        if path is not None:
            training.resume(path)
        if training.done:
            return training.result()
        if not training.embed(cancel):
            raise CancelledError("the training was cancelled while it embedded its images; the same call begins again.")
        saved = time.monotonic()
        while not training.done:
            training.advance()
            if progress is not None:
                progress(min(1.0, training.seconds / lesson.seconds))
            if path is not None and (training.done or cancel.cancelled or time.monotonic() - saved > SAVE_SECONDS):
                training.save(path)
                saved = time.monotonic()
            if cancel.cancelled and not training.done:
                raise CancelledError("the training was cancelled; the same call continues it.")
        return training.result()

    def _supported(self, segmenter: Segmenter, lesson: Lesson, most: int) -> Fitted:
        support = support_of(lesson.few, max(most, len(lesson.few)))
        reading = segmenter.reading(most)
        if self.choices.memory:
            return Following(reading, support, TrackingMode.PROXY_AND_BANK)
        if self.choices.masks == TRUTH:
            return Supported(reading, support)
        if self.choices.masks == EMPTY:
            return _Emptied(reading, support)
        own = self.frozen.segmenter
        changed = [
            replace(case, masks=changed_masks(own, case, self.choices.masks, self.choices.dice, lesson.seed + number))
            for number, case in enumerate(lesson.few)
        ]
        return Supported(reading, support_of(changed, max(most, len(changed))))


@dataclass(frozen=True, eq=False)
class _Emptied:
    """A model whose supports show nothing, a control condition."""

    segmenter: Segmenter
    support: SupportSet

    def segment(self, case: Case) -> np.ndarray:
        with torch.inference_mode():
            prepared = prepare_emptied(self.segmenter, self.support)
        masks: np.ndarray = self.segmenter.segment(case.images, prepared, spacing_mm=spacing_of(case)).masks()
        return masks
