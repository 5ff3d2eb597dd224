"""Estimates of the time and memory of a run before it begins, without torch.

The work of a run is counted in floating point operations by architecture. The speed of the machine is first guessed by
the kind of device, and later measured on finished runs. The result remains an estimate, worded with "about".
"""

from __future__ import annotations

import json
import math
import struct
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ProxyPromptSegmentLib.errors import CheckpointError, UsageError
from ProxyPromptSegmentLib.weights.entry import OWN_SUFFIX
from ProxyPromptSegmentLib.weights.registry import find
from ProxyPromptSegmentLib.worker.tile_work import TileWork

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.weights.entry import ModelEntry

__all__ = ["Architecture", "Estimate", "SpeedRecord", "architecture_of", "estimate"]


@dataclass(frozen=True)
class Architecture:
    """The sizes of a network that determine time and memory.

    Work is in GFLOP, counted by PyTorch's ``FlopCounterMode`` with random weights of each architecture.

    Attributes:
        encode: Work of the image encoder on one slice.
        context: Work of contextual encoder and bridge on one support slice and object. For the official sizes it is set
            higher than the 87 counted, because Vision Mamba's scan is slow for its few operations.
        decode: Work of colorization and mask decoder on one slice and object.
        grid: Side of the feature grid.
        channels: Channels of an embedding.
        fine: Number of float values in the decoder's finer features of one slice; 0 if it has none.
        weights: Parameters, in millions.
        working: Memory that one slice needs in the encoder, in bytes. SAM's global attention holds three maps of heads
            x 4096 x 4096 floats; for the others it is a guess.
        keys: Share of the support positions that the Selective Map reads as keys of their own; the others are averaged
            in squares, see `MergedKeys`.
    """

    encode: float
    context: float
    decode: float
    grid: int = 64
    channels: int = 256
    fine: int = 0
    weights: float = 0.0
    working: int = 0
    keys: float = 1.0

    @property
    def embedding_bytes(self) -> int:
        """Bytes of the cached embedding of one slice: float32 features and a bool map of valid positions."""
        positions = self.grid * self.grid
        return 4 * (self.channels * positions + self.fine) + positions

    def selective_map(self, pairs: int, objects: int) -> float:
        """Return the GFLOP of the Selective Map of one slice: similarity to all support positions, and the readout."""
        positions = self.grid * self.grid
        return 2e-9 * positions * self.keys * positions * pairs * (self.channels + objects * (self.channels + 1))

    @property
    def logits(self) -> int:
        """Side of the square of logits that the mask decoder predicts."""
        return 4 * self.grid

    def work(
        self, slices: int, fresh: int, pairs: int, objects: int, tiles: TileWork | None = None, closer: int = 0
    ) -> float:
        """Return the GFLOP of a run.

        Args:
            slices: Number of slices to segment.
            fresh: Number of these that must be embedded.
            pairs: Number of support slices.
            objects: Number of objects.
            tiles: The part of the run in tiles, if any.
            closer: Number of objects that are looked at closer.
        """
        preparing = pairs * (self.encode + closer * self.context) if closer else 0.0
        if tiles is None or tiles.objects < objects:
            preparing += pairs * (self.encode + objects * self.context)
        if tiles is not None:
            preparing += tiles.supports * (self.encode + tiles.objects * self.context)
        return preparing + self.segmenting(slices, fresh, pairs, objects, tiles, closer)

    def segmenting(
        self, slices: int, fresh: int, pairs: int, objects: int, tiles: TileWork | None = None, closer: int = 0
    ) -> float:
        """Return the GFLOP of a run without those of preparing the support; see `work`."""
        total = 0.0
        if closer:  # at most: slices without the object are not looked at again
            total += fresh * self.encode + slices * (closer * self.decode + self.selective_map(pairs, closer))
        if tiles is None or tiles.objects < objects:
            total += fresh * self.encode + slices * (objects * self.decode + self.selective_map(pairs, objects))
        if tiles is not None:
            each = tiles.objects * self.decode + self.selective_map(tiles.read, tiles.objects)
            embedded = fresh * tiles.tiles if tiles.embedded is None else tiles.embedded
            total += embedded * self.encode + slices * tiles.tiles * each
        return total

    @property
    def reference(self) -> float:
        """GFLOP of one slice that is embedded and prompted by one pair and one object."""
        return self.segmenting(1, 1, 1, 1)


