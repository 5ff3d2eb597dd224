"""SAM and SAM 2 prompted with the truth, and everything: what weights reach when a person says where the object is."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from enum import Enum

import numpy as np
import torch

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.evaluation.clicks import next_click
from ProxyPromptSegmentLib.evaluation.in_context import spacing_of
from ProxyPromptSegmentLib.evaluation.systems.frozen import Frozen
from ProxyPromptSegmentLib.evaluation.systems.system import Fitted, Kind, Lesson
from ProxyPromptSegmentLib.evaluation.tracking import SWEEPS
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.imaging.metrics import dice
from ProxyPromptSegmentLib.inference.by_hand.decode import decoded_by_hand
from ProxyPromptSegmentLib.inference.by_hand.everything import everything_on
from ProxyPromptSegmentLib.inference.by_hand.prompts import HandPrompt
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.inference.slice_encoder import EncodedSlices
from ProxyPromptSegmentLib.networks.letterbox import logits_to_slice
from ProxyPromptSegmentLib.networks.protocols import has_memory
from ProxyPromptSegmentLib.progress import CancelToken
from ProxyPromptSegmentLib.tracking.choices import TrackingMode
from ProxyPromptSegmentLib.tracking.tracker import Tracker
from ProxyPromptSegmentLib.tracking.volume import track_volume

MEDSAM = "MedSAM"


class Said(Enum):
    """What the truth says; the values are the words of the rows."""

    POINT = "1 point"
    BOX = "box"
    MASK = "mask"
    EVERYTHING = "everything"


def prompt_of(truth: np.ndarray, said: Said) -> HandPrompt:
    """Return the prompt that the truth of one object on one slice gives.

    Args:
        truth: 0 or 1, ``(H, W)``; not empty.
        said: A point in the middle of its largest piece, the box around it, or all of it.
    """
    if said is Said.POINT:
        click = next_click(truth, np.zeros_like(truth))
        assert click is not None  # something is marked
        return HandPrompt(points=(click,))
    whole = HandPrompt(mask=np.ascontiguousarray(truth, np.uint8))
    return whole if said is Said.MASK else HandPrompt(box=whole.extent)


@dataclass(frozen=True, eq=False)
class TruthPrompted:
    """A SAM that is prompted with the truth on every slice; SAM 2 on the first frame of a sweep alone.

    Attributes:
        frozen: The weights.
        said: What the truth says. For `EVERYTHING`, of all that is found on a slice what overlaps most with the truth.
        family: Name of the weights in the row; by default that of the architecture, ``SAM`` or ``SAM 2``.
    """

    frozen: Frozen
    said: Said = Said.BOX
    family: str = ""
    kind: Kind = Kind.TRUTH

    @property
    def name(self) -> str:
        """Its name in the tables."""
        if self.family or not has_memory(self.frozen.segmenter.model.backbone):
            return f"{self.family or 'SAM'}, {self.said.value}"
        return f"SAM 2, {'point' if self.said is Said.POINT else self.said.value}"

    @property
    def source(self) -> str:
        """Where the method is published."""
        if self.family == MEDSAM:
            known = "Ma et al. 2024, Segment Anything in Medical Images"
            other = "" if self.frozen.backbone.startswith("medsam") else f"; {self.frozen.title} stands in for MedSAM"
            return known + other
        if has_memory(self.frozen.segmenter.model.backbone):
            return "Ravi et al. 2024, SAM 2" + self.frozen.stands_in("the official weights")
        return "Kirillov et al. 2023, Segment Anything" + self.frozen.stands_in("the official weights")

    def fit(
        self, lesson: Lesson, progress: Callable[[float], None] | None = None, cancel: CancelToken | None = None
    ) -> Fitted:
        """Learn nothing."""
        return _Prompted(self.frozen.segmenter, self.said)


@dataclass(frozen=True, eq=False)
class _Prompted:
    segmenter: Segmenter
    said: Said

    def segment(self, case: Case) -> np.ndarray:
        """Prompt the objects where the truth shows them; uint8 ``(S, N, H, W)``, elsewhere empty."""
        in_time = has_memory(self.segmenter.model.backbone) and case.dataset in SWEEPS and len(case.images) > 1
        if in_time and self.said is not Said.EVERYTHING and case.masks.any():
            return self._tracked(case)
        masks = np.zeros_like(case.masks)
        shown = [int(index) for index in np.flatnonzero(case.masks.any(axis=(1, 2, 3)))]
        for index, encoded in self._encoded(case, shown):
            answers = self._everything(encoded) if self.said is Said.EVERYTHING else []
            for number, truth in enumerate(case.masks[index]):
                if not truth.any():
                    continue
                if self.said is Said.EVERYTHING:
                    scores = [dice(truth, one) for one in answers]
                    if scores:
                        masks[index, number] = answers[int(np.argmax(scores))]
                else:
                    masks[index, number] = self._decoded(encoded, prompt_of(truth, self.said))
        return masks

    def _encoded(self, case: Case, shown: list[int]) -> Iterator[tuple[int, EncodedSlices]]:
        window = intensity_window(case.images)
        for index in shown:
            yield index, self.segmenter.encode(case.images[index : index + 1], window, spacing_of(case))

    def _decoded(self, encoded: EncodedSlices, said: HandPrompt) -> np.ndarray:
        with torch.inference_mode(), self.segmenter.precision():
            answer = decoded_by_hand(self.segmenter.model.backbone, encoded.features, encoded.box, said)
            return (logits_to_slice(answer.logits, encoded.box) > 0).to(torch.uint8).cpu().numpy()

    def _everything(self, encoded: EncodedSlices) -> list[np.ndarray]:
        return [one.mask.astype(np.uint8) for one in everything_on(self.segmenter, encoded) or []]

    def _tracked(self, case: Case) -> np.ndarray:
        """Prompt each object on the first frame that shows it, and follow it by SAM 2's memory."""
        by_hand: dict[int, dict[int, HandPrompt]] = {}
        for number in range(len(case.objects)):
            there = np.flatnonzero(case.masks[:, number].any(axis=(1, 2)))
            if len(there):
                first = int(there[0])
                by_hand.setdefault(first, {})[number] = prompt_of(case.masks[first, number], self.said)
        tracker = Tracker(self.segmenter, TrackingMode.BANK_ONLY)
        found = track_volume(
            tracker, case.images, None, spacing_mm=spacing_of(case), by_hand=by_hand, names=case.objects
        )
        return found.masks()
