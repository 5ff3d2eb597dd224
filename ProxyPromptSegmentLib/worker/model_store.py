"""The caches of the engine that outlive a task: loaded models, prepared supports, image embeddings.

They are keyed by content, never by identity: the same slice under the same weights is embedded only once, whether it is
previewed, segmented, or a support. Another support or object therefore reuses the embeddings.
"""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from weakref import WeakKeyDictionary

import numpy as np
import torch

from ProxyPromptSegmentLib.errors import CheckpointError, DeviceError
from ProxyPromptSegmentLib.inference import loading
from ProxyPromptSegmentLib.inference.loading import LoadedModel
from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.inference.slice_encoder import fingerprint
from ProxyPromptSegmentLib.networks.values import PreparedSupport
from ProxyPromptSegmentLib.progress import CancelToken, Progress
from ProxyPromptSegmentLib.support.asked import Asked
from ProxyPromptSegmentLib.support.pairs import Marked, SupportSet
from ProxyPromptSegmentLib.support.pieces import one_piece
from ProxyPromptSegmentLib.weights.entry import OWN_SUFFIX
from ProxyPromptSegmentLib.weights.registry import find, location
from ProxyPromptSegmentLib.worker.encodings import EMBEDDING_BYTES, ByteLru, Encodings, EncodingStore
from ProxyPromptSegmentLib.worker.kept_supports import KeptSupports
from ProxyPromptSegmentLib.worker.machine import devices_to_try, empty_cache, fast_in_half, half_type_of
from ProxyPromptSegmentLib.worker.memory_ladder import Ladder
from ProxyPromptSegmentLib.worker.precision import AUTO, HALF, MEASURED, SINGLE, check_precision
from ProxyPromptSegmentLib.worker.priors import PriorStore

__all__ = ["Encodings", "EncodingStore", "ModelStore"]

SUPPORT_BYTES = 256 << 20
MODELS = 2


@dataclass(frozen=True)
class _Ground:
    """The interface of a store to the `Ladder` of one model; see `memory_ladder.Ground`."""

    store: ModelStore
    model: str
    most_read: int | None
    surrogate: bool = False

    def open(self, device: str, half: bool) -> Segmenter:
        segmenter = self.store.open(self.model, device, half).segmenter.reading(self.most_read)
        return segmenter.with_surrogate() if self.surrogate else segmenter

    def has_half(self, device: str) -> bool:
        return self.store.half_type(device) is not None

    def release(self, device: str) -> int:
        return self.store.release(device)

    def leave(self, device: str) -> None:
        self.store.leave(device)