_FINE = 32 * 256 * 256 + 64 * 128 * 128  # SAM 2's two finer levels at 1024 pixels


def _sam(encode: float, weights: float, working: int) -> Architecture:
    return Architecture(encode, 300.0, 33.5, weights=weights, working=working)


def _sam2(encode: float, weights: float, working: int) -> Architecture:
    return Architecture(encode, 300.0, 150.0, fine=_FINE, weights=weights, working=working)


_HIERA = {
    "tiny": _sam2(292.0, 58, 700_000_000),
    "small": _sam2(360.0, 65, 750_000_000),
    "base-plus": _sam2(648.0, 100, 1_000_000_000),
    "large": _sam2(1826.0, 244, 1_500_000_000),
}
ARCHITECTURES: dict[str, Architecture] = {
    "sam-compact": Architecture(1.80, 2.05, 0.70, 32, 128, weights=6.9, working=150_000_000, keys=0.27),
    "sam2-compact": Architecture(1.80, 2.05, 1.22, 32, 128, weights=7.84, working=150_000_000, keys=0.27),
    "sam-vit-b": _sam(973.0, 113, 2_400_000_000),
    "medsam-vit-b": _sam(973.0, 113, 2_400_000_000),
    "sam-vit-l": _sam(2989.0, 332, 3_200_000_000),
    "sam-vit-h": _sam(5967.0, 661, 3_300_000_000),
    **{f"sam{version}-hiera-{name}": size for version in ("2", "2.1") for name, size in _HIERA.items()},
}

# GFLOP per second without a measurement: for a CPU with a few cores, and for common GPUs.
GUESSED_RATES = {"cpu": 40.0, "cuda": 8000.0, "mps": 1500.0}
# Seconds per slice apart from the network: moving arrays, starting kernels, post-processing.
SLICE_OVERHEAD = 0.01
READING = 400e6  # bytes per second of loading a checkpoint, including its hash and building the network
WARM_UP = {"cpu": 2.0, "cuda": 8.0, "mps": 5.0}
"""Additional seconds of the first run: importing torch, and initialising the device."""
LIBRARIES = 180_000_000  # bytes that torch, SciPy and SimpleITK take when they are imported
COPIED = 8  # bytes of each voxel: volumes are held in float32, and once more while they are registered
KEPT_BYTES = 1 << 30  # the engine's limit for cached embeddings in main memory


@dataclass(frozen=True)
class SpeedRecord:
    """The measured speed of this machine; plain values, so that a program can store it in its settings.

    Attributes:
        seconds_per_slice: Seconds by ``MODEL on DEVICE``, for embedding and segmenting one slice with one pair and one
            object.
    """

    seconds_per_slice: Mapping[str, float] = field(default_factory=dict)

    def learned(
        self,
        model: str,
        device: str,
        seconds: float,
        slices: int,
        embedded: int,
        pairs: int,
        objects: int,
        tiles: TileWork | None = None,
        closer: int = 0,
    ) -> SpeedRecord:
        """Return the record updated by one run: the geometric mean of the stored speed and that of the run.

        Args:
            model: Name or path of the model.
            device: Device of the run.
            seconds: Seconds of segmenting alone, without loading the model and preparing the support: the
                ``segmentation`` of a result's ``seconds``.
            slices: Number of slices segmented.
            embedded: Number of these that were embedded; the others were cached.
            pairs: Number of support slices.
            objects: Number of objects.
            tiles: The part of the run in tiles, if any.
            closer: Number of objects that were looked at closer.
        """
        if slices < 1 or seconds <= 0 or not math.isfinite(seconds):
            return self
        architecture = architecture_of(model)
        done = architecture.segmenting(slices, embedded, pairs, objects, tiles, closer)
        each = seconds * architecture.reference / done
        before = self.seconds_per_slice.get(_key(model, device))
        each = each if before is None else math.sqrt(each * before)
        return SpeedRecord({**self.seconds_per_slice, _key(model, device): each})

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        return {"seconds_per_slice": dict(self.seconds_per_slice)}

    @classmethod
    def from_dict(cls, values: object) -> SpeedRecord:
        """Read the output of `to_dict`; ignore damaged values, since they only serve an estimate."""
        found = values.get("seconds_per_slice") if isinstance(values, dict) else None
        good = {
            str(key): float(value)
            for key, value in (found.items() if isinstance(found, dict) else ())
            if isinstance(value, int | float) and math.isfinite(value) and value > 0
        }
        return cls(good)


