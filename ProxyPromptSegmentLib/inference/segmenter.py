"""The segmenter shared by Slicer, the command line and the evaluation: prepare a support, encode, segment.

The support side is computed once per support and the target's embeddings once per slice; callers can keep both, so
that another object or support needs no further pass through the encoder.
"""

from __future__ import annotations

import copy
import hashlib
import logging
from collections.abc import Callable, MutableMapping, Sequence
from contextlib import AbstractContextManager, nullcontext
from dataclasses import dataclass, replace

import numpy as np
import torch

from ProxyPromptSegmentLib.errors import DeviceError, SupportError
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.inference.calibration import Calibration
from ProxyPromptSegmentLib.inference.evidence import judge
from ProxyPromptSegmentLib.inference.helps import Helps, mask_logits
from ProxyPromptSegmentLib.inference.likeness import distances, most_alike
from ProxyPromptSegmentLib.inference.results import SegmentResult, SlicePrediction, empty_result
from ProxyPromptSegmentLib.networks.backbones.sam import SamBackbone
from ProxyPromptSegmentLib.networks.devices import choose_device, is_out_of_memory
from ProxyPromptSegmentLib.networks.letterbox import (
    Letterbox,
    images_to_tensor,
    logits_to_slice,
    masks_to_tensor,
    valid_tokens,
)
from ProxyPromptSegmentLib.networks.model import ProxyPromptModel
from ProxyPromptSegmentLib.networks.protocols import Decoded, ImageFeatures, PreparedSupport, Prompt
from ProxyPromptSegmentLib.progress import CancelToken, Progress
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind
from ProxyPromptSegmentLib.support.pairs import Marked, SupportSet
from ProxyPromptSegmentLib.support.pieces import one_piece

logger = logging.getLogger(__name__)

DEFAULT_BATCH = 8
SMALL_IMAGE = 256  # side of the network's input in pixels; official SAM has 1024


@dataclass(frozen=True, kw_only=True)
class EncodedSlices:
    """The image embeddings of some slices of one target.

    Attributes:
        features: The embeddings.
        box: Position of the slices in the network's square.
        keys: For each slice a hash of its intensities, their preparation and the encoder's weights.
    """

    features: ImageFeatures
    box: Letterbox
    keys: tuple[str, ...]

    def at_depths(self, depths: np.ndarray | None) -> EncodedSlices:
        """Return the same embeddings with the position of each slice along its volume, ``(S,)``; None for unknown."""
        known = None if depths is None else torch.as_tensor(depths, dtype=torch.float32).to(self.features.top.device)
        return replace(self, features=replace(self.features, depth=known))

    def one(self, offset: int) -> EncodedSlices:
        """Return the embedding of one of the slices."""
        return EncodedSlices(
            features=self.features.select(slice(offset, offset + 1)), box=self.box, keys=self.keys[offset : offset + 1]
        )


def fingerprint(module: torch.nn.Module) -> str:
    """Return a short hash that distinguishes sets of weights of one architecture, including adapters.

    It hashes the sum of each tensor instead of every byte: half a second instead of many for the largest backbone.
    """
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {float(tensor.double().sum())!r}".encode())
    return digest.hexdigest()[:16]


