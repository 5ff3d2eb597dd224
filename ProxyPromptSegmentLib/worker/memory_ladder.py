"""Fallbacks for when memory runs out: steps down one at a time and reports each step, until the job fits.

The first steps do not change the result: smaller batches, then freeing cached embeddings. The next ones are fewer
support slices, as long as every object is still shown; half precision, if the device supports it and the user has not
ruled it out; and finally the CPU, with all support slices again. Finished slices are kept on every step. Where half
precision was begun with and gives unusable values, the device continues in single precision.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Protocol, TypeVar

import numpy as np

from ProxyPromptSegmentLib.errors import DeviceError
from ProxyPromptSegmentLib.networks.devices import is_out_of_memory
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind
from ProxyPromptSegmentLib.support.asked import Asked, AskedObjects

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter

__all__ = ["Footing", "Ground", "Ladder", "Unusable", "fewer_pairs", "is_memory_error"]

logger = logging.getLogger(__name__)

T = TypeVar("T")
_PAIR = "support slice"


class Unusable(Exception):
    """An error of half precision: infinite values or NaN; the ladder then moves to the next device."""


@dataclass(frozen=True)
class Footing:
    """The device, support pairs and precision of a computation.

    Attributes:
        device: Name of the device.
        pairs: 0-based numbers of the support pairs that are used.
        half: Whether half precision is used.
    """

    device: str
    pairs: tuple[int, ...]
    half: bool = False


class Ground(Protocol):
    """The interface through which the ladder opens models and frees memory; see `ModelStore.ladder`."""

    def open(self, device: str, half: bool) -> Segmenter:
        """Return the model's segmenter on a device."""

    def has_half(self, device: str) -> bool:
        """Return whether a device supports half precision."""

    def release(self, device: str) -> int:
        """Free the caches on a device; return the number of bytes freed."""

    def leave(self, device: str) -> None:
        """Free everything on a device, including the model."""


def is_memory_error(error: BaseException) -> bool:
    """Return whether an error, or the cause of a `DeviceError`, means that memory ran out."""
    if is_out_of_memory(error):
        return True
    return isinstance(error, DeviceError) and error.__cause__ is not None and is_out_of_memory(error.__cause__)


