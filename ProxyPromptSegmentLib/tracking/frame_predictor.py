"""Prediction of a single frame from its proxy prompt and the memory of each object."""

from __future__ import annotations

from dataclasses import dataclass

import torch

from ProxyPromptSegmentLib.errors import UsageError
from ProxyPromptSegmentLib.inference.likeness import distances, most_alike
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.inference.slice_encoder import EncodedSlices
from ProxyPromptSegmentLib.networks.protocols import MemoryBackbone
from ProxyPromptSegmentLib.networks.values import FrameMemory, ImageFeatures, PreparedSupport, Prompt
from ProxyPromptSegmentLib.tracking.agreement import AgreementCheck, decoded_in_groups
from ProxyPromptSegmentLib.tracking.choices import TrackingMode
from ProxyPromptSegmentLib.tracking.memory_bank import joined, track_of
from ProxyPromptSegmentLib.tracking.state import FramePrediction, Moment, Present, answer_of


@dataclass(frozen=True, kw_only=True)
class FramePredictor:
    """A predictor of the frames of one sequence; it remembers no frame itself.

    Attributes:
        segmenter: Model and device.
        backbone: The model's backbone.
        mode: The inputs of predictions.
        check: The comparison of proxy prompt and memory.
        support: The support; None for SAM 2 alone.
        names: The ``N`` objects.
    """

    segmenter: Segmenter
    backbone: MemoryBackbone
    mode: TrackingMode
    check: AgreementCheck
    support: PreparedSupport | None = None
    names: tuple[str, ...] = ()

    def prompt(self, features: ImageFeatures, apart: torch.Tensor | None = None) -> Prompt:
        """Return the proxy prompt for a frame; an empty one for SAM 2 alone.

        Args:
            features: The embedded frame.
            apart: Its distances to the supports, see `likeness.distances`; computed if None.
        """
        support = self.support
        if support is None:
            return Prompt(names=self.names)
        apart = distances(features, support) if apart is None else apart
        chosen = most_alike(apart, support, self.segmenter.most_read)
        return self.segmenter.model.generator.prompt(features, support, chosen)

    def predict(self, encoded: EncodedSlices, index: int, frame: int, now: Moment, remember: bool = True) -> Present:
        """Predict a frame from the current banks, and encode its memory.

        Args:
            encoded: The embedded frame.
            index: The caller's number of the frame.
            frame: Number of the frame in the order of tracking.
            now: The state of the tracker, with the banks.
            remember: Whether its memory is encoded.

        Raises:
            UsageError: If the mode needs a given frame and no bank has one.
        """
        backbone, features, banks = self.backbone, encoded.features, now.banks
        if self.mode is TrackingMode.BANK_ONLY and not any(bank.has_given for bank in banks):
            raise UsageError("SAM 2 without proxy prompts needs a given frame; call anchor first")
        apart = None if self.support is None else distances(features, self.support)
        prompt = self.prompt(features, apart)
        decoded = decoded_in_groups(backbone.decode, features, prompt, joined(banks, frame), frame)
        agreed = self.check(backbone.decode, features, prompt, decoded, banks, frame, frame - now.begun, now.asked_from)
        memories: tuple[FrameMemory, ...] = ()
        if remember and self.mode is not TrackingMode.PROXY_ONLY:
            memory = backbone.remember(features, agreed.decoded, frame)
            memories = tuple(track_of(memory, track) for track in range(len(self.names)))
        nearest = None if apart is None else apart.amin(dim=1)
        probability, judged = answer_of(agreed.decoded, prompt, encoded, nearest, self.segmenter.calibration)
        prediction = FramePrediction(
            index=index,
            probability=probability,
            presence=judged.presence[0],
            quality=judged.quality[0],
            agreement=agreed.values,
            disagrees=agreed.disagrees,
            reanchored=agreed.reanchored,
            evidence=judged.evidence[0],
        )
        return Present(frame=frame, encoded=encoded, prediction=prediction, memories=memories, agreed=agreed)
