"""The encoder of slices: embeddings with their position in the network's square, computed in batches and reused."""

from __future__ import annotations

import hashlib
import logging
from collections.abc import Callable, Container, MutableMapping
from contextlib import AbstractContextManager, nullcontext, suppress
from dataclasses import dataclass, replace

import numpy as np
import torch

from ProxyPromptSegmentLib.errors import DeviceError
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.inference.reading_ahead import ReadingAhead
from ProxyPromptSegmentLib.networks.devices import choose_device, is_out_of_memory
from ProxyPromptSegmentLib.networks.letterbox import Letterbox, images_to_tensor, valid_tokens
from ProxyPromptSegmentLib.networks.model import ProxyPromptModel
from ProxyPromptSegmentLib.networks.values import ImageFeatures
from ProxyPromptSegmentLib.remedies import Remedy, RemedyKind

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


class SliceEncoder:
    """The image encoder of one model on one device.

    Attributes:
        model: The model, in evaluation mode.
        device: The device.
        half: Half precision type for autocast; None for the weights' own.
        ahead: Slices that are read ahead; None where that gains nothing.
    """

    def __init__(
        self,
        model: ProxyPromptModel,
        device: str | torch.device = "cpu",
        batch: int | None = None,
        half: torch.dtype | None = None,
    ) -> None:
        """Move the model to the device; its weights must not be changed afterwards.

        Args:
            model: The model.
            device: See `choose_device`.
            batch: Number of slices computed together; cancelling acts between batches, and the batch is halved when
                memory runs out. By default about a second of work: one slice for official sizes on a CPU, else
                `DEFAULT_BATCH`.
            half: Half precision type for autocast, to save memory; the weights keep their type, and results differ in
                the last digits.
        """
        self.device = choose_device(device) if isinstance(device, str) else device
        self.model = model.to(self.device).eval()
        if batch is None:
            slow = self.device.type == "cpu" and model.backbone.image_size > SMALL_IMAGE
            batch = 1 if slow else DEFAULT_BATCH
        self._batch = [batch]
        self.half = half
        self.ahead = ReadingAhead() if self.device.type == "cuda" else None
        self._fingerprint = fingerprint(model.backbone)
        if not model.needs_support and model.generator.embeds:  # its own features are kept with the embedding
            self._fingerprint += fingerprint(model.generator)

    @property
    def batch(self) -> int:
        """Number of slices computed together; shared with twins that keep it."""
        return self._batch[0]

    @batch.setter
    def batch(self, count: int) -> None:
        self._batch[0] = count

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

    def encode(
        self,
        images: np.ndarray,
        window: tuple[float, float] | None = None,
        spacing_mm: tuple[float, float] = (1.0, 1.0),
        pixels: torch.Tensor | None = None,
    ) -> EncodedSlices:
        """Embed slices of a target.

        Args:
            images: Intensities as acquired, ``(S, H, W)`` or ``(S, H, W, 3)``.
            window: Intensities mapped to 0 and 1; by default those of ``images``. For slices of a volume, give the
                window of the whole volume.
            spacing_mm: Pixel size (row, column).
            pixels: The same slices as the encoder takes them, if they were read ahead.
        """
        grid = self.model.backbone.grid
        window = window or intensity_window(images)
        box = self.letterbox((images.shape[1], images.shape[2]), spacing_mm)
        with torch.inference_mode(), self.precision():
            tensor = images_to_tensor(images, window, box) if pixels is None else pixels
            valid = valid_tokens(box, grid).unsqueeze(0).expand(len(images), -1, -1)
            parts = self._in_batches(
                len(images),
                lambda part: self.model.encode(
                    tensor[part].to(self.device, non_blocking=pixels is not None), valid[part].to(self.device)
                ),
            )
        keys = tuple(self.key(image, window, box) for image in images)
        return EncodedSlices(features=ImageFeatures.concatenate(parts), box=box, keys=keys)

    def read_ahead(
        self,
        images: np.ndarray,
        part: list[int],
        window: tuple[float, float],
        spacing_mm: tuple[float, float],
        encoded: Container[int] = (),
    ) -> None:
        """Begin to read slices that are embedded later, where that gains anything; see `embedded`.

        Args:
            images: ``(S, H, W)`` or ``(S, H, W, 3)``; not to be changed meanwhile.
            part: 0-based indices of the slices.
            window: Intensities mapped to 0 and 1.
            spacing_mm: Pixel size (row, column).
            encoded: Those that are embedded already, which are left out.
        """
        if self.ahead is None or not (fresh := [index for index in part if index not in encoded]):
            return
        box = self.letterbox((images.shape[1], images.shape[2]), spacing_mm)

        def read() -> torch.Tensor:
            pixels = images_to_tensor(images[fresh], window, box)
            if self.device.type == "cuda":  # so that the copy to the card waits for nothing
                with suppress(RuntimeError):  # no more memory can be pinned
                    return pixels.pin_memory()
            return pixels

        self.ahead.begin((id(images), tuple(fresh), window, spacing_mm), read)

    def key(self, image: np.ndarray, window: tuple[float, float], box: Letterbox) -> str:
        """Return a hash of everything that determines the embedding of a slice."""
        digest = hashlib.sha256(np.ascontiguousarray(image).tobytes())
        how: tuple[object, ...] = (self.model.backbone.name, self._fingerprint, tuple(window), box)
        how += (image.shape, image.dtype.str) if self.half is None else (image.shape, image.dtype.str, str(self.half))
        digest.update(repr(how).encode())
        return digest.hexdigest()

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
            which = (id(images), tuple(missing), window, spacing_mm)
            read = None if self.ahead is None else self.ahead.take(which)
            fresh = self.encode(images[missing], window, spacing_mm, read)
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
