"""A cache of slice embeddings by content, bounded in bytes, so that another support reuses them."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, MutableMapping
from typing import Generic, TypeVar

import numpy as np
import torch

from ProxyPromptSegmentLib.inference.segmenter import Segmenter
from ProxyPromptSegmentLib.inference.slice_encoder import DEFAULT_BATCH, EncodedSlices
from ProxyPromptSegmentLib.networks.values import ImageFeatures

__all__ = ["ByteLru", "Encodings", "EncodingStore", "bytes_of"]

EMBEDDING_BYTES = 1 << 30
CUDA_SHARE = 0.25
"""Share of the free memory of a GPU that cached embeddings may take."""

V = TypeVar("V")


class ByteLru(Generic[V]):
    """A least-recently-used cache by device and key, with a limit in bytes for each device."""

    def __init__(self, budget: Callable[[str, int], int], recent: int = 0) -> None:
        """Create an empty cache.

        Args:
            budget: Returns the bytes that a device may hold, given its name and the bytes it holds now.
            recent: Number of the newest values that are never removed.
        """
        self._budget, self._recent = budget, recent
        self._values: dict[str, OrderedDict[Hashable, tuple[V, int]]] = {}
        self._bytes: dict[str, int] = {}

    def get(self, device: str, key: Hashable) -> V | None:
        """Return a value and mark it as the newest; None if it is not cached."""
        values = self._values.get(device)
        if values is None or key not in values:
            return None
        values.move_to_end(key)
        return values[key][0]

    def put(self, device: str, key: Hashable, value: V, size: int) -> None:
        """Store a value of ``size`` bytes, and remove the oldest ones beyond the limit."""
        values = self._values.setdefault(device, OrderedDict())
        before = values.pop(key, None)
        held = self._bytes.get(device, 0) - (before[1] if before else 0) + size
        values[key] = (value, size)
        budget = self._budget(device, held)
        while held > budget and len(values) > self._recent:
            held -= values.popitem(last=False)[1][1]
        self._bytes[device] = held

    def held(self, device: str) -> int:
        """Return the bytes held on a device."""
        return self._bytes.get(device, 0)

    def forget(self, device: str | None = None) -> int:
        """Remove all values of a device, or of all devices; return the bytes freed."""
        gone = [device] if device is not None else list(self._values)
        for one in gone:
            self._values.pop(one, None)
        return sum(self._bytes.pop(one, 0) for one in gone)

    def __len__(self) -> int:
        return sum(map(len, self._values.values()))


def bytes_of(features: ImageFeatures) -> int:
    """Return the bytes of an embedding, without the positional encoding that all slices share."""
    own = () if features.seen is None else (features.seen,)
    tensors = (features.top, features.valid, *(features.high_res or ()), *own)
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class EncodingStore:
    """A least-recently-used cache of slice embeddings, with a limit for each device."""

    def __init__(self, budget: int = EMBEDDING_BYTES, cuda_share: float = CUDA_SHARE) -> None:
        """Create an empty store.

        Args:
            budget: Limit in bytes in main memory.
            cuda_share: Limit as a share of the memory of a GPU that would be free without the store. The last
                `DEFAULT_BATCH` embeddings are always kept, because they are in use.
        """
        self._budget, self._share = budget, cuda_share
        self._kept: ByteLru[EncodedSlices] = ByteLru(self._bound, DEFAULT_BATCH)
        self._positions: dict[str, list[torch.Tensor]] = {}

    def get(self, device: str, key: str) -> EncodedSlices | None:
        """Return the embedding of a slice by its `Segmenter.key`; None if it is not cached."""
        return self._kept.get(device, key)

    def put(self, device: str, encoded: EncodedSlices) -> EncodedSlices:
        """Store the embedding of one slice; return the stored copy."""
        features = encoded.features
        own = ImageFeatures(
            top=_alone(features.top),
            positions=self._shared(device, features.positions),
            valid=_alone(features.valid),
            high_res=None if features.high_res is None else tuple(_alone(level) for level in features.high_res),
            seen=None if features.seen is None else _alone(features.seen),
        )
        kept = EncodedSlices(features=own, box=encoded.box, keys=encoded.keys)
        self._kept.put(device, encoded.keys[0], kept, bytes_of(own))
        return kept

    def held(self, device: str) -> int:
        """Return the bytes held on a device."""
        return self._kept.held(device)

    def forget(self, device: str | None = None) -> int:
        """Remove all embeddings of a device, or of all devices; return the bytes freed."""
        if device is None:
            self._positions.clear()
        else:
            self._positions.pop(device, None)
        return self._kept.forget(device)

    def __len__(self) -> int:
        """Return the number of slices."""
        return len(self._kept)

    def _bound(self, device: str, held: int) -> int:
        if torch.device(device).type != "cuda":
            return self._budget
        free, _ = torch.cuda.mem_get_info(device)
        spare = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(self._share * (free + spare + held))

    def _shared(self, device: str, positions: torch.Tensor) -> torch.Tensor:
        """Return an equal positional encoding of an earlier slice if there is one, since backbones create new ones."""
        known = self._positions.setdefault(device, [])
        for one in known:
            if one is positions:
                return one
            if one.shape == positions.shape and one.dtype == positions.dtype and torch.equal(one, positions):
                return one
        known.append(_alone(positions))
        return known[-1]


def _alone(tensor: torch.Tensor) -> torch.Tensor:
    """Return the tensor in its own storage, since a view of one slice would keep the whole batch alive."""
    whole = tensor.untyped_storage().nbytes() > tensor.numel() * tensor.element_size()
    return tensor.clone() if whole else tensor


class Encodings(MutableMapping[int, EncodedSlices]):
    """The embeddings of one stack by slice index, for `Segmenter.segment`, backed by an `EncodingStore`.

    Attributes:
        fresh: Slices that were embedded since this mapping was created.
    """

    def __init__(
        self,
        store: EncodingStore,
        segmenter: Segmenter,
        images: np.ndarray,
        window: tuple[float, float],
        spacing_mm: tuple[float, float],
    ) -> None:
        """Map the embeddings of a stack of slices, ``(S, H, W)`` or ``(S, H, W, 3)``."""
        self._store, self._segmenter, self._images, self._window = store, segmenter, images, window
        self._box = segmenter.letterbox((images.shape[1], images.shape[2]), spacing_mm)
        self._device = str(segmenter.device)
        self._keys: dict[int, str] = {}
        self.fresh: set[int] = set()

    def _key(self, index: int) -> str:
        if index not in self._keys:
            self._keys[index] = self._segmenter.key(self._images[index], self._window, self._box)
        return self._keys[index]

    def __getitem__(self, index: int) -> EncodedSlices:
        found = self._store.get(self._device, self._key(index))
        if found is None:
            raise KeyError(index)
        return found

    def __setitem__(self, index: int, encoded: EncodedSlices) -> None:
        self.fresh.add(index)
        self._store.put(self._device, encoded)

    def __delitem__(self, index: int) -> None:
        raise TypeError("embeddings are removed by their store only")

    def __iter__(self) -> Iterator[int]:
        return (index for index in range(len(self._images)) if index in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)
