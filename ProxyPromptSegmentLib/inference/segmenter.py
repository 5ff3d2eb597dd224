"""The engine that Slicer, the command line and the evaluation share: prepare a support, encode, segment.

What depends on the support alone is computed once per support, what depends on the target alone once per
slice; both are kept, so that switching the target structure or the support costs no encoder pass.
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
from ProxyPromptSegmentLib.inference.results import SegmentResult, SlicePrediction, empty_result
from ProxyPromptSegmentLib.networks.devices import choose_device, is_out_of_memory
from ProxyPromptSegmentLib.networks.letterbox import (
    Letterbox,
    images_to_tensor,
    logits_to_slice,
    masks_to_tensor,
    valid_tokens,
)
from ProxyPromptSegmentLib.networks.model import ProxyPromptModel
from ProxyPromptSegmentLib.networks.protocols import ImageFeatures, PreparedSupport, presence_of
from ProxyPromptSegmentLib.progress import CancelToken, Progress
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind
from ProxyPromptSegmentLib.support.pairs import SupportPair, SupportSet
from ProxyPromptSegmentLib.support.pieces import one_piece

logger = logging.getLogger(__name__)

DEFAULT_BATCH = 8
SMALL_IMAGE = 256  # pixels; official SAM has 1024


@dataclass(frozen=True, kw_only=True)
class EncodedSlices:
    """The image embeddings of some slices of one target.

    Attributes:
        features: Embeddings.
        box: Where the slices lie in the network's square.
        keys: For each slice a hash of its intensities, of how they were prepared and of the encoder's weights.
    """

    features: ImageFeatures
    box: Letterbox
    keys: tuple[str, ...]

    def one(self, offset: int) -> EncodedSlices:
        """One of the slices."""
        return EncodedSlices(
            features=self.features.select(slice(offset, offset + 1)), box=self.box, keys=self.keys[offset : offset + 1]
        )


def fingerprint(module: torch.nn.Module) -> str:
    """A short hash by which two sets of weights of one architecture differ, adapters included.

    Sums instead of every byte: half a second for the largest backbone instead of many.
    """
    digest = hashlib.sha256()
    for name, tensor in module.state_dict().items():
        digest.update(f"{name} {tuple(tensor.shape)} {float(tensor.double().sum())!r}".encode())
    return digest.hexdigest()[:16]


class Segmenter:
    """One model on one device, with caches of what it has seen.

    Attributes:
        model: In evaluation mode.
        device: Where it computes.
    """

    def __init__(
        self,
        model: ProxyPromptModel,
        device: str | torch.device = "cpu",
        batch: int | None = None,
        across_slices: bool = True,
        half: torch.dtype | None = None,
    ) -> None:
        """Moves the model to the device. Its weights must not be changed afterwards.

        Args:
            model: The model.
            device: See `choose_device`.
            batch: Slices at a time, between which it can be cancelled; halved when memory runs out. By default as
                many as take about a second: one of the official sizes on a CPU, some elsewhere.
            across_slices: Whether masks use what neighbouring slices say; False judges each slice on its own.
            half: A shorter type to compute in where PyTorch deems it safe, to save memory; the weights stay as they
                are, and results differ in the last digits.
        """
        self.device = choose_device(device) if isinstance(device, str) else device
        self.model = model.to(self.device).eval()
        if batch is None:
            slow = self.device.type == "cpu" and model.backbone.image_size > SMALL_IMAGE
            batch = 1 if slow else DEFAULT_BATCH
        self.batch = batch
        self.across_slices = across_slices
        self.half = half
        self._fingerprint = fingerprint(model.backbone)

    def in_half(self, half: torch.dtype | None) -> Segmenter:
        """The same model in a shorter type, with the same weights."""
        twin = copy.copy(self)
        twin.half = half
        return twin

    def precision(self) -> AbstractContextManager[object]:
        """In what to compute; for whoever calls the networks without the segmenter's methods, such as a tracker."""
        if self.half is None:
            return nullcontext()
        # Without the cache: shortened copies of all weights would cost what the shorter type is to save.
        return torch.autocast(self.device.type, self.half, cache_enabled=False)

    def letterbox(self, shape: tuple[int, int], spacing_mm: tuple[float, float] = (1.0, 1.0)) -> Letterbox:
        """Where a slice of so many rows and columns lies in this backbone's square."""
        backbone = self.model.backbone
        return Letterbox(backbone.image_size, shape, spacing_mm, backbone.keeps_aspect)

    def prepare(self, support: SupportSet) -> PreparedSupport:
        """Computes the support side of the prompt.

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
        # Pairs of one size go through the encoder together.
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
        return replace(prepared, one_piece=one_piece(support))

    def prepare_embedded(self, pair: SupportPair, names: tuple[str, ...], encoded: EncodedSlices) -> PreparedSupport:
        """`prepare` for one pair whose image is embedded already; a part for `PreparedSupport.concatenate`.

        Args:
            pair: The pair; an object may be empty on it.
            names: The ``N`` objects.
            encoded: What `encode` makes of the pair's image, window and spacing.
        """
        with torch.inference_mode(), self.precision():
            images = images_to_tensor(pair.image[None], pair.window, encoded.box).to(self.device)
            masks = masks_to_tensor(pair.masks[None], encoded.box).to(self.device)
            return self.model.generator.prepare(encoded.features, images, masks, names)

    def _preparing(
        self, images: torch.Tensor, masks: torch.Tensor, valid: torch.Tensor, names: tuple[str, ...]
    ) -> Callable[[slice], PreparedSupport]:
        """What prepares some of these supports."""

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
        """Embeds slices of a target.

        Args:
            images: Intensities as acquired, ``(S, H, W)`` or ``(S, H, W, 3)``.
            window: Intensities mapped to 0 and 1; of the whole volume, if the slices are part of one.
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
        """Hash of all that the embedding of a slice depends on."""
        digest = hashlib.sha256(np.ascontiguousarray(image).tobytes())
        how: tuple[object, ...] = (self.model.backbone.name, self._fingerprint, tuple(window), box)
        how += (image.shape, image.dtype.str) if self.half is None else (image.shape, image.dtype.str, str(self.half))
        digest.update(repr(how).encode())
        return digest.hexdigest()

    def predict(self, encoded: EncodedSlices, support: PreparedSupport) -> list[SlicePrediction]:
        """Prompts and decodes embedded slices for all objects of the support."""
        answers: list[SlicePrediction] = []

        def one(part: slice) -> None:
            decoded, prompt = self.model.predict(encoded.features.select(part), support)
            logits = logits_to_slice(decoded.logits, encoded.box)
            probability = torch.sigmoid(logits).cpu().numpy()
            quality = decoded.quality.clamp(0, 1).float().cpu().numpy()
            presence = np.ones_like(quality)
            if (logit := presence_of(decoded, prompt)) is not None:
                presence = torch.sigmoid(logit.float()).cpu().numpy()
            for offset in range(len(probability)):
                answers.append(
                    SlicePrediction(
                        index=part.start + offset,
                        probability=probability[offset],
                        presence=presence[offset],
                        quality=quality[offset],
                    )
                )

        with torch.inference_mode(), self.precision():
            self._in_batches(encoded.features.top.shape[0], one)
        return answers

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
    ) -> SegmentResult:
        """Segments a stack of slices.

        Args:
            images: ``(S, H, W)`` or ``(S, H, W, 3)``.
            support: The supports, or what `prepare` made of them.
            window: Intensities mapped to 0 and 1; by default of the whole stack.
            spacing_mm: Pixel size (row, column).
            slices: Which of the ``S``; None means all.
            progress: Told of each slice.
            cancel: Looked at before each batch.
            on_slice: Told of each prediction, with ``index`` into the stack.
            encoded: Embeddings by slice index, filled here and used again at the next call. An embedding of another
                stack, window, spacing or model is noticed and made anew.
            result: Of the same stack and objects, to go on with; slices that it has done are done again if wanted.

        Returns:
            The predictions so far; ``cancelled`` says whether they are all.
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
            while start < len(wanted):  # no range: the batch may shrink on the way
                if cancel.cancelled:
                    result.cancelled = True
                    break
                part = wanted[start : start + self.batch]
                self._segment_part(images, part, prepared, window, spacing_mm, encoded, result, on_slice)
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
    ) -> None:
        """Segments some slices into the result, with embeddings that are already there."""
        cache: MutableMapping[int, EncodedSlices] = {} if encoded is None else encoded
        box = self.letterbox((images.shape[1], images.shape[2]), spacing_mm)
        # Taken out at once: a cache that is bounded may let one go when another comes.
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
        together = EncodedSlices(
            features=ImageFeatures.concatenate([known[index].features for index in part]),
            box=box,
            keys=tuple(known[index].keys[0] for index in part),
        )
        for answer in self.predict(together, prepared):
            index = part[answer.index]
            result.probability[index] = answer.probability
            result.presence[index], result.quality[index] = answer.presence, answer.quality
            result.done[index] = True
            if on_slice:
                on_slice(
                    SlicePrediction(
                        index=index, probability=answer.probability, presence=answer.presence, quality=answer.quality
                    )
                )

    def _in_batches(self, count: int, compute: Callable[[slice], object]) -> list:
        """Runs ``compute`` over consecutive slices of the batch size; halves it when memory runs out.

        Raises:
            DeviceError: If not even one slice fits.
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