class Segmenter:
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
            device: See `choose_device`.
            batch: Number of slices computed together; cancelling acts between batches, and the batch is halved when
                memory runs out. By default about a second of work: one slice for official sizes on a CPU, else
                `DEFAULT_BATCH`.
            across_slices: Whether masks use neighbouring slices; False segments each slice independently.
            half: Half precision type for autocast, to save memory; the weights keep their type, and results differ in
                the last digits.
            calibration: Coefficients of presence and confidence that were fitted for these weights.
            most_read: Number of supports that a slice reads if more are given, those most like it; None means all.
        """
        self.device = choose_device(device) if isinstance(device, str) else device
        self.model = model.to(self.device).eval()
        if batch is None:
            slow = self.device.type == "cpu" and model.backbone.image_size > SMALL_IMAGE
            batch = 1 if slow else DEFAULT_BATCH
        self._batch = [batch]
        self.across_slices = across_slices
        self.half = half
        self.calibration = calibration
        self.most_read = most_read
        self._fingerprint = fingerprint(model.backbone)

    @property
    def batch(self) -> int:
        """Number of slices computed together; shared with the segmenters that `reading` returns."""
        return self._batch[0]

    @batch.setter
    def batch(self, count: int) -> None:
        self._batch[0] = count

    @property
    def reads_depth(self) -> bool:
        """Whether the model reads the position of slices along their volumes."""
        return self.model.generator.config.depth

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

    def precision(self) -> AbstractContextManager[object]:
        """Return the autocast context; for callers that use the networks directly, such as a tracker."""
        if self.half is None:
            return nullcontext()
        # Without the cache, whose half precision copies of all weights would use the memory that is to be saved.
        return torch.autocast(self.device.type, self.half, cache_enabled=False)

    def letterbox(self, shape: tuple[int, int], spacing_mm: tuple[float, float] = (1.0, 1.0)) -> Letterbox:
        """Return the position of a slice of ``shape`` rows and columns in this backbone's square."""
        backbone = self.model.backbone
        return Letterbox(backbone.image_size, shape, spacing_mm, backbone.keeps_aspect)

    def prepare(self, support: SupportSet) -> PreparedSupport:
        """Compute the support side of the prompt.

        Args:
            support: ``K`` pairs, ``N`` objects.

        Raises:
            SupportError: If an object's mask is empty in every pair.
        """
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

    def encode(
        self,
        images: np.ndarray,
        window: tuple[float, float] | None = None,
        spacing_mm: tuple[float, float] = (1.0, 1.0),
    ) -> EncodedSlices:
        """Embed slices of a target.

        Args:
            images: Intensities as acquired, ``(S, H, W)`` or ``(S, H, W, 3)``.
            window: Intensities mapped to 0 and 1; by default those of ``images``. For slices of a volume, give the
                window of the whole volume.
            spacing_mm: Pixel size (row, column).
        """
        grid = self.model.backbone.grid
        window = window or intensity_window(images)
        box = self.letterbox((images.shape[1], images.shape[2]), spacing_mm)
        with torch.inference_mode(), self.precision():
            tensor = images_to_tensor(images, window, box)
            valid = valid_tokens(box, grid).unsqueeze(0).expand(len(images), -1, -1)
            parts = self._in_batches(
                len(images),
                lambda part: self.model.backbone.encode(tensor[part].to(self.device), valid[part].to(self.device)),
            )
        keys = tuple(self.key(image, window, box) for image in images)
        return EncodedSlices(features=ImageFeatures.concatenate(parts), box=box, keys=keys)

    def key(self, image: np.ndarray, window: tuple[float, float], box: Letterbox) -> str:
        """Return a hash of everything that determines the embedding of a slice."""
        digest = hashlib.sha256(np.ascontiguousarray(image).tobytes())
        how: tuple[object, ...] = (self.model.backbone.name, self._fingerprint, tuple(window), box)
        how += (image.shape, image.dtype.str) if self.half is None else (image.shape, image.dtype.str, str(self.half))
        digest.update(repr(how).encode())
        return digest.hexdigest()

    def predict(
        self,
        encoded: EncodedSlices,
        support: PreparedSupport,
        chosen: torch.Tensor | None = None,
        calibrated: bool = True,
        helps: Helps | None = None,
    ) -> list[SlicePrediction]:
        """Prompt and decode embedded slices for all objects of the support.

        Args:
            encoded: ``S`` slices.
            support: The prepared supports.
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
            if calibrated:
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

    def nearest(self, encoded: EncodedSlices, support: PreparedSupport) -> np.ndarray:
        """Return the distance of each embedded slice to the support most like it, float32 ``(S,)``."""
        with torch.inference_mode():
            return distances(encoded.features, support).amin(dim=1).float().cpu().numpy()

    def _prompted(
        self,
        features: ImageFeatures,
        support: PreparedSupport,
        chosen: torch.Tensor | None,
        prior: np.ndarray | None,
        box: Letterbox,
    ) -> tuple[Decoded, Prompt]:
        """Prompt and decode some slices; a prior is SAM's mask prompt beside the proxy prompt."""
        if prior is None or not self.reads_prior:
            return self.model.predict(features, support, chosen)
        logits = mask_logits(prior, box, 4 * self.model.backbone.grid).to(self.device)
        prompt = replace(self.model.generator.prompt(features, support, chosen), mask=logits)
        return self.model.backbone.decode(features, prompt), prompt

    def read_by(self, encoded: EncodedSlices, support: PreparedSupport) -> list[int]:
        """Return the numbers of the supports that one embedded slice reads, ascending."""
        with torch.inference_mode():
            chosen = most_alike(distances(encoded.features, support), support, self.most_read)
        return list(range(len(support.features))) if chosen is None else chosen[0].tolist()

    def segment(
        self,
        images: np.ndarray,
        support: PreparedSupport | SupportSet,
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
            support: The supports, or the result of `prepare`.
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
        prepared: PreparedSupport,
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

    def embedded(
        self,
        images: np.ndarray,
        part: list[int],
        window: tuple[float, float],
        spacing_mm: tuple[float, float],
        encoded: MutableMapping[int, EncodedSlices] | None = None,
    ) -> EncodedSlices:
        """Return the embeddings of some slices of a stack; compute only those that are not cached.

        Args:
            images: ``(S, H, W)`` or ``(S, H, W, 3)``.
            part: 0-based indices of the slices.
            window: Intensities mapped to 0 and 1.
            spacing_mm: Pixel size (row, column).
            encoded: As in `segment`.
        """
        cache: MutableMapping[int, EncodedSlices] = {} if encoded is None else encoded
        box = self.letterbox((images.shape[1], images.shape[2]), spacing_mm)
        # Read all at once, because a bounded cache may remove one when another is added.
        known = {index: cache[index] for index in part if index in cache}
        missing = [
            index
            for index in part
            if index not in known or known[index].keys != (self.key(images[index], window, box),)
        ]
        if missing:
            fresh = self.encode(images[missing], window, spacing_mm)
            made = {index: fresh.one(offset) for offset, index in enumerate(missing)}
            known.update(made)
            cache.update(made)
        return EncodedSlices(
            features=ImageFeatures.concatenate([known[index].features for index in part]),
            box=box,
            keys=tuple(known[index].keys[0] for index in part),
        )

    def _in_batches(self, count: int, compute: Callable[[slice], object]) -> list:
        """Run ``compute`` over consecutive ranges of the batch size; halve it when memory runs out.

        Raises:
            DeviceError: If even one slice does not fit.
        """
        done, parts = 0, []
        while done < count:
            part = slice(done, min(count, done + self.batch))
            try:
                parts.append(compute(part))
            except RuntimeError as error:
                if not is_out_of_memory(error):
                    raise
                if self.batch == 1:
                    raise DeviceError(
                        f"one slice does not fit into the memory of {self.device}",
                        Remedy(kind=RemedyKind.SAVE_MEMORY, device=str(self.device)),
                    ) from error
                self.batch = max(1, self.batch // 2)
                logger.warning("out of memory on %s; continuing with %d slices at a time", self.device, self.batch)
                continue
            done = part.stop
        return parts
