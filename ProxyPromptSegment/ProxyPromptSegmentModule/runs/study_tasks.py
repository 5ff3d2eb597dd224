"""Tasks that tell whether a study was done before with the same inputs, or is a support; independent of nodes."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.imaging.geometry import VolumeGeometry
from ProxyPromptSegmentLib.weights.hashing import weights_sha256
from ProxyPromptSegmentLib.weights.registry import resolve

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.imaging.segmentations import Segmentation
    from ProxyPromptSegmentLib.support.case import SupportCase
    from ProxyPromptSegmentLib.worker.context import Context
    from ProxyPromptSegmentLib.worker.engine import Engine
    from ProxyPromptSegmentModule.runs.request import Request


@dataclass(frozen=True, kw_only=True)
class Work:
    """What all studies are segmented with.

    Attributes:
        key: Hash of supports or classes, objects, weights and settings.
        supports: Contents of the supports' images, with their names.
    """

    key: str
    supports: dict[str, str]

    def key_of(self, content: str) -> str:
        """Return the key of a study by its content: the same work on the same study has the same key."""
        return hashlib.sha256(f"{self.key} {content}".encode()).hexdigest()[:32]


@dataclass(frozen=True, eq=False, kw_only=True)
class WorkTask:
    """The task that reads what all studies share; returns `Work`.

    Attributes:
        request: A request, whose target and output do not count.
    """

    request: Request

    def __call__(self, engine: Engine, context: Context) -> Work:
        """Do the work on the worker thread.

        Raises:
            CheckpointError: If the model is not on this machine, or its file is damaged.
        """
        request = self.request
        weights, expected = resolve(request.settings.model)
        supports = [_described(case) for case in request.cases]
        counted = {
            "supports": supports,
            "objects": list(request.objects or ()),
            "classes": [one.name for one in request.classes],
            "any_modality": request.any_modality,
            "model": expected or weights_sha256(weights),
            # where and in which precision it is computed is not counted: single voxels may differ
            "settings": {
                name: value for name, value in asdict(request.settings).items() if name not in ("device", "precision")
            },
        }
        key = hashlib.sha256(json.dumps(counted, sort_keys=True).encode()).hexdigest()[:32]
        names = [case.volume.name for case in request.cases]
        return Work(key=key, supports=dict(zip([str(one["image"]) for one in supports], names, strict=True)))


@dataclass(frozen=True, eq=False, kw_only=True)
class ContentTask:
    """The task that hashes an image; returns the hash.

    Attributes:
        voxels: Voxels as stored, ``(K, J, I)`` or ``(K, J, I, C)``; a copy.
        geometry: The image's geometry.
    """

    voxels: npt.NDArray[np.number]
    geometry: VolumeGeometry

    def __call__(self, engine: Engine, context: Context) -> str:
        """Do the work on the worker thread."""
        return content_of(self.voxels, self.geometry)


def content_of(voxels: npt.NDArray[np.number], geometry: VolumeGeometry) -> str:
    """Return the SHA-256 of an image, whatever the type of its voxels: that of its values as float32 and its grid."""
    place = np.round(geometry.affine, 4) + 0.0  # no negative zeros, which a detour through other axes makes
    digest = hashlib.sha256(f"{voxels.shape} {place.tolist()}".encode())
    for plane in voxels:
        digest.update(np.ascontiguousarray(plane, np.float32).data)
    return digest.hexdigest()


def _described(case: SupportCase) -> dict[str, object]:
    slices = None if case.slices is None else _numbers(case.slices)
    image = content_of(case.volume.array, case.volume.geometry)
    return {"image": image, "masks": masks_of(case.segmentation), "slices": slices, "axis": case.axis}


def _numbers(slices: object) -> list[int] | str:
    """Return chosen slices as JSON values."""
    return [int(one) for one in slices] if isinstance(slices, Iterable) else str(slices)


def masks_of(segmentation: Segmentation) -> str:
    """Return the SHA-256 of an annotation: names and masks of its segments."""
    digest = hashlib.sha256()
    for one in segmentation.segments:
        digest.update(f"{one.name}\n{one.mask.shape}".encode())
        digest.update(np.ascontiguousarray(one.mask).data)
    return digest.hexdigest()
