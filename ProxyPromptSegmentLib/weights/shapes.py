"""Names, shapes and types of the tensors in the official checkpoints, listed in the project.

The list detects a file of another architecture before a network is built, and a changed package before a download. It
was made from the packages' own modules, which load the official files strictly. Nothing here imports torch: any
objects with ``shape`` and ``dtype`` will do.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping
from functools import cache
from typing import Any

from ProxyPromptSegmentLib.errors import CheckpointError
from ProxyPromptSegmentLib.resources import resource_path


def lines_of(state: Mapping[str, Any]) -> list[str]:
    """Return one line per tensor, sorted: ``mask_decoder.iou_token.weight 1x256 float32``."""
    return sorted(
        f"{name} {'x'.join(map(str, tensor.shape)) or 'scalar'} {str(tensor.dtype).removeprefix('torch.')}"
        for name, tensor in state.items()
    )


def summary_of(state: Mapping[str, Any]) -> dict[str, Any]:
    """Return the number of tensors, the number of values, and the SHA-256 of the lines."""
    lines = lines_of(state)
    return {
        "tensors": len(lines),
        "values": sum(_count(tensor.shape) for tensor in state.values()),
        "sha256": hashlib.sha256("".join(f"{line}\n" for line in lines).encode()).hexdigest(),
    }


@cache
def official_shapes() -> dict[str, dict[str, Any]]:
    """Return the `summary_of` each official architecture, by backbone name."""
    return json.loads(resource_path("models/official_shapes/summary.json").read_text(encoding="utf-8"))["architectures"]


def check_shapes(state: Mapping[str, Any], backbone: str) -> None:
    """Reject tensors that are not exactly those of an official architecture.

    Raises:
        CheckpointError: If the backbone has no list, or a name, shape or type differs.
    """
    known = official_shapes()
    if backbone not in known:
        raise CheckpointError(f"there are no official weights for '{backbone}'; there are for {', '.join(known)}")
    found, wanted = summary_of(state), known[backbone]
    if found != wanted:
        differing = ("their names, shapes or types differ" if found["tensors"] == wanted["tensors"] else
                     f"{found['tensors']} tensors instead of {wanted['tensors']}")  # fmt: skip
        raise CheckpointError(f"these are not the tensors of '{backbone}': {differing}; give its official file")


def _count(shape: Iterable[int]) -> int:
    product = 1
    for size in shape:
        product *= int(size)
    return product
