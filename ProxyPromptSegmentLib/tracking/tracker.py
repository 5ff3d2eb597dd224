"""The tracker: SAM 2 tracks objects frame by frame, prompted only by another patient's annotated frames.

Tracking is strictly causal: a frame depends on earlier frames only, and the memory is bounded. The proxy prompt depends
on the frame's features, so it is computed for each frame and describes the object throughout, whereas SAM 2 alone knows
it only from its first frame.

References:
    Proxy Prompt, section 3.3; SAM 2's memory bank. Comparing the proxy prompt with the memory is not in the papers.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
import torch

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.inference.by_hand.prompts import OnSlice
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.inference.slice_encoder import EncodedSlices
from ProxyPromptSegmentLib.networks.devices import memory_may_end
from ProxyPromptSegmentLib.networks.letterbox import masks_to_tensor
from ProxyPromptSegmentLib.networks.protocols import has_memory
from ProxyPromptSegmentLib.networks.values import FrameMemory, PreparedSupport
from ProxyPromptSegmentLib.support.pairs import SupportSet
from ProxyPromptSegmentLib.tracking.agreement import EXACT, AgreementCheck, prompt_of
from ProxyPromptSegmentLib.tracking.choices import DISAGREEMENT, TrackingMode
from ProxyPromptSegmentLib.tracking.clicks import clicked, corrected_by_hand
from ProxyPromptSegmentLib.tracking.frame_predictor import FramePredictor
from ProxyPromptSegmentLib.tracking.inputs import (
    frame_shape,
    masks_of_correction,
    masks_of_given_frame,
    numbered,
    object_number,
    points_of_correction,
    window_values,
)
from ProxyPromptSegmentLib.tracking.memory_bank import MAX_CONDITIONING, MemoryBank, track_of
from ProxyPromptSegmentLib.tracking.state import (
    FramePrediction,
    Moment,
    Present,
    given_answer,
    objects_of,
    with_objects,
)

__all__ = ["FramePrediction", "Moment", "Tracker", "TrackingMode"]


class Tracker:
    """A tracker of a support's objects through a sequence of frames.

    Attributes:
        segmenter: Model and device.
        mode: The inputs of predictions; SAM 2 without a proxy prompt begins with given frames (`anchor`).
    """

    def __init__(
        self,
        segmenter: Segmenter,
        mode: TrackingMode | str = TrackingMode.PROXY_AND_BANK,
        check_agreement: bool | str = True,
        disagreement: float = DISAGREEMENT,
        reanchor: bool = True,
        max_conditioning: int = MAX_CONDITIONING,
    ) -> None:
        """Create a tracker; `start` gives it a support.

        Args:
            segmenter: A segmenter whose backbone has a memory.
            mode: A `TrackingMode`, or its value.
            check_agreement: Whether proxy prompt and memory are compared; ``exact`` decodes every frame twice for it.
            disagreement: Dice below which they disagree, see `agreement`.
            reanchor: Whether the memory is dropped if it disagrees strongly with a confident proxy prompt.
            max_conditioning: Number of the latest given masks that are remembered.

        Raises:
            UsageError: If the backbone has no memory, or an argument is invalid.
        """
        backbone = segmenter.model.backbone
        if not has_memory(backbone):
            raise UsageError(f"{backbone.name} has no memory for tracking; choose a SAM 2 model, such as sam2-compact")
        try:
            self.mode = TrackingMode(mode)
        except ValueError as error:
            raise UsageError(
                f"tracking mode '{mode}' does not exist; choose one of {', '.join(TrackingMode)}"
            ) from error
        if check_agreement not in (True, False, EXACT):
            raise UsageError(f"check_agreement is {check_agreement!r}; allowed are True, False and '{EXACT}'")
        self.segmenter = segmenter
        check = AgreementCheck(
            check_agreement if self.mode is TrackingMode.PROXY_AND_BANK else False, disagreement, reanchor
        )
        self._backbone = backbone
        self._predictor = FramePredictor(segmenter=segmenter, backbone=backbone, mode=self.mode, check=check)
        self._max_conditioning = max_conditioning
        self._window: tuple[float, float] | None = None
        self._spacing_mm = (1.0, 1.0)
        self._now = Moment()

    @property
    def names(self) -> tuple[str, ...]:
        """The ``N`` objects."""
        return self._predictor.names

    @property
    def encoded(self) -> EncodedSlices | None:
        """The embedding of the last frame; None before the first."""
        return None if self._now.present is None else self._now.present.encoded

    def start(
        self,
        support: SupportSet | PreparedSupport | None,
        window: tuple[float, float],
        spacing_mm: tuple[float, float] = (1.0, 1.0),
        names: tuple[str, ...] = (),
    ) -> None:
        """Begin a sequence.

        Args:
            support: The support, with the objects to track. In ``bank_only`` its pairs become given frames; None leaves
                that to `anchor`.
            window: Intensities mapped to 0 and 1, of the whole sequence.
            spacing_mm: Pixel size (row, column).
            names: The objects, where there is no support to name them.

        Raises:
            UsageError: If the mode needs a support and none is given, or the window is empty.
            SupportError: If an object's mask is empty in every pair.
        """
        self._window, self._spacing_mm = window_values(window), spacing_mm
        self._predictor = replace(self._predictor, support=None, names=())
        self.reset()
        if support is not None or self.mode is not TrackingMode.BANK_ONLY:
            self.switch(support)
        elif names:
            self._follow(names)

    def reset(self) -> None:
        """Forget all frames, including given ones; a support that is not a given frame is kept."""
        self._now = Moment(banks=self._empty_banks(), asked_from=(0,) * len(self.names))

    def switch(self, support: SupportSet | PreparedSupport | None) -> None:
        """Track another support from the next frame on; existing embeddings are reused.

        The banks are cleared unless the objects have the same names in the same order, since they remember the other
        objects.

        Args:
            support: The new support.

        Raises:
            UsageError: If no sequence has begun, or the mode cannot use the support.
            SupportError: If an object's mask is empty in every pair.
        """
        self._begun_window()
        if self.mode is TrackingMode.BANK_ONLY:
            if not isinstance(support, SupportSet):
                raise UsageError("without proxy prompts SAM 2 needs the support's images; give a SupportSet, or anchor")
            self._follow(support.objects)
            for pair in support.pairs:
                self._give(pair.image, pair.masks, pair.window, pair.spacing_mm)
            return
        if support is None:
            raise UsageError(f"tracking by '{self.mode}' needs a support; only bank_only works without one")
        prepared = self.segmenter.prepare(support) if isinstance(support, SupportSet) else support
        self._follow(prepared.names or numbered(prepared.aggregated.shape[1]), prepared)

    def anchor(
        self,
        image: np.ndarray,
        masks: np.ndarray,
        window: tuple[float, float] | None = None,
        spacing_mm: tuple[float, float] | None = None,
    ) -> None:
        """Remember a frame with given masks before the first step, like the annotated first frame of SAM 2.

        Args:
            image: ``(H, W)`` or ``(H, W, 3)``; its size may differ from the sequence's.
            masks: 0 or 1, ``(N, H, W)`` or ``(H, W)``.
            window: Intensities mapped to 0 and 1; by default those of the sequence.
            spacing_mm: Pixel size (row, column); by default that of the sequence.

        Raises:
            UsageError: If no sequence has begun, or tracking has begun already.
            InputError: If the image cannot be used, or the masks have another size or number.
        """
        default = self._begun_window()
        if self._now.shape is not None:
            raise UsageError("frames can be given before the first step only; correct later frames with `correct`")
        frame_shape(image, "the given frame")
        stacked = masks_of_given_frame(image, masks, len(self.names))
        if not self.names:
            self._follow(numbered(len(stacked)))
        self._give(image, stacked, window or default, spacing_mm or self._spacing_mm)

    def step(
        self, image: np.ndarray, index: int | None = None, encoded: EncodedSlices | None = None
    ) -> FramePrediction:
        """Predict the next frame; an unusable frame changes nothing, and `skip` then advances the time.

        Args:
            image: ``(H, W)`` or ``(H, W, 3)``, of the same size in the whole sequence.
            index: The caller's number of the frame; by default one more than the last.
            encoded: The embedding of this image; computed if None.

        Raises:
            InputError: If the frame has another size than the first, or NaN or infinite intensities.
            UsageError: If no sequence has begun, or no frame was given where the mode needs one.
            DeviceError: If memory runs out.
        """
        window, index = self._begun_window(), self._now.index if index is None else index
        shape = frame_shape(image, f"frame {index}", self._now.shape)
        if encoded is not None and encoded.box != self.segmenter.letterbox(shape, self._spacing_mm):
            raise UsageError(f"the embedding given for frame {index} is of an image of another size or spacing")
        before = self.mark()
        try:
            with torch.inference_mode(), memory_may_end(self.segmenter.device):
                if encoded is None:
                    encoded = self.segmenter.encode(image[None], window, self._spacing_mm)
                self._settle()
                present = self._predictor.predict(encoded, index, self._now.frame, self._now)
        except BaseException:  # also on an interrupt, so that the last frame can still be corrected
            self._now = before
            raise
        self._now = replace(self._now, frame=self._now.frame + 1, index=index + 1, shape=shape, present=present)
        return present.prediction

    def skip(self, index: int | None = None) -> None:
        """Advance the time by a frame that could not be used; nothing of it is remembered."""
        index = self._now.index if index is None else index
        self._now = replace(self._now, frame=self._now.frame + 1, index=index + 1)

    def peek(self, encoded: EncodedSlices, index: int = 0) -> FramePrediction:
        """Return the prediction of `step` for an embedded frame, without remembering it or advancing the time."""
        kept = self._now
        try:
            with torch.inference_mode(), memory_may_end(self.segmenter.device):
                self._now = replace(kept, banks=tuple(bank.copy() for bank in kept.banks))
                self._settle()
                return self._predictor.predict(encoded, index, self._now.frame, self._now, remember=False).prediction
        finally:
            self._now = kept

    def again(self) -> FramePrediction:
        """Predict the last frame again after a switch, from its embedding; its corrections are kept.

        Raises:
            UsageError: If no frame has been predicted yet.
        """
        present = self._last()
        with torch.inference_mode(), memory_may_end(self.segmenter.device):
            new = self._predictor.predict(present.encoded, present.prediction.index, present.frame, self._now)
        if present.corrected and not present.stale:
            tracks = sorted(present.corrected)
            memories = [present.memories[track] for track in tracks] if present.memories else []
            new = with_objects(new, tracks, objects_of(present.prediction, tracks), memories)
        self._now = replace(self._now, present=new)
        return new.prediction

    def correct(
        self,
        mask: np.ndarray | None = None,
        points: tuple[Sequence[tuple[float, float]], Sequence[int]] | None = None,
        object_index: int | str = 0,
    ) -> FramePrediction:
        """Correct the last frame; later frames use the correction instead of the prediction.

        Args:
            mask: 0 or 1; ``(N, H, W)`` for all objects, or ``(H, W)`` for one.
            points: All clicks on one object: ``(x, y)`` in pixels (column, row), and 1 inside or 0 outside for each.
                They are joined to the proxy prompt, and the object is decoded again.
            object_index: Number or name of the object to correct.

        Raises:
            UsageError: If no frame has been predicted yet, the object does not exist, or not exactly one of mask and
                points is given.
            InputError: If the mask has another size, or a click lies outside.
        """
        if (mask is None) == (points is None):
            raise UsageError("give either a mask or points to correct the last frame")
        if self._last().stale:
            self.again()
        present, track = self._last(), object_number(object_index, self.names)
        box, device = present.encoded.box, self.segmenter.device
        memory: FrameMemory | None = None
        with torch.inference_mode(), memory_may_end(device):
            if mask is not None:
                tracks, masks = masks_of_correction(mask, box.shape, track, len(self.names))
                answer = given_answer(present.prediction.index, masks)
                if self.mode is not TrackingMode.PROXY_ONLY:
                    tensor = masks_to_tensor(masks[None], box).to(device)
                    memory = self._backbone.remember_mask(present.encoded.features, tensor, present.frame)
            else:
                assert points is not None
                tracks, where = [track], points_of_correction(*points, box)
                prompt = prompt_of(self._predictor.prompt(present.encoded.features), [track])
                known = self._now.banks[track].read(present.frame)
                answer, memory = clicked(self._backbone, present, prompt, known, where, points[1])
                memory = None if self.mode is TrackingMode.PROXY_ONLY else memory
            memories = [] if memory is None else [track_of(memory, position) for position in range(len(tracks))]
        present = with_objects(present, tracks, answer, memories)
        self._now = replace(self._now, present=present)
        return present.prediction

    def correct_by_hand(self, said: OnSlice, anew: bool = False) -> FramePrediction:
        """Correct the last frame by clicks, boxes and masks; later frames use the correction.

        Args:
            said: What the user says, by number of the object; the others stay as they are.
            anew: Whether the mask so far does not count, so that what is said is not a correction of it.

        Raises:
            UsageError: If no frame has been predicted yet.
        """
        if self._last().stale:
            self.again()
        present = self._last()
        with torch.inference_mode(), memory_may_end(self.segmenter.device):
            prompt = None if self._predictor.support is None else self._predictor.prompt(present.encoded.features)
            tracks, answer, memories = corrected_by_hand(self.segmenter, self._backbone, present, said, prompt, anew)
        if self.mode is TrackingMode.PROXY_ONLY:
            memories = []
        self._now = replace(self._now, present=with_objects(present, tracks, answer, memories))
        return self._last().prediction

    def mark(self) -> Moment:
        """Return the current state for `return_to`; it shares the memories of the banks."""
        return replace(self._now, banks=tuple(bank.copy() for bank in self._now.banks))

    def return_to(self, moment: Moment) -> None:
        """Continue from an earlier moment of the same sequence, e.g. in the other direction."""
        self._now = replace(moment, banks=tuple(bank.copy() for bank in moment.banks))

    def _begun_window(self) -> tuple[float, float]:
        """Return the window of the sequence, or raise an error if none has begun."""
        if self._window is None:
            raise UsageError("no sequence has begun yet; call start first")
        return self._window

    def _last(self) -> Present:
        """Return the last frame, or raise an error if there is none yet."""
        if self._now.present is None:
            raise UsageError("no frame has been predicted yet; call step first")
        return self._now.present

    def _empty_banks(self) -> tuple[MemoryBank, ...]:
        """Return an empty bank for each object, so that one can be corrected or dropped without the others."""
        backbone = self._backbone
        return tuple(MemoryBank(backbone.memories, backbone.pointers, self._max_conditioning) for _ in self.names)

    def _follow(self, names: tuple[str, ...], support: PreparedSupport | None = None) -> None:
        """Track objects of these names from the next frame on; with a support, equal names keep their memory."""
        same = support is not None and names == self.names
        self._predictor = replace(self._predictor, support=support, names=names)
        now = replace(self._now, begun=self._now.frame, asked_from=(0,) * len(names))
        if (present := now.present) is not None:
            present = replace(present, agreed=replace(present.agreed, asked_from=now.asked_from))
            if not same:
                present = replace(present, memories=(), corrected=frozenset(), stale=True)
            now = replace(now, present=present)
        self._now = now if same else replace(now, banks=self._empty_banks())

    def _give(
        self, image: np.ndarray, masks: np.ndarray, window: tuple[float, float], spacing_mm: tuple[float, float]
    ) -> None:
        """Remember an image with given masks ``(N, H, W)``, which takes the time of one frame.

        After a switch it is placed before the last frame, so that this one can still be predicted again.
        """
        present = self._now.present
        frame = self._now.frame if present is None else present.frame
        with torch.inference_mode(), memory_may_end(self.segmenter.device):
            encoded = self.segmenter.encode(image[None], window, spacing_mm)
            tensor = masks_to_tensor(masks[None], encoded.box).to(self.segmenter.device)
            memory = self._backbone.remember_mask(encoded.features, tensor, frame)
            for track, bank in enumerate(self._now.banks):
                bank.add(track_of(memory, track))
        moved = None if present is None else replace(present, frame=frame + 1)
        self._now = replace(self._now, frame=self._now.frame + 1, begun=self._now.frame + 1, present=moved)

    def _settle(self) -> None:
        """Add the last frame to the banks; a second call changes nothing."""
        present = self._now.present
        if present is None:
            return
        for bank, memory, dropped in zip(self._now.banks, present.memories, present.agreed.reanchored, strict=False):
            if dropped:
                bank.clear(keep_conditioning=True)
            bank.add(memory)
        self._now = replace(self._now, asked_from=present.agreed.asked_from)
