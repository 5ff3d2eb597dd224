"""One score: what one system reached on one object of one case."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, kw_only=True)
class Score:
    """The measures of one object on one case; stored as one line of JSON.

    Attributes:
        table: The table that it belongs to, such as ``"T2"``; a user's own table is ``"cases"``.
        system: Name of the system, the row.
        dataset: Name of the data set; of a user's own cases the name of their folder.
        object: Name of the object.
        patient: The unit over which intervals and paired tests are computed.
        case: The item within the patient.
        draw: Number of the draw of supports or of training cases.
        dice: Dice, 0 to 1; 1 where truth and mask are both empty.
        iou: Intersection over union, likewise.
        hd95: 95th percentile of the distances between the surfaces; None where it is not defined.
        surface: Surface Dice at the table's tolerance; None where it is not defined.
        unit: Unit of ``hd95`` and of the tolerance: ``"mm"``, or ``"px"`` where the spacing is not known.
        seconds: Processor seconds of the mask, training excluded.
        confidence: What the system said of its own mask, 0 to 1; None for one that says nothing.
    """

    table: str
    system: str
    dataset: str
    object: str
    patient: str
    case: str
    draw: int = 0
    dice: float
    iou: float
    hd95: float | None = None
    surface: float | None = None
    unit: str = "px"
    seconds: float = 0.0
    confidence: float | None = None
