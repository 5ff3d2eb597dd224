"""Proxy Prompt adapted to the few cases, as a system of the tables: the training of `adapt` without its folds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import numpy as np

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.errors import CancelledError
from ProxyPromptSegmentLib.evaluation.clock import training_clock
from ProxyPromptSegmentLib.evaluation.systems.catalogue import Offer
from ProxyPromptSegmentLib.evaluation.systems.frozen import Frozen
from ProxyPromptSegmentLib.evaluation.systems.lesson_cases import support_of
from ProxyPromptSegmentLib.evaluation.systems.proxy_prompt import Supported
from ProxyPromptSegmentLib.evaluation.systems.stacks import marked_stacks
from ProxyPromptSegmentLib.evaluation.systems.system import Fitted, Kind, Lesson
from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.imaging.segmentations import Segment, Segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume
from ProxyPromptSegmentLib.inference.helps import REGISTER
from ProxyPromptSegmentLib.inference.loading import calibration_of
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.networks.threads import computing_with
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.support.case import SupportCase
from ProxyPromptSegmentLib.support.pairs import MOST_READ
from ProxyPromptSegmentLib.training.adapting.beginning import begin
from ProxyPromptSegmentLib.training.adapting.cases import AnnotatedCase, check_cases
from ProxyPromptSegmentLib.training.adapting.material import Material
from ProxyPromptSegmentLib.training.adapting.plan import LEAST_VARIANTS
from ProxyPromptSegmentLib.training.adapting.settings import AdaptSettings
from ProxyPromptSegmentLib.training.adapting.stage import Stage
from ProxyPromptSegmentLib.training.adapting.weights import of_encoder, put, trained_names

NAME = "Proxy Prompt, adapted"
EXPECTED_STEPS = 100  # before one is timed; the first steps are made at a low rate
CANCELLED = "the adaptation of a system to compare with was cancelled"


@dataclass(frozen=True, eq=False)
class Adapted:
    """The model as the last training of `adapt` leaves it, all of the way; the few cases are then its supports.

    No other system of a table spends its time on folds, so that this one does not either.

    Attributes:
        frozen: The model to start from, by a name or path.
        steps: Steps of the training; by default as many as the lesson's seconds allow.
    """

    frozen: Frozen
    steps: int | None = None
    name: str = NAME
    kind: Kind = Kind.FEW

    @property
    def source(self) -> str:
        """Where the method is published."""
        return "Proxy Prompt, adapted as this program does (Docs/architecture.md, few-shot adaptation), without folds"

    def fit(
        self, lesson: Lesson, progress: Callable[[float], None] | None = None, cancel: CancelToken | None = None
    ) -> Fitted:
        """Adapt the model within the lesson's seconds; at least one step is made.

        Raises:
            SupportError: If the cases cannot be learned from.
            CancelledError: If it was cancelled.
        """
        checked = check_cases(annotated_cases(lesson.few), allow_single=True)
        begun = begin(self.frozen.name, seed=lesson.seed)
        device = self.frozen.segmenter.device
        model = begun.model.to(device).eval()
        settings = begun.fitted(AdaptSettings(model=self.frozen.name, seed=lesson.seed, allow_single=True))
        with computing_with(lesson.threads):
            material = Material.of(checked, model.backbone, device, lesson.seed)
            own, names = dict(model.named_parameters()), trained_names(model, settings.trained)
            start = {name: own[name].detach().clone() for name in names}
            began = training_clock(device)
            if not of_encoder(names):  # otherwise slices are changed and embedded in every step
                _embed(material, cancel or CancelToken())
            cases, expected = range(len(checked.cases)), self.steps or EXPECTED_STEPS
            stage = Stage(model, start, material.sources(settings), cases, 0, expected, settings)
            embedded = training_clock(device) - began
            while True:
                if cancel is not None and cancel.cancelled:
                    raise CancelledError(CANCELLED)
                stage.advance()
                spent = training_clock(device) - began
                if self.steps is None:  # the rate falls with the share of the steps that are done
                    each = max(1e-9, (spent - embedded) / stage.step)
                    stage.steps = stage.step + int(max(0.0, lesson.seconds - spent) / each)
                if progress is not None:
                    progress(stage.step / stage.steps)
                if stage.done:
                    break
            put(model, stage.average)
        segmenter = Segmenter(model.eval(), device, 1, calibration=calibration_of(begun.sha256, begun.metadata))
        volumes = marked_stacks(lesson.few) if REGISTER else []
        return Supported(segmenter.reading(MOST_READ), support_of(lesson.few), volumes)


def _embed(material: Material, cancel: CancelToken) -> None:
    """Embed slices and tiles, and a few variants of each."""
    for store in material.stores:
        count = min(LEAST_VARIANTS, store.most_variants())
        if not (store.embed_sheets(cancel) and store.embed_variants(count, material.mirror, cancel)):
            raise CancelledError(CANCELLED)


def annotated_cases(few: Sequence[Case]) -> list[AnnotatedCase]:
    """Return the few cases as an adaptation reads them."""
    found = []
    for number, case in enumerate(few):
        slices, rows, columns = case.images.shape[:3]
        spacing = case.spacing_mm or (1.0, 1.0, 1.0)
        grid = VolumeGeometry((columns, rows, slices), (spacing[2], spacing[1], spacing[0]), (0.0, 0.0, 0.0))
        known = case.spacing_mm is not None
        name = f"{case.name or 'case'} ({number + 1})"
        volume = Volume(np.ascontiguousarray(case.images), grid, name, has_spacing=known, has_depth=known)
        segments = [Segment(one, np.ascontiguousarray(case.masks[:, n])) for n, one in enumerate(case.objects)]
        found.append(AnnotatedCase(name, SupportCase(volume, Segmentation(segments, grid)), case.patient))
    return found


OFFER = Offer(key="proxy-prompt-adapted", kind=Kind.FEW, about="the model, adapted to the few cases", make=Adapted)
