"""Measurements of a model that needs no support: each class on held-back patients, beside what needs a person.

Beside the model stand the copied mean mask of supports, the proxy prompt with as many supports, and a box that is drawn
around the truth on every slice that shows the class.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from ProxyPromptSegmentLib.data.cases import Case, unit_of
from ProxyPromptSegmentLib.data.parts import load_parts
from ProxyPromptSegmentLib.errors import CheckpointError
from ProxyPromptSegmentLib.evaluation.broad.answers import IN_TIME, ask
from ProxyPromptSegmentLib.evaluation.broad.baselines import MEAN_MASK, copied_mean
from ProxyPromptSegmentLib.evaluation.broad.records import Record, ScoreFile
from ProxyPromptSegmentLib.evaluation.broad.supports import draw_pairs, support_set
from ProxyPromptSegmentLib.evaluation.broad.tasks import spread
from ProxyPromptSegmentLib.evaluation.in_context import spacing_of
from ProxyPromptSegmentLib.evaluation.statistics.surfaces import surface_dice
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.imaging.metrics import dice
from ProxyPromptSegmentLib.networks.letterbox import logits_to_slice, masks_to_tensor

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.evaluation.broad.answers import Encoded
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter

MODEL, PROXY, BOX = "model", "proxy prompt", "box around the truth"
DICE, SURFACE, ABSENT = "Dice", "NSD", "absent"
STRANGE = "classes of other images"
SUPPORTS = 4
TOLERANCE = 64  # of the longer side of an image, one such part is the tolerance of the surface Dice
STRANGERS = 4  # classes asked for on each target of which its image surely shows nothing


@dataclass(frozen=True, kw_only=True)
class Taught:
    """A class as its training had it.

    Attributes:
        name: Name of the class.
        sets: Objects of each data set whose union is the class.
    """

    name: str
    sets: dict[str, tuple[str, ...]]


@dataclass(frozen=True, kw_only=True)
class Lesson:
    """What a model was taught, from the recipe in its file.

    Attributes:
        classes: Its classes.
        alike: Data sets whose images may show each other's classes.
        others: Data sets of other kinds of images, which it learned to leave empty.
    """

    classes: tuple[Taught, ...]
    alike: tuple[tuple[str, ...], ...]
    others: tuple[str, ...] = ()

    @classmethod
    def of(cls, metadata: Mapping[str, Any]) -> Lesson:
        """Read it from a checkpoint's metadata.

        Raises:
            CheckpointError: If the model was not trained by such a recipe.
        """
        try:
            recipe = metadata["recipe"]
            classes = tuple(
                Taught(name=one["about"]["name"], sets={name: tuple(objects) for name, objects in one["sets"].items()})
                for one in recipe["classes"]
            )
            alike = tuple(tuple(names) for names in recipe["alike"])
            return cls(classes=classes, alike=alike, others=tuple(recipe.get("others", ())))
        except (KeyError, TypeError, AttributeError) as error:
            raise CheckpointError(
                f"the file of this model does not say on which data its classes were trained ({error!r}); give a model "
                "that 'train' made with a recipe that names its classes."
            ) from None

    def of_set(self, dataset: str) -> list[Taught]:
        """Return the classes that a data set marks; those of a set that taught nothing are found by their names."""
        own = [one for one in self.classes if dataset in one.sets]
        return own or [replace(one, sets={**one.sets, dataset: (one.name,)}) for one in self.classes]

    def strangers(self, dataset: str) -> list[str]:
        """Return the classes of which an image of a data set surely shows nothing."""
        return [one.name for one in self.classes if not any(self._kin(dataset, other) for other in one.sets)]

    def _kin(self, one: str, other: str) -> bool:
        return one == other or any(one in names and other in names for names in self.alike)


@dataclass(frozen=True, kw_only=True)
class ClassPlan:
    """What is measured.

    Attributes:
        data: Folder of the data sets.
        part: ``validation`` or ``test``.
        limit: Largest number of patients or images of each set.
        beside: Whether the proxy prompt and the box are measured as well.
        sets: Some of the data sets; all by default.
    """

    data: Path
    part: str = "validation"
    limit: int | None = None
    beside: bool = True
    sets: tuple[str, ...] = ()


def measure_classes(
    segmenter: Segmenter,
    lesson: Lesson,
    plan: ClassPlan,
    file: ScoreFile,
    proxy: Segmenter | None = None,
    on_case: Callable[[str, int, int], None] | None = None,
) -> None:
    """Measure what the file does not have yet.

    Args:
        segmenter: The model that knows classes.
        lesson: What it was taught.
        plan: What to measure.
        file: Where each target is written when it is done.
        proxy: The model that reads supports, to stand beside; its backbone draws the boxes, too.
        on_case: Called after each target with its set's name, the number of targets done and of the set's.
    """
    known = {one.name for one in segmenter.model.generator.vocabulary}
    names = plan.sets or tuple(dict.fromkeys(name for one in lesson.classes for name in one.sets))
    for dataset in names:
        parts = load_parts(plan.data, dataset)
        targets = spread(getattr(parts, plan.part), plan.limit)
        taught = [one for one in lesson.of_set(dataset) if one.name in known]
        lent = _lent(plan.data, dataset, taught) if not parts.train else []
        for number, case in enumerate(targets):
            encoded: Encoded = {}
            for one in taught:
                unit = (dataset, one.name, case.name, case.patient)
                if not set(one.sets[dataset]) <= set(case.objects):
                    continue
                truth = as_class(case, one)
                if not truth.masks.any() or file.has(unit):
                    continue
                pool = [as_class(other, one) for other in parts.train or lent]
                file.add(unit, list(_scored(segmenter, truth, pool, proxy if plan.beside else None, encoded)))
            unit = (ABSENT, dataset, case.name, case.patient)
            if not file.has(unit):
                asked = [name for name in lesson.strangers(dataset) if name in known]
                file.add(unit, _strangers(segmenter, case, asked, encoded))
            if on_case:
                on_case(dataset, number + 1, len(targets))


def _lent(data: Path, dataset: str, taught: list[Taught]) -> list[Case]:
    """Return training cases of the first other set of a class, as supports for a set that has none of its own."""
    other = next((name for one in taught for name in one.sets if name != dataset), None)
    return load_parts(data, other).train if other else []


def as_class(case: Case, taught: Taught) -> Case:
    """Return a case with a class as its only object."""
    index = [case.objects.index(name) for name in taught.sets[case.dataset]]
    return replace(case, masks=case.masks[:, index].max(axis=1, keepdims=True), objects=(taught.name,))


def _scored(
    segmenter: Segmenter, case: Case, pool: list[Case], proxy: Segmenter | None, encoded: Encoded
) -> Iterator[Record]:
    """Score one class on one target by every method."""
    for method, masks in _answers(segmenter, case, pool, proxy, encoded):
        tolerance = max(case.images.shape[1:3]) / TOLERANCE
        scores = {
            DICE: dice(case.masks[:, 0], masks),
            SURFACE: surface_dice(case.masks[:, 0], masks, tolerance),
        }
        for measure, score in scores.items():
            yield Record(
                measure=measure,
                dataset=case.dataset,
                object=case.objects[0],
                method=method,
                supports=SUPPORTS if method in (MEAN_MASK, PROXY) else 0,
                case=case.name,
                patient=unit_of(case),
                score=score,
            )


def _answers(
    segmenter: Segmenter, case: Case, pool: list[Case], proxy: Segmenter | None, encoded: Encoded
) -> Iterator[tuple[str, np.ndarray]]:
    """Yield the masks ``(S, H, W)`` of each method."""
    yield MODEL, class_masks(segmenter, case, encoded)
    pairs = draw_pairs(pool, case, SUPPORTS, 0)
    if pairs:
        yield MEAN_MASK, copied_mean(pairs, case)[:, 0]
    if proxy is not None:
        if pairs:
            yield PROXY, ask(proxy, case, support_set(pairs, case), encoded).masks[:, 0]
        yield BOX, boxed_masks(proxy, case, encoded)


def class_masks(segmenter: Segmenter, case: Case, encoded: Encoded) -> np.ndarray:
    """Segment the class that a case has as its only object, as the program does; uint8 ``(S, H, W)``."""
    prepared = segmenter.model.generator.prepare_classes(case.objects)
    result = segmenter.segment(case.images, prepared, spacing_mm=spacing_of(case), encoded=encoded)
    result.fill_gaps = case.dataset not in IN_TIME
    return result.masks()[:, 0]


def boxed_masks(segmenter: Segmenter, case: Case, encoded: Encoded) -> np.ndarray:
    """Decode a box around the truth on every slice that shows it; uint8 ``(S, H, W)``."""
    import torch

    from ProxyPromptSegmentLib.networks.values import Prompt

    backbone, window, spacing = segmenter.model.backbone, intensity_window(case.images), spacing_of(case)
    masks = np.zeros_like(case.masks[:, 0])
    for index in np.flatnonzero(case.masks[:, 0].any(axis=(1, 2))):
        known = segmenter.embedded(case.images, [int(index)], window, spacing, encoded)
        with torch.inference_mode():
            rows, columns = torch.nonzero(masks_to_tensor(case.masks[[index]], known.box)[0, 0], as_tuple=True)
            box = torch.stack([columns.min(), rows.min(), columns.max(), rows.max()]).float().unsqueeze(0)
            tokens = backbone.prompt_points(None, None, box.to(segmenter.device))
            decoded = backbone.decode(known.features, Prompt(sparse=tokens.unsqueeze(1)))
            masks[index] = (logits_to_slice(decoded.logits, known.box)[0, 0] > 0).cpu().numpy()
    return masks


def _strangers(segmenter: Segmenter, case: Case, names: list[str], encoded: Encoded) -> list[Record]:
    """Ask for classes that the middle slice of a case surely does not show; the score is the share that stays empty."""
    if not names:
        return []
    rng = np.random.default_rng([0, *case.name.encode()])
    asked = [str(name) for name in rng.permutation(names)[:STRANGERS]]
    prepared = segmenter.model.generator.prepare_classes(asked)
    middle = len(case.images) // 2
    window, spacing = intensity_window(case.images), spacing_of(case)
    known = segmenter.embedded(case.images, [middle], window, spacing, encoded)
    answer = segmenter.predict(known, prepared)[0]
    drawn = (answer.probability * answer.presence[:, None, None] > 0.5).any(axis=(1, 2))
    return [
        Record(
            measure=ABSENT,
            dataset=case.dataset,
            object=STRANGE,
            method=MODEL,
            supports=0,
            case=case.name,
            patient=unit_of(case),
            score=float(1 - np.mean(drawn)),
        )
    ]
