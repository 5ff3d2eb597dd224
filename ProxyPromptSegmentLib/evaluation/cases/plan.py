"""What is measured on a user's own cases: which are supports of which, and how often."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

from ProxyPromptSegmentLib.evaluation.broad.baselines import MEAN_MASK
from ProxyPromptSegmentLib.imaging.segmentations import Segmentation
from ProxyPromptSegmentLib.imaging.volumes import Volume
from ProxyPromptSegmentLib.support.case import SupportCase

TABLE = "cases"


@dataclass(frozen=True, eq=False)
class OwnCase:
    """An annotated case of a user.

    Attributes:
        name: Its name, made of the names of its files.
        patient: Name of its patient for tables: that of a case, or a number. Never what a list calls the patient.
        digest: Hash of image and masks.
        volume: The image.
        truth: The objects, in the plan's order, on the image's grid.
        slices: The slices along the annotated axis on which truth is known, where only some of the case are annotated;
            None for all.
        axis: That axis.
    """

    name: str
    patient: str
    digest: str
    volume: Volume
    truth: Segmentation
    slices: tuple[int, ...] | None = None
    axis: str = "k"

    def support(self) -> SupportCase:
        """Return it as a support, used as any other."""
        return SupportCase(self.volume, self.truth)


@dataclass(frozen=True)
class Candidate:
    """A model that is measured, or the copied mean mask.

    Attributes:
        name: Its name in tables.
        model: Name or path of the model; "" for the copied mean mask.
        sha256: Hash of its weights.
    """

    name: str
    model: str = ""
    sha256: str = ""


COPIED = Candidate(MEAN_MASK)


@dataclass(frozen=True, eq=False, kw_only=True)
class CasesPlan:
    """What is measured.

    Attributes:
        dataset: Name of the cases, such as that of their folder.
        objects: Names of the objects.
        cases: The cases, of at least two patients.
        candidates: The models; the copied mean mask is measured beside them.
        supports: Numbers of supports, growing.
        draws: Draws of supports for each case.
        seed: Seed of the draws.
        in_mm: Whether the spacing of all cases is known, and whole volumes are annotated.
    """

    dataset: str
    objects: tuple[str, ...]
    cases: tuple[OwnCase, ...]
    candidates: tuple[Candidate, ...]
    supports: tuple[int, ...]
    draws: int = 3
    seed: int = 0
    in_mm: bool = False

    @property
    def patients(self) -> int:
        """Number of patients."""
        return len({case.patient for case in self.cases})

    def systems(self) -> list[tuple[Candidate, int, str]]:
        """Return each candidate with each number of supports, and what the pair is called in tables."""
        return [(one, k, system_name(one, k)) for one in (*self.candidates, COPIED) for k in self.supports]

    def draws_of(self, target: OwnCase, supports: int) -> range:
        """Return the draws for a case; a single one where every other case is drawn anyway."""
        return range(self.draws if supports < len(others_of(self.cases, target)) else 1)


def system_name(candidate: Candidate, supports: int) -> str:
    """Return what a candidate with a number of supports is called in tables."""
    return f"{candidate.name}, {supports} {'support' if supports == 1 else 'supports'}"


def others_of(cases: Sequence[OwnCase], target: OwnCase) -> list[OwnCase]:
    """Return the cases of other patients, which may be supports of a target."""
    return [case for case in cases if case.patient != target.patient]


def possible_supports(cases: Sequence[OwnCase], wanted: Sequence[int]) -> tuple[tuple[int, ...], int]:
    """Return the numbers of supports that every case can have, and the largest possible one.

    Args:
        cases: The cases, of at least two patients.
        wanted: The numbers that are asked for; larger ones become the largest possible one.
    """
    most = min(len(others_of(cases, case)) for case in cases)
    return tuple(sorted({min(k, most) for k in wanted})), most


def draw_supports(cases: Sequence[OwnCase], target: OwnCase, count: int, draw: int, seed: int) -> list[OwnCase]:
    """Draw cases of other patients; those for a smaller count are the first ones for a larger.

    A patient gives a second case once every other patient has given one.

    Args:
        cases: All cases.
        target: The case to be segmented.
        count: Number of supports, at most that of the other patients' cases.
        draw: Number of the draw.
        seed: Seed of all draws.
    """
    by_patient: dict[str, list[OwnCase]] = {}
    for case in others_of(cases, target):
        by_patient.setdefault(case.patient, []).append(case)
    rng = np.random.default_rng([seed, draw, *target.digest.encode()])
    order = [str(patient) for patient in rng.permutation(sorted(by_patient))]
    shuffled = {name: [by_patient[name][n] for n in rng.permutation(len(by_patient[name]))] for name in order}
    found: list[OwnCase] = []
    while len(found) < count and any(shuffled.values()):
        for name in order:
            if shuffled[name] and len(found) < count:
                found.append(shuffled[name].pop())
    return found