def fewer_pairs(support: Asked, pairs: Sequence[int]) -> tuple[int, ...] | None:
    """Return half of the pairs, evenly spread, or more if needed to show every object; None if all are needed."""
    if not pairs:
        return None
    shown = np.array([[bool(mask.any()) for mask in support.pairs[number].masks] for number in pairs])
    wanted = max(1, len(pairs) // 2)
    chosen: list[int] = []
    missing = np.ones(shown.shape[1], bool)
    while missing.any():
        # Of the pairs with the most missing objects, the middle one: the ends of an object show little of it.
        counts = (shown & missing).sum(axis=1)
        best = np.flatnonzero(counts == counts.max())
        chosen.append(int(best[len(best) // 2]))
        missing &= ~shown[chosen[-1]]
    rest = [place for place in range(len(pairs)) if place not in chosen]
    more = max(0, wanted - len(chosen))
    chosen += [rest[int((n + 0.5) * len(rest) / more)] for n in range(more)]
    return tuple(pairs[place] for place in sorted(chosen)) if len(chosen) < len(pairs) else None


class Ladder:
    """The sequence of fallbacks of one task.

    Attributes:
        footing: The current device, pairs and precision.
        segmenter: The model on that device; None until it is opened.
        rungs: Sentences about the steps taken, in order.
    """

    def __init__(
        self,
        ground: Ground,
        devices: Sequence[str],
        support: Asked,
        say: Callable[[str], None] | None = None,
        begins_half: Callable[[Segmenter], bool] | None = None,
        may_half: bool = True,
    ) -> None:
        """Begin on the first device with all pairs.

        Args:
            ground: Opens the model and frees memory.
            devices: Devices to compute on, in order; usually one and ``cpu``.
            support: The whole support.
            say: Called with a sentence about each step.
            begins_half: Asked once for the model on the first device: whether half precision is used from the start.
            may_half: Whether half precision is a step.
        """
        self._begins_half, self._may_half = begins_half, may_half
        self._ground, self._rest = ground, list(devices)[1:]
        self._support, self._say = support, say
        self.footing = Footing(devices[0], tuple(range(len(support))))
        self.segmenter: Segmenter | None = None
        self.rungs: list[str] = []
        self._batch = 0
        self._begun_half = False
        self._released: Footing | None = None

    @property
    def support(self) -> Asked:
        """The support with the pairs that are used now, which show all objects; or what is asked for without one."""
        if isinstance(self._support, AskedObjects) or len(self.footing.pairs) == len(self._support):
            return self._support
        return replace(self._support, pairs=tuple(self._support.pairs[number] for number in self.footing.pairs))

    def run(self, work: Callable[[Segmenter], T]) -> T:
        """Run ``work``; whenever memory runs out, step down and run it again.

        Args:
            work: Called with the current segmenter. It keeps finished slices and continues with the others when it is
                called again; it uses `support`, and may raise `Unusable`.

        Raises:
            DeviceError: If memory ran out on the last step.
        """
        while True:
            try:
                if self.segmenter is None:
                    self.segmenter = self._open()
                    self._batch = self.segmenter.batch
                return work(self.segmenter)
            except Exception as error:
                unusable = isinstance(error, Unusable) and self.footing.half
                if not unusable and not is_memory_error(error):
                    raise
                logger.info("%s on %s: %s", type(error).__name__, self.footing, error)
            # Outside the except block, where the error's frames still reference the tensors to be freed.
            if not self._step(unusable):
                pairs = len(self.footing.pairs)
                raise DeviceError(
                    f"one slice does not fit into the memory of {self.footing.device}"
                    f"{f', with {_counted(pairs, _PAIR)}' if pairs else ''}",
                    Remedy(kind=RemedyKind.SAVE_MEMORY, device=self.footing.device),
                )

    def _open(self) -> Segmenter:
        """Open the model on the current footing; the first time, decide on the precision."""
        asked, self._begins_half = self._begins_half, None
        opened = self._ground.open(self.footing.device, self.footing.half)
        if asked is None or not asked(opened):
            return opened
        self.footing, self._begun_half = replace(self.footing, half=True), True
        return self._ground.open(self.footing.device, True)

    def notice(self) -> None:
        """Report if the segmenter itself has reduced its batch size; to be called between two batches."""
        if self.segmenter is not None and self.segmenter.batch < self._batch:
            self._batch = self.segmenter.batch
            self._short(f"continuing with {_counted(self._batch, 'slice')} at a time.")

    def _step(self, unusable: bool) -> bool:
        """Take the next step in the order of the module's docstring; return whether there was one."""
        device, segmenter = self.footing.device, self.segmenter
        if unusable and self._begun_half:
            self.footing, self.segmenter = replace(self.footing, half=False), None
            self._begun_half = self._may_half = False
            self._tell(
                f"On {device} half precision gave unusable values; the remaining slices are computed in single "
                "precision."
            )
            return True
        if unusable:
            return self._next_device(f"On {device} half precision gave unusable values.")
        if segmenter is None:
            return self._next_device(f"The model does not fit into the memory of {device}.")
        self.notice()
        freed = self._ground.release(device)
        if segmenter.batch > 1:
            segmenter.batch //= 2
            self.notice()
            return True
        if freed and self._released != self.footing:
            self._released = self.footing
            self._short("the cache of earlier slices and runs is cleared.")
            return True
        self._released = self.footing
        if (fewer := fewer_pairs(self._support, self.footing.pairs)) is not None:
            self.footing = replace(self.footing, pairs=fewer)
            self._short(
                f"the remaining slices are prompted by {len(fewer)} of the {len(self._support)} support slices; "
                "their masks may differ from those with all support slices."
            )
            return True
        if self._may_half and not self.footing.half and self._ground.has_half(device):
            self.footing, self.segmenter = replace(self.footing, half=True), None
            self._short("continuing in half precision, which may move a contour by single voxels.")
            return True
        return self._next_device(f"Not even one slice fits into the memory of {device}.")

    def _next_device(self, why: str) -> bool:
        """Move to the next device with all pairs in full precision; return whether there is one."""
        if not self._rest:
            return False
        before, device = self.footing.device, self._rest.pop(0)
        self.segmenter, self._begun_half, self._begins_half = None, False, None
        self._ground.leave(before)
        self.footing = Footing(device, tuple(range(len(self._support))))
        where = "on the CPU, which is slower" if device == "cpu" else f"on {device}"
        pairs = ", with all support slices" if len(self._support) else ""
        self._tell(f"{why} The remaining slices are computed {where}{pairs}.")
        return True

    def _short(self, what: str) -> None:
        self._tell(f"The memory of {self.footing.device} ran out: {what}")

    def _tell(self, sentence: str) -> None:
        """Report a step to the user and record it."""
        self.rungs.append(sentence)
        if self._say:
            self._say(sentence)


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