@dataclass(frozen=True)
class Estimate:
    """The estimated time and memory of a run.

    Attributes:
        seconds: Duration of the run if the model is loaded already, in seconds.
        memory_bytes: Memory on the device: weights, one slice in the encoder, cached embeddings; on a CPU also copies
            of the volumes. If more is free, several slices are computed together.
        first_time_seconds: Additional seconds if the model must be loaded first.
        first_time_bytes: Additional memory of the computer, for the libraries, if they must be loaded first.
        embeddings_bytes: The part of the memory for cached embeddings.
        measured: Whether it is based on a run on this machine.
        sentence: The estimate in words.
        tiles: Number of tiles into which each slice is cut; 0 without tiles.
    """

    seconds: float
    memory_bytes: int
    first_time_seconds: float
    embeddings_bytes: int
    measured: bool
    sentence: str
    tiles: int = 0
    first_time_bytes: int = 0

    def to_dict(self) -> dict[str, Any]:
        """Return the values for JSON."""
        return asdict(self)


def architecture_of(model: ModelEntry | str) -> Architecture:
    """Return the sizes of a model, given by registry entry, name, or path of a checkpoint; reads only its header.

    Raises:
        CheckpointError: If the model or its architecture is unknown.
    """
    if isinstance(model, str):
        if model.lower().endswith(OWN_SUFFIX):
            name, title = _backbone_in(Path(model)), model
        elif model in ARCHITECTURES:
            return ARCHITECTURES[model]
        else:
            name, title = find(model).fits, model
    else:
        name, title = model.fits, model.name
    if name not in ARCHITECTURES:
        raise CheckpointError(
            f"the speed of '{title}' (architecture '{name}') is unknown; known architectures are "
            f"{', '.join(sorted(ARCHITECTURES))}"
        )
    return ARCHITECTURES[name]


