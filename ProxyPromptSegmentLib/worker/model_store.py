"""What lives on the worker thread from one task to the next: loaded models, prepared supports, image embeddings.

All of it is found again by content, never by identity: the same slice under the same weights is embedded once, whether
it is previewed, segmented, or a support. So another support, or another object, runs on what is embedded already.
"""

from __future__ import annotations

import gc
import hashlib
from collections import OrderedDict
from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from ProxyPromptSegmentLib.errors import CheckpointError
from ProxyPromptSegmentLib.inference import loading
from ProxyPromptSegmentLib.inference.loading import LoadedModel
from ProxyPromptSegmentLib.inference.segmenter import Segmenter, fingerprint
from ProxyPromptSegmentLib.networks.devices import choose_device
from ProxyPromptSegmentLib.networks.protocols import PreparedSupport
from ProxyPromptSegmentLib.progress import CancelToken, Progress
from ProxyPromptSegmentLib.support.pairs import SupportSet
from ProxyPromptSegmentLib.support.pieces import one_piece
from ProxyPromptSegmentLib.weights.entry import OWN_SUFFIX
from ProxyPromptSegmentLib.weights.registry import find, location
from ProxyPromptSegmentLib.worker.encodings import EMBEDDING_BYTES, ByteLru, Encodings, EncodingStore
from ProxyPromptSegmentLib.worker.memory_ladder import Ladder

__all__ = ["Encodings", "EncodingStore", "ModelStore"]

SUPPORT_BYTES = 256 << 20
MODELS = 2


@dataclass(frozen=True)
class _Ground:
    """What a `Ladder` for one model stands on."""

    store: ModelStore
    model: str

    def open(self, device: str, half: bool) -> Segmenter:
        return self.store.open(self.model, device, half).segmenter

    def has_half(self, device: str) -> bool:
        return self.store.half_type(device) is not None

    def release(self, device: str) -> int:
        return self.store.release(device)

    def leave(self, device: str) -> None:
        self.store.leave(device)


