"""Findings about the shape of a mask: components, holes, borders, gaps and sizes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from ProxyPromptSegmentLib.imaging.geometry import take_slices
from ProxyPromptSegmentLib.imaging.slice_names import SliceNames
from ProxyPromptSegmentLib.review.findings import Finding

SPECK = 0.02
"""Components and holes below this share of the object's area on the slice are specks, i.e. drawing errors."""

TINY = 1 / 64
"""An object narrower than this share of the image covers at most one cell of the feature grid (64 x 64 in SAM)."""

_NEW_SLICES = 0.5
Bools = npt.NDArray[np.bool_]


def shape_findings(
    name: str, mask: npt.NDArray[Any], others: Sequence[npt.NDArray[Any]], axis: str, names: SliceNames
) -> list[Finding]:
    """Check the shape of one object's mask.

    Args:
        name: The object's name.
        mask: 0 or 1, ``(K, J, I)``, not empty.
        others: The other objects' masks; a hole that they fill does not count.
        axis: Slicing axis.
        names: Names of the slices.
    """
    planes = take_slices(mask, axis) > 0
    rest = np.zeros(planes.shape, bool)
    for other in others:
        rest |= take_slices(other, axis) > 0
    shown = [int(n) for n in np.flatnonzero(planes.any(axis=(1, 2)))]
    return [
        *_pieces(name, planes, shown, names),
        *_holes(name, planes, rest, shown, names),
        *_border(name, planes, shown, names),
        *_size(name, planes, shown),
        *_slices(name, len(planes), shown, names),
    ]


def _pieces(name: str, planes: Bools, shown: list[int], names: SliceNames) -> Iterator[Finding]:
    """Report several components, on slices and in 3D."""
    from scipy.ndimage import label

    several, specks = [], []
    for n in shown:
        parts, count = label(planes[n], np.ones((3, 3)))
        if count > 1:
            sizes = np.sort(np.bincount(parts.ravel())[1:])
            small = sizes < SPECK * sizes.sum()
            if small.any():
                specks.append(n)
            if (~small).sum() > 1:
                several.append(n)
    if specks:
        text = f"'{name}' has isolated specks on {names.names(specks)}; remove them if they are drawing errors."
        yield Finding("warning", text, name, tuple(specks))
    if several:
        text = f"'{name}' has several components on {names.names(several)}; if it is one organ, check what is missing."
        yield Finding("info", text, name, tuple(several))
    if len(planes) > 1:
        parts, count = label(planes, np.ones((3, 3, 3)))
        sizes = np.bincount(parts.ravel())[1:]
        large = int((sizes >= SPECK * sizes.sum()).sum())
        if large > 1 and not several:
            text = f"'{name}' has {large} separate components; if it is one organ, slices are missing."
            yield Finding("info", text, name)


def _holes(name: str, planes: Bools, rest: Bools, shown: list[int], names: SliceNames) -> Iterator[Finding]:
    """Report holes on slices that no other object fills."""
    from scipy.ndimage import binary_fill_holes, label

    small, large = [], []
    for n in shown:
        holes = binary_fill_holes(planes[n]) & ~planes[n] & ~rest[n]
        if not holes.any():
            continue
        parts, _ = label(holes)
        sizes = np.bincount(parts.ravel())[1:]
        limit = SPECK * planes[n].sum()
        if (sizes < limit).any():
            small.append(n)
        if (sizes >= limit).any():
            large.append(n)
    if small:
        text = f"'{name}' has small holes on {names.names(small)}; fill them if they are drawing errors."
        yield Finding("warning", text, name, tuple(small))
    if large:
        text = f"'{name}' has a hole on {names.names(large)}; fill it unless the structure is a ring."
        yield Finding("info", text, name, tuple(large))


def _border(name: str, planes: Bools, shown: list[int], names: SliceNames) -> Iterator[Finding]:
    """Report objects that are cut off by the image border."""
    inner = planes[:, 1:-1, 1:-1]
    cut = [n for n in shown if planes[n].sum() > inner[n].sum()]
    if cut:
        text = f"'{name}' touches the image's border on {names.names(cut)}: it may be cut off there."
        yield Finding("info", text, name, tuple(cut))


def _size(name: str, planes: Bools, shown: list[int]) -> Iterator[Finding]:
    """Report objects that are too small for the networks."""
    rows, columns = planes.shape[1:]
    widest = float(np.sqrt(planes.sum(axis=(1, 2)).max()))
    if widest < TINY * max(rows, columns):
        yield Finding(
            "warning",
            f"'{name}' is tiny: about {widest:.0f} pixels across on its largest slice, of {max(rows, columns)}. Crop "
            "support and target around it.",
            name,
            tuple(shown),
        )


def _slices(name: str, count: int, shown: list[int], names: SliceNames) -> Iterator[Finding]:
    """Report too few annotated slices, or gaps between them."""
    if count == 1:
        return
    if len(shown) == 1:
        text = f"'{name}' is annotated only on {names.names(shown)}; a few more slices, spread over it, prompt better."
        yield Finding("info", text, name, tuple(shown))
        return
    missing = sorted(set(range(shown[0], shown[-1])) - set(shown))
    if not missing:
        return
    few = len(missing) < _NEW_SLICES * len(shown)
    text = f"'{name}' is not annotated on {names.names(missing)}, but before and after"
    if few:
        yield Finding("warning", f"{text}; was it forgotten?", name, tuple(missing))
    else:
        yield Finding("info", f"{text}; these slices will not prompt.", name, tuple(missing))
