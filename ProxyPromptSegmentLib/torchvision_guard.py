"""Lets a CPU build of PyTorch live with a torchvision that was built for CUDA.

Such a torchvision lacks its compiled operators and fails at import, because it registers shape functions for
operators that do not exist. Declaring them is enough for everything this project needs; ``nms`` gets a plain
implementation, because Segment Anything's "everything" mode calls it.
"""

from __future__ import annotations

import functools
import importlib.util
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    import torch

# The schemas of torchvision 0.28's own operators, of which its Python part registers shape functions.
SCHEMAS = {
    "nms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "qnms": "(Tensor dets, Tensor scores, float iou_threshold) -> Tensor",
    "roi_align": (
        "(Tensor input, Tensor rois, float spatial_scale, SymInt pooled_height, SymInt pooled_width, "
        "int sampling_ratio, bool aligned) -> Tensor"
    ),
}


def plain_nms(dets: torch.Tensor, scores: torch.Tensor, iou_threshold: float) -> torch.Tensor:
    """Non-maximum suppression.

    Args:
        dets: Boxes ``(x1, y1, x2, y2)``, ``(M, 4)``.
        scores: ``(M,)``.
        iou_threshold: A box is dropped if it overlaps a better kept one by more than this.

    Returns:
        Indices of the kept boxes, best score first.
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
        order = rest[overlap / (area[best] + area[rest] - overlap) <= iou_threshold]
    return torch.stack(kept) if kept else torch.empty(0, dtype=torch.long, device=dets.device)


@functools.lru_cache(maxsize=1)
def _declare_missing() -> object:
    """Declares what is missing, once; the returned library must stay alive, so the cache keeps it."""
    import torch

    library = torch.library.Library("torchvision", "FRAGMENT")
    for name, schema in SCHEMAS.items():
        try:
            torch._C._dispatch_find_schema_or_throw(f"torchvision::{name}", "")
        except RuntimeError:
            library.define(name + schema)
            if name == "nms":
                library.impl(name, plain_nms, "CPU")
    return library


def ensure_torchvision_importable() -> None:
    """Makes ``import torchvision`` work, whatever build it is; does nothing where it works already."""
    if importlib.util.find_spec("torchvision") is None:
        return
    try:
        import torchvision  # noqa: F401 - the question is whether it can be imported
    except (RuntimeError, AttributeError, OSError):
        import sys

        for name in [name for name in sys.modules if name.split(".")[0] == "torchvision"]:
            del sys.modules[name]
        _declare_missing()
        import torchvision
        import torchvision.extension

        # Its Python wrappers ask this before every call; nms now has an implementation.
        torchvision.extension._has_ops = lambda: True