def estimate(
    entry_or_name: ModelEntry | str,
    device: str,
    slices: int,
    slice_shape: tuple[int, int],
    support_pairs: int,
    objects: int,
    encoded: int = 0,
    tiles: TileWork | None = None,
    measured: SpeedRecord | None = None,
    closer: int = 0,
    voxels: int = 0,
) -> Estimate:
    """Estimate time and memory of a run before it begins.

    Args:
        entry_or_name: The model: registry entry, name or path.
        device: ``cpu``, ``cuda``, ``cuda:N`` or ``mps``; ``auto`` is estimated as ``cpu``.
        slices: Number of slices to segment.
        slice_shape: Rows and columns of a slice.
        support_pairs: Number of support slices; 0 for a model that needs none.
        objects: Number of objects.
        encoded: Number of slices whose embeddings are cached.
        tiles: The part of the run in tiles, if any.
        measured: Speeds of earlier runs.
        closer: Number of objects that are looked at closer.
        voxels: Number of voxels of the target and of the supports that are registered to it.

    Raises:
        UsageError: If a number is out of range.
        CheckpointError: If the model is unknown.
    """
    if slices < 0 or support_pairs < 0 or objects < 1 or min(slice_shape) < 1 or not encoded >= 0:
        raise UsageError(
            f"{slices} slices of {slice_shape} pixels with {support_pairs} support slices and {objects} objects cannot "
            "be estimated; objects and pixels must be at least 1, nothing below 0"
        )
    architecture = architecture_of(entry_or_name)
    name = entry_or_name if isinstance(entry_or_name, str) else entry_or_name.name
    kind = _kind(device)
    fresh = max(0, slices - encoded)
    work = architecture.work(slices, fresh, support_pairs, objects, tiles, closer)
    each = (measured or SpeedRecord()).seconds_per_slice.get(_key(name, device))
    if each is None:
        pixels = slice_shape[0] * slice_shape[1]
        seconds = work / GUESSED_RATES[kind] + slices * (SLICE_OVERHEAD + objects * pixels * 5e-8)
    else:
        seconds = each * work / architecture.reference
    weights = int(architecture.weights * 4e6)
    in_whole = tiles is None or tiles.objects < objects
    embeddings, parts = (slices, support_pairs) if in_whole else (0, 0)
    if tiles is not None:
        embeddings, parts = embeddings + slices * tiles.tiles, parts + tiles.supports
    if closer:
        embeddings, parts = embeddings + slices, parts + support_pairs
    kept = min(embeddings, max(1, KEPT_BYTES // architecture.embedding_bytes)) * architecture.embedding_bytes
    prepared = 4 * architecture.channels * architecture.grid**2 * parts * (1 + objects) * 2
    memory = weights + architecture.working + kept + prepared
    if kind == "cpu":  # float32 probabilities and masks are held in the same memory
        memory += slices * objects * slice_shape[0] * slice_shape[1] * (4 + 3) + voxels * COPIED
    first = weights / READING + WARM_UP[kind]
    return Estimate(
        seconds=seconds,
        memory_bytes=memory,
        first_time_seconds=first,
        embeddings_bytes=kept,
        measured=each is not None,
        sentence=_sentence(seconds, first, memory, kind, each is not None),
        tiles=0 if tiles is None else tiles.tiles,
        first_time_bytes=LIBRARIES,
    )


def _backbone_in(path: Path) -> str:
    """Return the name of the backbone from a checkpoint's header, without reading the tensors.

    Raises:
        CheckpointError: If the file cannot be read or does not name a backbone.
    """
    try:
        with path.open("rb") as file:
            (length,) = struct.unpack("<Q", file.read(8))
            if length > 100_000_000:
                raise ValueError("the header is too long")
            header = json.loads(file.read(length))
        return str(json.loads(header["__metadata__"]["proxyprompt"])["model"]["backbone"])
    except (OSError, ValueError, KeyError, TypeError, struct.error) as error:
        raise CheckpointError(
            f"{path} does not say which network it holds ({type(error).__name__}); choose another checkpoint"
        ) from error


def _kind(device: str) -> str:
    kind = device.split(":", maxsplit=1)[0]
    return kind if kind in GUESSED_RATES else "cpu"


def _key(model: str, device: str) -> str:
    return f"{model} on {_kind(device)}"


def _sentence(seconds: float, first: float, memory: int, kind: str, measured: bool) -> str:
    where = {"cpu": "of memory", "cuda": "of GPU memory", "mps": "of memory"}[kind]
    text = f"About {_duration(seconds)} and {_size(memory)} {where}; about {_duration(first)} more the first time."
    return text if measured else f"{text} Nothing was measured on this machine yet: it may take three times as long."


def _duration(seconds: float) -> str:
    """Word a duration, rounded to one digit, or two from ten on, in seconds, minutes or hours."""
    if seconds < 1:
        return "a second"
    for limit, size, unit in ((90, 1, "second"), (90 * 60, 60, "minute"), (math.inf, 3600, "hour")):
        if seconds < limit:
            count = _rounded(seconds / size)
            return f"{count:g} {unit}" if count == 1 else f"{count:g} {unit}s"
    raise AssertionError


def _size(count: int) -> str:
    return f"{_rounded(count / 1e9):g} GB" if count >= 0.95e9 else f"{max(10, _rounded(count / 1e6)):g} MB"


def _rounded(value: float) -> float:
    if value <= 0:
        return 0.0
    digits = 0 if value < 10 else 1
    scale = 10.0 ** (math.floor(math.log10(value)) - digits)
    return round(value / scale) * scale
