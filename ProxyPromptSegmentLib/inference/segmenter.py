"""The segmenter shared by Slicer, the command line and the evaluation: prepare a support, encode, segment.

The support side is computed once per support and the target's embeddings once per slice; callers can keep both, so
that another object or support needs no further pass through the encoder.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, MutableMapping, Sequence
from dataclasses import replace

import numpy as np
import torch

from ProxyPromptSegmentLib.errors import SupportError, UsageError
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.inference.calibration import Calibration
from ProxyPromptSegmentLib.inference.evidence import judge
from ProxyPromptSegmentLib.inference.helps import Helps, mask_logits
from ProxyPromptSegmentLib.inference.likeness import distances, most_alike
from ProxyPromptSegmentLib.inference.results import SegmentResult, SlicePrediction, empty_result
from ProxyPromptSegmentLib.inference.slice_encoder import EncodedSlices, SliceEncoder, fingerprint
from ProxyPromptSegmentLib.networks.backbones.sam import SamBackbone
from ProxyPromptSegmentLib.networks.image_prompt.surrogate import SurrogateBackbone
from ProxyPromptSegmentLib.networks.letterbox import (
    Letterbox,
    images_to_tensor,
    logits_to_slice,
    masks_to_tensor,
    valid_tokens,
)
from ProxyPromptSegmentLib.networks.model import ProxyPromptModel
from ProxyPromptSegmentLib.networks.values import (
    Decoded,
    ImageFeatures,
    Prepared,
    PreparedClasses,
    PreparedSupport,
    Prompt,
)
from ProxyPromptSegmentLib.progress import CancelToken, Progress
from ProxyPromptSegmentLib.support.asked import AskedObjects
from ProxyPromptSegmentLib.support.pairs import Marked, SupportSet
from ProxyPromptSegmentLib.support.pieces import one_piece


class Segmenter(SliceEncoder):
    """One model on one device.

    Attributes:
        model: The model, in evaluation mode.
        device: The device.
        calibration: Coefficients of presence and confidence; None for the network's own.
        most_read: Number of supports that a slice reads if more are given; None means all.
    """

    def __init__(
        self,
        model: ProxyPromptModel,
        device: str | torch.device = "cpu",
        batch: int | None = None,
        across_slices: bool = True,
        half: torch.dtype | None = None,
        calibration: Calibration | None = None,
        most_read: int | None = None,
    ) -> None:
        """Move the model to the device; its weights must not be changed afterwards.

        Args:
            model: The model.
            device: See `SliceEncoder`.
            batch: See `SliceEncoder`.
            across_slices: Whether masks use neighbouring slices; False segments each slice independently.
            half: See `SliceEncoder`.
            calibration: Coefficients of presence and confidence that were fitted for these weights.
            most_read: Number of supports that a slice reads if more are given, those most like it; None means all.
        """
        super().__init__(model, device, batch, half)
        self.across_slices = across_slices
        self.calibration = calibration
        self.most_read = most_read

    @property
    def reads_depth(self) -> bool:
        """Whether the model reads the position of slices along their volumes."""
        return self.model.needs_support and self.model.generator.config.depth

    @property
    def reads_prior(self) -> bool:
        """Whether the model was trained to read masks to start from, as those that read positions were."""
        return self.reads_depth and isinstance(self.model.backbone, SamBackbone)

    def in_half(self, half: torch.dtype | None) -> Segmenter:
        """Return a segmenter with the same weights that computes in half precision."""
        twin = copy.copy(self)
        twin.half, twin._batch = half, [self.batch]
        return twin

    def reading(self, most: int | None) -> Segmenter:
        """Return a segmenter with the same weights and batch whose slices read so many supports; None means all."""
        twin = copy.copy(self)
        twin.most_read = most
        return twin

    def with_surrogate(self) -> Segmenter:
        """Return a segmenter that draws with the generator's surrogate decoder, without the backbone.

        Raises:
            UsageError: If the model has none.
        """
        decoder = getattr(self.model.generator, "surrogate", None)
        if decoder is None:
            raise UsageError(
                "this model has no surrogate decoder, which models that make prompts of the image alone may have; "
                "segment without it."
            )
        twin = copy.copy(self)
        stand_in = SurrogateBackbone(self.model.backbone, decoder)
        twin.model = ProxyPromptModel(stand_in, self.model.generator).eval()
        twin._fingerprint = fingerprint(self.model.generator)
        return twin

    def prepare_classes(self, asked: AskedObjects) -> PreparedClasses:
        """Look up the classes that are asked for in the model's vocabulary.

        Raises:
            UsageError: If the model reads supports, or does not know one of them.
        """
        if self.model.needs_support:
            raise UsageError(
                "this model is prompted by supports and knows no classes by name; give an annotated case, or choose a "
                "model that knows classes."
            )
        return self.model.generator.prepare_classes(asked.objects)

    def prepare(self, support: SupportSet) -> PreparedSupport:
        """Compute the support side of the prompt.

        Args:
            support: ``K`` pairs, ``N`` objects.

        Raises:
            SupportError: If an object's mask is empty in every pair.
            UsageError: If the model needs no support.
        """
        self.check_reads_supports()
        grid = self.model.backbone.grid
        for number, name in enumerate(support.objects):
            if not any(pair.masks[number].any() for pair in support.pairs):
                raise SupportError(
                    f"the object '{name}' is empty in every support slice; choose slices on which it is marked"
                )
        # Pairs of the same size are encoded together.
        groups: dict[Letterbox, list[int]] = {}
        for number, pair in enumerate(support.pairs):
            box = self.letterbox((pair.image.shape[0], pair.image.shape[1]), pair.spacing_mm)
            groups.setdefault(box, []).append(number)
        parts = []
        with torch.inference_mode(), self.precision():
            for box, numbers in groups.items():
                pairs = [support.pairs[number] for number in numbers]
                images = torch.cat([images_to_tensor(pair.image[None], pair.window, box) for pair in pairs])
                masks = torch.cat([masks_to_tensor(pair.masks[None], box) for pair in pairs])
                valid = valid_tokens(box, grid).unsqueeze(0).expand(len(pairs), -1, -1)
                parts += self._in_batches(len(pairs), self._preparing(images, masks, valid, tuple(support.objects)))
        order = [number for numbers in groups.values() for number in numbers]
        prepared = PreparedSupport.concatenate(parts).supports([order.index(n) for n in range(len(order))])
        depths = [pair.depth for pair in support.pairs]
        depth = None if None in depths else torch.tensor(depths, dtype=torch.float32, device=self.device)
        return replace(prepared, one_piece=one_piece(support), depth=depth)

    def check_reads_supports(self) -> None:
        """Reject a model that would ignore supports.

        Raises:
            UsageError: If it is one.
        """
        if not self.model.needs_support:
            names = ", ".join(one.name for one in self.model.generator.vocabulary)
            raise UsageError(f"this model is not prompted by supports: it knows {names} by name; ask for these.")

    def prepare_embedded(self, pair: Marked, names: tuple[str, ...], encoded: EncodedSlices) -> PreparedSupport:
        """Prepare one pair or tile whose image is embedded already, as a part for `PreparedSupport.concatenate`.

        Args:
            pair: The pair; an object may be empty on it.
            names: The ``N`` objects.
            encoded: The result of `encode` for the pair's image, window and spacing.
        """
        with torch.inference_mode(), self.precision():
            images = images_to_tensor(pair.image[None], pair.window, encoded.box).to(self.device)
            masks = masks_to_tensor(pair.masks[None], encoded.box).to(self.device)
            known = encoded.at_depths(None if pair.depth is None else np.array([pair.depth]))
            return self.model.generator.prepare(known.features, images, masks, names)

    def _preparing(
        self, images: torch.Tensor, masks: torch.Tensor, valid: torch.Tensor, names: tuple[str, ...]
    ) -> Callable[[slice], PreparedSupport]:
        """Return a function that prepares a range of these supports."""

        def some(part: slice) -> PreparedSupport:
            device = self.device
            return self.model.prepare(images[part].to(device), masks[part].to(device), names, valid[part].to(device))

        return some

    def predict(
        self,
        encoded: EncodedSlices,
        support: Prepared,
        chosen: torch.Tensor | None = None,
        calibrated: bool = True,
        helps: Helps | None = None,
    ) -> list[SlicePrediction]:
        """Prompt and decode embedded slices for all objects of the support.

        Args:
            encoded: ``S`` slices.
            support: The prepared supports or classes.
            chosen: Numbers of the supports that each slice reads, ``(S, k)``; None means those most like it, see
                `most_read`.
            calibrated: Whether the slices are whole ones, for which the calibration was fitted; for others presence
                and quality are the network's own, and all supports are read by default.
            helps: What is known of the slices beside their images; their position is with the embeddings, see
                `EncodedSlices.at_depths`.
        """
        answers: list[SlicePrediction] = []
        known = helps or Helps()

        def one(part: slice) -> None:
            features = encoded.features.select(part)
            own, nearest = (None if chosen is None else chosen[part]), None
            if calibrated and isinstance(support, PreparedSupport):
                apart = distances(features, support)
                nearest = apart.amin(dim=1)
                own = most_alike(apart, support, self.most_read) if own is None else own
            expected = known.prior[part] if known.prior is not None and known.as_prompt else None
            decoded, prompt = self._prompted(features, support, own, expected, encoded.box)
            logits = known.join(logits_to_slice(decoded.logits, encoded.box), part)
            probability = torch.sigmoid(logits).cpu().numpy()
            judged = judge(decoded, prompt, features, nearest, self.calibration)
            for offset in range(len(probability)):
                answers.append(
                    SlicePrediction(
                        index=part.start + offset,
                        probability=probability[offset],
                        presence=judged.presence[offset],
                        quality=judged.quality[offset],
                        evidence=judged.evidence[offset],
                    )
                )

        with torch.inference_mode(), self.precision():
            self._in_batches(encoded.features.top.shape[0], one)
        return answers

    def prompt(self, encoded: EncodedSlices, prepared: Prepared) -> Prompt:
        """Return the prompt with which `predict` decodes embedded slices, to be corrected by hand."""
        with torch.inference_mode(), self.precision():
            if not isinstance(prepared, PreparedSupport):
                return self.model.prompt(encoded.features, prepared)
            chosen = most_alike(distances(encoded.features, prepared), prepared, self.most_read)
            return self.model.prompt(encoded.features, prepared, chosen)

    def nearest(self, encoded: EncodedSlices, support: Prepared) -> np.ndarray:
        """Return the distance of each embedded slice to the support most like it, float32 ``(S,)``; NaN without one."""
        if not isinstance(support, PreparedSupport):
            return np.full(len(encoded.keys), np.nan, np.float32)
        with torch.inference_mode():
            return distances(encoded.features, support).amin(dim=1).float().cpu().numpy()

    def _prompted(
        self,
        features: ImageFeatures,
        support: Prepared,
        chosen: torch.Tensor | None,
        prior: np.ndarray | None,
        box: Letterbox,
    ) -> tuple[Decoded, Prompt]:
        """Prompt and decode some slices; a prior is SAM's mask prompt beside the proxy prompt."""
        if prior is None or not self.reads_prior:
            return self.model.predict(features, support, chosen)
        logits = mask_logits(prior, box, 4 * self.model.backbone.grid).to(self.device)
        prompt = replace(self.model.prompt(features, support, chosen), mask=logits)
        return self.model.decode(features, prompt), prompt

    def read_by(self, encoded: EncodedSlices, support: PreparedSupport) -> list[int]:
        """Return the numbers of the supports that one embedded slice reads, ascending."""
        with torch.inference_mode():
            chosen = most_alike(distances(encoded.features, support), support, self.most_read)
        return list(range(len(support.features))) if chosen is None else chosen[0].tolist()

    def segment(
        self,
        images: np.ndarray,
        support: Prepared | SupportSet,
        window: tuple[float, float] | None = None,
        spacing_mm: tuple[float, float] = (1.0, 1.0),
        slices: Sequence[int] | None = None,
        progress: Progress | None = None,
        cancel: CancelToken | None = None,
        on_slice: Callable[[SlicePrediction], None] | None = None,
        encoded: MutableMapping[int, EncodedSlices] | None = None,
        result: SegmentResult | None = None,
        helps: Helps | None = None,
    ) -> SegmentResult:
        """Segment a stack of slices.

        Args:
            images: ``(S, H, W)`` or ``(S, H, W, 3)``.
            support: The supports, or the result of `prepare` or `prepare_classes`.
            window: Intensities mapped to 0 and 1; by default of the whole stack.
            spacing_mm: Pixel size (row, column).
            slices: 0-based indices of the slices to segment; None means all.
            progress: Informed of each slice.
            cancel: Checked before each batch.
            on_slice: Called with each prediction, with ``index`` into the stack.
            encoded: Embeddings by slice index, which are reused and completed. Embeddings of another stack, window,
                spacing or model are recognised and replaced.
            result: A result of the same stack and objects to complete; its finished slices are computed again only if
                they are among ``slices``.
            helps: What is known of the slices of ``images`` beside their intensities.

        Returns:
            The predictions so far; ``cancelled`` if some slices are missing.
        """
        progress, cancel = progress or Progress(), cancel or CancelToken()
        prepared = self.prepare(support) if isinstance(support, SupportSet) else support
        window = window or intensity_window(images)
        wanted = list(range(len(images))) if slices is None else list(slices)
        if result is None:
            shape = (images.shape[1], images.shape[2])
            result = empty_result(prepared.names, len(images), shape, prepared.one_piece, self.across_slices)
        progress.start(len(wanted), "segmenting")
        try:
            start = 0
            while start < len(wanted):  # not a range, because the batch may shrink
                if cancel.cancelled:
                    result.cancelled = True
                    break
                part = wanted[start : start + self.batch]
                known = (helps or Helps()).at(part)
                self._segment_part(images, part, prepared, window, spacing_mm, encoded, result, on_slice, known)
                progress.step(len(part))
                start += len(part)
        finally:
            progress.close()
        return result

    def _segment_part(
        self,
        images: np.ndarray,
        part: list[int],
        prepared: Prepared,
        window: tuple[float, float],
        spacing_mm: tuple[float, float],
        encoded: MutableMapping[int, EncodedSlices] | None,
        result: SegmentResult,
        on_slice: Callable[[SlicePrediction], None] | None,
        helps: Helps,
    ) -> None:
        """Segment some slices into the result, reusing cached embeddings."""
        together = self.embedded(images, part, window, spacing_mm, encoded).at_depths(helps.depths)
        for answer in self.predict(together, prepared, helps=helps):
            index = part[answer.index]
            result.probability[index] = answer.probability
            result.presence[index], result.quality[index] = answer.presence, answer.quality
            if result.evidence is not None:
                result.evidence[index] = answer.evidence
            result.done[index] = True
            if on_slice:
                on_slice(replace(answer, index=index))
