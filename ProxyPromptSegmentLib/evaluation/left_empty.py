"""How often a model that knows structures leaves images without them empty, on test images.

Three kinds: images of other kinds that the training read, those that it never saw, and squares of images of the right
kind that show nothing of the structure, such as healthy mucosa beside a polyp.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ProxyPromptSegmentLib.data.bare import bare_square
from ProxyPromptSegmentLib.data.cases import DATASETS, Case, unit_of
from ProxyPromptSegmentLib.data.parts import load_parts
from ProxyPromptSegmentLib.data.small_sets import small_set_names
from ProxyPromptSegmentLib.evaluation.broad.records import Record, ScoreFile
from ProxyPromptSegmentLib.evaluation.broad.tasks import spread
from ProxyPromptSegmentLib.evaluation.in_context import spacing_of
from ProxyPromptSegmentLib.evaluation.without_support import ABSENT, MODEL, ClassPlan, Lesson
from ProxyPromptSegmentLib.imaging.intensity import intensity_window

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter

LEGACY = "legacy"
SEEN, UNSEEN, BARE = "other kinds, learned from", "other kinds, never seen", "squares without the structure"
EACH = 4  # test images of a set of another kind


def measure_empty(
    segmenter: Segmenter,
    lesson: Lesson,
    plan: ClassPlan,
    file: ScoreFile,
    on_case: Callable[[str, int, int], None] | None = None,
) -> None:
    """Measure what the file does not have yet; the score of an image is the share of structures that stay empty.

    Args:
        segmenter: The model.
        lesson: What it was taught.
        plan: The data and its part.
        file: Where each image is written when it is done.
        on_case: Called after each image with its set's name, the number of images done and of the set's.
    """
    methods = {MODEL: segmenter}
    if (scaled := with_min_max(segmenter)) is not None:
        methods[LEGACY] = scaled
    taught = {name for one in lesson.classes for name in one.sets}
    for dataset in sets_in(plan.data):
        own = dataset in taught
        if not own and len(lesson.strangers(dataset)) < len(lesson.classes):
            continue
        cases = getattr(load_parts(plan.data, dataset), plan.part)
        cases = spread(cases, plan.limit if own else EACH)
        kind = BARE if own else SEEN if dataset in lesson.others else UNSEEN
        for number, case in enumerate(cases):
            unit = (ABSENT, kind, dataset, case.name, case.patient)
            if not file.has(unit):
                file.add(unit, _records(methods, case, kind))
            if on_case:
                on_case(dataset, number + 1, len(cases))


def sets_in(data: Path) -> list[str]:
    """Return the names of the data sets in a folder."""
    small = small_set_names(data) if (data / "manifest.csv").is_file() else []
    return [*(name for name in DATASETS if (data / name).is_dir() and name not in small), *small]


def with_min_max(segmenter: Segmenter) -> Segmenter | None:
    """Return the same model with the logits of each image scaled between their extremes, as the paper's code does.

    None for a generator that has no such choice.
    """
    generator: Any = segmenter.model.generator
    if not hasattr(generator.config, "min_max"):
        return None
    other = copy.copy(segmenter)
    other.model = copy.copy(segmenter.model)
    changed = copy.copy(generator)
    changed.config = replace(generator.config, min_max=True, presence=False)
    other.model._modules = {**segmenter.model._modules, "generator": changed}
    return other


def _records(methods: dict[str, Segmenter], case: Case, kind: str) -> list[Record]:
    images = _without(case) if kind == BARE else _middle(case.images)
    if images is None:
        return []
    window = intensity_window(case.images)
    found = []
    for method, segmenter in methods.items():
        encoded = segmenter.encode(images, window, spacing_of(case))
        answer = segmenter.predict(encoded, segmenter.model.generator.prepare_classes([]))[0]
        drawn = (answer.probability * answer.presence[:, None, None] > 0.5).any(axis=(1, 2))
        found.append(
            Record(
                measure=ABSENT,
                dataset=case.dataset,
                object=kind,
                method=method,
                supports=0,
                case=case.name,
                patient=unit_of(case),
                score=float(1 - np.mean(drawn)),
            )
        )
    return found


def _middle(images: np.ndarray) -> np.ndarray:
    return images[len(images) // 2 : len(images) // 2 + 1]


def _without(case: Case) -> np.ndarray | None:
    """Return a square of the first slice of a case that shows an object, and none of it; None if there is none."""
    marked: np.ndarray = np.any(case.masks, axis=1)
    index = int(np.argmax(marked.reshape(len(marked), -1).any(axis=1)))
    if not marked[index].any():
        return None
    chance = np.random.default_rng([0, *case.name.encode()])
    square = bare_square(marked[index], np.ones_like(marked[index], dtype=bool), chance)
    return None if square is None else case.images[(slice(index, index + 1), *square)]
