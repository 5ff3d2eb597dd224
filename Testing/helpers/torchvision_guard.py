"""Lets a CPU build of PyTorch live with a torchvision that was built for CUDA.

Such a torchvision cannot load its compiled operators, and then fails at import, because its Python part
registers shape functions for operators that do not exist ("operator torchvision::nms does not exist").
segment-anything, sam2's predictors and peft (through transformers) import torchvision, so they fail as well. The
program imports none of those parts; tests that compare with them call this first. Declaring the operators is enough for
them; ``nms`` gets a plain implementation, because the "everything" mode of segment-anything calls it.
"""

from __future__ import annotations

import functools
import importlib.util
import logging
import sys
import threading
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# Schemas as torchvision's C++ part declares them; `nms` and `qnms` are what the import needs.
SCHEMAS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align": (
        "(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
        "int sampling_ratio, bool aligned) -> Tensor"
    ),
}
_DEVICES = ("CPU", "CUDA", "MPS")
_lock = threading.Lock()
_log = logging.getLogger(__name__)


def plain_nms(dets: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Apply non-maximum suppression in plain PyTorch, with the results of torchvision's own operator.

    Args:
        dets: Boxes ``(x1, y1, x2, y2)`` in any one unit, float, ``(M, 4)``.
        scores: Float, ``(M,)``; equal scores keep their order.
        iou_threshold: A box is dropped if its intersection over union with a better kept box is larger
            than this (not if it is equal). Two boxes without area have no overlap that could be larger.

    Returns:
        Indices of the kept boxes, best score first; int64, ``(kept,)``.
    """
    import torch

    order = torch.argsort(scores, descending=True, stable=True)
    area = (dets[:, 2] - dets[:, 0]) * (dets[:, 3] - dets[:, 1])
    kept = []
    while order.numel() > 0:
        best, rest = order[0], order[1:]
        kept.append(best)
        upper_left = torch.maximum(dets[best, :2], dets[rest, :2])
        lower_right = torch.minimum(dets[best, 2:], dets[rest, 2:])
        sides = (lower_right - upper_left).clamp(min=0)
        overlap = sides[:, 0] * sides[:, 1]
        order = rest[~(overlap / (area[best] + area[rest] - overlap) > iou_threshold)]
    return torch.stack(kept) if kept else torch.empty(0, dtype=torch.long, device=dets.device)


@functools.lru_cache(maxsize=1)
def _declare_missing() -> object:
    """Declare the missing operators, once per process.

    Returns:
        The operator library, which must stay alive for as long as the process; the cache keeps it.
    """
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for name, schema in SCHEMAS.items():
        if not hasattr(torch.ops.torchvision, name):
            library.define(name + schema)
            if name == "nms":
                for device in _DEVICES:
                    library.impl(name, plain_nms, device)
    return library


def ensure_torchvision_importable() -> None:
    """Make ``import torchvision`` work if only its compiled operators cannot be loaded.

    Does nothing where torchvision works already or is not installed; may be called any number of times
    and from any thread. Call it before importing segment-anything, sam2 or peft.

    Raises:
        RuntimeError: torchvision's own, if it cannot be imported for another reason.
    """
    with _lock:
        if "torchvision" in sys.modules or importlib.util.find_spec("torchvision") is None:
            return
        try:
            import torchvision
        except (RuntimeError, AttributeError) as error:
            if "torchvision" not in str(error):
                raise
            _log.info("torchvision has no compiled operators for this torch (%s); declaring them.", error)
            for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
                del sys.modules[name]
            _declare_missing()
            import torchvision

            # The wrapper of nms asks this for the compiled library before it calls the operator, which is now there.
            torchvision.ops.boxes._assert_has_ops = lambda: None
