"""Tiny data and systems for the tables of the papers."""

from __future__ import annotations

import numpy as np

from broad_cases import BroadFolder, square
from ProxyPromptSegmentLib.evaluation.paper.protocol import DataNeed, Few, Protocol, Row
from ProxyPromptSegmentLib.evaluation.systems.system import Kind

NEED = DataNeed(original="promise12", title="PROMISE12", stand_in="promise12", objects={"gland": "prostate"})
ROWS = (
    Row(title="Upper", published={"gland": 88.1}, note="as published, not run here"),
    Row(title="threshold", system="threshold", images="2", published={"gland": 80.0}),
    Row(title="nothing", system="nothing", images="2"),
    Row(title="never made", system="absent"),
)


def protocol(**changes) -> Protocol:
    values = {"id": "T2", "paper": "Paper", "title": "Toys", "sets": (NEED,), "rows": ROWS, "few": Few(images=2)}
    return Protocol(**{**values, **changes})


def toy_folder(path, patients: int = 8):
    """Volumes with a bright square; `splits.COUNTS` has to say how many are for training."""
    folder = BroadFolder(path)
    for n in range(patients):
        folder.add_volume("promise12", f"case{n}", square(seed=n))
    return folder.path


class Toy:
    """Draws what is as bright as the lesson's objects, or nothing; counts what it is asked."""

    kind, source = Kind.FEW, "drawn for a test"

    def __init__(self, name: str, kind: Kind = Kind.FEW) -> None:
        self.name, self.kind, self.lessons, self.segmented = name, kind, [], []
        self.stop_after, self.error = 10**9, KeyboardInterrupt

    def fit(self, lesson, progress=None, cancel=None):
        self.lessons.append(lesson)
        values = [case.images[case.masks[:, 0] > 0].mean() for case in lesson.few]
        return _Bright(self, float(np.mean(values)))


class _Bright:
    def __init__(self, toy: Toy, level: float) -> None:
        self.toy, self.level = toy, level

    def segment(self, case):
        if len(self.toy.segmented) >= self.toy.stop_after:
            raise self.toy.error
        self.toy.segmented.append(case.name)
        masks = np.zeros_like(case.masks)
        if self.toy.name != "nothing":
            masks[:, 0] = np.abs(case.images - self.level) < 50
        return masks


class ToyMaker:
    """Makes toys by the row's system, and remembers them."""

    def __init__(self, **kinds: Kind) -> None:
        self.kinds, self.made, self.makings = kinds, {}, []

    def __call__(self, making):
        from ProxyPromptSegmentLib.errors import UsageError

        self.makings.append(making)
        name = making.row.system
        if name == "absent":
            raise UsageError("this system is not a part of this version")
        return self.made.setdefault(name, Toy(name, self.kinds.get(name, Kind.FEW)))
