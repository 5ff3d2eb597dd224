"""Registered supports of recent jobs, so that another threshold or slice needs no new registration."""

from __future__ import annotations

import hashlib
from collections import OrderedDict
from typing import TYPE_CHECKING

import numpy as np

from ProxyPromptSegmentLib.support.registration.sources import mask_prior

if TYPE_CHECKING:
    from ProxyPromptSegmentLib.imaging.volumes import Volume
    from ProxyPromptSegmentLib.inference.job import Job
    from ProxyPromptSegmentLib.progress import CancelToken, Progress
    from ProxyPromptSegmentLib.support.registration.prior import MaskPrior

KEPT = 2


class PriorStore:
    """The last few priors, by the content of supports and target."""

    def __init__(self, most: int = KEPT) -> None:
        """Create an empty store for at most so many priors."""
        self._most = most
        self._priors: OrderedDict[str, MaskPrior] = OrderedDict()

    def of(self, job: Job, progress: Progress | None = None, cancel: CancelToken | None = None) -> MaskPrior:
        """Return the prior of a job's volumes on its target; register them unless it is known."""
        key = _key(job)
        found = self._priors.get(key)
        if found is None:
            found = mask_prior(
                job.volumes, job.target, job.view.axis, progress, cancel, job.view, job.backwards, job.compared
            )
            if found.cancelled:
                return found
            self._priors[key] = found
            while len(self._priors) > self._most:
                self._priors.popitem(last=False)
        self._priors.move_to_end(key)
        return found

    def forget(self) -> None:
        """Free everything."""
        self._priors.clear()


def _key(job: Job) -> str:
    """Return a hash of everything that a prior depends on."""
    digest = hashlib.sha256(f"{job.view} {job.backwards} {job.compared} {len(job.volumes)}".encode())
    _add(digest, job.target)
    for support in job.volumes:
        _add(digest, support.volume)
        digest.update(f"{support.axis} {support.name} {len(support.masks)}".encode())
        for mask in support.masks:
            digest.update(np.packbits(mask > 0).tobytes())
    return digest.hexdigest()


def _add(digest: hashlib._Hash, volume: Volume) -> None:
    digest.update(f"{volume.array.shape} {volume.source}".encode("utf-8", "surrogateescape"))
    digest.update(volume.geometry.affine.tobytes())
    digest.update(np.ascontiguousarray(volume.array).data)
