"""What is done when memory runs out: one step down after the other, each told, until it fits.

First what changes no result: fewer slices go through at a time, embeddings kept for later are let go. Then fewer
support slices, as long as every object is still shown; half precision, where the device has it; and at last the
processor, with all support slices again. Slices that are done are kept on every step.
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
from ProxyPromptSegmentLib.support.pairs import SupportSet

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.inference.segmenter import Segmenter

__all__ = ["Footing", "Ground", "Ladder", "Unusable", "fewer_pairs", "is_memory_error"]

logger = logging.getLogger(__name__)

T = TypeVar("T")


class Unusable(Exception):
    """Half precision gave infinite values or none at all; the ladder goes on to the next device."""


@dataclass(frozen=True)
class Footing:
    """Where and with what is computed.

    Attributes:
        device: Its name.
        pairs: Numbers of the support pairs that are used.
        half: Whether in half precision.
    """

    device: str
    pairs: tuple[int, ...]
    half: bool = False


class Ground(Protocol):
    """What the ladder stands on; `Engine` through `Engine.ladder`, something small in tests."""

    def open(self, device: str, half: bool) -> Segmenter:
        """The model on a device."""

    def has_half(self, device: str) -> bool:
        """Whether a device computes in half precision."""

    def release(self, device: str) -> int:
        """Lets go what is kept on a device for later; bytes."""

    def leave(self, device: str) -> None:
        """Lets go everything on a device, the model too."""


def is_memory_error(error: BaseException) -> bool:
    """Whether memory ran out, also where somebody has made a sentence of it."""
    if is_out_of_memory(error):
        return True
    return isinstance(error, DeviceError) and error.__cause__ is not None and is_out_of_memory(error.__cause__)


def fewer_pairs(support: SupportSet, pairs: Sequence[int]) -> tuple[int, ...] | None:
    """Half of the pairs, evenly spread, or as many more as show every object; None if all are needed."""
    shown = np.array([[bool(mask.any()) for mask in support.pairs[number].masks] for number in pairs])
    wanted = max(1, len(pairs) // 2)
    chosen: list[int] = []
    missing = np.ones(shown.shape[1], bool)
    while missing.any():
        # Of those that show the most that is missing, the one nearest to the middle: ends show little of an object.
        counts = (shown & missing).sum(axis=1)
        best = np.flatnonzero(counts == counts.max())
        chosen.append(int(best[len(best) // 2]))
        missing &= ~shown[chosen[-1]]
    rest = [place for place in range(len(pairs)) if place not in chosen]
    more = max(0, wanted - len(chosen))
    chosen += [rest[int((n + 0.5) * len(rest) / more)] for n in range(more)]
    return tuple(pairs[place] for place in sorted(chosen)) if len(chosen) < len(pairs) else None


class Ladder:
    """The steps of one task.

    Attributes:
        footing: Where it stands.
        segmenter: The model there; None before the first step.
        rungs: What was told, in order.
    """

    def __init__(
        self, ground: Ground, devices: Sequence[str], support: SupportSet, say: Callable[[str], None] | None = None
    ) -> None:
        """Stands on the first device with all pairs.

        Args:
            ground: Opens the model and frees memory.
            devices: Where to compute, in this order; usually one and ``cpu``.
            support: The whole support.
            say: Told of each step.
        """
        self._ground, self._rest = ground, list(devices)[1:]
        self._support, self._say = support, say
        self.footing = Footing(devices[0], tuple(range(len(support))))
        self.segmenter: Segmenter | None = None
        self.rungs: list[str] = []
        self._batch = 0
        self._released: Footing | None = None

    @property
    def support(self) -> SupportSet:
        """The pairs that are used now; all objects are on them."""
        if len(self.footing.pairs) == len(self._support):
            return self._support
        return replace(self._support, pairs=tuple(self._support.pairs[number] for number in self.footing.pairs))

    def run(self, work: Callable[[Segmenter], T]) -> T:
        """Does the work; steps down and does it again as often as memory runs out.

        Args:
            work: Given the model where it is computed now. It keeps what is done and goes on with the rest when it is
                called again; it uses `support`, and may raise `Unusable`.

        Raises:
            DeviceError: If nothing is left to step down to.
        """
        while True:
            try:
                if self.segmenter is None:
                    self.segmenter = self._ground.open(self.footing.device, self.footing.half)
                    self._batch = self.segmenter.batch
                return work(self.segmenter)
            except Exception as error:
                unusable = isinstance(error, Unusable) and self.footing.half
                if not unusable and not is_memory_error(error):
                    raise
                logger.info("%s on %s: %s", type(error).__name__, self.footing, error)
            # Not above: there the error's frames still hold the tensors that are to be freed.
            if not self._step(unusable):
                raise DeviceError(
                    f"one slice does not fit into the memory of {self.footing.device}, with "
                    f"{_counted(len(self.footing.pairs), 'support slice')}",
                    Remedy(kind=RemedyKind.SAVE_MEMORY, device=self.footing.device),
                )

    def notice(self) -> None:
        """Tells if the segmenter itself went on with fewer slices at a time; to be called between two batches."""
        if self.segmenter is not None and self.segmenter.batch < self._batch:
            self._batch = self.segmenter.batch
            self._short(f"going on with {_counted(self._batch, 'slice')} at a time.")

    def _step(self, unusable: bool) -> bool:
        """One step down in the order of the top of this module; whether there was one."""
        device, segmenter = self.footing.device, self.segmenter
        if unusable:
            return self._next_device(f"On {device} half precision gave no usable numbers.")
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
            self._short("what was kept of earlier slices and runs is let go.")
            return True
        self._released = self.footing
        if (fewer := fewer_pairs(self._support, self.footing.pairs)) is not None:
            self.footing = replace(self.footing, pairs=fewer)
            self._short(
                f"the slices from here on are prompted by {len(fewer)} of the {len(self._support)} support slices; "
                "their masks may differ from what all of them would give."
            )
            return True
        if not self.footing.half and self._ground.has_half(device):
            self.footing, self.segmenter = replace(self.footing, half=True), None
            self._short("going on in half precision, which may move an outline by a voxel here and there.")
            return True
        return self._next_device(f"Not even one slice fits into the memory of {device}.")

    def _next_device(self, why: str) -> bool:
        """Goes to the next device with all pairs in full precision, if there is one."""
        if not self._rest:
            return False
        before, device = self.footing.device, self._rest.pop(0)
        self.segmenter = None
        self._ground.leave(before)
        self.footing = Footing(device, tuple(range(len(self._support))))
        where = "on the processor, which is slower" if device == "cpu" else f"on {device}"
        self._tell(f"{why} The rest is done {where}, with all support slices.")
        return True

    def _short(self, what: str) -> None:
        self._tell(f"The memory of {self.footing.device} runs short: {what}")

    def _tell(self, sentence: str) -> None:
        """Says a step to the user."""
        self.rungs.append(sentence)
        if self._say:
            self._say(sentence)


def _counted(number: int, word: str) -> str:
    return f"{number} {word}" if number == 1 else f"{number} {word}s"
