"""What the systems of a table learn from: draws of images, slices and frames, by patient and by seed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

import numpy as np

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.data.original.items import Item
from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.evaluation.paper.loading import Loaded
from ProxyPromptSegmentLib.evaluation.paper.protocol import Few
from ProxyPromptSegmentLib.evaluation.systems.system import Kind, Lesson

MOST_FULL = 400  # cases that a system of kind FULL learns from; the original sets have thousands of images
SUPPORT_SWEEPS = 5  # sweeps that the paper keeps apart to take their first frames as supports


@dataclass(frozen=True)
class Budget:
    """What a training may take; see `Lesson`."""

    seconds: float = 900.0
    seed: int = 0
    threads: int = 2


def patients_needed(few: Few) -> int:
    """Return the number of training patients that a draw needs."""
    if few.frames:
        return few.images + SUPPORT_SWEEPS
    return few.patients or few.images


class Lessons:
    """The lessons of one data set, the same for each row."""

    def __init__(self, loaded: Loaded, budget: Budget, pool: int = 0) -> None:
        """Keep what is drawn from.

        Args:
            loaded: The data set.
            budget: What a training may take.
            pool: Number of the images that all rows draw their supports from, where the rows differ in it.
        """
        self._loaded, self._budget, self._pool = loaded, budget, pool
        self._full: tuple[Case, ...] | None = None
        self._images: dict[int, tuple[Case, ...]] = {}

    def lesson(self, few: Few, kind: Kind, draw: int) -> Lesson:
        """Return the lesson of one draw.

        Args:
            few: What is drawn.
            kind: Whether the system may learn from the whole training part.
            draw: Number of the draw.

        Raises:
            InputError: If there are too few annotated cases.
        """
        budget = self._budget
        given, full = self._drawn(few, draw)
        if kind is Kind.FULL and not full:
            full = self.whole()
        return Lesson(few=given, full=full, seconds=budget.seconds, seed=budget.seed, threads=budget.threads)

    def names(self, few: Few, draws: int) -> dict[str, list[str]]:
        """Return the names of what each draw gives, for the file of splits."""
        return {f"draw {draw}": [case.name for case in self._drawn(few, draw)[0]] for draw in range(draws)}

    def whole(self) -> tuple[Case, ...]:
        """Return the training part, at most `MOST_FULL` of its cases, evenly spread."""
        if self._full is None:
            items = self._loaded.parts["train"]
            places = np.unique(np.linspace(0, len(items) - 1, min(MOST_FULL, len(items))).round().astype(int))
            self._full = tuple(items[n].read() for n in places)
        return self._full

    def _drawn(self, few: Few, draw: int) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
        """Return the annotated cases of a draw, and what is learned from beside them."""
        items, seed = self._loaded.parts["train"], self._budget.seed
        if few.frames:
            return self._frames(few, draw)
        if few.patients:
            return tuple(slices_around(_patients(items, few.patients, seed + draw), few.slices)), ()
        if few.support:
            images = self._same_images(max(self._pool, few.images), seed)
            chosen = np.random.default_rng([seed, draw, few.support]).permutation(len(images))[: few.support]
            return tuple(images[n] for n in sorted(chosen)), images[: few.images]
        return self._same_images(few.images, seed + draw), ()

    def _same_images(self, count: int, seed: int) -> tuple[Case, ...]:
        if seed not in self._images or len(self._images[seed]) < count:
            self._images[seed] = tuple(single_images(self._loaded.parts["train"], count, seed))
        return self._images[seed][:count]

    def _frames(self, few: Few, draw: int) -> tuple[tuple[Case, ...], tuple[Case, ...]]:
        """Return a support frame: the first that shows everything, of a sweep kept apart if there are enough."""
        items, seed = self._loaded.parts["train"], self._budget.seed
        order = [items[n] for n in np.random.default_rng([seed, 1]).permutation(len(items))]
        apart = order[: max(0, len(order) - few.images)] or order
        first = apart[draw % len(apart)].read()
        shown = np.flatnonzero(np.all(first.masks.any(axis=(2, 3)), axis=1))
        if not len(shown):
            raise InputError(f"no frame of {first.name} shows {', '.join(first.objects)}; leave the sweep out.")
        # With fewer sweeps than draws the later draws take frames from the middle of a sweep.
        again = draw // len(apart)
        frame = int(shown[min(len(shown) - 1, again * len(shown) // (again + 1))])
        learned = order[len(order) - few.images :] if len(order) > few.images else order
        return (one_slice(first, frame),), tuple(item.read() for item in learned)


def one_slice(case: Case, index: int) -> Case:
    """Return one slice of a case as a case."""
    if len(case.images) == 1:
        return case
    return replace(case, images=case.images[[index]], masks=case.masks[[index]], name=f"{case.name}:{index}")


def single_images(items: Sequence[Item], count: int, seed: int) -> list[Case]:
    """Draw images that show every object, one of each patient in turn until there are enough.

    Raises:
        InputError: If there are fewer.
    """
    rng = np.random.default_rng([seed, 16])
    queues: dict[str, list[Callable[[], Case]]] = {}
    for n in rng.permutation(len(items)):
        queues.setdefault(items[n].patient, []).append(items[n].read)
    found: list[Case] = []
    while len(found) < count and any(queues.values()):
        for queue in queues.values():
            while queue and len(found) < count:
                case = queue.pop(0)()
                shown = np.flatnonzero(np.all(case.masks.any(axis=(2, 3)), axis=1))
                if len(shown):
                    found.append(one_slice(case, int(rng.choice(shown))))
                    break
    if len(found) < count:
        raise InputError(
            f"{count} annotated images are needed, but only {len(found)} of the training part show every object; add "
            "images, or choose another table."
        )
    return found


def _patients(items: Sequence[Item], count: int, seed: int) -> list[Case]:
    """Draw all cases of so many patients.

    Raises:
        InputError: If there are fewer.
    """
    patients = sorted({item.patient for item in items})
    if len(patients) < count:
        raise InputError(f"{count} training patients are needed, but there are {len(patients)}; add cases.")
    chosen = {patients[n] for n in np.random.default_rng(seed).permutation(len(patients))[:count]}
    return [item.read() for item in items if item.patient in chosen]


def slices_around(cases: Sequence[Case], count: int) -> list[Case]:
    """Return cases with all slices that show an object, and as many of those next to them as are wanted.

    Args:
        cases: Volumes; each keeps slices that follow one another.
        count: Slices of all together; 0 for the whole volumes.

    Raises:
        InputError: If a volume shows nothing.
    """
    if not count:
        return list(cases)
    ranges = []
    for case in cases:
        shown = np.flatnonzero(case.masks.any((1, 2, 3)))
        if not len(shown):
            raise InputError(f"no slice of {case.name} shows {', '.join(case.objects)}; leave it out.")
        ranges.append([int(shown[0]), int(shown[-1]) + 1])
    count = min(count, sum(len(case.images) for case in cases))
    turn = 0
    while sum(last - first for first, last in ranges) < count:  # one above, one below, case by case
        place = turn % len(cases)
        first, last = ranges[place]
        above = turn // len(cases) % 2 == 0
        ranges[place] = [max(0, first - above), min(len(cases[place].images), last + (not above))]
        turn += 1
    return [
        replace(case, images=case.images[first:last], masks=case.masks[first:last])
        for case, (first, last) in zip(cases, ranges, strict=True)
    ]