class ModelStore:
    """A cache of models, prepared supports and embeddings; used by one thread only.

    Attributes:
        encodings: The cached embeddings.
        priors: The cached priors of registered supports.
    """

    def __init__(
        self,
        models: int = MODELS,
        embedding_bytes: int = EMBEDDING_BYTES,
        support_bytes: int = SUPPORT_BYTES,
        load: Callable[[str, str], LoadedModel] | None = None,
        devices: Callable[[str], tuple[str, ...]] | None = None,
        half_type: Callable[[str], torch.dtype | None] | None = None,
        fast_half: Callable[[str], bool] | None = None,
        kept: KeptSupports | None = None,
    ) -> None:
        """Create an empty store.

        Args:
            models: Number of models that stay loaded.
            embedding_bytes: Limit of the embeddings in main memory; on a GPU it is a share of the free memory.
            support_bytes: Limit of the prepared supports on each device.
            load: Loads a model by name or path onto a device; `loading.load` by default.
            devices: Returns the devices to try for a requested one, in order; by default that one, then the CPU.
            half_type: Returns the half precision type of a device, or None; by default the one that PyTorch supports.
            fast_half: Returns whether a device is faster in half precision; by default what is known of the device.
            kept: Prepared supports on disk; None keeps none there.
        """
        self._most, self._load = models, load or loading.load
        self._models: OrderedDict[tuple[Any, ...], LoadedModel] = OrderedDict()
        self._marks: WeakKeyDictionary[torch.nn.Module, str] = WeakKeyDictionary()
        self.encodings = EncodingStore(embedding_bytes)
        self.priors = PriorStore()
        self._supports: ByteLru[PreparedSupport] = ByteLru(lambda device, held: support_bytes)
        self._devices, self._half = devices or devices_to_try, half_type or half_type_of
        self._fast_half = fast_half or fast_in_half
        self._kept = kept
        self._files: WeakKeyDictionary[torch.nn.Module, str] = WeakKeyDictionary()

    def ladder(
        self,
        model: str,
        device: str,
        support: Asked,
        say: Callable[[str], None] | None = None,
        most_read: int | None = None,
        surrogate: bool = False,
        precision: str = SINGLE,
    ) -> Ladder:
        """Return the fallbacks of a task for when memory runs out; the ladder opens the model when it runs.

        Args:
            model: Name or path of the model.
            device: The device to begin with.
            support: The whole support, or what is asked for without one.
            say: Called with a sentence about each step.
            most_read: Number of supports that a slice reads, see `Segmenter`.
            surrogate: Whether the model's surrogate decoder draws, see `Segmenter.with_surrogate`.
            precision: One of `precision.PRECISIONS`.

        Raises:
            UsageError: If there is no such precision.
            DeviceError: If the device does not exist, or half precision is asked for and it has none.
        """
        check_precision(precision)
        devices, ground = self._devices(device), _Ground(self, model, most_read, surrogate)
        if precision == HALF and self.half_type(devices[0]) is None:
            raise DeviceError(
                f"{devices[0]} has no half precision here, which graphics cards have; choose the precision 'auto' or "
                "'single'."
            )

        def begins_half(segmenter: Segmenter) -> bool:
            if precision != AUTO:
                return precision == HALF
            return self._fast_half(devices[0]) and segmenter.model.backbone.name in MEASURED

        return Ladder(ground, devices, support, say, begins_half, precision != SINGLE)

    def half_type(self, device: str) -> torch.dtype | None:
        """Return the half precision type of a device; None if it supports none."""
        return self._half(device)

    @property
    def keeps_supports(self) -> bool:
        """Whether prepared supports are kept on disk."""
        return self._kept is not None

    def is_loaded(self, model: str, device: str) -> bool:
        """Return whether a model is loaded on a device."""
        return (*_stamp(model), device) in self._models

    def open(self, model: str, device: str, half: bool = False) -> LoadedModel:
        """Return a model on a device, and load it if it is not loaded yet.

        Args:
            model: Name or path of the model. A file that was replaced since is loaded again.
            device: Name of the device.
            half: Whether to compute in half precision, with the same weights.

        Raises:
            CheckpointError: If the model is unknown, damaged or has another hash.
            DeviceError: If the device does not exist.
        """
        key = (*_stamp(model), device)
        loaded = self._models.get(key)
        if loaded is None:
            while len(self._models) >= self._most:
                self._models.popitem(last=False)
            loaded = self._models[key] = self._load(model, device)
            self._files[loaded.segmenter.model.generator] = loaded.facts.sha256
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
        """Prepare the support side of the prompt, reusing cached pairs and embeddings.

        Args:
            segmenter: The segmenter of a model that this store opened.
            support: The support set.
            cancel: Checked before each pair.
            progress: Informed of each pair.

        Returns:
            The same as `Segmenter.prepare`; None if cancelled.
        """
        segmenter.check_reads_supports()
        prepared = self.prepared_parts(segmenter, support.pairs, support.objects, cancel, progress)
        return None if prepared is None else replace(prepared, one_piece=one_piece(support))

    def prepared_parts(
        self,
        segmenter: Segmenter,
        pairs: Sequence[Marked],
        names: tuple[str, ...],
        cancel: CancelToken | None = None,
        progress: Progress | None = None,
        what: str = "preparing the support",
    ) -> PreparedSupport | None:
        """Prepare pairs or tiles of them, reusing cached ones and cached embeddings; see `prepared`.

        Args:
            segmenter: The segmenter of a model that this store opened.
            pairs: At least one.
            names: Names of the ``N`` objects.
            cancel: Checked before each pair.
            progress: Informed of each pair.
            what: Name of the stage.
        """
        progress = progress or Progress()
        progress.start(len(pairs), what)
        device, parts = str(segmenter.device), []
        for pair in pairs:
            if cancel is not None and cancel.cancelled:
                return None
            shape = (pair.image.shape[0], pair.image.shape[1])
            image = segmenter.key(pair.image, pair.window, segmenter.letterbox(shape, pair.spacing_mm))
            key = (image, self._mark(segmenter), _hash_of(pair.masks), names, pair.depth)
            part = self._supports.get(device, key)
            if part is None:
                part = self._prepared_part(segmenter, pair, names, image, key)
                size = sum(t.numel() * t.element_size() for t in (part.features, part.aggregated, part.occupancy))
                self._supports.put(device, key, part, size)
            parts.append(part)
            progress.step()
        progress.close()
        if self._kept is not None:
            self._kept.tidy()
        return PreparedSupport.concatenate(parts)

    def _prepared_part(
        self, segmenter: Segmenter, pair: Marked, names: tuple[str, ...], image: str, key: tuple[Any, ...]
    ) -> PreparedSupport:
        """Prepare one pair or tile, or read it from disk.

        Args:
            segmenter: The segmenter.
            pair: The pair.
            names: Names of the objects.
            image: Key of the pair's image.
            key: What the result depends on.
        """
        device, weights = str(segmenter.device), self._files.get(segmenter.model.generator)
        kept = self._kept if weights else None  # a model of an unknown file has no place on disk
        # Names are in the key of the memory alone; kinds of devices differ in the last digits.
        said = (*(part for part in key if part is not names), weights, segmenter.device.type, torch.__version__)
        if kept is not None and (found := kept.get(said, names, segmenter.device)) is not None:
            return found
        encoded = self.encodings.get(device, image)
        if encoded is None:
            encoded = segmenter.encode(pair.image[None], pair.window, pair.spacing_mm)
            encoded = self.encodings.put(device, encoded)
        part = segmenter.prepare_embedded(pair, names, encoded)
        if kept is not None:
            kept.put(said, part)
        return part

    def embedded(
        self, segmenter: Segmenter, images: np.ndarray, window: tuple[float, float], spacing_mm: tuple[float, float]
    ) -> Encodings:
        """Return the mapping of a stack, ``(S, H, W)`` or ``(S, H, W, 3)``, to its cached embeddings."""
        return Encodings(self.encodings, segmenter, images, window, spacing_mm)

    def release(self, device: str) -> int:
        """Free the caches and PyTorch's reserve on a device, but no models; return the bytes of the caches."""
        freed = self.encodings.forget(device) + self._supports.forget(device)
        empty_cache(device)
        return freed

    def leave(self, device: str) -> None:
        """Free everything on a device, including models."""
        for key in [key for key in self._models if key[-1] == device]:
            del self._models[key]
        self.release(device)

    def forget(self) -> None:
        """Free everything on all devices."""
        used = {str(loaded.segmenter.device) for loaded in self._models.values()}
        self._models.clear()
        self.encodings.forget()
        self.priors.forget()
        self._supports.forget()
        for device in used:
            empty_cache(device)

    def _mark(self, segmenter: Segmenter) -> str:
        """Return a hash of the prompt generator's weights, since two models may share a backbone."""
        generator = segmenter.model.generator
        if generator not in self._marks:
            self._marks[generator] = fingerprint(generator)
        return self._marks[generator]


def _stamp(model: str) -> tuple[Any, ...]:
    """Return path, size and time of a model's file, which change if it is replaced; does not read it."""
    try:
        path = Path(model) if model.lower().endswith(OWN_SUFFIX) else location(find(model))
        facts = path.stat()
    except (CheckpointError, OSError):
        return (model,)  # loading reports the error
    return model, str(path), facts.st_size, facts.st_mtime_ns


def _hash_of(masks: np.ndarray) -> str:
    return hashlib.sha256(repr(masks.shape).encode() + np.packbits(masks > 0).tobytes()).hexdigest()
