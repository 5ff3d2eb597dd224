"""The slices and tiles of annotated cases that a prompt generator learns from."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np

from ProxyPromptSegmentLib.data.cases import Case
from ProxyPromptSegmentLib.errors import InputError
from ProxyPromptSegmentLib.imaging.intensity import intensity_window
from ProxyPromptSegmentLib.support.spreading import spread
from ProxyPromptSegmentLib.training.adapting.sheets import MOST_SHEETS, Sheet, Sheets, with_tiles


@dataclass(frozen=True, eq=False)
class Learned:
    """What is learned of one data set in whole slices, or in tiles.

    Attributes:
        name: Name of the data set.
        sheets: Slices or tiles, with masks of the objects that are learned in them.
        patients: Number of the patient of each sheet, ``(n,)``.
    """

    name: str
    sheets: tuple[Sheet, ...]
    patients: np.ndarray


def learned_of(cases: Sequence[Case], logit_side: int, keep_aspect: bool = True) -> list[Learned]:
    """Return what is learned of the cases of one data set: objects in whole slices, and those too thin for it in tiles.

    Args:
        cases: The cases, all of whose slices are learned from, at most `MOST_SHEETS` of all together, evenly spread.
        logit_side: Side of the square of logits of the model's decoder.
        keep_aspect: Whether the model letterboxes slices.

    Raises:
        InputError: If the annotated slices are of fewer than two patients: a support is of another one than the target.
    """
    patients = {name: number for number, name in enumerate(dict.fromkeys(case.patient for case in cases))}
    slices = [sheet for number, case in enumerate(cases) for sheet in _slices_of(case, number)]
    slices = [slices[n] for n in spread(range(len(slices)), MOST_SHEETS)]
    owners = tuple(patients[case.patient] for case in cases)
    marked = len({owners[sheet.case] for sheet in slices if sheet.shown.any()})
    sheets = with_tiles(cases[0].objects, slices, owners, logit_side, keep_aspect) if marked > 1 else None
    found = [] if sheets is None else _parts(cases[0].dataset, sheets)
    if not found:
        raise InputError(
            f"the annotated slices are of {marked} patient{'' if marked == 1 else 's'}; a support is of another "
            "patient than the target, so give cases of two or more that show the same object."
        )
    return found


def _parts(name: str, sheets: Sheets) -> list[Learned]:
    """Return slices with the objects that are drawn in whole, and tiles of the others, where two patients show any."""
    found = []
    if sheets.in_whole:
        whole = tuple(replace(one, masks=one.masks[list(sheets.in_whole)]) for one in sheets.slices)
        found.append(whole)
    if sheets.tiles:
        found.append(sheets.tiles)
    learned = [Learned(name, part, np.array([sheets.patients[one.case] for one in part])) for part in found]
    # Of a part that one patient alone is marked in, nothing can be learned: no target has a support.
    return [one for one in learned if len(set(one.patients[[sheet.shown.any() for sheet in one.sheets]])) > 1]


def _slices_of(case: Case, number: int) -> list[Sheet]:
    low, high = intensity_window(case.images)
    count = len(case.images)
    spacing = (1.0, 1.0) if case.spacing_mm is None else (case.spacing_mm[1], case.spacing_mm[2])
    placed = case.spacing_mm is not None and count > 1
    return [
        Sheet(
            case.images[index],
            case.masks[index],
            spacing,
            (float(low), float(high)),
            number,
            index,
            float(2 * index / (count - 1) - 1) if placed else None,
        )
        for index in range(count)
    ]
