"""Proxy Prompt adapted to the few cases, as a system of the tables: what `adapt` gives, and nothing left of it."""

from __future__ import annotations

import hashlib
import os
import platform
import re
import shutil
import tempfile
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.errors import CancelledError
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
from ProxyPromptSegmentLib.inference.loading import load
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.support.case import SupportCase
from ProxyPromptSegmentLib.support.pairs import MOST_READ
from ProxyPromptSegmentLib.training.adapting.cases import AnnotatedCase, check_cases
from ProxyPromptSegmentLib.training.adapting.result import AdaptProgress
from ProxyPromptSegmentLib.training.adapting.run import adapt
from ProxyPromptSegmentLib.training.adapting.settings import AdaptSettings
from ProxyPromptSegmentLib.weights.cache import ModelCache
from ProxyPromptSegmentLib.weights.own import forget
from ProxyPromptSegmentLib.weights.registry import all_entries

NAME = "Proxy Prompt, adapted"


@dataclass(frozen=True, eq=False)
class Adapted:
    """The model as `adapt` adapts it to the few cases, which are then its supports; the first one if it is no better.

    Attributes:
        frozen: The model to start from, by a name or path.
        steps: Steps of each training; by default as many as the lesson's seconds allow.
    """

    frozen: Frozen
    steps: int | None = None
    name: str = NAME
    kind: Kind = Kind.FEW

    @property
    def source(self) -> str:
        """Where the method is published."""
        return "Proxy Prompt, adapted as this program does (Docs/architecture.md, few-shot adaptation); wall-clock time"

    def fit(
        self, lesson: Lesson, progress: Callable[[float], None] | None = None, cancel: CancelToken | None = None
    ) -> Fitted:
        """Adapt the model within the lesson's seconds.

        Raises:
            SupportError: If the cases cannot be learned from.
            CancelledError: If it was cancelled.
        """
        checked = check_cases(annotated_cases(lesson.few), allow_single=True)
        settings = AdaptSettings(
            model=self.frozen.name,
            minutes=max(lesson.seconds, 1.0) / 60,
            steps=self.steps,
            variants=None if self.steps is None else 0,
            seed=lesson.seed,
            threads=lesson.threads,
            allow_single=True,
        )

        def report(how: AdaptProgress) -> None:
            if progress is not None and how.seconds_left is not None:
                progress(how.seconds / max(1e-9, how.seconds + how.seconds_left))

        # The result has a name for as long as it is read: a table leaves no model in the user's list.
        remove_leftovers()
        name = f"{_of_machine()}{os.getpid()}"
        segmenter = self.frozen.segmenter
        with tempfile.TemporaryDirectory(prefix=f"{name}-") as folder:
            try:
                found = adapt(
                    checked, name, settings, self.frozen.device, cancel=cancel, report=report, folder=Path(folder)
                )
                if found.cancelled:
                    raise CancelledError("the adaptation of a system to compare with was cancelled")
                if found.kept:
                    segmenter = load(name, self.frozen.device).segmenter
            finally:
                _remove_models(lambda one: one == name)
        volumes = marked_stacks(lesson.few) if REGISTER else []
        return Supported(segmenter.reading(MOST_READ), support_of(lesson.few), volumes)


def remove_leftovers() -> None:
    """Remove models and folders of earlier processes on this machine that were killed; those that run keep theirs."""
    pattern = re.compile(re.escape(_of_machine()) + r"(\d+)(-.*)?")

    def is_left(name: str) -> bool:
        found = pattern.fullmatch(name)
        return found is not None and _is_gone(int(found[1]))

    _remove_models(is_left)
    for place in (ModelCache().folder, Path(tempfile.gettempdir())):
        for folder in place.glob(f"{_of_machine()}*"):  # of a model without its entry, or of a state
            if is_left(folder.name) and not folder.is_symlink():
                shutil.rmtree(folder, ignore_errors=True)


def _remove_models(is_meant: Callable[[str], bool]) -> None:
    """Remove the user's models whose names are meant."""
    for entry in [one for one in all_entries() if is_meant(one.name)]:
        ModelCache().remove(entry)
        forget(entry)


def _of_machine() -> str:
    """Return how the names of this machine begin: several may share the user's list of models."""
    return f"compared-{hashlib.sha256(platform.node().encode()).hexdigest()[:8]}-"


def _is_gone(pid: int) -> bool:
    """Return whether no process but this one has a number; False where the system cannot tell without ending it."""
    if pid == os.getpid():
        return True  # of an earlier process of the same number
    if os.name == "nt":
        return False
    try:
        os.kill(pid, 0)
    except (ProcessLookupError, OverflowError):
        return True
    except OSError:
        pass  # it is another user's
    return False


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
