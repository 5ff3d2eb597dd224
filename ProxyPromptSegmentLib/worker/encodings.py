"""Embeddings of slices, kept by content and bounded in bytes, so that another support runs on what is embedded."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Callable, Hashable, Iterator, MutableMapping
from typing import Generic, TypeVar

import numpy as np
import torch

from ProxyPromptSegmentLib.inference.segmenter import DEFAULT_BATCH, EncodedSlices, Segmenter
from ProxyPromptSegmentLib.networks.protocols import ImageFeatures

__all__ = ["ByteLru", "Encodings", "EncodingStore", "bytes_of"]

EMBEDDING_BYTES = 1 << 30
CUDA_SHARE = 0.25
"""Of the memory that is free on a GPU: what embeddings that are kept for later may take of it."""

V = TypeVar("V")


class ByteLru(Generic[V]):
    """Values by key and device, the longest unused of which go when there are too many bytes on a device."""

    def __init__(self, budget: Callable[[str, int], int], recent: int = 0) -> None:
        """Takes what says how many bytes a device may hold, and how many of the newest never go."""
        self._budget, self._recent = budget, recent
        self._values: dict[str, OrderedDict[Hashable, tuple[V, int]]] = {}
        self._bytes: dict[str, int] = {}

    def get(self, device: str, key: Hashable) -> V | None:
        """A value, which becomes the newest."""
        values = self._values.get(device)
        if values is None or key not in values:
            return None
        values.move_to_end(key)
        return values[key][0]

    def put(self, device: str, key: Hashable, value: V, size: int) -> None:
        """Keeps a value of so many bytes, and lets others go."""
        values = self._values.setdefault(device, OrderedDict())
        before = values.pop(key, None)
        held = self._bytes.get(device, 0) - (before[1] if before else 0) + size
        values[key] = (value, size)
        budget = self._budget(device, held)
        while held > budget and len(values) > self._recent:
            held -= values.popitem(last=False)[1][1]
        self._bytes[device] = held

    def held(self, device: str) -> int:
        """Bytes on a device."""
        return self._bytes.get(device, 0)

    def forget(self, device: str | None = None) -> int:
        """Lets go all that is on a device, or everything; bytes."""
        gone = [device] if device is not None else list(self._values)
        for one in gone:
            self._values.pop(one, None)
        return sum(self._bytes.pop(one, 0) for one in gone)

    def __len__(self) -> int:
        return sum(map(len, self._values.values()))


def bytes_of(features: ImageFeatures) -> int:
    """Bytes of an embedding without the positional encoding, which all of one backbone share."""
    tensors = (features.top, features.valid, *(features.high_res or ()))
    return sum(tensor.numel() * tensor.element_size() for tensor in tensors)


class EncodingStore:
    """Embeddings of slices, the longest unused of which go; each device has a bound of its own."""

    def __init__(self, budget: int = EMBEDDING_BYTES, cuda_share: float = CUDA_SHARE) -> None:
        """Makes an empty store.

        Args:
            budget: Bytes in the computer's memory.
            cuda_share: Share of the memory of a GPU that would be free without the store. The last `DEFAULT_BATCH`
                embeddings are kept in any case: they are being worked on.
        """
        self._budget, self._share = budget, cuda_share
        self._kept: ByteLru[EncodedSlices] = ByteLru(self._bound, DEFAULT_BATCH)
        self._positions: dict[str, list[torch.Tensor]] = {}

    def get(self, device: str, key: str) -> EncodedSlices | None:
        """One slice's embedding by `Segmenter.key`."""
        return self._kept.get(device, key)

    def put(self, device: str, encoded: EncodedSlices) -> EncodedSlices:
        """Keeps one slice's embedding; returns it as it is kept."""
        features = encoded.features
        own = ImageFeatures(
            top=_alone(features.top),
            positions=self._shared(device, features.positions),
            valid=_alone(features.valid),
            high_res=None if features.high_res is None else tuple(_alone(level) for level in features.high_res),
        )
        kept = EncodedSlices(features=own, box=encoded.box, keys=encoded.keys)
        self._kept.put(device, encoded.keys[0], kept, bytes_of(own))
        return kept

    def held(self, device: str) -> int:
        """Bytes on a device."""
        return self._kept.held(device)

    def forget(self, device: str | None = None) -> int:
        """Lets go what is on a device, or everything; bytes."""
        if device is None:
            self._positions.clear()
        else:
            self._positions.pop(device, None)
        return self._kept.forget(device)

    def __len__(self) -> int:
        """Number of slices."""
        return len(self._kept)

    def _bound(self, device: str, held: int) -> int:
        if torch.device(device).type != "cuda":
            return self._budget
        free, _ = torch.cuda.mem_get_info(device)
        spare = torch.cuda.memory_reserved(device) - torch.cuda.memory_allocated(device)
        return int(self._share * (free + spare + held))

    def _shared(self, device: str, positions: torch.Tensor) -> torch.Tensor:
        """The same encoding of the grid from an earlier slice: backbones make a new one each time."""
        known = self._positions.setdefault(device, [])
        for one in known:
            if one is positions:
                return one
            if one.shape == positions.shape and one.dtype == positions.dtype and torch.equal(one, positions):
                return one
        known.append(_alone(positions))
        return known[-1]


def _alone(tensor: torch.Tensor) -> torch.Tensor:
    """The tensor with a storage of its own: one slice of a batch would keep the whole batch."""
    whole = tensor.untyped_storage().nbytes() > tensor.numel() * tensor.element_size()
    return tensor.clone() if whole else tensor


class Encodings(MutableMapping[int, EncodedSlices]):
    """The embeddings of one stack by slice number, as `Segmenter.segment` wants them, in an `EncodingStore`.

    Attributes:
        fresh: Slices that were embedded since it was made.
    """

    def __init__(
        self,
        store: EncodingStore,
        segmenter: Segmenter,
        images: np.ndarray,
        window: tuple[float, float],
        spacing_mm: tuple[float, float],
    ) -> None:
        """Looks at a stack of slices ``(S, H, W)`` or ``(S, H, W, 3)``."""
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
        raise TypeError("the store decides what goes")

    def __iter__(self) -> Iterator[int]:
        return (index for index in range(len(self._images)) if index in self)

    def __len__(self) -> int:
        return sum(1 for _ in self)
