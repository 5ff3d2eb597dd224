"""What a table or figure of a paper is: its data sets, its rows with the published figures, and how it is measured."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import Enum
from typing import Any

AVERAGE = "average"


class Measure(Enum):
    """How a protocol is measured; the values are words of ``evaluate --list``."""

    SYSTEMS = "each row segments the same targets"
    COUNTS = "samples of each data set are counted"
    MAP = "the selective map of one target is drawn for several supports"


class View(Enum):
    """What the columns of the table are."""

    OBJECTS = "one column for each object, and their average"
    DRAWS = "one column for each draw of supports"
    SPREAD = "the distribution over draws"


@dataclass(frozen=True, kw_only=True)
class DataNeed:
    """A data set of a table.

    Attributes:
        original: Key of its reader in `data.original`; empty where the data of this project are all that can be had.
        title: Its name in the paper.
        stand_in: Data set of this project that stands for it; empty if there is none.
        objects: Title of a column -> name of the object in the original data set, or names joined by " + ", whose union
            it is.
        stand_in_objects: The same for the stand-in, where its objects have other names.
        lent: Data set of this project that lends its training cases to a stand-in that has none.
        modality: Sets of one modality are learned together under the second training strategy.
        samples: Number of samples that the paper counts.
    """

    original: str = ""
    title: str
    stand_in: str = ""
    objects: Mapping[str, str]
    stand_in_objects: Mapping[str, str] = field(default_factory=dict)
    lent: str = ""
    modality: str = ""
    samples: str = ""


@dataclass(frozen=True, kw_only=True)
class Few:
    """The annotated cases that a system may learn from.

    Attributes:
        images: Number of images, each one marked slice, of as many patients as there are.
        patients: Number of patients all of whose slices are given, instead of single images.
        slices: Slices of these patients together, around those that show the object; 0 for all.
        frames: Number of annotated frames of other sweeps that prompt a sweep; the training sweeps are then given in
            full.
        support: Number of the images that are the supports of a draw; 0 for all.
    """

    images: int = 0
    patients: int = 0
    slices: int = 0
    frames: int = 0
    support: int = 0


@dataclass(frozen=True, kw_only=True)
class Row:
    """A row of a table.

    Attributes:
        title: Its name; distinct within the table.
        system: Name of the system that is run; empty for a row that has only a published figure.
        options: What the system is made with.
        few: What it learns from, where that differs from the table's.
        images: The paper's words for its training images.
        published: Title of a column -> Dice in per cent, as the paper prints it.
        spread: Published standard deviation, in per cent.
        note: What a reader has to know of it.
    """

    title: str
    system: str = ""
    options: Mapping[str, Any] = field(default_factory=dict)
    few: Few | None = None
    images: str = ""
    published: Mapping[str, float] = field(default_factory=dict)
    spread: float | None = None
    note: str = ""


@dataclass(frozen=True, kw_only=True)
class Protocol:
    """A table or figure.

    Attributes:
        id: Name on the command line, such as ``T2``.
        paper: The paper.
        title: What it shows.
        sets: Its data sets.
        rows: Its rows.
        few: What systems learn from.
        draws: Number of draws of supports.
        full: Whether systems that learn from the whole training part have rows.
        measure: How it is measured.
        view: What its columns are.
        same_as: The protocol whose scores it shows in another way; it is measured in that one's place.
        by_slice: Whether each slice is scored as well.
        surface: Whether the surface Dice (NSD) is shown beside Dice.
        panels: Number of targets of each set that are drawn as pictures; 0 for none.
        note: What a reader has to know.
    """

    id: str
    paper: str
    title: str
    sets: tuple[DataNeed, ...]
    rows: tuple[Row, ...] = ()
    few: Few = Few(images=16)
    draws: int = 1
    full: bool = False
    measure: Measure = Measure.SYSTEMS
    view: View = View.OBJECTS
    same_as: str = ""
    by_slice: bool = False
    surface: bool = False
    panels: int = 0
    note: str = ""

    @property
    def run_rows(self) -> tuple[Row, ...]:
        """The rows that are run."""
        return tuple(row for row in self.rows if row.system)