class ModelStore:
    """Models, prepared supports and embeddings; belongs to one thread.

    Attributes:
        encodings: The embeddings.
    """

    def __init__(
        self,
        models: int = MODELS,
        embedding_bytes: int = EMBEDDING_BYTES,
        support_bytes: int = SUPPORT_BYTES,
        load: Callable[[str, str], LoadedModel] | None = None,
        devices: Callable[[str], tuple[str, ...]] | None = None,
        half_type: Callable[[str], torch.dtype | None] | None = None,
    ) -> None:
        """Make a store that holds nothing yet.

        Args:
            models: How many stay loaded.
            embedding_bytes: For embeddings in the computer's memory; on a GPU it is a share of what is free.
            support_bytes: For prepared supports, on each device.
            load: Loads a model by name or path onto a device; `loading.load` by default.
            devices: Where to compute when somebody asks for a device, in this order; by default that one, then the
                processor.
            half_type: Which shorter type a device computes in; None where it has none. By default what it offers.
        """
        self._most, self._load = models, load or loading.load
        self._models: OrderedDict[tuple[Any, ...], LoadedModel] = OrderedDict()
        self._marks: WeakKeyDictionary[torch.nn.Module, str] = WeakKeyDictionary()
        self.encodings = EncodingStore(embedding_bytes)
        self._supports: ByteLru[PreparedSupport] = ByteLru(lambda device, held: support_bytes)
        self._devices, self._half = devices or _devices, half_type or _half_type

    def ladder(self, model: str, device: str, support: SupportSet, say: Callable[[str], None] | None = None) -> Ladder:
        """The steps that a task takes when memory runs out; it opens the model when it begins.

        Raises:
            DeviceError: If the device is not there.
        """
        return Ladder(_Ground(self, model), self._devices(device), support, say)

    def half_type(self, device: str) -> torch.dtype | None:
        """Which shorter type a device computes in; None where it has none."""
        return self._half(device)

    def is_loaded(self, model: str, device: str) -> bool:
        """Whether opening it takes no time."""
        return (*_stamp(model), device) in self._models

    def open(self, model: str, device: str, half: bool = False) -> LoadedModel:
        """A model on a device, loaded at the first time.

        Args:
            model: Name or path. A file that was replaced since is loaded anew.
            device: Name of a device.
            half: In half precision, with the same weights.

        Raises:
            CheckpointError: If it is unknown, damaged or has another hash.
            DeviceError: If the device is not there.
        """
        key = (*_stamp(model), device)
        loaded = self._models.get(key)
        if loaded is None:
            while len(self._models) >= self._most:
                self._models.popitem(last=False)
            loaded = self._models[key] = self._load(model, device)
        self._models.move_to_end(key)
        if not half:
            return loaded
        return replace(loaded, segmenter=loaded.segmenter.in_half(self._half(device)))

    def prepared(
        self,
        segmenter: Segmenter,
        support: SupportSet,
        cancel: CancelToken | None = None,
        progress: Progress | None = None,
    ) -> PreparedSupport | None:
        """The support side of the prompt, from what is kept of its pairs and their images.

        Args:
            segmenter: Of a model that this store opened.
            support: The support.
            cancel: Looked at before each pair.
            progress: Told of each pair.

        Returns:
            What `Segmenter.prepare` gives; None if it was cancelled.
        """
        progress = progress or Progress()
        progress.start(len(support), "preparing the support")
        device, parts = str(segmenter.device), []
        for pair in support.pairs:
            if cancel is not None and cancel.cancelled:
                return None
            shape = (pair.image.shape[0], pair.image.shape[1])
            image = segmenter.key(pair.image, pair.window, segmenter.letterbox(shape, pair.spacing_mm))
            key = (image, self._mark(segmenter), _hash_of(pair.masks), support.objects)
            part = self._supports.get(device, key)
            if part is None:
                encoded = self.encodings.get(device, image)
                if encoded is None:
                    encoded = segmenter.encode(pair.image[None], pair.window, pair.spacing_mm)
                    encoded = self.encodings.put(device, encoded)
                part = segmenter.prepare_embedded(pair, support.objects, encoded)
                size = sum(t.numel() * t.element_size() for t in (part.features, part.aggregated, part.occupancy))
                self._supports.put(device, key, part, size)
            parts.append(part)
            progress.step()
        progress.close()
        return replace(PreparedSupport.concatenate(parts), one_piece=one_piece(support))

    def embedded(
        self, segmenter: Segmenter, images: np.ndarray, window: tuple[float, float], spacing_mm: tuple[float, float]
    ) -> Encodings:
        """The embeddings of a stack: those that are kept, and a place for those that are made."""
        return Encodings(self.encodings, segmenter, images, window, spacing_mm)

    def release(self, device: str) -> int:
        """Lets go what a device keeps for later, but no model, and what PyTorch holds back there; bytes."""
        freed = self.encodings.forget(device) + self._supports.forget(device)
        _empty_cache(device)
        return freed

    def leave(self, device: str) -> None:
        """Lets go everything on a device."""
        for key in [key for key in self._models if key[-1] == device]:
            del self._models[key]
        self.release(device)

    def forget(self) -> None:
        """Lets go everything."""
        used = {str(loaded.segmenter.device) for loaded in self._models.values()}
        self._models.clear()
        self.encodings.forget()
        self._supports.forget()
        for device in used:
            _empty_cache(device)

    def _mark(self, segmenter: Segmenter) -> str:
        """A hash of the prompt generator's weights; two models may share a backbone."""
        generator = segmenter.model.generator
        if generator not in self._marks:
            self._marks[generator] = fingerprint(generator)
        return self._marks[generator]


def _devices(device: str) -> tuple[str, ...]:
    chosen = str(choose_device(device))
    return (chosen,) if chosen == "cpu" else (chosen, "cpu")


def _half_type(device: str) -> torch.dtype | None:
    kind = torch.device(device).type
    if kind == "cuda":
        # bfloat16 reaches as far as float32; large encoders leave the range of float16 now and then.
        return torch.bfloat16 if torch.cuda.is_bf16_supported(including_emulation=False) else torch.float16
    return torch.float16 if kind == "mps" and torch.amp.is_autocast_available("mps") else None


def _stamp(model: str) -> tuple[Any, ...]:
    """What tells whether a model's file is still the same, without reading it."""
    try:
        path = Path(model) if model.lower().endswith(OWN_SUFFIX) else location(find(model))
        facts = path.stat()
    except (CheckpointError, OSError):
        return (model,)  # loading says what is wrong
    return model, str(path), facts.st_size, facts.st_mtime_ns


def _hash_of(masks: np.ndarray) -> str:
    return hashlib.sha256(repr(masks.shape).encode() + np.packbits(masks > 0).tobytes()).hexdigest()


def _empty_cache(device: str) -> None:
    """Gives back to the GPU what PyTorch holds in reserve."""
    gc.collect()
    kind = device.split(":", maxsplit=1)[0]
    if kind == "cuda" and torch.cuda.is_available():
        torch.cuda.empty_cache()
    elif kind == "mps":
        torch.mps.empty_cache()
